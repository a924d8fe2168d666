// Checks, overlaps and boxes of many run-length codes in one call: the C interface. See README.md.
#include "rle.h"

#include <algorithm>
#include <cstddef>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// `count` tracks, one mask or none per frame. The codes of track i stand one after another in texts[i]; that of frame t
// ends at ends[firsts[i] + t], and is empty where there is no mask. The track has firsts[i + 1] - firsts[i] frames.
struct Tracks {
    const uint8_t* const* texts;
    const int64_t* ends;
    const int64_t* firsts;

    int64_t frames(int64_t i) const { return firsts[i + 1] - firsts[i]; }

    int64_t most_frames(int64_t from, int64_t to) const {
        int64_t most = 0;
        for (; from < to; ++from) most = std::max(most, frames(from));
        return most;
    }
};

// Runs of ones of one checked mask: pixels edges[2 i] to edges[2 i + 1], the latter exclusive, rising.
struct Ones {
    std::vector<int64_t> edges;
    int64_t count = 0;

    // The mask of a track in a frame; no runs if there is none.
    void read(const Tracks& tracks, int64_t i, int64_t frame) {
        count = 0;
        if (frame >= tracks.frames(i)) return;
        const int64_t* end = tracks.ends + tracks.firsts[i] + frame;
        const int64_t runs = rle::read_runs(tracks.texts[i] + (frame ? end[-1] : 0), tracks.texts[i] + *end, edges);
        for (int64_t k = 1; k < runs; ++k) edges[k] += edges[k - 1];
        count = std::max<int64_t>(runs, 0) / 2;  // a last run of zeros is left over
    }
};

// The first run of ones in [from, to) that ends behind a pixel.
const int64_t* first_behind(const int64_t* from, const int64_t* to, int64_t pixel) {
    while (from != to) {
        const int64_t* middle = from + (to - from) / 4 * 2;
        if (middle[1] <= pixel) {
            from = middle + 2;
        } else {
            to = middle;
        }
    }
    return from;
}

int64_t shared_pixels(const Ones& first, const Ones& second) {
    const int64_t *a = first.edges.data(), *a_end = a + 2 * first.count;
    const int64_t *b = second.edges.data(), *b_end = b + 2 * second.count;
    if (a == a_end || b == b_end) return 0;
    const int64_t a_start = a[0];
    a = first_behind(a, a_end, b[0]);
    b = first_behind(b, b_end, a_start);
    int64_t sum = 0;
    while (a != a_end && b != b_end) {  // no branch inside: which of the two ends first cannot be foreseen
        const int64_t a_stop = a[1], b_stop = b[1];
        sum += std::max<int64_t>(std::min(a_stop, b_stop) - std::max(a[0], b[0]), 0);
        const int64_t *next_a = a + 2, *next_b = b + 2;
        const bool a_stops = a_stop <= b_stop;
        a = a_stops ? next_a : a;
        b = a_stops ? b : next_b;
    }
    return sum;
}

// Left, top, right, bottom, the latter two exclusive; zeros for an empty mask.
void tight_box(const Ones& ones, int64_t height, int64_t* box) {
    int64_t left = -1, right = 0, top = height, bottom = 0;
    int64_t column = 0, start = 0;  // where the current run begins, and the first pixel of that column
    for (const int64_t *run = ones.edges.data(), *last = run + 2 * ones.count; run != last; run += 2) {
        if (run[0] == run[1]) continue;
        if (run[0] - start >= height) {  // mostly by one column: a division takes longer
            const int64_t further = run[0] - start < 2 * height ? 1 : (run[0] - start) / height;
            column += further;
            start += further * height;
        }
        const bool crosses = run[1] - start > height;  // goes on at the top of the next column
        if (left < 0) left = column;
        top = crosses ? 0 : std::min(top, run[0] - start);
        right = column + 1 + (crosses ? (run[1] - start - 1) / height : 0);
        bottom = crosses ? height : std::max(bottom, run[1] - start);
    }
    const int64_t sides[] = {left, top, right, bottom};
    for (int side = 0; side < 4; ++side) box[side] = left < 0 ? 0 : sides[side];
}

}  // namespace

