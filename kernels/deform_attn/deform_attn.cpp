// Multi-scale deformable attention over several source frames on the CPU, float32. See README.md beside this file.
//
// value (B,T,S,M,D)  frame_index (T,F)  coordinates (B,T,Q,M,F,L,P,2)  scores (B,T,Q,M,F,L,P)  output (B,T,Q,M,D)
// All arrays are contiguous (the references may repeat along B, T and F); the caller has checked sizes, level shapes
// and frame indices.
#include <string.h>

#include "array.h"
#include "fill.h"
#include "softmax.h"

namespace {

Index least(Index a, Index b) { return a < b ? a : b; }
Index most(Index a, Index b) { return a > b ? a : b; }

// One head's pixels lie M * D numbers apart: they share few sets of the caches, and a page holds few of them. In a
// frame that the second-level cache does not hold anyway, a head's pixels are copied together where points are many.
bool worth_packing(const Problem& p, Index queries) {
    return p.M > 1 && p.S * p.M * p.D > (1 << 17) && queries * p.run() >= p.S;
}

void pack(const Problem& p, const float* from, float* to) {
    for (Index token = 0; token < p.S; ++token) {
        const float* pixel = from + token * p.M * p.D;
        prefetch(pixel + 16 * p.M * p.D, p.D);
#pragma omp simd
        for (Index d = 0; d < p.D; ++d) to[token * p.D + d] = pixel[d];
    }
}

void unpack(const Problem& p, const float* from, float* to) {
    for (Index token = 0; token < p.S; ++token)
#pragma omp simd
        for (Index d = 0; d < p.D; ++d) to[token * p.M * p.D + d] = from[token * p.D + d];
}

void normalise(const Problem& p, const Array<Normaliser>& rows, int threads) {
    const Index frames = p.fused() ? p.B * p.T : 0, points = p.F * p.run();
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (Index frame = 0; frame < frames; ++frame)
        for (Index row = frame * p.Q * p.M; row < (frame + 1) * p.Q * p.M; ++row)
            rows[row] = normaliser(p.scores + row * points, p.sources(frame % p.T), p.F, p.run());
}

// What all tasks of a pass read, and how they are cut.
struct Plan {
    const Problem& p;
    bool packed;
    Index heads;   // of a task: one where they are packed, all otherwise
    Index slots;   // of a tile
    Index height;  // queries of a tile: its scratch (36 bytes a point forward, 112 backward) fits the first-level cache
    Index stride;  // between the pixels of the array that is sampled
    Array<Normaliser> rows;
    LevelTable levels;

    Plan(const Problem& p, bool packed, Index most_heads, Index most_slots, int threads)
        : p(p),
          packed(packed),
          heads(packed ? 1 : most_heads),
          slots(packed ? 1 : most_slots),
          height(most(1, 256 / (heads * slots * p.run()))),
          stride(packed ? p.D : p.M * p.D),
          rows(p.fused() ? p.B * p.T * p.Q * p.M : 0),
          levels(p, stride, points()) {
        normalise(p, rows, threads);
    }

