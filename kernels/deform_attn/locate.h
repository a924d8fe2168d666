// From sampling locations to pixels: one flat pass over a tile of points, which the compiler vectorises over points.
#pragma once

#include "array.h"
#include "problem.h"
#include "rows.h"

// The level of every point of a tile; the pattern of one run (levels x points) repeats.
struct LevelTable {
    Array<float> width, height;
    Array<int> last_column, last_row, pitch, start;  // the latter two in floats from the slice's first number
    Array<float> pixel_size;                         // (L, 2): of the pixels of each level, x and y
    float box_share;                                 // of a reference box's size, in an offset of one

    LevelTable(const Problem& p, Index stride, long tile)
        : width(tile),
          height(tile),
          last_column(tile),
          last_row(tile),
          pitch(tile),
          start(tile),
          pixel_size(2 * p.L),
          box_share(static_cast<float>(0.5 / static_cast<double>(p.P))) {
        for (long i = 0; i < tile;) {
            Index first = 0;
            for (Index l = 0; l < p.L; ++l) {
                const Index h = p.shapes[2 * l], w = p.shapes[2 * l + 1];
                for (Index k = 0; k < p.P; ++k, ++i) {
                    width[i] = static_cast<float>(w), height[i] = static_cast<float>(h);
                    last_column[i] = static_cast<int>(w - 1), last_row[i] = static_cast<int>(h - 1);
                    pitch[i] = static_cast<int>(w * stride), start[i] = static_cast<int>(first * stride);
                }
                first += h * w;
            }
        }
        for (Index l = 0; l < p.L; ++l) {
            pixel_size[2 * l] = 1.0f / static_cast<float>(p.shapes[2 * l + 1]);
            pixel_size[2 * l + 1] = 1.0f / static_cast<float>(p.shapes[2 * l]);
        }
    }
};

// Scratch of one thread for one tile of points.
struct Tile {
    const float *location, *weight;  // of the tile's points: the tile's own, or a piece of the call's arrays
    float *own_location, *own_weight;
    Corners corners;
    // The bilinear shares of the two neighbours on each axis and the derivatives of weight x share by the location,
    // all 0 outside the map: what the gradients of locations and weights are made of.
    float *share_x[2], *share_y[2], *slope_x[2], *slope_y[2];
    float *dots, *grad_location, *grad_weight;

    explicit Tile(long n) : integers(4 * n), floats(22 * n) {
        float* next = floats.data();
        for (int k = 0; k < 4; ++k) corners.offset[k] = integers.data() + k * n, corners.coefficient[k] = next + k * n;
        for (int k = 0; k < 2; ++k) {
            share_x[k] = next + (4 + k) * n, share_y[k] = next + (6 + k) * n;
            slope_x[k] = next + (8 + k) * n, slope_y[k] = next + (10 + k) * n;
        }
        dots = next + 12 * n, own_location = next + 16 * n, own_weight = next + 18 * n;
        grad_location = next + 19 * n, grad_weight = next + 21 * n;
        reset();
    }
    void reset() { location = own_location, weight = own_weight; }

private:
    Array<int> integers;
    Array<float> floats;
};

