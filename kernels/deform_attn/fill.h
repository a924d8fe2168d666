// From the arrays of a call to a tile of locations and weights, and from a tile's gradients back to the arrays.
#pragma once

#include "locate.h"
#include "softmax.h"

inline void copy(const float* from, Index numbers, float* to) {
#pragma omp simd
    for (Index i = 0; i < numbers; ++i) to[i] = from[i];
}

// What an offset of one moves a location of level l by, (x, y): a pixel, or for boxes half their size divided by P.
inline Vec8 unit_of(const Problem& p, const LevelTable& levels, const float* reference, Index l) {
    if (p.reference_layout[4] == 4) return Vec8::pair(reference + 4 * l + 2) * Vec8::broadcast(levels.box_share);
    return Vec8::pair(levels.pixel_size.data() + 2 * l);
}

// Locations and weights of a run from offsets and logits.
__attribute__((noinline)) inline void fill_fused(const Problem& p, const LevelTable& levels, const float* reference,
                                                 Normaliser row, Index point, float* location, float* weight) {
    const float *offset = p.coordinates + 2 * point, *logit = p.scores + point;
    for (Index l = 0; l < p.L; ++l) {
        const Vec8 start = Vec8::pair(reference + l * p.reference_layout[4]);
        const Vec8 unit = unit_of(p, levels, reference, l);
        for (Index i = 2 * p.P * l; i < 2 * p.P * (l + 1); i += Vec8::width) {
            const Index left = 2 * p.P * (l + 1) - i;
            (start + Vec8::load_first(offset + i, left) * unit).store_first(location + i, left);
        }
    }
    for (Index i = 0; i < p.run(); i += Vec::width)
        weights_of(logit + i, p.run() - i, row).store_first(weight + i, p.run() - i);
}

// Leaves the runs' locations and weights where `tile.location` and `tile.weight` point to.
__attribute__((noinline)) inline void fill(const Problem& p, const LevelTable& levels, const Normaliser* normalisers,
                                           const Runs& runs, Tile& tile) {
    tile.reset();
    if (!p.fused() && runs.contiguous(p)) {
        tile.location = p.coordinates + 2 * runs.start(p), tile.weight = p.scores + runs.start(p);
        return;
    }
    const Index ahead = 16 * p.M * p.F * p.run();  // of some sixteen queries
    runs.each(p, [&](Index query, Index head, Index slot, Index point, Index at) {
        prefetch(p.coordinates + 2 * (point + ahead), 2 * p.run());
        prefetch(p.scores + point + ahead, p.run());
        if (p.fused())
            fill_fused(p, levels, p.reference_of(runs.batch, runs.frame, runs.first + query, slot),
                       normalisers[runs.row(p, query, head)], point, tile.own_location + 2 * at, tile.own_weight + at);
        else {
            copy(p.coordinates + 2 * point, 2 * p.run(), tile.own_location + 2 * at);
            copy(p.scores + point, p.run(), tile.own_weight + at);
        }
    });
}

// Gradients of the runs' coordinates and scores from the dot products in the tile; of_locations: coordinates with
// respect to locations (always so in the plain form), or to offsets.
__attribute__((noinline)) inline void write_gradients(const Problem& p, const LevelTable& levels, const Runs& runs,
                                                      const Tile& tile, bool of_locations, float* grad_coordinates,
                                                      float* grad_scores) {
    const Index points = runs.count() * p.run();
    if (runs.contiguous(p) && of_locations) {
        finish(tile, points, grad_coordinates + 2 * runs.start(p), grad_scores + runs.start(p));
        return;
    }
    finish(tile, points, tile.grad_location, tile.grad_weight);
    runs.each(p, [&](Index query, Index, Index slot, Index point, Index at) {
        copy(tile.grad_weight + at, p.run(), grad_scores + point);
        const float* grad = tile.grad_location + 2 * at;
        if (of_locations) return copy(grad, 2 * p.run(), grad_coordinates + 2 * point);
        const float* reference = p.reference_of(runs.batch, runs.frame, runs.first + query, slot);
        for (Index l = 0; l < p.L; ++l) {
            const Vec8 unit = unit_of(p, levels, reference, l);
            for (Index i = 2 * p.P * l; i < 2 * p.P * (l + 1); i += Vec8::width) {
                const Index left = 2 * p.P * (l + 1) - i;
                (Vec8::load_first(grad + i, left) * unit).store_first(grad_coordinates + 2 * point + i, left);
            }
        }
    });
}
