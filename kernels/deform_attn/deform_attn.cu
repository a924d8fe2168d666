// Multi-scale deformable attention over several source frames on a GPU. See README.md beside this file.
//
// value (B,T,S,M,D)  coordinates (B,T,Q,M,F,L,P,2)  scores (B,T,Q,M,F,L,P)  reference (B,T,Q,F,L,2 or 4)
// output (B,T,Q,M,D). A row is one (b,t,q,m). Arrays are contiguous (the reference: its last two dimensions) and start
// at multiples of 16 bytes; the caller has checked sizes, level shapes and frame indices. Warps are independent.
#include "arguments.cuh"
#ifdef VISLAB_ON_HOST
#include "on_host.h"
#else
#include "device.cuh"
#endif
#include "element.cuh"
#include "points.cuh"
#include "fixed_point.cuh"

extern __shared__ float4 shared_memory[];

// A warp's part of shared memory: what `prepare` leaves for the lanes that sum over channels.
struct Scratch {
    float4* coefficients;  // slots; the backward pass replaces them by the dot products with the four pixels
    int2* pixels;          // slots; token of the top left neighbour, and step_y * 2 + step_x
    float* kept;           // points_per_row * pitch, or null: <upstream, sample> of the fused backward pass
};

DEVICE Scratch scratch_of(const Arguments& a, int warp) {
    char* start = reinterpret_cast<char*>(shared_memory) + warp * a.scratch_bytes;
    char* pixels = start + slots * sizeof(float4);
    char* kept = pixels + slots * sizeof(int2);
    const long long needed = static_cast<long long>(sizeof(float)) * pitch * a.points_per_row;
    const bool holds = start + a.scratch_bytes - kept >= needed;
    return {reinterpret_cast<float4*>(start), reinterpret_cast<int2*>(pixels),
            holds ? reinterpret_cast<float*>(kept) : nullptr};
}

// Where a lane stands in its warp: it shares row `r` with the other `lanes - 1` lanes.
struct Lane {
    int index, r, in_row;
};

DEVICE Lane lane_of() {
    const int index = static_cast<int>(threadIdx.x & 31);
    return {index, index / lanes, index % lanes};
}

DEVICE int channels_of(const Arguments& a) { return any_channels ? a.channels : VISLAB_CHANNELS; }

// The softmax of the row that a lane prepares points for, from a lane that shares that row.
DEVICE Softmax of_row(const Softmax& mine, int r) {
    return {from_lane(mine.largest, r * lanes), from_lane(mine.scale, r * lanes)};
}

// Calls step(r, point, slot, softmax) for points [start, start + chunk) of all rows of the warp, one lane per point,
// neighbouring lanes on neighbouring points. All lanes make the same number of calls; points may be past the end. A
// point always has the same lane: what one call leaves for the next needs no `meet` in between.
template <bool fused, class Step>
DEVICE void each_point(const Softmax& mine, int start, Step step) {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x & 31); i < chunk * rows; i += 32) {
        const int r = i / chunk, j = i % chunk;
        step(r, start + j, j * pitch + r, fused ? of_row(mine, r) : mine);
    }
}

template <bool fused>
DEVICE void prepare(const Arguments& a, const Task& task, const Scratch& scratch, const Softmax& mine, int start) {
    each_point<fused>(mine, start, [&](int r, int point, int slot, const Softmax& softmax) {
        float4 coefficients = {0, 0, 0, 0};
        int2 pixel = {0, 0};
        if (r < task.count && point < a.points_per_row) {
            const Sample s = sample_of<fused>(a, task, r, point, softmax);
            coefficients = coefficients_of(s);
            pixel = {s.token, s.step_y * 2 + s.step_x};
        }
        scratch.coefficients[slot] = coefficients;
        scratch.pixels[slot] = pixel;
    });
    meet();
}

// Offsets of the four neighbours, in elements, from the head's first channel in the clip.
struct Corners {
    unsigned long long at[4];
};

