// The kernels' arithmetic without a GPU, for tests only: compiled by a C++ compiler, deform_attn.cu runs one warp at a
// time, its 32 lanes as coroutines that change places at every exchange and at every `meet`. Nothing is fast here; but
//   - blocks, warps and lanes run in an order drawn from a seed, so that a missing `meet` or a sum that depends on the
//     order of blocks shows;
//   - every access to device memory is checked against the arrays that the test has announced;
//   - shared memory holds NaN at the start of every block, and what lies behind it must stay as it was;
//   - all lanes must take part in every exchange, or the launch fails.
// What it cannot show: races between warps that are not summed atomically, and anything about time.
#pragma once

#include <ucontext.h>

// Few headers, and those of C: they would take most of the time to compile.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE inline
#define __shared__

template <class T>
inline T min(T a, T b) { return b < a ? b : a; }
template <class T>
inline T max(T a, T b) { return a < b ? b : a; }

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct ushort2 { unsigned short x, y; };
struct Index1 { unsigned x; };
static Index1 threadIdx, blockIdx, blockDim, gridDim;

namespace on_host {

struct Range {
    const char *first, *last;
};
static Range arrays[32];
static int array_count = 0;
static const char* failure = nullptr;

constexpr size_t shared_limit = 48 * 1024, margin = 4096;

// ---- lanes as coroutines

struct Warp {
    ucontext_t scheduler, context[32];
    char stacks[32][65536];
    bool done[32];
    unsigned slot[2][32];  // what the lanes offer each other; two rounds, as some lanes run ahead of others
    int round[32];         // exchanges so far
    int lane = 0;
    void (*kernel)(const void*) = nullptr;
    const void* arguments = nullptr;
};
static Warp warp;

inline void leave() { swapcontext(&warp.context[warp.lane], &warp.scheduler); }

// Waits until all lanes have come to the same place with their words. Returns the one of lane `from`.
inline unsigned trade(unsigned word, int from) {
    const int lane = warp.lane, round = warp.round[lane]++ & 1;
    warp.slot[round][lane] = word;
    leave();
    return warp.slot[round][from];
}

inline void run_lane() {
    warp.kernel(warp.arguments);
    warp.done[warp.lane] = true;
    leave();
}

struct Random {  // xorshift: enough for an order
    uint64_t state;
    uint64_t operator()() {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        return state;
    }
    template <class Visit>
    void each(int n, Visit visit) {  // of 0 to n - 1, shuffled
        int* order = new int[n];
        for (int i = 0; i < n; ++i) {
            const int j = static_cast<int>((*this)() % (i + 1));
            order[i] = order[j], order[j] = i;
        }
        for (int i = 0; i < n; ++i) visit(order[i]);
        delete[] order;
    }
};

inline void run_warp(int index, Random& random) {
    for (int lane = 0; lane < 32; ++lane) {
        getcontext(&warp.context[lane]);
        warp.context[lane].uc_stack = {warp.stacks[lane], 0, sizeof(warp.stacks[lane])};
        warp.context[lane].uc_link = nullptr;
        makecontext(&warp.context[lane], run_lane, 0);
        warp.done[lane] = false, warp.round[lane] = 0;
    }
    for (int finished = 0; finished == 0 && !failure;) {
        random.each(32, [&](int lane) {
            warp.lane = lane, threadIdx.x = static_cast<unsigned>(32 * index + lane);
            swapcontext(&warp.scheduler, &warp.context[lane]);
            finished += warp.done[lane];
        });
        if (finished != 0 && finished != 32 && !failure) failure = "some lanes ended while others wait for them";
    }
}

inline void run_block(int index, int warps, size_t shared_bytes, Random& random);

// ---- kernels by name

struct Kernel {
    const char* name;
    void (*run)(const void*);
};
static Kernel kernels[16];
static int kernel_count = 0;
struct Registration {
    Registration(const char* name, void (*run)(const void*)) { kernels[kernel_count++] = {name, run}; }
};

// ---- device memory

inline void check(const void* p, size_t bytes) {
    const char* start = static_cast<const char*>(p);
    for (const Range *range = arrays; range < arrays + array_count; ++range)
        if (start >= range->first && start + bytes <= range->last) {
            if (reinterpret_cast<uintptr_t>(start) % bytes == 0) return;
            failure = "misaligned access";
        }
    if (!failure) failure = "access outside the announced arrays";
    warp.done[warp.lane] = true;  // the launch is over: run_warp sees the failure
    leave();
    abort();
}

template <class To, class From>
inline To cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

}  // namespace on_host

float4 shared_memory[(on_host::shared_limit + on_host::margin) / sizeof(float4)];

#define KERNEL(name, Type, ...)                                                                       \
    static void name(const Type& a);                                                                  \
    static const on_host::Registration registration_of_##name(                                        \
        #name, [](const void* arguments) { name(*static_cast<const Type*>(arguments)); });            \
    static void name(const Type& a)

// ---- the names of device.cuh

