// Log-sum-exp over the vocabulary with its expectation, the head's gradient, and sampling: twins of
// native/core/head.cpp and sampler.cpp. A block has a row.
#include "launch.cuh"

namespace vg {
namespace {

constexpr int kThreads = 256;
constexpr size_t kRoom = kThreads / kWarp * sizeof(double);  // of block_sum

__global__ void chunk_rows(DeviceRows logits, float * exps, int64_t ld_exps, DevicePartial * total,
                           DevicePartial * segment, int segments, int64_t n, float inverse, bool begin) {
    VG_SHARED(double, room);
    const int64_t r = blockIdx.x;
    const float * x = logits.data + r * logits.stride;
    float top = -FLT_MAX;
    for (int64_t c = threadIdx.x; c < n; c += blockDim.x)
        top = fmaxf(top, x[c] * inverse);
    const float own = block_max(top, reinterpret_cast<float *>(room));
    DevicePartial before = {0, 0, -FLT_MAX, 1};
    if (!begin)
        before = total[r];
    const float max = fmaxf(own, before.max);
    float sum = 0, weighted = 0;
    for (int64_t c = threadIdx.x; c < n; c += blockDim.x) {
        const float v = x[c] * inverse, e = expf(v - own);
        sum += e;
        weighted += e * v;
        if (exps)
            exps[r * ld_exps + c] = expf(v - max);
    }
    const double all = block_sum(double(sum), room), all_weighted = block_sum(double(weighted), room);
    if (threadIdx.x == 0) {
        // NaN goes through fmaxf unseen, but not through the sum.
        const double grow = exp(double(own) - double(max));
        const float shrink = begin ? 0.0f : float(exp(double(before.max) - double(max)));
        total[r] = {before.sum * double(shrink) + all * grow, before.weighted * double(shrink) + all_weighted * grow,
                    max, shrink};
        segment[r * segments] = {all, all_weighted, own, 0};
    }
}

__global__ void scale_rows(float * y, const DevicePartial * total, int64_t n, bool end) {
    const int64_t r = blockIdx.x;
    const float factor = end ? float(1.0 / total[r].sum) : total[r].shrink;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        y[r * n + i] *= factor;
}

__global__ void pick_targets(DeviceRows logits, const int32_t * rows, const int32_t * tokens, double * out,
                             int64_t targets, int64_t first, int64_t R, int64_t c, int64_t n, float inverse) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= targets)
        return;
    const int64_t row = rows[i] - first, column = tokens[i] - c;
    if (row >= 0 && row < R && column >= 0 && column < n)
        out[i] = double(logits.data[row * logits.stride + column] * inverse);
}

__global__ void head_rows_back(DeviceWeights w, const float * expectation, const int32_t * first, const int32_t * order,
                               const int32_t * tokens, const double * slopes, float * dh, int64_t n) {
    const int64_t r = blockIdx.x;
    double total = 0;
    for (int32_t i = first[r]; i < first[r + 1]; ++i)
        total += slopes[order[i]];
    for (int64_t d = threadIdx.x; d < n; d += blockDim.x) {
        float sum = 0;
        for (int32_t i = first[r]; i < first[r + 1]; ++i)
            sum += float(slopes[order[i]]) * weight_at(w, tokens[order[i]], d);
        dh[r * n + d] = sum - float(total) * expectation[r * n + d];
    }
}

// Each thread owns neighbouring tokens of the part that holds the number; the first thread whose sum reaches it looks
// further.
__device__ int32_t draw_token(const float * x, const DevicePartial * parts, int segments, int64_t part, int64_t V,
                              double u, float inverse, double * room) {
    float max = -FLT_MAX;
    for (int s = 0; s < segments; ++s)
        max = fmaxf(max, parts[s].sum > 0 ? parts[s].max : -FLT_MAX);
    double all = 0;
    for (int s = 0; s < segments; ++s) {
        if (parts[s].sum > 0)
            all += parts[s].sum * exp(double(parts[s].max) - double(max));
    }
    const double target = u * all;
    double mass = 0, before = 0;
    int at = 0;
    for (int s = 0; s < segments; ++s) {
        const double own = parts[s].sum > 0 ? parts[s].sum * exp(double(parts[s].max) - double(max)) : 0.0;
        if (own <= 0)
            continue;
        at = s;
        before = mass;
        mass += own;
        if (mass > target)
            break;
    }
    const int64_t begin = at * part, end = begin + part < V ? begin + part : V;
    const int64_t each = (end - begin + blockDim.x - 1) / blockDim.x;
    const int64_t from = begin + int64_t(threadIdx.x) * each, to = from + each < end ? from + each : end;
    double sum = 0;
    for (int64_t c = from; c < to; ++c)
        sum += exp(double(x[c] * inverse) - double(max));
    room[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0)
        return 0;
    int owner = 0;
    mass = before;
    for (int i = 0; i < int(blockDim.x); ++i) {
        if (room[i] <= 0)
            continue;
        owner = i;
        before = mass;
        mass += room[i];
        if (mass > target)
            break;
    }
    const int64_t start = begin + owner * each, stop = start + each < end ? start + each : end;
    int32_t last = int32_t(start);
    mass = before;
    for (int64_t c = start; c < stop; ++c) {
        const double e = exp(double(x[c] * inverse) - double(max));
        mass += e;
        if (e > 0)
            last = int32_t(c);
        if (mass > target)
            break;
    }
    return last;
}

