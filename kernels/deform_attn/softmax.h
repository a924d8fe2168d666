// Softmax over the points of a query and head, split in two: its two numbers first (one pass), weights from them later.
// The backward pass visits a query's source frames apart and far from each other in time, and so needs no array of
// weights.
#pragma once

#include "problem.h"
#include "simd.h"

// weight of a logit = exp(logit - greatest) * scale;  scale = 0 where there is nothing to attend to
struct Normaliser {
    float greatest, scale;
};

inline Vec weights_of(const float* logits, long n, Normaliser row) {  // 0 in lanes from n on
    const Vec logit = Vec::load_first(logits, n, -__builtin_inff());
    return exponential(logit - Vec::broadcast(row.greatest)) * Vec::broadcast(row.scale);
}

// Over F runs of n logits, the runs of absent frames left out. NaN and +infinity make all weights NaN, as in torch.
__attribute__((noinline)) inline Normaliser normaliser(const float* logits, const Index* sources, long frames, long n) {
    const Vec lowest = Vec::broadcast(-3e38f);
    Vec most = Vec::broadcast(-__builtin_inff()), check = Vec::zero(), sums = Vec::zero();
    for (long f = 0; f < frames; ++f)
        for (long i = 0; i < n && sources[f] >= 0; i += Vec::width) {
            const Vec logit = Vec::load_first(logits + f * n + i, n - i, -__builtin_inff());
            check = check + greater(lowest, logit) * Vec::zero();  // 0, or NaN for NaN and +infinity
            most = greater(logit, most);
        }
    const float greatest_logit = greatest(most);
    if (greatest_logit == -__builtin_inff()) return {0.0f, sum(check)};
    for (long f = 0; f < frames; ++f)
        for (long i = 0; i < n && sources[f] >= 0; i += Vec::width)
            sums = sums + weights_of(logits + f * n + i, n - i, {greatest_logit, 1.0f});
    return {greatest_logit, 1.0f / sum(sums) + sum(check)};
}

// In place, from gradients of weights to gradients of logits: a_i (g_i - sum_j a_j g_j). The sum is refined once,
// because rounded weights do not add up to one, which shows where one weight is close to it. weights: scratch for all
// frames.
__attribute__((noinline)) inline void softmax_gradient(const float* logits, const Index* sources, long frames, long n,
                                                       Normaliser row, float* weights, float* grad) {
    const long all = frames * n;
    for (long f = 0; f < frames; ++f)
        for (long i = 0; i < n; i += Vec::width) {
            const Vec weight = sources[f] < 0 ? Vec::zero() : weights_of(logits + f * n + i, n - i, row);
            weight.store_first(weights + f * n + i, n - i);
        }
    Vec sums = Vec::zero(), rest = Vec::zero();
    for (long i = 0; i < all; i += Vec::width)
        sums = fma(Vec::load_first(weights + i, all - i), Vec::load_first(grad + i, all - i), sums);
    const Vec mean = Vec::broadcast(sum(sums));
    for (long i = 0; i < all; i += Vec::width)
        rest = fma(Vec::load_first(weights + i, all - i), Vec::load_first(grad + i, all - i) - mean, rest);
    const Vec refined = mean + Vec::broadcast(sum(rest));
    for (long i = 0; i < all; i += Vec::width) {
        const Vec centred = Vec::load_first(grad + i, all - i) - refined;
        (Vec::load_first(weights + i, all - i) * centred).store_first(grad + i, all - i);
    }
}
