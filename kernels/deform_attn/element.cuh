// The element type and the layout of a row's channels over the lanes of a warp, both fixed when this is compiled:
// VISLAB_ELEMENT is 32 (float32), 16 (float16) or 116 (bfloat16); VISLAB_CHANNELS is 8, 16, 32, 64, or 0 for any other.
#pragma once

#if VISLAB_ELEMENT == 32
using Word = float;
DEVICE float widen(Word x) { return x; }
DEVICE Word narrow(float x) { return x; }
using Pair = float2;
#else
using Word = unsigned short;
#if VISLAB_ELEMENT == 16
DEVICE float widen(Word x) { return half_to_float(x); }
DEVICE Word narrow(float x) { return float_to_half(x); }
#elif VISLAB_ELEMENT == 116
DEVICE float widen(Word x) { return bfloat16_to_float(x); }
DEVICE Word narrow(float x) { return float_to_bfloat16(x); }
#else
#error "VISLAB_ELEMENT is not one of 16, 32, 116"
#endif
using Pair = ushort2;
#endif

constexpr bool any_channels = VISLAB_CHANNELS == 0;
// Channels of one lane: a load of 16 bytes.
constexpr int width = any_channels ? 1 : 16 / static_cast<int>(sizeof(Word));
// Lanes that share a row, rows that share a warp, and how many points of every row are prepared at a time.
constexpr int lanes = any_channels ? 32 : VISLAB_CHANNELS / width;
constexpr int rows = 32 / lanes;
constexpr int chunk = rows > 16 ? 4 : 64 / rows;
// Rows lie this far apart in shared memory: odd, so that neither points nor rows side by side share a bank.
constexpr int pitch = rows | 1;
constexpr int slots = chunk * pitch;

template <int size>
struct Channels {
    float at[size];
};
using Vector = Channels<width>;

#if VISLAB_CHANNELS == 0
DEVICE Vector load(const Word* p) { return {{widen(fetch(p))}}; }
DEVICE void store(Word* p, const Vector& v) { put(p, narrow(v.at[0])); }
#else
DEVICE Vector load(const Word* p) {
    const uint4 raw = fetch(reinterpret_cast<const uint4*>(p));
    const unsigned quarter[4] = {raw.x, raw.y, raw.z, raw.w};
    Vector v;
#pragma unroll
    for (int i = 0; i < width; ++i) {
#if VISLAB_ELEMENT == 32
        v.at[i] = float_of(quarter[i]);
#else
        v.at[i] = widen(static_cast<Word>(quarter[i / 2] >> i % 2 * 16));
#endif
    }
    return v;
}
DEVICE void store(Word* p, const Vector& v) {
    unsigned quarter[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < width; ++i) {
#if VISLAB_ELEMENT == 32
        quarter[i] = bits_of(v.at[i]);
#else
        quarter[i / 2] |= static_cast<unsigned>(narrow(v.at[i])) << i % 2 * 16;
#endif
    }
    put(reinterpret_cast<uint4*>(p), uint4{quarter[0], quarter[1], quarter[2], quarter[3]});
}
#endif