// The lowest index wins ties.
__device__ int32_t best_token(const float * x, int64_t V, double * room) {
    float top = -FLT_MAX;
    for (int64_t c = threadIdx.x; c < V; c += blockDim.x)
        top = fmaxf(top, x[c]);
    top = block_max(top, reinterpret_cast<float *>(room));
    int64_t at = V;
    for (int64_t c = threadIdx.x; c < V; c += blockDim.x) {
        if (x[c] == top) {
            at = c;
            break;
        }
    }
    __syncthreads();
    room[threadIdx.x] = double(at);
    __syncthreads();
    if (threadIdx.x != 0)
        return 0;
    double lowest = room[0];
    for (int i = 1; i < int(blockDim.x); ++i)
        lowest = room[i] < lowest ? room[i] : lowest;
    return lowest < double(V) ? int32_t(lowest) : 0;
}

__global__ void draw_rows(DeviceRows logits, const DevicePartial * parts, int segments, int64_t part, int64_t V,
                          const DeviceDraw * draws, DeviceChoice * out, float inverse, bool greedy) {
    VG_SHARED(double, room);
    const DeviceDraw draw = draws[blockIdx.x];
    const float * x = logits.data + draw.row * logits.stride;
    int32_t token = draw.given;
    if (token < 0 && greedy)
        token = best_token(x, V, room);
    else if (token < 0)
        token = draw_token(x, parts + int64_t(draw.row) * segments, segments, part, V, draw.u, inverse, room);
    if (threadIdx.x == 0)
        out[blockIdx.x] = {double(x[token]) * double(inverse), token};
}

}  // namespace

void set_head_kernels(Kernels & k) {
    k.head_chunk = [](Stream s, DeviceRows logits, float * exps, int64_t ld_exps, DevicePartial * total,
                      DevicePartial * segment, int segments, int64_t R, int64_t n, float inverse, bool begin) {
        VG_LAUNCH(chunk_rows, unsigned(R), kThreads, kRoom, s, logits, exps, ld_exps, total, segment, segments, n,
                  inverse, begin);
    };
    k.head_scale = [](Stream s, float * y, DevicePartial * total, int64_t R, int64_t n, bool end) {
        VG_LAUNCH(scale_rows, unsigned(R), kThreads, 0, s, y, total, n, end);
    };
    k.head_pick = [](Stream s, DeviceRows logits, const int32_t * rows, const int32_t * tokens, double * out,
                     int64_t targets, int64_t first, int64_t R, int64_t c, int64_t n, float inverse) {
        VG_LAUNCH(pick_targets, blocks_for(targets, kThreads), kThreads, 0, s, logits, rows, tokens, out, targets,
                  first, R, c, n, inverse);
    };
    k.head_backward = [](Stream s, DeviceWeights w, const float * expectation, const int32_t * first,
                         const int32_t * order, const int32_t * tokens, const double * slopes, float * dh, int64_t R,
                         int64_t n) {
        VG_LAUNCH(head_rows_back, unsigned(R), kThreads, 0, s, w, expectation, first, order, tokens, slopes, dh, n);
    };
    k.draw = [](Stream s, DeviceRows logits, const DevicePartial * parts, int segments, int64_t part, int64_t V,
                const DeviceDraw * draws, DeviceChoice * out, int64_t n, float inverse, bool greedy) {
        VG_LAUNCH(draw_rows, unsigned(n), kThreads, kThreads * sizeof(double), s, logits, parts, segments, part, V,
                  draws, out, inverse, greedy);
    };
}

}  // namespace vg
