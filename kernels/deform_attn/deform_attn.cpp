// Multi-scale deformable attention over several source frames on the CPU, float32. See README.md beside this file.
//
// value (B,T,S,M,D)  frame_index (T,F)  location (B,T,Q,M,F,L,P,2)  weight (B,T,Q,M,F,L,P)  output (B,T,Q,M,D)
// All arrays are contiguous; the caller has checked sizes, level shapes and frame indices.
#include <cstring>

#include "locate.h"

namespace {

using Index = std::int64_t;

struct Problem {
    Index B, T, S, M, D, Q, F, L, P;
    const Index *shapes, *frame_index;
    Index frame_size() const { return S * M * D; }
    Index run() const { return L * P; }  // points of one row: a query and head on one source frame
    int stride() const { return static_cast<int>(M * D); }
};

// Queries in a tile: its scratch (32 bytes a point forward, 100 backward) should stay in the first-level cache.
long tile_queries(long points_of_query) {
    constexpr long points = 256;
    return points_of_query < points ? points / points_of_query : 1;
}

void forward_tile(const Problem& p, ForwardRow add_row, const LevelTable& levels, const float* value,
                  const Index* sources, const float* location, const float* weight, float* output, long queries,
                  Tile& tile) {
    const long run = p.run(), points = p.F * run;
    locate<false>(location, weight, levels, queries * p.M * points, p.stride(), tile);
    std::memset(output, 0, sizeof(float) * queries * p.M * p.D);
    for (long row = 0; row < queries * p.M; ++row)
        for (Index f = 0; f < p.F; ++f) {
            if (sources[f] < 0) continue;
            const float* pixels = value + sources[f] * p.frame_size() + row % p.M * p.D;
            const long first = row * points + f * run;
            add_row(pixels, tile.corners, first, first + run, p.D, output + row * p.D);
        }
}

void forward(const Problem& p, const float* value, const float* location, const float* weight, float* output,
             int threads) {
    const long points = p.M * p.F * p.run(), height = tile_queries(points);  // of one query
    const long tiles = (p.Q + height - 1) / height, tasks = p.B * p.T * tiles;
    const ForwardRow add_row = rows_for(p.D).forward;
    const LevelTable levels(p.shapes, p.L, p.P, p.stride(), height * points);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Tile tile(height * points);
#pragma omp for schedule(dynamic, 1)
        for (long task = 0; task < tasks; ++task) {
            const Index frame = task / tiles, first = task % tiles * height;  // frame = b * T + t
            const Index queries = first + height < p.Q ? height : p.Q - first, start = frame * p.Q + first;
            const float* clip = value + frame / p.T * p.T * p.frame_size();
            forward_tile(p, add_row, levels, clip, p.frame_index + frame % p.T * p.F, location + 2 * start * points,
                         weight + start * points, output + start * p.M * p.D, queries, tile);
        }
    }
}

struct Gradients {
    const float *upstream, *value, *location, *weight;
    float *grad_value, *grad_location, *grad_weight;
};

// A source frame and a range of heads, [head, head + heads): the unit of work of the backward pass.
struct Owner {
    Index batch, source, head, heads;
};

// The runs of a tile: queries [first, first + queries) of one frame, the owner's heads, slot f.
struct Runs {
    const Problem& p;
    const Owner& owner;
    Index frame, f, first, queries;

    Index row(Index query, Index head) const {  // of the (B,T,Q,M) grid
        return ((owner.batch * p.T + frame) * p.Q + first + query) * p.M + owner.head + head;
    }
    Index point(Index query, Index head) const { return (row(query, head) * p.F + f) * p.run(); }
    bool contiguous() const { return p.F == 1 && owner.heads == p.M; }
    Index points() const { return queries * owner.heads * p.run(); }

    template <class Copy>
    void each(Copy copy) const {  // copy(first point in the arrays, first point in the tile)
        for (Index query = 0; query < queries; ++query)
            for (Index head = 0; head < owner.heads; ++head)
                copy(point(query, head), (query * owner.heads + head) * p.run());
    }
};

void copy_points(float* to, const float* from, Index points) { std::memcpy(to, from, sizeof(float) * points); }