    Index points() const { return height * heads * slots * p.run(); }  // of a tile
    Index numbers() const { return packed ? p.S * p.D : 0; }           // of one head's copy
    Index groups() const { return p.M / heads; }
    template <bool with_slopes>
    void locate_runs(const Runs& runs, Tile& tile) const {
        fill(p, levels, rows.data(), runs, tile);
        locate<with_slopes>(levels, runs.count() * p.run(), static_cast<int>(stride), tile);
    }
    template <class Visit>
    void tiles(Runs runs, Visit visit) const {  // the runs cut into tiles
        const Index end = runs.first + runs.queries;
        for (; runs.first < end; runs.first += height) {
            runs.queries = least(height, end - runs.first);
            visit(runs);
        }
    }
};

// Adds the runs of a tile to their output rows, which hold sums of earlier slots already if `add`.
void forward_runs(const Plan& plan, ForwardRow add_row, const Runs& runs, bool add, float* output, const float* copy,
                  Tile& tile) {
    const Problem& p = plan.p;
    plan.locate_runs<false>(runs, tile);
    const Index *sources = p.sources(runs.frame), run = p.run();
    Index first = 0;
    for (Index query = 0; query < runs.queries; ++query)
        for (Index k = 0; k < runs.heads; ++k) {
            float* row = output + runs.row(p, query, k) * p.D;
            if (add) prefetch(row + 4 * p.M * p.D, p.D);
            bool filled = add;
            for (Index slot = runs.slot; slot < runs.slot + runs.slots; ++slot, first += run) {
                if (sources[slot] < 0) continue;
                const float* pixels = copy ? copy : p.value + p.pixels(runs.batch, sources[slot], runs.head + k);
                add_row(pixels, tile.corners, first, first + run, p.D, filled, row);
                filled = true;
            }
            if (!filled) memset(row, 0, sizeof(float) * p.D);
        }
}

void forward_task(const Plan& plan, ForwardRow add_row, const Runs& task, float* output, float* copy, Tile& tile) {
    const Problem& p = plan.p;
    bool add = false;
    for (Index slot = 0; slot < p.F; slot += plan.slots) {
        const Index source = p.sources(task.frame)[slot];
        const bool last = slot + plan.slots == p.F;
        if (plan.packed && source < 0 && (add || !last)) continue;  // the last one clears rows without any frame
        if (plan.packed && source >= 0) pack(p, p.value + p.pixels(task.batch, source, task.head), copy);
        const Runs runs = {task.batch, task.frame, task.head, task.heads, slot, plan.slots, task.first, task.queries};
        plan.tiles(runs, [&](const Runs& tiled) {
            forward_runs(plan, add_row, tiled, add, output, plan.packed ? copy : nullptr, tile);
        });
        add = true;
    }
}

// A task is a frame, a group of heads, and a part of its queries where there would be fewer than two for each thread.
void forward(const Problem& p, float* output, int threads) {
    const ForwardRow add_row = rows_for(p.D).forward;
    const bool small = 3 * threads * p.S <= p.B * p.T * p.Q * p.M;  // all threads' copies, beside the output
    const Plan plan(p, small && worth_packing(p, 2 * p.Q), p.M, p.F, threads);
    const Index owners = p.B * p.T * plan.groups(), wanted = (2 * threads + owners - 1) / most(owners, 1);
    const Index chunk = most(1, (p.Q + wanted - 1) / most(wanted, 1));
    const Index chunks = (p.Q + chunk - 1) / chunk, tasks = owners * chunks;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Tile tile(plan.points());
        Array<float> copy(plan.numbers());
#pragma omp for schedule(dynamic, 1)
        for (Index task = 0; task < tasks; ++task) {
            const Index owner = task / chunks, frame = owner / plan.groups(), head = owner % plan.groups() * plan.heads;
            const Index first = task % chunks * chunk, queries = least(chunk, p.Q - first);
            forward_task(plan, add_row, {frame / p.T, frame % p.T, head, plan.heads, 0, p.F, first, queries}, output,
                         copy.data(), tile);
        }
    }
}

struct Gradients {
    const float* upstream;
    float *value, *coordinates, *scores;
    bool of_locations;  // coordinates: with respect to locations, or to offsets
};

// Scratch of one thread: a head's pixels and their gradients, copied together, and a tile.
struct Scratch {
    Array<float> value, grad;
    Tile tile;
    explicit Scratch(const Plan& plan) : value(plan.numbers()), grad(plan.numbers()), tile(plan.points()) {}
};

// value and grad_value: the first number of the runs' first head
void backward_runs(const Plan& plan, BackwardRow add_row, const Gradients& g, const Runs& runs, const float* value,
                   float* grad_value, Tile& tile) {
    const Problem& p = plan.p;
    plan.locate_runs<true>(runs, tile);
    Index first = 0;
    for (Index query = 0; query < runs.queries; ++query)
        for (Index k = 0; k < runs.heads; ++k, first += p.run()) {
            const float* upstream = g.upstream + runs.row(p, query, k) * p.D;
            prefetch(upstream + 4 * p.M * p.D, p.D);
            add_row(value + k * p.D, tile.corners, first, first + p.run(), p.D, upstream, grad_value + k * p.D,
                    tile.dots);
        }
    write_gradients(p, plan.levels, runs, tile, g.of_locations, g.coordinates, g.scores);
}

// The points of an absent frame have no owner among the frames: the frame that asks for it takes them.
void clear(const Problem& p, const Gradients& g, const Runs& runs) {
    runs.each(p, [&](Index, Index, Index, Index point, Index) {
        memset(g.coordinates + 2 * point, 0, sizeof(float) * 2 * p.run());
        memset(g.scores + point, 0, sizeof(float) * p.run());
    });
}

