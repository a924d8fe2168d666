// The few vector operations that the kernel needs, at the widest width that the compiler's flags allow.
// Vec is the widest type; Vec8 also exists beside a wider one, for heads of 8 channels.
#pragma once

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

struct Vec8 {
    static constexpr int width = 8;
    __m256 v;
    static Vec8 zero() { return {_mm256_setzero_ps()}; }
    static Vec8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
    static Vec8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
};
inline Vec8 operator+(Vec8 a, Vec8 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec8 fma(Vec8 a, Vec8 b, Vec8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

// sums[k] = sum of the lanes of the k-th argument: a 4 x 4 transposition in every 128-bit lane, then the lanes.
inline void sum_lanes(Vec8 a, Vec8 b, Vec8 c, Vec8 d, float* sums) {
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.v, d.v), _mm256_unpackhi_ps(c.v, d.v));
    __m256 lanes = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1)));
}
#endif

#if defined(__AVX512F__)
struct Vec16 {
    static constexpr int width = 16;
    __m512 v;
    static Vec16 zero() { return {_mm512_setzero_ps()}; }
    static Vec16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
    static Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
};
inline Vec16 operator+(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

inline void sum_lanes(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* sums) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
    __m512 lanes = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
using Vec = Vec16;
constexpr const char* instruction_set = "avx512";

#elif defined(__AVX2__) && defined(__FMA__)
using Vec = Vec8;
constexpr const char* instruction_set = "avx2";

#else  // the vector extension of g++ and clang++: SSE2, NEON and whatever else the target has
struct Vec4 {
    static constexpr int width = 4;
    typedef float type __attribute__((vector_size(16), aligned(4), may_alias));
    type v;
    static Vec4 zero() { return broadcast(0.0f); }
    static Vec4 broadcast(float x) { return {type{x, x, x, x}}; }
    static Vec4 load(const float* p) { return {*reinterpret_cast<const type*>(p)}; }
    void store(float* p) const { *reinterpret_cast<type*>(p) = v; }
};
inline Vec4 operator+(Vec4 a, Vec4 b) { return {a.v + b.v}; }
inline Vec4 fma(Vec4 a, Vec4 b, Vec4 c) { return {a.v * b.v + c.v}; }

inline void sum_lanes(Vec4 a, Vec4 b, Vec4 c, Vec4 d, float* sums) {
    const Vec4 all[4] = {a, b, c, d};
    for (int k = 0; k < 4; ++k) sums[k] = (all[k].v[0] + all[k].v[1]) + (all[k].v[2] + all[k].v[3]);
}
using Vec = Vec4;
using Vec8 = Vec4;
constexpr const char* instruction_set = "baseline";
#endif