// Areas of `count` codes that stand one after another in `text`. Returns 1 if each is well-formed, has runs of
// 0 to 2^28 pixels, and these add up to pixels[i]; else 0. empties[i]: whether a run after the first is empty.
EXPORT int vislab_rle_check(const uint8_t* text, const int64_t* ends, const int64_t* pixels, int64_t count,
                            int64_t* areas, uint8_t* empties) {
    std::vector<int64_t> runs;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t number = rle::read_runs(text + (i ? ends[i - 1] : 0), text + ends[i], runs);
        if (number < 0) return 0;
        if (number & 1) runs[number] = 1;  // a pixel more of ones, taken off again
        int64_t sums[2] = {0, -(number & 1)}, faults[2] = {0, 0};
        uint64_t empty[2] = {0, 0};
        for (int64_t k = 0; k < number; k += 2) {
            for (int lane = 0; lane < 2; ++lane) {  // zeros and ones side by side, without a branch
                const int64_t run = runs[k + lane];
                sums[lane] += run;
                faults[lane] |= run | (rle::kMaxRun - run);  // below zero if one of the two is
                empty[lane] += static_cast<uint64_t>(run - 1) >> 63;
            }
        }
        if ((faults[0] | faults[1]) < 0 || sums[0] + sums[1] != pixels[i]) return 0;
        areas[i] = sums[1];
        empties[i] = empty[0] + empty[1] > (runs[0] == 0);
    }
    return 1;
}

// Pixels that each of `rows` and each of `columns` tracks share in each of `frames` frames: (frames, rows, columns).
EXPORT void vislab_rle_intersections(const uint8_t* const* row_texts, const int64_t* row_ends,
                                     const int64_t* row_firsts, int64_t rows, const uint8_t* const* column_texts,
                                     const int64_t* column_ends, const int64_t* column_firsts, int64_t columns,
                                     int64_t frames, int64_t* shared) {
    const Tracks ours{row_texts, row_ends, row_firsts}, theirs{column_texts, column_ends, column_firsts};
    std::vector<Ones> found(columns);
    Ones own;
    for (int64_t frame = 0; frame < frames; ++frame) {
        for (int64_t j = 0; j < columns; ++j) found[j].read(theirs, j, frame);
        for (int64_t i = 0; i < rows; ++i) {
            own.read(ours, i, frame);
            for (int64_t j = 0; j < columns; ++j) *shared++ = shared_pixels(own, found[j]);
        }
    }
}

// The same for several groups of tracks, summed over frames. Group g has the rows from group_rows[g] to
// group_rows[g + 1], the latter exclusive, and likewise columns; its (rows, columns) sums follow those of group g - 1.
EXPORT void vislab_rle_totals(const uint8_t* const* row_texts, const int64_t* row_ends, const int64_t* row_firsts,
                              const uint8_t* const* column_texts, const int64_t* column_ends,
                              const int64_t* column_firsts, const int64_t* group_rows, const int64_t* group_columns,
                              int64_t groups, int64_t* totals) {
    const Tracks ours{row_texts, row_ends, row_firsts}, theirs{column_texts, column_ends, column_firsts};
    std::vector<Ones> found;
    Ones own;
    for (int64_t group = 0; group < groups; ++group) {
        const int64_t row = group_rows[group], row_end = group_rows[group + 1];
        const int64_t column = group_columns[group], columns = group_columns[group + 1] - column;
        const int64_t frames = std::min(ours.most_frames(row, row_end), theirs.most_frames(column, column + columns));
        if (static_cast<int64_t>(found.size()) < columns) found.resize(columns);
        std::fill(totals, totals + (row_end - row) * columns, 0);
        for (int64_t frame = 0; frame < frames; ++frame) {
            for (int64_t j = 0; j < columns; ++j) found[j].read(theirs, column + j, frame);
            for (int64_t i = row; i < row_end; ++i) {
                own.read(ours, i, frame);
                int64_t* sums = totals + (i - row) * columns;
                for (int64_t j = 0; j < columns; ++j) sums[j] += shared_pixels(own, found[j]);
            }
        }
        totals += (row_end - row) * columns;
    }
}

// Tight boxes of the masks of `count` tracks, as `tight_box`, zeros where there is no mask: (count, frames, 4).
EXPORT void vislab_rle_boxes(const uint8_t* const* texts, const int64_t* ends, const int64_t* firsts, int64_t count,
                             const int64_t* heights, int64_t frames, int64_t* boxes) {
    const Tracks tracks{texts, ends, firsts};
    Ones ones;
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t frame = 0; frame < frames; ++frame, boxes += 4) {
            ones.read(tracks, i, frame);
            tight_box(ones, heights[i], boxes);
        }
    }
}
