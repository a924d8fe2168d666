// Fixed-size scratch arrays, not initialised. A large one lies in large pages where the system has them: the pixels of
// a head then need one entry of the processor's address cache instead of hundreds (10 to 15 % of the time at encoder
// size). No standard containers: their headers alone would take a fifth of the compile time.
#pragma once

#include <stdlib.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

template <class T>
class Array {
public:
    explicit Array(long length) {
        const size_t page = size_t{1} << 21, size = sizeof(T) * length;
        const bool large = size > page / 4;
        if (size == 0) return;
        start = static_cast<T*>(large ? aligned_alloc(page, (size + page - 1) / page * page) : malloc(size));
        if (!start) abort();
#if defined(MADV_HUGEPAGE)
        if (large) madvise(start, size, MADV_HUGEPAGE);
#endif
    }
    ~Array() { free(start); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    T* data() const { return start; }
    T& operator[](long i) const { return start[i]; }

private:
    T* start = nullptr;
};