DEVICE Corners corners_of(const Arguments& a, int2 pixel) {
    const unsigned token = static_cast<unsigned>(pixel.x), x = pixel.y & 1, y = static_cast<unsigned>(pixel.y) >> 1;
    const unsigned long long stride = static_cast<unsigned>(a.heads * channels_of(a));
    return {{token * stride, (token + x) * stride, (token + y) * stride, (token + y + x) * stride}};
}

// The head's first channel in the clip, in elements.
DEVICE long long clip_of(const Arguments& a, const Task& task) {
    return (static_cast<long long>(task.batch) * a.frames * a.tokens * a.heads + task.head) * channels_of(a);
}

// ---------------------------------------------------------------------------------------------------------- forward

template <bool fused>
DEVICE void forward_channels(const Arguments& a, const Task& task, const Scratch& scratch, const Lane& lane,
                             const Softmax& softmax, int channel) {
    const bool inside = !any_channels || channel < a.channels;
    const Word* value = static_cast<const Word*>(a.value) + clip_of(a, task) + (inside ? channel : 0);
    Vector sum = {};
    for (int start = 0; start < a.points_per_row; start += chunk) {
        prepare<fused>(a, task, scratch, softmax, start);
        const int count = min(chunk, a.points_per_row - start);
#pragma unroll 2
        for (int j = 0; j < count; ++j) {
            const float4 c = scratch.coefficients[j * pitch + lane.r];
            const Corners corners = corners_of(a, scratch.pixels[j * pitch + lane.r]);
            const float coefficient[4] = {c.x, c.y, c.z, c.w};
            Vector pixel[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) pixel[k] = load(value + corners.at[k]);
#pragma unroll
            for (int k = 0; k < 4; ++k)
#pragma unroll
                for (int i = 0; i < width; ++i) sum.at[i] += coefficient[k] * pixel[k].at[i];
        }
        meet();
    }
    if (inside && lane.r < task.count)
        store(static_cast<Word*>(a.output) + row_of(a, task, lane.r) * channels_of(a) + channel, sum);
}

template <bool fused>
DEVICE void forward(const Arguments& a) {
    const int warp = static_cast<int>(threadIdx.x >> 5), warps = static_cast<int>(blockDim.x >> 5);
    const Scratch scratch = scratch_of(a, warp);
    const Lane lane = lane_of();
    for (long long block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        const Task task = task_of(a, block, warp, warps);
        if (task.count == 0) continue;  // the whole warp
        Softmax softmax = {};
        if (fused) softmax = softmax_of(a, task, lane.r, lane.in_row);
        for (int first = 0; first < channels_of(a); first += lanes * width)
            forward_channels<fused>(a, task, scratch, lane, softmax, first + lane.in_row * width);
    }
}

// --------------------------------------------------------------------------------------------------------- backward

// Four sums over the lanes of a row, written to `sums`. At each of the first two steps a lane hands half of its sums to
// a partner and goes on with the other half: 5 exchanges for 16 lanes instead of 16.
DEVICE void reduce(float (&d)[4], int lane, float* sums) {
    bool upper = false;
    if (lanes >= 2) {
        upper = lane & lanes / 2;
        const float first = exchange(upper ? d[0] : d[2], lanes / 2), second = exchange(upper ? d[1] : d[3], lanes / 2);
        d[0] = (upper ? d[2] : d[0]) + first, d[1] = (upper ? d[3] : d[1]) + second;
    }
    if (lanes >= 4) {
        const bool odd = lane & lanes / 4;
        const float other = exchange(odd ? d[0] : d[1], lanes / 4);
        d[0] = (odd ? d[1] : d[0]) + other;
    }
#pragma unroll
    for (int step = lanes / 8; step > 0; step /= 2) d[0] += exchange(d[0], step);
    meet();  // all lanes have read what the sums replace
    if (lanes >= 4) sums[lane / (lanes >= 4 ? lanes / 4 : 1)] = d[0];  // equal bits from all who write there
    if (lanes == 2) sums[upper ? 2 : 0] = d[0], sums[upper ? 3 : 1] = d[1];
    if (lanes == 1) sums[0] = d[0], sums[1] = d[1], sums[2] = d[2], sums[3] = d[3];
}

