// One row = one query and head on one source frame: n points, four corners each, D channels.
#pragma once

#include "simd.h"

// What the coordinate pass (locate.h) leaves for a run of points. Corners in the order
// (top, left), (top, right), (bottom, left), (bottom, right).
struct Corners {
    int* offset[4];         // of the corner's pixel from the head's first channel in its frame, in floats
    float* coefficient[4];  // attention weight x bilinear share; 0 where the corner lies outside
};

// D = N * V::width channels.
template <class V, int N>
struct FixedRow {
    // output = (output if `add`) + sum over points [first, last) and corners of coefficient x value
    static void forward(const float* __restrict value, const Corners& corners, long first, long last, long, bool add,
                        float* __restrict output) {
        // A fused multiply-add takes four cycles and two start in each: about eight sums have to run side by side.
        constexpr int sets = N >= 8 ? 1 : N >= 3 ? 2 : 4;
        V sum[sets][N];
        for (int s = 0; s < sets; ++s)
            for (int j = 0; j < N; ++j) sum[s][j] = s == 0 && add ? V::load(output + j * V::width) : V::zero();
        for (long i = first; i < last; ++i)
            for (int k = 0; k < 4; ++k) {
                const float* pixel = value + corners.offset[k][i];
                const V coefficient = V::broadcast(corners.coefficient[k][i]);
                for (int j = 0; j < N; ++j)
                    sum[k % sets][j] = fma(coefficient, V::load(pixel + j * V::width), sum[k % sets][j]);
            }
        for (int j = 0; j < N; ++j) {
            V total = sum[0][j];
            for (int s = 1; s < sets; ++s) total = total + sum[s][j];
            total.store(output + j * V::width);
        }
    }

    // gradient of value += coefficient x upstream;  dots[4 * point + corner] = upstream . value
    static void backward(const float* __restrict value, const Corners& corners, long first, long last, long,
                         const float* __restrict upstream, float* __restrict grad_value, float* __restrict dots) {
        V grad[N];
        for (int j = 0; j < N; ++j) grad[j] = V::load(upstream + j * V::width);
        for (long i = first; i < last; ++i) {
            V dot[4];
            for (int k = 0; k < 4; ++k) {
                const float* pixel = value + corners.offset[k][i];
                dot[k] = V::zero();
                for (int j = 0; j < N; ++j) dot[k] = fma(grad[j], V::load(pixel + j * V::width), dot[k]);
            }
            sum_lanes(dot[0], dot[1], dot[2], dot[3], dots + 4 * i);
            for (int k = 0; k < 4; ++k) {
                float* pixel = grad_value + corners.offset[k][i];
                const V coefficient = V::broadcast(corners.coefficient[k][i]);
                for (int j = 0; j < N; ++j)
                    fma(coefficient, grad[j], V::load(pixel + j * V::width)).store(pixel + j * V::width);
            }
        }
    }
};

// Any number of channels, left to the compiler's vectoriser.
struct AnyRow {
    static void forward(const float* __restrict value, const Corners& corners, long first, long last, long channels,
                        bool add, float* __restrict output) {
        for (long d = 0; d < channels && !add; ++d) output[d] = 0.0f;
        for (long i = first; i < last; ++i)
            for (int k = 0; k < 4; ++k) {
                const float* pixel = value + corners.offset[k][i];
                const float coefficient = corners.coefficient[k][i];
                for (long d = 0; d < channels; ++d) output[d] += coefficient * pixel[d];
            }
    }

    static void backward(const float* __restrict value, const Corners& corners, long first, long last, long channels,
                         const float* __restrict upstream, float* __restrict grad_value, float* __restrict dots) {
        for (long i = first; i < last; ++i)
            for (int k = 0; k < 4; ++k) {
                const int offset = corners.offset[k][i];
                const float coefficient = corners.coefficient[k][i];
                float dot = 0;
#pragma omp simd reduction(+ : dot)
                for (long d = 0; d < channels; ++d) {
                    dot += upstream[d] * value[offset + d];
                    grad_value[offset + d] += coefficient * upstream[d];
                }
                dots[4 * i + k] = dot;
            }
    }
};

using ForwardRow = decltype(&AnyRow::forward);
using BackwardRow = decltype(&AnyRow::backward);

struct Rows {
    ForwardRow forward;
    BackwardRow backward;
};

template <class Row>
Rows rows_of() {
    return {Row::forward, Row::backward};
}

inline Rows rows_for(long channels) {
    constexpr int width = Vec::width;
    switch (channels) {
        case 8:
            return rows_of<FixedRow<Vec8, 8 / Vec8::width>>();
        case 16:
            return rows_of<FixedRow<Vec, 16 / width>>();
        case 32:
            return rows_of<FixedRow<Vec, 32 / width>>();
        case 64:
            return rows_of<FixedRow<Vec, 64 / width>>();
        default:
            return rows_of<AnyRow>();
    }
}