void backward_tile(const Problem& p, BackwardRow add_row, const LevelTable& levels, const Gradients& g,
                   const Runs& runs, Tile& tile) {
    const Index run = p.run(), start = runs.point(0, 0), heads = runs.owner.heads;
    const bool packed = !runs.contiguous();
    if (packed)
        runs.each([&](Index from, Index to) {
            copy_points(tile.location + 2 * to, g.location + 2 * from, 2 * run);
            copy_points(tile.weight + to, g.weight + from, run);
        });
    locate<true>(packed ? tile.location : g.location + 2 * start, packed ? tile.weight : g.weight + start, levels,
                 runs.points(), p.stride(), tile);
    const Index pixels = (runs.owner.batch * p.T + runs.owner.source) * p.frame_size() + runs.owner.head * p.D;
    for (Index query = 0; query < runs.queries; ++query)
        for (Index head = 0; head < heads; ++head) {
            const Index first = (query * heads + head) * run, channel = pixels + head * p.D;
            add_row(g.value + channel, tile.corners, first, first + run, p.D,
                    g.upstream + runs.row(query, head) * p.D, g.grad_value + channel, tile.dots);
        }
    finish(tile, runs.points(), packed ? tile.grad_location : g.grad_location + 2 * start,
           packed ? tile.grad_weight : g.grad_weight + start);
    if (packed)
        runs.each([&](Index to, Index from) {
            copy_points(g.grad_location + 2 * to, tile.grad_location + 2 * from, 2 * run);
            copy_points(g.grad_weight + to, tile.grad_weight + from, run);
        });
}

// The owner's part of the gradient of value, from all queries that look at its frame. A slot of its frame's own queries
// that holds no frame (-1) has no other owner: its gradients are zero.
void backward_owner(const Problem& p, BackwardRow add_row, const LevelTable& levels, const Gradients& g,
                    const Owner& owner, Tile& tile) {
    float* grad_value = g.grad_value + (owner.batch * p.T + owner.source) * p.frame_size() + owner.head * p.D;
    for (Index token = 0; token < p.S; ++token)
        std::memset(grad_value + token * p.M * p.D, 0, sizeof(float) * owner.heads * p.D);
    const Index height = tile_queries(owner.heads * p.run());
    for (Index frame = 0; frame < p.T; ++frame)
        for (Index f = 0; f < p.F; ++f) {
            const Index source = p.frame_index[frame * p.F + f];
            if (source == owner.source)
                for (Index first = 0; first < p.Q; first += height) {
                    const Index queries = first + height < p.Q ? height : p.Q - first;
                    backward_tile(p, add_row, levels, g, {p, owner, frame, f, first, queries}, tile);
                }
            if (source < 0 && frame == owner.source)
                Runs{p, owner, frame, f, 0, p.Q}.each([&](Index point, Index) {
                    std::memset(g.grad_location + 2 * point, 0, sizeof(float) * 2 * p.run());
                    std::memset(g.grad_weight + point, 0, sizeof(float) * p.run());
                });
        }
}

// One thread owns the gradient of a source frame's head, and adds to it in a fixed order: same bits for any number of
// threads, however many heads are grouped into one task.
void backward(const Problem& p, const Gradients& g, int threads) {
    const Index groups = p.B * p.T < 4 * threads ? p.M : 1, heads = p.M / groups, tasks = p.B * p.T * groups;
    const long tile_size = tile_queries(heads * p.run()) * heads * p.run();
    const BackwardRow add_row = rows_for(p.D).backward;
    const LevelTable levels(p.shapes, p.L, p.P, p.stride(), tile_size);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Tile tile(tile_size);
#pragma omp for schedule(dynamic, 1)
        for (Index task = 0; task < tasks; ++task) {
            const Index frame = task / groups;
            backward_owner(p, add_row, levels, g, {frame / p.T, frame % p.T, task % groups * heads, heads}, tile);
        }
    }
}

Problem problem(const Index* sizes, const Index* shapes, const Index* frame_index) {
    return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
            sizes[6], sizes[7], sizes[8], shapes,   frame_index};
}

}  // namespace

#define VISLAB_EXPORT extern "C" __attribute__((visibility("default")))

// sizes = B, T, S, M, D, Q, F, L, P
VISLAB_EXPORT void vislab_deform_attn_forward(const Index* sizes, const Index* shapes, const Index* frame_index,
                                              const float* value, const float* location, const float* weight,
                                              float* output, int threads) {
    forward(problem(sizes, shapes, frame_index), value, location, weight, output, threads);
}

VISLAB_EXPORT void vislab_deform_attn_backward(const Index* sizes, const Index* shapes, const Index* frame_index,
                                               const float* upstream, const float* value, const float* location,
                                               const float* weight, float* grad_value, float* grad_location,
                                               float* grad_weight, int threads) {
    const Gradients g = {upstream, value, location, weight, grad_value, grad_location, grad_weight};
    backward(problem(sizes, shapes, frame_index), g, threads);
}

VISLAB_EXPORT const char* vislab_deform_attn_instruction_set() { return instruction_set; }