// Adds coefficient * upstream to the gradient of one pixel.
template <bool deterministic>
struct Scatter {
    float* sums;
    DEVICE Scatter(const Arguments& a, long long start) : sums(static_cast<float*>(a.grad_value) + start) {}
    DEVICE void operator()(unsigned long long offset, float coefficient, const Vector& upstream) const {
        float* to = sums + offset;
        if (width == 1) add(to, coefficient * upstream.at[0]);
#pragma unroll
        for (int i = 0; i + 3 < width; i += 4)
            add4(to + i, {coefficient * upstream.at[i], coefficient * upstream.at[i + 1],
                          coefficient * upstream.at[i + 2], coefficient * upstream.at[i + 3]});
    }
};

// What is not finite has no place among the integers: it marks the gradient itself, which is zero at the start.
template <>
struct Scatter<true> {
    long long* sums;
    Word* marks;
    Scale scale;
    DEVICE Scatter(const Arguments& a, long long start)
        : sums(static_cast<long long*>(a.grad_value) + start), marks(static_cast<Word*>(a.output) + start),
          scale(scale_of(a.peaks, a.contributions_exponent)) {}
    DEVICE void operator()(unsigned long long offset, float coefficient, const Vector& upstream) const {
#pragma unroll
        for (int i = 0; i < width; ++i) {
            const float term = coefficient * upstream.at[i];
            if (is_finite(term))
                add(sums + offset + i, __float2ll_rn(term * scale.first * scale.second));
            else
                put(marks + offset + i, narrow(float_of(0x7fc00000u)));
        }
    }
};

// The channels of one point: dot products of the upstream gradient with the four pixels (this lane's share of them),
// and the pixels' own gradients.
template <bool deterministic>
DEVICE void visit(const Word* value, const Scatter<deterministic>& scatter, const Vector& upstream, int channel,
                  const Corners& corners, const float (&coefficient)[4], float (&dots)[4]) {
    Vector pixel[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) pixel[k] = load(value + corners.at[k] + channel);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int i = 0; i < width; ++i) dots[k] += upstream.at[i] * pixel[k].at[i];
        if (coefficient[k] != 0.0f) scatter(corners.at[k] + channel, coefficient[k], upstream);
    }
}

// Visits the prepared points of a chunk. Returns this lane's share of the sum over them of weight * <upstream, sample>.
template <bool deterministic>
DEVICE float visit_chunk(const Arguments& a, const Scratch& scratch, const Lane& lane, int count, const Word* value,
                         const Scatter<deterministic>& scatter, const Word* upstream, const Vector& first) {
    float total = 0;
#pragma unroll 1
    for (int j = 0; j < count; ++j) {
        const int slot = j * pitch + lane.r;
        const float4 c = scratch.coefficients[slot];
        const float coefficient[4] = {c.x, c.y, c.z, c.w};
        const Corners corners = corners_of(a, scratch.pixels[slot]);
        float dots[4] = {0, 0, 0, 0};
        if (!any_channels) visit(value, scatter, first, lane.in_row * width, corners, coefficient, dots);
        if (any_channels)
            for (int channel = lane.in_row; channel < a.channels; channel += lanes)
                visit(value, scatter, load(upstream + channel), channel, corners, coefficient, dots);
#pragma unroll
        for (int k = 0; k < 4; ++k) total += coefficient[k] * dots[k];
        reduce(dots, lane.in_row, reinterpret_cast<float*>(scratch.coefficients + slot));
    }
    meet();
    return total;
}

