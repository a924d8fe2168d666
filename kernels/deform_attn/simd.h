// The few vector operations that the kernel needs, at the widest width that the compiler's flags allow.
// Vec is the widest type; Vec8 also exists beside a wider one, for heads of 8 channels.
//
// load_first, store_first: only the first n lanes, any n >= 1; lanes that are not loaded hold `other`.
// pair: two numbers over and over. exponential: of x <= 0, to within two roundings, 0 below -104 and for NaN.
#pragma once

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

struct Vec8 {
    static constexpr int width = 8;
    __m256 v;
    static Vec8 zero() { return {_mm256_setzero_ps()}; }
    static Vec8 broadcast(float x) { return {_mm256_set1_ps(x)}; }
    static Vec8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vec8 pair(const float* p) {
        double both;
        __builtin_memcpy(&both, p, sizeof both);
        return {_mm256_castpd_ps(_mm256_set1_pd(both))};
    }
    static __m256i first(long n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? static_cast<int>(n) : 8),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    static Vec8 load_first(const float* p, long n, float other = 0.0f) {
        if (n >= width) return load(p);
        const __m256i lanes = first(n);
        const __m256 loaded = _mm256_maskload_ps(p, lanes);
        return {_mm256_blendv_ps(_mm256_set1_ps(other), loaded, _mm256_castsi256_ps(lanes))};
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store_first(float* p, long n) const {
        if (n >= width) return store(p);  // a masked store costs tens of cycles
        _mm256_maskstore_ps(p, first(n), v);
    }
    Vec8 power_of_two() const {  // of integers from -126 to 127
        const __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
        return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 23))};
    }
    Vec8 rounded() const { return {_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
    Vec8 where_above(Vec8 x, float least) const {  // this where x > least, else 0
        return {_mm256_and_ps(v, _mm256_cmp_ps(x.v, _mm256_set1_ps(least), _CMP_GT_OQ))};
    }
};
inline Vec8 operator+(Vec8 a, Vec8 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec8 operator-(Vec8 a, Vec8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec8 operator*(Vec8 a, Vec8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec8 greater(Vec8 a, Vec8 b) { return {_mm256_max_ps(a.v, b.v)}; }  // b where a is NaN
inline Vec8 fma(Vec8 a, Vec8 b, Vec8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

// sums[k] = sum of the lanes of the k-th argument: a 4 x 4 transposition in every 128-bit lane, then the lanes.
inline void sum_lanes(Vec8 a, Vec8 b, Vec8 c, Vec8 d, float* sums) {
    __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v));
    __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.v, d.v), _mm256_unpackhi_ps(c.v, d.v));
    __m256 lanes = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1)));
}
inline float sum(Vec8 a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float greatest(Vec8 a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
#endif

#if defined(__AVX512F__)
struct Vec16 {
    static constexpr int width = 16;
    __m512 v;
    static Vec16 zero() { return {_mm512_setzero_ps()}; }
    static Vec16 broadcast(float x) { return {_mm512_set1_ps(x)}; }
    static Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static __mmask16 first(long n) { return static_cast<__mmask16>(n < 16 ? (1u << n) - 1u : 0xFFFFu); }
    static Vec16 load_first(const float* p, long n, float other = 0.0f) {
        return {_mm512_mask_loadu_ps(_mm512_set1_ps(other), first(n), p)};
    }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    void store_first(float* p, long n) const { _mm512_mask_storeu_ps(p, first(n), v); }
    Vec16 power_of_two() const { return {_mm512_scalef_ps(_mm512_set1_ps(1.0f), v)}; }
    Vec16 rounded() const { return {_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
    Vec16 where_above(Vec16 x, float least) const {  // this where x > least, else 0
        return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, _mm512_set1_ps(least), _CMP_GT_OQ), v)};
    }
};
inline Vec16 operator+(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec16 operator-(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec16 operator*(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec16 greater(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }  // b where a is NaN
inline Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }

inline void sum_lanes(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* sums) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.v, b.v), _mm512_unpackhi_ps(a.v, b.v));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.v, d.v), _mm512_unpackhi_ps(c.v, d.v));
    __m512 lanes = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
inline float sum(Vec16 a) { return _mm512_reduce_add_ps(a.v); }
inline float greatest(Vec16 a) { return _mm512_reduce_max_ps(a.v); }
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
    static Vec4 pair(const float* p) { return {type{p[0], p[1], p[0], p[1]}}; }
    static Vec4 load_first(const float* p, long n, float other = 0.0f) {
        if (n >= width) return load(p);
        return {type{p[0], n > 1 ? p[1] : other, n > 2 ? p[2] : other, other}};
    }
    void store(float* p) const { *reinterpret_cast<type*>(p) = v; }
    void store_first(float* p, long n) const {
        for (int k = 0; k < width && k < n; ++k) p[k] = v[k];
    }
    Vec4 power_of_two() const {  // of integers from -126 to 127
        typedef int integers __attribute__((vector_size(16)));
        const integers bits = (__builtin_convertvector(v, integers) + 127) * (1 << 23);
        Vec4 power;
        __builtin_memcpy(&power, &bits, sizeof power);
        return power;
    }
    Vec4 rounded() const {                          // exact below 2^22
        const Vec4 shift = broadcast(12582912.0f);  // 1.5 * 2^23
        return {(v + shift.v) - shift.v};
    }
    Vec4 where_above(Vec4 x, float least) const { return {x.v > broadcast(least).v ? v : zero().v}; }
};
inline Vec4 operator+(Vec4 a, Vec4 b) { return {a.v + b.v}; }
inline Vec4 operator-(Vec4 a, Vec4 b) { return {a.v - b.v}; }
inline Vec4 operator*(Vec4 a, Vec4 b) { return {a.v * b.v}; }
inline Vec4 greater(Vec4 a, Vec4 b) { return {a.v > b.v ? a.v : b.v}; }  // b where a is NaN
inline Vec4 fma(Vec4 a, Vec4 b, Vec4 c) { return {a.v * b.v + c.v}; }

inline void sum_lanes(Vec4 a, Vec4 b, Vec4 c, Vec4 d, float* sums) {
    const Vec4 all[4] = {a, b, c, d};
    for (int k = 0; k < 4; ++k) sums[k] = (all[k].v[0] + all[k].v[1]) + (all[k].v[2] + all[k].v[3]);
}
inline float sum(Vec4 a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
inline float greatest(Vec4 a) {
    const float x = a.v[0] > a.v[1] ? a.v[0] : a.v[1], y = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
    return x > y ? x : y;
}
using Vec = Vec4;
using Vec8 = Vec4;
constexpr const char* instruction_set = "baseline";
#endif

inline Vec exponential(Vec x) {
    const Vec clamped = greater(x, Vec::broadcast(-104.0f)), n = (clamped * Vec::broadcast(1.44269504f)).rounded();
    // ln 2 in two parts, the first exact in n
    const Vec r = clamped - n * Vec::broadcast(0.693359375f) + n * Vec::broadcast(2.12194440e-4f);
    Vec sum = Vec::broadcast(1.0f / 5040.0f);  // Taylor: |r| <= ln 2 / 2, the next term is below 6e-9
    const float coefficients[] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f, 1.0f, 1.0f};
    for (float coefficient : coefficients) sum = fma(sum, r, Vec::broadcast(coefficient));
    const Vec half = (n * Vec::broadcast(0.5f)).rounded();  // 2^n may be smaller than any normal number
    return (sum * half.power_of_two() * (n - half).power_of_two()).where_above(x, -104.0f);
}
