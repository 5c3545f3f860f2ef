// Attention over a plan, forward and backward, with the scores never in memory: twins of native/core/ops_attention.cpp.
// Online softmax as in Dao et al., "FlashAttention", 2022. A warp has one query and head (or one key), and takes 32
// keys (or queries) at a time: first each lane one dot product, then all lanes the columns of the sums.
#include "launch.cuh"

namespace vg {
namespace {

constexpr int kWarpsOfBlock = 4;
constexpr int kThreads = kWarpsOfBlock * kWarp;
constexpr int kMostColumns = 16;  // of a head for each lane: head_dim up to 512

__device__ inline float dot(const float * a, const float * b, int n) {
    float sum = 0;
    for (int i = 0; i < n; ++i)
        sum += a[i] * b[i];
    return sum;
}
__device__ inline int64_t key_of(const DeviceQuery & q, int column) {
    return column < q.split ? int64_t(q.prompt) + column : int64_t(q.own) + column - q.split;
}
__device__ inline int first_column(const DeviceQuery & q, int window) {
    return window > 0 && q.position + 1 > window ? q.position + 1 - window : 0;
}

// Shared memory of a warp: the query [hd], then what `floats` more.
__device__ inline float * warp_room(float * shared, int floats) { return shared + int(threadIdx.x / kWarp) * floats; }

__global__ void attention_rows(AttentionShape shape, DeviceRows q, DeviceRows k, DeviceRows v,
                               const DeviceQuery * queries, float * o, int64_t ldo, float * lse) {
    VG_SHARED(float, shared);
    const int hd = shape.head_dim, lane = int(threadIdx.x % kWarp);
    float *query = warp_room(shared, hd + kWarp), *weights = query + hd;
    const int64_t unit = int64_t(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
    if (unit >= shape.n_tokens * shape.n_head)
        return;
    const int64_t t = unit / shape.n_head, h = unit % shape.n_head, kv = h * shape.n_kv / shape.n_head;
    const DeviceQuery row = queries[t];
    for (int i = lane; i < hd; i += kWarp)
        query[i] = q.data[t * q.stride + h * hd + i] * shape.scale;
    __syncwarp();
    float sums[kMostColumns] = {}, max = -FLT_MAX, total = 0;
    for (int from = first_column(row, shape.window); from <= row.position; from += kWarp) {
        const int column = from + lane;
        const bool seen = column <= row.position;
        const float score = seen ? dot(query, k.data + key_of(row, column) * k.stride + kv * hd, hd) : -FLT_MAX;
        const float top = fmaxf(max, warp_max(score));
        const float shrink = expf(max - top), p = seen ? expf(score - top) : 0.0f;
        total = total * shrink + warp_sum(p);
        weights[lane] = p;
        __syncwarp();
        const int n = row.position + 1 - from < kWarp ? row.position + 1 - from : kWarp;
        for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j)
            sums[j] *= shrink;
        for (int c = 0; c < n; ++c) {
            const float * value = v.data + key_of(row, from + c) * v.stride + kv * hd;
            for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j)
                sums[j] += weights[c] * value[j * kWarp + lane];
        }
        max = top;
        __syncwarp();
    }
    for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j)
        o[t * ldo + h * hd + j * kWarp + lane] = sums[j] / total;
    if (lse && lane == 0)
        lse[unit] = max + logf(total);
}

// dq = scale · Σ p (dp - Σ p dp) k. Two walks: the first finds lse and Σ p dp.
__global__ void attention_query_back(AttentionShape shape, DeviceRows q, DeviceRows k, DeviceRows v, DeviceRows d_o,
                                     const DeviceQuery * queries, float * dq, int64_t ldq, float * lse, float * delta) {
    VG_SHARED(float, shared);
    const int hd = shape.head_dim, lane = int(threadIdx.x % kWarp);
    float *query = warp_room(shared, 2 * hd + kWarp), *slope = query + hd, *weights = slope + hd;
    const int64_t unit = int64_t(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
    if (unit >= shape.n_tokens * shape.n_head)
        return;
    const int64_t t = unit / shape.n_head, h = unit % shape.n_head, kv = h * shape.n_kv / shape.n_head;
    const DeviceQuery row = queries[t];
    for (int i = lane; i < hd; i += kWarp) {
        query[i] = q.data[t * q.stride + h * hd + i] * shape.scale;
        slope[i] = d_o.data[t * d_o.stride + h * hd + i];
    }
    __syncwarp();
    const int begin = first_column(row, shape.window);
    float max = -FLT_MAX, total = 0, mean = 0;
    for (int from = begin; from <= row.position; from += kWarp) {
        const int column = from + lane;
        const bool seen = column <= row.position;
        const int64_t key = seen ? key_of(row, column) : 0;
        const float score = seen ? dot(query, k.data + key * k.stride + kv * hd, hd) : -FLT_MAX;
        const float dp = seen ? dot(slope, v.data + key * v.stride + kv * hd, hd) : 0.0f;
        const float top = fmaxf(max, warp_max(score));
        const float shrink = expf(max - top), p = seen ? expf(score - top) : 0.0f;
        total = total * shrink + warp_sum(p);
        mean = mean * shrink + warp_sum(p * dp);
        max = top;
    }
    mean /= total;
    const float log_sum = max + logf(total);
    float sums[kMostColumns] = {};
    for (int from = begin; from <= row.position; from += kWarp) {
        const int column = from + lane;
        const bool seen = column <= row.position;
        const int64_t key = seen ? key_of(row, column) : 0;
        const float score = seen ? dot(query, k.data + key * k.stride + kv * hd, hd) : -FLT_MAX;
        const float dp = seen ? dot(slope, v.data + key * v.stride + kv * hd, hd) : 0.0f;
        weights[lane] = seen ? shape.scale * expf(score - log_sum) * (dp - mean) : 0.0f;
        __syncwarp();
        const int n = row.position + 1 - from < kWarp ? row.position + 1 - from : kWarp;
        for (int c = 0; c < n; ++c) {
            const float * of = k.data + key_of(row, from + c) * k.stride + kv * hd;
            for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j)
                sums[j] += weights[c] * of[j * kWarp + lane];
        }
        __syncwarp();
    }
    for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j)
        dq[t * ldq + h * hd + j * kWarp + lane] = sums[j];
    if (lane == 0) {
        lse[unit] = log_sum;
        delta[unit] = mean;
    }
}