// Gradients of one point, from the dot products of the upstream gradient with its four neighbours.
struct PointGradient {
    float sample, x, y;  // <upstream, sample>; gradient of the location or of the offset
};

DEVICE PointGradient gradient_of(const Arguments& a, const Sample& s, float4 dots) {
    if (!s.reach) return {0.0f, 0.0f, 0.0f};
    const float d0 = s.left && s.top ? dots.x : 0.0f, d1 = s.right && s.top ? dots.y : 0.0f;
    const float d2 = s.left && s.bottom ? dots.z : 0.0f, d3 = s.right && s.bottom ? dots.w : 0.0f;
    const float top = (1.0f - s.share_x) * d0 + s.share_x * d1, bottom = (1.0f - s.share_x) * d2 + s.share_x * d3;
    const float x = (1.0f - s.share_y) * (d1 - d0) + s.share_y * (d3 - d2);
    const float unit_x = a.location_gradients ? 1.0f : s.unit_x, unit_y = a.location_gradients ? 1.0f : s.unit_y;
    return {(1.0f - s.share_y) * top + s.share_y * bottom, s.weight * (s.width * x) * unit_x,
            s.weight * (s.height * (bottom - top)) * unit_y};
}

DEVICE float* place_of(const Arguments& a, const Task& task, int r, int point) {
    return a.kept + row_of(a, task, r) * a.points_per_row + point;
}

DEVICE void keep(const Arguments& a, const Task& task, const Scratch& scratch, int r, int point, float sample) {
    if (scratch.kept)
        scratch.kept[point * pitch + r] = sample;
    else
        put(place_of(a, task, r, point), sample);
}

DEVICE float kept(const Arguments& a, const Task& task, const Scratch& scratch, int r, int point) {
    return scratch.kept ? scratch.kept[point * pitch + r] : look(place_of(a, task, r, point));
}

// Writes the gradients of a chunk's coordinates and, in the plain form, of its scores.
template <bool fused>
DEVICE void finish_chunk(const Arguments& a, const Task& task, const Scratch& scratch, const Softmax& mine, int start) {
    each_point<fused>(mine, start, [&](int r, int point, int slot, const Softmax& softmax) {
        if (r >= task.count || point >= a.points_per_row) return;
        const Sample s = sample_of<fused>(a, task, r, point, softmax);
        const PointGradient g = gradient_of(a, s, scratch.coefficients[slot]);
        const long long index = row_of(a, task, r) * a.points_per_row + point;
        put(static_cast<Pair*>(a.grad_coordinates) + index, Pair{narrow(g.x), narrow(g.y)});
        if (fused)
            keep(a, task, scratch, r, point, g.sample);
        else
            put(static_cast<Word*>(a.grad_scores) + index, narrow(s.present ? g.sample : 0.0f));
    });
}

// The softmax's backward pass: gradient = weight * (<upstream, sample> - its mean under the weights).
DEVICE void finish_softmax(const Arguments& a, const Task& task, const Scratch& scratch, const Softmax& mine,
                           float total) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) total += exchange(total, step);
    for (int start = 0; start < a.points_per_row; start += chunk)
        each_point<true>(mine, start, [&](int r, int point, int, const Softmax& softmax) {
            const float mean = from_lane(total, r * lanes);
            if (r >= task.count || point >= a.points_per_row) return;
            const long long index = row_of(a, task, r) * a.points_per_row + point;
            const bool present = source_frame(a, task.frame, divide(point, a.by_run)) >= 0;
            const float weight = expf(widen(fetch(static_cast<const Word*>(a.scores) + index)) - softmax.largest);
            const float gradient = weight * softmax.scale * (kept(a, task, scratch, r, point) - mean);
            put(static_cast<Word*>(a.grad_scores) + index, narrow(present ? gradient : 0.0f));
        });
}

