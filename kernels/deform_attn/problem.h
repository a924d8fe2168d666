// Sizes and arrays of one call, and the units that its work is cut into.
#pragma once

#include <stdint.h>

using Index = int64_t;

// Plain form: coordinates are locations, scores are weights. Fused form (reference is not null): offsets and logits.
struct Problem {
    Index B, T, S, M, D, Q, F, L, P;
    const Index *shapes, *frame_index;
    const float *value, *coordinates, *scores, *reference;
    const Index* reference_layout;  // numbers between neighbours along B, T, Q and F, then 2 (points) or 4 (boxes)

    Index run() const { return L * P; }  // points of a query and head on one source frame
    bool fused() const { return reference != nullptr; }
    const Index* sources(Index frame) const { return frame_index + frame * F; }
    Index row(Index batch, Index frame, Index query, Index head) const {
        return ((batch * T + frame) * Q + query) * M + head;
    }
    Index pixels(Index batch, Index frame, Index head) const {  // the first number of one head of one frame
        return ((batch * T + frame) * S * M + head) * D;
    }
    const float* reference_of(Index batch, Index frame, Index query, Index slot) const {
        const Index* stride = reference_layout;
        return reference + batch * stride[0] + frame * stride[1] + query * stride[2] + slot * stride[3];
    }
};

// Queries [first, first + queries) of a frame, some of the heads, some slots of the frame's sources: what fills a tile,
// in the order of the arrays. A run is the points of a query and head on one source frame.
struct Runs {
    Index batch, frame, head, heads, slot, slots, first, queries;

    Index count() const { return queries * heads * slots; }
    bool contiguous(const Problem& p) const { return heads == p.M && slots == p.F; }
    Index row(const Problem& p, Index query, Index k) const { return p.row(batch, frame, first + query, head + k); }
    Index start(const Problem& p) const { return (row(p, 0, 0) * p.F + slot) * p.run(); }  // its first point

    template <class Visit>
    void each(const Problem& p,
              Visit visit) const {  // visit(query, head of these, slot, point in the arrays, in the tile)
        Index at = 0;
        for (Index query = 0; query < queries; ++query)
            for (Index k = 0; k < heads; ++k)
                for (Index f = slot; f < slot + slots; ++f, at += p.run())
                    visit(query, k, f, (row(p, query, k) * p.F + f) * p.run(), at);
    }
};

// Small pieces far apart: the processor has to be told what comes next.
inline void prefetch(const float* from, Index numbers) {
    for (Index i = 0; i < numbers; i += 16) __builtin_prefetch(from + i);
}
