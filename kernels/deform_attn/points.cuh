// From coordinates and scores to cells, bilinear shares and weights.
#pragma once

// The queries of one frame and head that a warp works on.
struct Task {
    long long first;  // the first one's index in the (B, T, Q) grid
    int count;        // of queries: at most `rows`
    int batch, frame, head;
    long long query;  // of the first one, within its frame
};

DEVICE int divide(int n, const Divider& by) {
    return static_cast<int>(static_cast<unsigned long long>(static_cast<unsigned>(n)) * by.multiplier >> by.shift);
}

DEVICE int entry(const Arguments& a, int i) { return a.table_in_memory ? fetch(a.table_in_memory + i) : a.table[i]; }

DEVICE int source_frame(const Arguments& a, int frame, int source) {
    return entry(a, 3 * a.levels + frame * a.sources + source);
}

// Consecutive warps and blocks take consecutive queries of one head, which look at neighbouring pixels: blocks that run
// side by side on a multiprocessor share its first-level cache.
DEVICE Task task_of(const Arguments& a, long long block, int warp, int warps) {
    const long long map = block / a.query_blocks, frame = map / a.heads;  // map = (b * T + t) * M + m
    const long long query = (block - map * a.query_blocks) * warps * rows + warp * rows;
    const long long left = a.queries - query;
    Task task;
    task.head = static_cast<int>(map - frame * a.heads);
    task.batch = static_cast<int>(frame / a.frames), task.frame = static_cast<int>(frame % a.frames);
    task.query = query, task.first = frame * a.queries + query;
    task.count = left < 0 ? 0 : left < rows ? static_cast<int>(left) : rows;
    return task;
}

DEVICE long long row_of(const Arguments& a, const Task& task, int r) { return (task.first + r) * a.heads + task.head; }

// A row's softmax: weight = exp(logit - largest) * scale. Scale is 0 where there is nothing to attend to.
struct Softmax {
    float largest, scale;
};

// NaN counts as the largest, so that it is not lost.
DEVICE float larger(float a, float b) { return b > a || b != b ? b : a; }

template <class Step>
DEVICE void each_logit(const Arguments& a, const Task& task, int r, int lane, Step step) {
    const Word* logits = static_cast<const Word*>(a.scores) + row_of(a, task, r) * a.points_per_row;
    for (int i = lane; i < a.points_per_row; i += lanes)
        if (source_frame(a, task.frame, divide(i, a.by_run)) >= 0) step(widen(fetch(logits + i)));
}

// The lanes of a row share the work and all get the result.
DEVICE Softmax softmax_of(const Arguments& a, const Task& task, int r, int lane) {
    const bool active = r < task.count;
    const float nothing = float_of(0xff800000u);  // minus infinity
    float largest = nothing, sum = 0;
    if (active) each_logit(a, task, r, lane, [&](float logit) { largest = larger(largest, logit); });
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) largest = larger(largest, exchange(largest, step));
    const bool empty = largest == nothing;
    if (active && !empty) each_logit(a, task, r, lane, [&](float logit) { sum += expf(logit - largest); });
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) sum += exchange(sum, step);
    return empty ? Softmax{0.0f, 0.0f} : Softmax{largest, 1.0f / sum};
}

// One point of one row.
struct Sample {
    bool present, reach;        // its source frame is there; and it touches the map
    int token;                  // of the top left pixel in the clip, moved into the map
    int step_x, step_y;         // in tokens, to the right and to the lower neighbour; 0 across the border
    bool left, right, top, bottom;  // which neighbours are inside
    float share_x, share_y;     // of the right and of the lower neighbours; the others have the rest
    float width, height;        // of the level
    float unit_x, unit_y;       // what one of the coordinate moves the location by
    float weight;
};

struct Location {
    float x, y, unit_x, unit_y;
};

// Every multiplication and addition is rounded on its own, in the order of the definition: both must put a point that
// lies on a pixel centre into the same cell.
template <bool fused>
DEVICE Location location_of(const Arguments& a, const Task& task, int r, int i, int source, int level, float width,
                            float height) {
    const Pair raw = fetch(static_cast<const Pair*>(a.coordinates) + row_of(a, task, r) * a.points_per_row + i);
    Location at = {widen(raw.x), widen(raw.y), 1.0f, 1.0f};
    if (fused) {
        const long long* stride = a.reference_strides;
        const float* reference = a.reference + task.batch * stride[0] + task.frame * stride[1] +
                                 (task.query + r) * stride[2] + source * stride[3] + level * a.reference_size;
        if (a.reference_size == 4) {
            at.unit_x = __fmul_rn(fetch(reference + 2), a.half_over_points);
            at.unit_y = __fmul_rn(fetch(reference + 3), a.half_over_points);
        } else {
            at.unit_x = __fdiv_rn(1.0f, width), at.unit_y = __fdiv_rn(1.0f, height);
        }
        at.x = __fadd_rn(fetch(reference), __fmul_rn(at.x, at.unit_x));
        at.y = __fadd_rn(fetch(reference + 1), __fmul_rn(at.y, at.unit_y));
    }
    return at;
}

template <bool fused>
DEVICE Sample sample_of(const Arguments& a, const Task& task, int r, int i, Softmax softmax) {
    const int source = divide(i, a.by_run), level = divide(i - source * a.run, a.by_points);
    const int frame = source_frame(a, task.frame, source);
    const int rows_of_level = entry(a, 3 * level), columns = entry(a, 3 * level + 1);
    Sample s;
    s.width = static_cast<float>(columns), s.height = static_cast<float>(rows_of_level);
    const Location at = location_of<fused>(a, task, r, i, source, level, s.width, s.height);
    s.unit_x = at.unit_x, s.unit_y = at.unit_y;
    float x = __fadd_rn(__fmul_rn(at.x, s.width), -0.5f), y = __fadd_rn(__fmul_rn(at.y, s.height), -0.5f);
    s.present = frame >= 0;
    s.reach = s.present && x > -1.0f && x < s.width && y > -1.0f && y < s.height;  // false for NaN
    x = s.reach ? x : 0.0f, y = s.reach ? y : 0.0f;
    const float floor_x = floorf(x), floor_y = floorf(y);
    const int column = static_cast<int>(floor_x), row = static_cast<int>(floor_y);
    s.share_x = x - floor_x, s.share_y = y - floor_y;
    s.left = column >= 0, s.right = column < columns - 1, s.top = row >= 0, s.bottom = row < rows_of_level - 1;
    s.step_x = s.left && s.right ? 1 : 0, s.step_y = s.top && s.bottom ? columns : 0;
    s.token = (s.present ? frame : 0) * a.tokens + entry(a, 3 * level + 2) + (s.top ? row : 0) * columns +
              (s.left ? column : 0);
    const float score = widen(fetch(static_cast<const Word*>(a.scores) + row_of(a, task, r) * a.points_per_row + i));
    s.weight = !fused ? score : s.present ? expf(score - softmax.largest) * softmax.scale : 0.0f;
    return s;
}

// Weight times bilinear share of the four neighbours: top left, top right, bottom left, bottom right.
DEVICE float4 coefficients_of(const Sample& s) {
    const float left = 1.0f - s.share_x, top = 1.0f - s.share_y;
    return {s.reach && s.left && s.top ? s.weight * (left * top) : 0.0f,
            s.reach && s.right && s.top ? s.weight * (s.share_x * top) : 0.0f,
            s.reach && s.left && s.bottom ? s.weight * (left * s.share_y) : 0.0f,
            s.reach && s.right && s.bottom ? s.weight * (s.share_x * s.share_y) : 0.0f};
}
