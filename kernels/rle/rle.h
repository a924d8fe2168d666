// The runs of a COCO run-length code, read off its text. See README.md.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace rle {

constexpr unsigned kMaxGroups = 6;             // characters of one number
constexpr int64_t kMaxRun = int64_t{1} << 28;  // pixels: the largest side, squared

// The five bits that a character stands for, and bit 5: another one follows. Above 63 if it is no such character.
inline uint32_t group(uint8_t character) { return static_cast<uint8_t>(character - '0'); }

// A number of one character: five bits with a sign.
inline int64_t small(uint8_t character) { return static_cast<int64_t>(group(character) ^ 16) - 16; }

// Whether eight characters are eight numbers: all from '0' to 'O'. Where all are below 128, no sum carries into the next
// byte; bit 7 then tells of `above` whether its character is behind 'O', of `from` whether it is '0' or behind.
inline bool all_small(const uint8_t* at) {
    constexpr uint64_t each = 0x0101010101010101;
    uint64_t word;
    std::memcpy(&word, at, 8);
    const uint64_t above = word + (127 - 'O') * each, from = word + (128 - '0') * each;
    return !((word | above | ~from) & 128 * each);
}

// Reads one number; `at` moves behind it. False for a character that is none, a number that is cut off, or a long one.
inline bool read_number(const uint8_t*& at, const uint8_t* end, int64_t& number) {
    uint64_t bits = 0, last = 32;
    unsigned groups = 0;
    for (; (last & 32) && at != end && groups < kMaxGroups; ++groups) {
        last = group(*at++);
        if (last > 63) return false;
        bits |= (last & 31) << 5 * groups;
    }
    const uint64_t sign = uint64_t{1} << (5 * groups - 1);
    number = static_cast<int64_t>(bits ^ sign) - static_cast<int64_t>(sign);
    return !(last & 32);
}

// Writes the lengths of all runs of a code to the front of `runs`, which keeps room for one more, and returns how many
// they are; -1 if the text is not made of whole numbers, or is empty.
inline int64_t read_runs(const uint8_t* at, const uint8_t* end, std::vector<int64_t>& runs) {
    if (runs.size() <= static_cast<size_t>(end - at)) runs.resize(2 * (end - at) + 1);
    int64_t *next = runs.data(), before = 0, latest = 0, difference;
    if (at == end || !read_number(at, end, *next++)) return -1;  // the first run is the base of no difference
    while (at != end) {
        for (; end - at >= 8 && all_small(at); at += 8, next += 8) {
            for (int i = 0; i < 8; i += 2) {
                next[i] = before += small(at[i]);
                next[i + 1] = latest += small(at[i + 1]);
            }
        }
        if (at == end) break;
        if (!read_number(at, end, difference)) return -1;
        const int64_t run = before + difference;
        before = latest;
        *next++ = latest = run;
    }
    return next - runs.data();
}

}  // namespace rle