template <bool fused, bool deterministic>
DEVICE void backward(const Arguments& a) {
    const int warp = static_cast<int>(threadIdx.x >> 5), warps = static_cast<int>(blockDim.x >> 5);
    const Scratch scratch = scratch_of(a, warp);
    const Lane lane = lane_of();
    for (long long block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        const Task task = task_of(a, block, warp, warps);
        if (task.count == 0) continue;  // the whole warp
        const long long clip = clip_of(a, task);
        const Word* value = static_cast<const Word*>(a.value) + clip;
        const Scatter<deterministic> scatter(a, clip);
        // Lanes without a query of their own compute along with the first one's, all of their coefficients being 0.
        const int r = lane.r < task.count ? lane.r : 0;
        const Word* upstream = static_cast<const Word*>(a.upstream) + row_of(a, task, r) * channels_of(a);
        Vector gradient = {};
        if (!any_channels) gradient = load(upstream + lane.in_row * width);
        Softmax softmax = {};
        if (fused) softmax = softmax_of(a, task, lane.r, lane.in_row);
        float total = 0;
        for (int start = 0; start < a.points_per_row; start += chunk) {
            prepare<fused>(a, task, scratch, softmax, start);
            const int count = min(chunk, a.points_per_row - start);
            total += visit_chunk(a, scratch, lane, count, value, scatter, upstream, gradient);
            finish_chunk<fused>(a, task, scratch, softmax, start);
        }
        if (fused) finish_softmax(a, task, scratch, softmax, total);
    }
}

// ---------------------------------------------------------------------------------------------------------- kernels

// Blocks that a multiprocessor is to hold bound the registers of a thread: as many as there can be without spills.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
constexpr int fused_blocks = any_channels || lanes == 1 ? 3 : 4;
#else
constexpr int fused_blocks = 3;
#endif

// What to compile: a sum of 1 (forward), 2 (backward) and 4 (deterministic backward).
#if VISLAB_PARTS & 1
KERNEL(forward_plain, Arguments, 256, 4) { forward<false>(a); }
KERNEL(forward_fused, Arguments, 256, fused_blocks) { forward<true>(a); }
#endif
#if VISLAB_PARTS & 2
KERNEL(backward_plain, Arguments, 256, 3) { backward<false, false>(a); }
KERNEL(backward_fused, Arguments, 256, 3) { backward<true, false>(a); }
#endif
#if VISLAB_PARTS & 4
KERNEL(backward_plain_deterministic, Arguments, 256, 2) { backward<false, true>(a); }
KERNEL(backward_fused_deterministic, Arguments, 256, 2) { backward<true, true>(a); }
#endif

// A table that is too large for the arguments goes to the device through those of this kernel: no copy from the host,
// hence no wait and nothing that a captured graph would have to keep alive.
KERNEL(write_table, TableArguments, 256) {
    for (int i = static_cast<int>(threadIdx.x); i < a.count; i += static_cast<int>(blockDim.x))
        put(a.table + a.first + i, a.entries[i]);
}

#if VISLAB_PARTS & 4
// The largest finite |x|, as bits: those of numbers >= 0 are in the order of the numbers.
KERNEL(find_peak, PeakArguments, 256) {
    unsigned peak = 0;
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += step) {
        const float x = widen(fetch(static_cast<const Word*>(a.numbers) + i));
        if (is_finite(x)) peak = max(peak, bits_of(x) & 0x7fffffffu);
    }
    for (int lane_mask = 16; lane_mask > 0; lane_mask /= 2) peak = max(peak, exchange(peak, lane_mask));
    if ((threadIdx.x & 31) == 0) raise(a.peak, peak);
}

// Integers back to elements; what is marked as not finite stays so.
KERNEL(settle, SettleArguments, 256) {
    const Scale scale = scale_of(a.peaks, a.contributions_exponent);
    const long long step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += step) {
        Word* gradient = static_cast<Word*>(a.gradient) + i;
        if (is_finite(widen(look(gradient)))) put(gradient, narrow(settled(fetch(a.sums + i), scale)));
    }
}
#endif
