// The CUDA algorithm that came with Deformable DETR (arXiv 2010.04159), written anew to be measured against.
//
// Forward: a thread per number of the output. It walks over all levels and points and computes their positions again
// for every channel. Backward: a block per query and head, a thread per channel; gradients of pixels are added with
// scalar atomics, those of a location and a weight are summed over the channels by the block's first thread, between
// two barriers per point. One source frame per call, float32, 32-bit indices.
//
// N batch, S tokens, Q queries, M heads, D channels per head (a macro), L levels, P points.

struct Arguments {
    const float* value;       // (N, S, M, D)
    const float* locations;   // (N, Q, M, L, P, 2)
    const float* weights;     // (N, Q, M, L, P)
    const float* upstream;    // (N, Q, M, D); backward
    float* output;            // (N, Q, M, D); forward
    float* grad_value;        // zeroed by the caller
    float* grad_locations;
    float* grad_weights;
    const long long* shapes;  // (L, 2): height, width
    const long long* starts;  // (L,): first token
    int batch, tokens, queries, heads, levels, points;
};

struct Corner {
    int pixel;  // offset from the level's first number of this head and channel; -1 outside the map
    float share, slope_x, slope_y;
};

// The four pixels around (x, y), in pixels of a map of height x width, `stride` numbers from one pixel to the next.
__device__ inline void find_corners(float x, float y, int height, int width, int stride, Corner corners[4]) {
    const int left = static_cast<int>(floorf(x)), top = static_cast<int>(floorf(y));
    const float right_share = x - left, lower_share = y - top;
    for (int k = 0; k < 4; ++k) {
        const int column = left + (k & 1), row = top + (k >> 1);
        const float share_x = k & 1 ? right_share : 1 - right_share, share_y = k >> 1 ? lower_share : 1 - lower_share;
        const bool inside = column >= 0 && column < width && row >= 0 && row < height;
        corners[k].pixel = inside ? (row * width + column) * stride : -1;
        corners[k].share = share_x * share_y;
        corners[k].slope_x = (k & 1 ? 1 : -1) * share_y;
        corners[k].slope_y = (k >> 1 ? 1 : -1) * share_x;
    }
}

__device__ inline bool within_reach(float x, float y, int height, int width) {
    return x > -1 && y > -1 && x < width && y < height;
}

extern "C" __global__ void original_forward(const Arguments a) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= a.batch * a.queries * a.heads * CHANNELS) return;
    const int channel = index % CHANNELS, row = index / CHANNELS;  // row: which sample, query and head
    const int head = row % a.heads, sample = row / a.heads / a.queries;
    const int stride = a.heads * CHANNELS;
    const float* frame = a.value + sample * a.tokens * stride + head * CHANNELS + channel;
    int point = row * a.levels * a.points;
    float sum = 0;
    for (int level = 0; level < a.levels; ++level) {
        const int height = a.shapes[2 * level], width = a.shapes[2 * level + 1];
        const float* map = frame + a.starts[level] * stride;
        for (int p = 0; p < a.points; ++p, ++point) {
            const float x = a.locations[2 * point] * width - 0.5f, y = a.locations[2 * point + 1] * height - 0.5f;
            if (!within_reach(x, y, height, width)) continue;
            Corner corners[4];
            find_corners(x, y, height, width, stride, corners);
            float sampled = 0;
            for (const Corner& corner : corners)
                if (corner.pixel >= 0) sampled += corner.share * map[corner.pixel];
            sum += a.weights[point] * sampled;
        }
    }
    a.output[index] = sum;
}

extern "C" __global__ void original_backward(const Arguments a) {
    __shared__ float partial_x[CHANNELS], partial_y[CHANNELS], partial_weight[CHANNELS];
    const int channel = threadIdx.x, row = blockIdx.x;
    const int head = row % a.heads, sample = row / a.heads / a.queries;
    const int stride = a.heads * CHANNELS;
    const int frame = sample * a.tokens * stride + head * CHANNELS + channel;
    const float upstream = a.upstream[row * CHANNELS + channel];
    int point = row * a.levels * a.points;
    for (int level = 0; level < a.levels; ++level) {
        const int height = a.shapes[2 * level], width = a.shapes[2 * level + 1];
        const int map = frame + static_cast<int>(a.starts[level]) * stride;
        for (int p = 0; p < a.points; ++p, ++point) {
            const float x = a.locations[2 * point] * width - 0.5f, y = a.locations[2 * point + 1] * height - 0.5f;
            const float weight = a.weights[point];
            float sampled = 0, slope_x = 0, slope_y = 0;
            if (within_reach(x, y, height, width)) {
                Corner corners[4];
                find_corners(x, y, height, width, stride, corners);
                for (const Corner& corner : corners) {
                    if (corner.pixel < 0) continue;
                    const float pixel = a.value[map + corner.pixel];
                    sampled += corner.share * pixel;
                    slope_x += corner.slope_x * pixel;
                    slope_y += corner.slope_y * pixel;
                    atomicAdd(a.grad_value + map + corner.pixel, weight * corner.share * upstream);
                }
            }
            partial_weight[channel] = upstream * sampled;
            partial_x[channel] = upstream * weight * width * slope_x;
            partial_y[channel] = upstream * weight * height * slope_y;
            __syncthreads();
            if (channel == 0) {
                float sum_weight = 0, sum_x = 0, sum_y = 0;
                for (int c = 0; c < CHANNELS; ++c) {
                    sum_weight += partial_weight[c];
                    sum_x += partial_x[c];
                    sum_y += partial_y[c];
                }
                a.grad_weights[point] = sum_weight;
                a.grad_locations[2 * point] = sum_x;
                a.grad_locations[2 * point + 1] = sum_y;
            }
            __syncthreads();
        }
    }
}
