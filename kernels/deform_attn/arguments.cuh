// What the host passes to the kernels, by value. vislab/ops/cuda.py mirrors these structures field by field.
#pragma once

// Division of 0 <= n < 2^31 by a number that the host knows: one multiplication with a rounded-up reciprocal.
struct Divider {
    unsigned divisor, multiplier, shift;  // multiplier = ceil(2^shift / divisor), shift = 31 + ceil(log2(divisor))
};

constexpr int table_capacity = 768;  // keeps the arguments below 4 KiB, the limit of every CUDA version

struct Arguments {
    const void *value, *coordinates, *scores, *upstream;  // of the element type
    const float* reference;                               // fused form only
    void* output;                         // forward: the output; deterministic backward: NaN goes to this gradient
    void* grad_value;                     // sums: float, or long long in the deterministic mode; zero at the start
    void *grad_coordinates, *grad_scores;  // of the element type
    float* kept;                          // <upstream, sample> of every point, where shared memory cannot hold them
    const unsigned* peaks;                // deterministic mode: bits of max |upstream|, max |weight|
    const int* table_in_memory;           // replaces `table` where that is too small, else null
    long long reference_strides[4];       // of batch, frame, query, source frame; the rest is contiguous
    long long queries, query_blocks, blocks;
    int batch, frames, tokens, heads, channels, sources, levels, points, run, points_per_row;  // run = levels * points
    Divider by_run, by_points;
    int reference_size;             // 2: points, 4: boxes
    float half_over_points;         // 0.5 / points
    int location_gradients;         // of the locations, not of the offsets that they come from
    int scratch_bytes;              // shared memory of one warp
    int contributions_exponent;     // no pixel's gradient is a sum of more than 2^this terms
    int table[table_capacity];      // (height, width, first token) of every level, then the (T, F) frame index
};

struct TableArguments {
    int* table;
    int first, count;
    int entries[table_capacity];
};

struct PeakArguments {
    const void* numbers;  // of the element type
    long long count;
    unsigned* peak;
};

struct SettleArguments {
    const long long* sums;
    void* gradient;  // of the element type
    long long count;
    const unsigned* peaks;
    int contributions_exponent;
};