// The position is computed like the pure-torch definition does, with no fused multiply-add (-ffp-contract=off), so that
// both put a point that lies on a pixel centre into the same cell.
template <bool with_slopes>
__attribute__((noinline)) inline void locate(const LevelTable& levels, long n, int stride, Tile& tile) {
    const float *location = tile.location, *weight = tile.weight;
    int *o0 = tile.corners.offset[0], *o1 = tile.corners.offset[1];
    int *o2 = tile.corners.offset[2], *o3 = tile.corners.offset[3];
    float *c0 = tile.corners.coefficient[0], *c1 = tile.corners.coefficient[1];
    float *c2 = tile.corners.coefficient[2], *c3 = tile.corners.coefficient[3];
    float *share_x0 = tile.share_x[0], *share_x1 = tile.share_x[1];
    float *share_y0 = tile.share_y[0], *share_y1 = tile.share_y[1];
    float *slope_x0 = tile.slope_x[0], *slope_x1 = tile.slope_x[1];
    float *slope_y0 = tile.slope_y[0], *slope_y1 = tile.slope_y[1];
    const float *widths = levels.width.data(), *heights = levels.height.data();
    const int *last_columns = levels.last_column.data(), *last_rows = levels.last_row.data();
    const int *pitches = levels.pitch.data(), *starts = levels.start.data();
#pragma omp simd
    for (long i = 0; i < n; ++i) {
        const float w = widths[i], h = heights[i];
        float x = location[2 * i] * w - 0.5f, y = location[2 * i + 1] * h - 0.5f;
        const bool reach = (x > -1.0f) & (x < w) & (y > -1.0f) & (y < h);  // false for NaN
        // A point out of reach becomes one without weight, and without shares on its y axis.
        x = reach ? x : 0.0f, y = reach ? y : -2.0f;
        const float a = reach ? weight[i] : 0.0f;
        int left = static_cast<int>(x), top = static_cast<int>(y);
        left -= static_cast<float>(left) > x, top -= static_cast<float>(top) > y;  // floor
        const float right = x - static_cast<float>(left), below = y - static_cast<float>(top);
        const int last_column = last_columns[i], last_row = last_rows[i];
        const float x0 = left >= 0 ? 1.0f - right : 0.0f, x1 = left < last_column ? right : 0.0f;
        const float y0 = top >= 0 ? 1.0f - below : 0.0f, y1 = (top >= -1) & (top < last_row) ? below : 0.0f;
        const int step_x = (left >= 0) & (left < last_column) ? stride : 0;
        const int step_y = (top >= 0) & (top < last_row) ? pitches[i] : 0;
        const int corner = starts[i] + (top > 0 ? top : 0) * pitches[i] + (left > 0 ? left : 0) * stride;
        o0[i] = corner, o1[i] = corner + step_x, o2[i] = corner + step_y, o3[i] = corner + step_x + step_y;
        c0[i] = a * (x0 * y0), c1[i] = a * (x1 * y0), c2[i] = a * (x0 * y1), c3[i] = a * (x1 * y1);
        if (with_slopes) {
            const float slope_x = a * w, slope_y = a * h;
            share_x0[i] = x0, share_x1[i] = x1, share_y0[i] = y0, share_y1[i] = y1;
            slope_x0[i] = left >= 0 ? -slope_x : 0.0f, slope_x1[i] = left < last_column ? slope_x : 0.0f;
            slope_y0[i] = top >= 0 ? -slope_y : 0.0f, slope_y1[i] = top < last_row ? slope_y : 0.0f;
        }
    }
}

// Gradients of a tile's locations and weights from the dot products of the upstream gradient with the four pixels.
__attribute__((noinline)) inline void finish(const Tile& tile, long n, float* __restrict grad_location,
                                             float* __restrict grad_weight) {
    const float *share_x0 = tile.share_x[0], *share_x1 = tile.share_x[1];
    const float *share_y0 = tile.share_y[0], *share_y1 = tile.share_y[1];
    const float *slope_x0 = tile.slope_x[0], *slope_x1 = tile.slope_x[1];
    const float *slope_y0 = tile.slope_y[0], *slope_y1 = tile.slope_y[1];
    const float* dots = tile.dots;
#pragma omp simd
    for (long i = 0; i < n; ++i) {
        const float d0 = dots[4 * i], d1 = dots[4 * i + 1], d2 = dots[4 * i + 2], d3 = dots[4 * i + 3];
        const float top = share_x0[i] * d0 + share_x1[i] * d1, bottom = share_x0[i] * d2 + share_x1[i] * d3;
        const float slope_top = slope_x0[i] * d0 + slope_x1[i] * d1, slope_bottom = slope_x0[i] * d2 + slope_x1[i] * d3;
        grad_weight[i] = share_y0[i] * top + share_y1[i] * bottom;
        grad_location[2 * i] = share_y0[i] * slope_top + share_y1[i] * slope_bottom;
        grad_location[2 * i + 1] = slope_y0[i] * top + slope_y1[i] * bottom;
    }
}
