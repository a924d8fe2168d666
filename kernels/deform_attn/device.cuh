// Everything in these kernels that only a GPU can do: memory accesses, atomics, conversions. on_host.h has the same
// names for a CPU. No CUDA headers, so that NVRTC needs none.
#pragma once

#define DEVICE __device__ __forceinline__
#define KERNEL(name, Type, ...) \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__) name(const __grid_constant__ Type a)

constexpr unsigned all_lanes = 0xffffffffu;

DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }
DEVICE double double_of(unsigned long long bits) { return __longlong_as_double(static_cast<long long>(bits)); }

DEVICE float exchange(float x, int lane_mask) { return __shfl_xor_sync(all_lanes, x, lane_mask); }
DEVICE float from_lane(float x, int lane) { return __shfl_sync(all_lanes, x, lane); }
DEVICE unsigned exchange(unsigned x, int lane_mask) { return __shfl_xor_sync(all_lanes, x, lane_mask); }
DEVICE void meet() { __syncwarp(all_lanes); }

// Read-only for the whole launch: may go through the texture path of the first-level cache.
template <class T>
DEVICE T fetch(const T* p) { return __ldg(p); }
// Also written by this launch.
template <class T>
DEVICE T look(const T* p) { return *p; }
template <class T>
DEVICE void put(T* p, T x) { *p = x; }

DEVICE float half_to_float(unsigned short x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
DEVICE unsigned short float_to_half(float x) {
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
DEVICE float bfloat16_to_float(unsigned short x) { return float_of(static_cast<unsigned>(x) << 16); }
DEVICE unsigned short float_to_bfloat16(float x) {
    unsigned short y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

// Sums in device memory; nobody waits for the result.
DEVICE void add(float* p, float x) { asm volatile("red.global.add.f32 [%0], %1;" ::"l"(p), "f"(x) : "memory"); }
DEVICE void add(long long* p, long long x) {
    asm volatile("red.global.add.u64 [%0], %1;" ::"l"(p), "l"(x) : "memory");
}
DEVICE void raise(unsigned* p, unsigned x) { asm volatile("red.global.max.u32 [%0], %1;" ::"l"(p), "r"(x) : "memory"); }
DEVICE void add4(float* p, float4 x) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
                 : "memory");
#else
    add(p, x.x), add(p + 1, x.y), add(p + 2, x.z), add(p + 3, x.w);
#endif
}