inline unsigned bits_of(float x) { return on_host::cast<unsigned>(x); }
inline float float_of(unsigned bits) { return on_host::cast<float>(bits); }
inline double double_of(unsigned long long bits) { return on_host::cast<double>(bits); }

inline unsigned exchange(unsigned x, int mask) { return on_host::trade(x, on_host::warp.lane ^ mask); }
inline float exchange(float x, int mask) { return float_of(exchange(bits_of(x), mask)); }
inline float from_lane(float x, int lane) { return float_of(on_host::trade(bits_of(x), lane & 31)); }
inline void meet() { on_host::trade(0, 0); }

template <class T>
inline T look(const T* p) {
    on_host::check(p, sizeof(T));
    return *p;
}
template <class T>
inline T fetch(const T* p) { return look(p); }
template <class T>
inline void put(T* p, T x) {
    on_host::check(p, sizeof(T));
    *p = x;
}
inline void add(float* p, float x) { put(p, look(p) + x); }
inline void add(long long* p, long long x) {
    put(p, static_cast<long long>(static_cast<unsigned long long>(look(p)) + static_cast<unsigned long long>(x)));
}
inline void add4(float* p, float4 x) {
    on_host::check(p, sizeof(float4));  // one access: aligned as a whole
    add(p, x.x), add(p + 1, x.y), add(p + 2, x.z), add(p + 3, x.w);
}
inline void raise(unsigned* p, unsigned x) { put(p, max(look(p), x)); }

inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline long long __float2ll_rn(float x) { return llrintf(x); }

inline float bfloat16_to_float(unsigned short x) { return float_of(static_cast<unsigned>(x) << 16); }
inline unsigned short float_to_bfloat16(float x) {
    const unsigned bits = bits_of(x);
    if (x != x) return 0x7fff;
    return static_cast<unsigned short>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float half_to_float(unsigned short x) {
    const int exponent = x >> 10 & 31, fraction = x & 1023;
    const float size = exponent == 31  ? (fraction ? NAN : INFINITY)
                       : exponent == 0 ? ldexpf(static_cast<float>(fraction), -24)
                                       : ldexpf(static_cast<float>(1024 + fraction), exponent - 25);
    return x & 0x8000 ? -size : size;
}
inline unsigned short float_to_half(float x) {
    const unsigned sign = signbit(x) ? 0x8000u : 0u;
    if (x != x) return 0x7fff;
    const float size = fabsf(x);
    if (size == 0.0f) return static_cast<unsigned short>(sign);
    if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00u);
    int exponent = 0;
    frexpf(size, &exponent);                     // size = fraction * 2^exponent, fraction in [1/2, 1)
    const int unit = max(exponent - 11, -24);        // of the last place
    const long steps = lrintf(ldexpf(size, -unit));  // up to 2048; carries into the exponent by itself
    const long base = unit > -24 ? static_cast<long>(unit + 24) << 10 : 0;
    return static_cast<unsigned short>(sign | static_cast<unsigned>(base + steps));
}

// ---- what the test calls

inline void on_host::run_block(int index, int warps, size_t shared_bytes, Random& random) {
    unsigned char* bytes = reinterpret_cast<unsigned char*>(shared_memory);
    memset(bytes, 0xff, sizeof(shared_memory));  // NaN
    blockIdx.x = static_cast<unsigned>(index);
    random.each(warps, [&](int w) {
        if (!failure) run_warp(w, random);
    });
    for (size_t i = shared_bytes; i < sizeof(shared_memory); ++i)
        if (bytes[i] != 0xff && !failure) failure = "write behind the end of shared memory";
}

#define ON_HOST_EXPORT extern "C" __attribute__((visibility("default")))

ON_HOST_EXPORT const char* launch_on_host(const char* name, long long grid, int block, int shared,
                                                 const void* arguments, const void* const* starts,
                                                 const long long* sizes, int count, unsigned seed) {
    using namespace on_host;
    array_count = min(count, 32), failure = nullptr;
    for (int i = 0; i < array_count; ++i) {
        const char* start = static_cast<const char*>(starts[i]);
        arrays[i] = {start, start + sizes[i]};
    }
    warp.kernel = nullptr, warp.arguments = arguments;
    for (int i = 0; i < kernel_count; ++i)
        if (strcmp(kernels[i].name, name) == 0) warp.kernel = kernels[i].run;
    if (!warp.kernel) return "no kernel of that name";
    if (shared < 0 || static_cast<size_t>(shared) > shared_limit) return "too much shared memory";
    blockDim.x = static_cast<unsigned>(block), gridDim.x = static_cast<unsigned>(grid);
    Random random{seed + 0x9e3779b97f4a7c15ull};
    random.each(static_cast<int>(grid), [&](int index) {
        if (!failure) run_block(index, block / 32, static_cast<size_t>(shared), random);
    });
    return failure;
}

ON_HOST_EXPORT long long bytes_of_arguments(int which) {
    const size_t sizes[4] = {sizeof(Arguments), sizeof(TableArguments), sizeof(PeakArguments),
                                  sizeof(SettleArguments)};
    return static_cast<long long>(sizes[which]);
}