// dv = Σ p do, dk = scale · Σ p (dp - delta) q over all queries and heads that see a key, in the order of the plan.
__global__ void attention_key_back(AttentionShape shape, DeviceRows q, DeviceRows k, DeviceRows v, DeviceRows d_o,
                                   const DeviceQuery * queries, const int32_t * first, const DeviceKeyUse * uses,
                                   const float * lse, const float * delta, float * dk, float * dv, int64_t ldk) {
    VG_SHARED(float, shared);
    const int hd = shape.head_dim, lane = int(threadIdx.x % kWarp);
    float *key_row = warp_room(shared, 2 * hd + 2 * kWarp), *value_row = key_row + hd;
    float *p_of = value_row + hd, *ds_of = p_of + kWarp;
    const int64_t unit = int64_t(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
    if (unit >= shape.n_keys * shape.n_kv)
        return;
    const int64_t key = unit / shape.n_kv, kv = unit % shape.n_kv;
    const int heads = shape.n_head / shape.n_kv;
    for (int i = lane; i < hd; i += kWarp) {
        key_row[i] = k.data[key * k.stride + kv * hd + i];
        value_row[i] = v.data[key * v.stride + kv * hd + i];
    }
    __syncwarp();
    float of_k[kMostColumns] = {}, of_v[kMostColumns] = {};
    for (int32_t u = first[key]; u < first[key + 1]; ++u) {
        const DeviceKeyUse use = uses[u];
        for (int from = 0; from < use.n_q * heads; from += kWarp) {
            const int i = from + lane;
            float p = 0, ds = 0;
            if (i < use.n_q * heads) {
                const int64_t t = use.q + i / heads, h = kv * heads + i % heads;
                const DeviceQuery row = queries[t];
                if (use.column <= row.position && use.column >= first_column(row, shape.window)) {
                    const float score = shape.scale * dot(q.data + t * q.stride + h * hd, key_row, hd);
                    const float dp = dot(d_o.data + t * d_o.stride + h * hd, value_row, hd);
                    p = expf(score - lse[t * shape.n_head + h]);
                    ds = shape.scale * p * (dp - delta[t * shape.n_head + h]);
                }
            }
            p_of[lane] = p;
            ds_of[lane] = ds;
            __syncwarp();
            const int n = use.n_q * heads - from < kWarp ? use.n_q * heads - from : kWarp;
            for (int c = 0; c < n; ++c) {
                if (p_of[c] == 0 && ds_of[c] == 0)
                    continue;
                const int64_t t = use.q + (from + c) / heads, h = kv * heads + (from + c) % heads;
                const float *of_q = q.data + t * q.stride + h * hd, *of_o = d_o.data + t * d_o.stride + h * hd;
                for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j) {
                    of_k[j] += ds_of[c] * of_q[j * kWarp + lane];
                    of_v[j] += p_of[c] * of_o[j * kWarp + lane];
                }
            }
            __syncwarp();
        }
    }
    for (int j = 0; j < kMostColumns && j * kWarp + lane < hd; ++j) {
        dk[key * ldk + kv * hd + j * kWarp + lane] = of_k[j];
        dv[key * ldk + kv * hd + j * kWarp + lane] = of_v[j];
    }
}

size_t room(int floats) { return size_t(kWarpsOfBlock) * size_t(floats) * sizeof(float); }

}  // namespace

void set_attention_kernels(Kernels & kernels) {
    kernels.attention = [](Stream s, const AttentionShape & shape, DeviceRows q, DeviceRows k, DeviceRows v,
                           const DeviceQuery * queries, float * o, int64_t ldo, float * lse) {
        VG_LAUNCH(attention_rows, blocks_for(shape.n_tokens * shape.n_head, kWarpsOfBlock), kThreads,
                  room(shape.head_dim + kWarp), s, shape, q, k, v, queries, o, ldo, lse);
    };
    kernels.attention_back_queries = [](Stream s, const AttentionShape & shape, DeviceRows q, DeviceRows k,
                                        DeviceRows v, DeviceRows d_o, const DeviceQuery * queries, float * dq,
                                        int64_t ldq, float * lse, float * delta) {
        VG_LAUNCH(attention_query_back, blocks_for(shape.n_tokens * shape.n_head, kWarpsOfBlock), kThreads,
                  room(2 * shape.head_dim + kWarp), s, shape, q, k, v, d_o, queries, dq, ldq, lse, delta);
    };
    kernels.attention_back_keys = [](Stream s, const AttentionShape & shape, DeviceRows q, DeviceRows k, DeviceRows v,
                                     DeviceRows d_o, const DeviceQuery * queries, const int32_t * first,
                                     const DeviceKeyUse * uses, const float * lse, const float * delta, float * dk,
                                     float * dv, int64_t ldk) {
        VG_LAUNCH(attention_key_back, blocks_for(shape.n_keys * shape.n_kv, kWarpsOfBlock), kThreads,
                  room(2 * shape.head_dim + 2 * kWarp), s, shape, q, k, v, d_o, queries, first, uses, lse, delta, dk,
                  dv, ldk);
    };
}

}  // namespace vg