// The gradient of some heads of one source frame, from all queries that look at it.
void backward_owner(const Plan& plan, BackwardRow add_row, const Gradients& g, Index batch, Index owner, Index head,
                    Scratch& scratch) {
    const Problem& p = plan.p;
    const float* value = p.value + p.pixels(batch, owner, head);
    float *grad_value = g.value + p.pixels(batch, owner, head), *sums = plan.packed ? scratch.grad.data() : grad_value;
    if (plan.packed) pack(p, value, scratch.value.data()), value = scratch.value.data();
    for (Index token = 0; token < p.S; ++token) memset(sums + token * plan.stride, 0, sizeof(float) * p.D * plan.heads);
    for (Index frame = 0; frame < p.T; ++frame)
        for (Index slot = 0; slot < p.F; ++slot) {
            const Index source = p.sources(frame)[slot];
            const Runs runs = {batch, frame, head, plan.heads, slot, 1, 0, p.Q};
            if (source == owner)
                plan.tiles(runs, [&](const Runs& tiled) {
                    backward_runs(plan, add_row, g, tiled, value, sums, scratch.tile);
                });
            if (source < 0 && frame == owner) clear(p, g, runs);
        }
    if (plan.packed) unpack(p, sums, grad_value);
}

// One thread owns the gradient of a source frame's heads, and adds to it in a fixed order: same bits for any number of
// threads. Gradients of weights stand in the place of those of logits until all frames are done.
void backward(const Problem& p, const Gradients& g, int threads) {
    const BackwardRow add_row = rows_for(p.D).backward;
    Index heads = p.M;  // of a task: fewer where frames are too few to keep all threads busy; the sums are the same
    while (heads % 2 == 0 && p.B * p.T * (p.M / heads) < 4 * threads) heads /= 2;
    const Plan plan(p, worth_packing(p, p.Q * p.F / 2), heads, 1, threads);
    const Index owners = p.B * p.T * plan.groups(), rows = p.fused() ? p.B * p.T * p.Q * p.M : 0;
    const Index points = p.F * p.run();
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        Scratch scratch(plan);
        Array<float> weights(rows ? points : 0);
#pragma omp for schedule(dynamic, 1)
        for (Index owner = 0; owner < owners; ++owner) {
            const Index frame = owner / plan.groups(), head = owner % plan.groups() * plan.heads;
            backward_owner(plan, add_row, g, frame / p.T, frame % p.T, head, scratch);
        }
#pragma omp for
        for (Index row = 0; row < rows; ++row)
            softmax_gradient(p.scores + row * points, p.sources(row / (p.M * p.Q) % p.T), p.F, p.run(), plan.rows[row],
                             weights.data(), g.scores + row * points);
    }
}

Problem problem(const Index* sizes, const Index* shapes, const Index* frame_index, const float* value,
                const float* coordinates, const float* scores, const float* reference, const Index* layout) {
    return {sizes[0], sizes[1], sizes[2],    sizes[3], sizes[4],    sizes[5], sizes[6],  sizes[7],
            sizes[8], shapes,   frame_index, value,    coordinates, scores,   reference, layout};
}

}  // namespace

#define VISLAB_EXPORT extern "C" __attribute__((visibility("default")))

// sizes = B, T, S, M, D, Q, F, L, P; reference and layout: see problem.h, null in the plain form
VISLAB_EXPORT void vislab_deform_attn_forward(const Index* sizes, const Index* shapes, const Index* frame_index,
                                              const float* value, const float* coordinates, const float* scores,
                                              const float* reference, const Index* layout, float* output, int threads) {
    forward(problem(sizes, shapes, frame_index, value, coordinates, scores, reference, layout), output, threads);
}

VISLAB_EXPORT void vislab_deform_attn_backward(const Index* sizes, const Index* shapes, const Index* frame_index,
                                               const float* value, const float* coordinates, const float* scores,
                                               const float* reference, const Index* layout, const float* upstream,
                                               float* grad_value, float* grad_coordinates, float* grad_scores,
                                               int of_locations, int threads) {
    const bool direct = of_locations || reference == nullptr;
    const Gradients g = {upstream, grad_value, grad_coordinates, grad_scores, direct};
    backward(problem(sizes, shapes, frame_index, value, coordinates, scores, reference, layout), g, threads);
}

VISLAB_EXPORT const char* vislab_deform_attn_instruction_set() { return instruction_set; }
