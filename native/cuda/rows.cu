// Embedding, norms, RoPE and GeGLU: twins of native/core/ops_rows.cpp. A warp has a row, its lanes neighbouring
// columns.
#include "launch.cuh"

namespace vg {
namespace {

constexpr int kRowsOfBlock = 4;
constexpr int kThreads = kRowsOfBlock * kWarp;

__device__ inline int64_t warp_row() { return int64_t(blockIdx.x) * kRowsOfBlock + threadIdx.x / kWarp; }
__device__ inline int lane() { return int(threadIdx.x % kWarp); }

__global__ void round_rows(DeviceRows x, uint16_t * y, int64_t m, int64_t n) {
    const int64_t t = warp_row();
    if (t >= m)
        return;
    for (int64_t i = lane(); i < n; i += kWarp)
        y[t * n + i] = to_bf16(x.data[t * x.stride + i]);
}

__global__ void embed_rows(DeviceWeights w, const int32_t * tokens, float * y, int64_t T, int64_t n, float scale) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    for (int64_t i = lane(); i < n; i += kWarp)
        y[t * n + i] = weight_at(w, tokens[t], i) * scale;
}

// from, to: null for the row itself
__global__ void move_rows(DeviceRows x, const int32_t * from, float * y, int64_t ldy, const int32_t * to, int64_t T,
                          int64_t n) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    const float * source = x.data + (from ? from[t] : t) * x.stride;
    float * target = y + (to ? to[t] : t) * ldy;
    for (int64_t i = lane(); i < n; i += kWarp)
        target[i] = source[i];
}

__device__ inline float inverse_rms(const float * x, int64_t n, float eps) {
    float sum = 0;
    for (int64_t i = lane(); i < n; i += kWarp)
        sum += x[i] * x[i];
    return 1.0f / sqrtf(warp_sum(sum) / float(n) + eps);
}

__global__ void norm_rows(DeviceRows x, const int32_t * rows, const float * w, DeviceRows add, float * y, int64_t ldy,
                          int64_t T, int64_t n, float eps) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    const float * from = x.data + (rows ? rows[t] : t) * x.stride;
    const float r = inverse_rms(from, n, eps);
    for (int64_t i = lane(); i < n; i += kWarp)
        y[t * ldy + i] = (add.data ? add.data[t * add.stride + i] : 0.0f) + from[i] * r * w[i];
}

__global__ void norm_rows_back(DeviceRows dy, DeviceRows x, const int32_t * rows, const float * w, DeviceRows add,
                               float * dx, int64_t ldx, int64_t T, int64_t n, float eps) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    const int64_t at = rows ? rows[t] : t;
    const float *from = x.data + at * x.stride, *d = dy.data + t * dy.stride;
    float squares = 0, products = 0;
    for (int64_t i = lane(); i < n; i += kWarp) {
        squares += from[i] * from[i];
        products += d[i] * w[i] * from[i];
    }
    const float r = 1.0f / sqrtf(warp_sum(squares) / float(n) + eps);
    const float c = r * r * warp_sum(products) / float(n);
    for (int64_t i = lane(); i < n; i += kWarp)
        dx[at * ldx + i] = r * (d[i] * w[i] - c * from[i]) + (add.data ? add.data[t * add.stride + i] : 0.0f);
}

// A warp has a head.
__global__ void turn_heads(DeviceRows x, float * y, int64_t ldy, const int32_t * to, const float * w,
                           const float * cosines, const float * sines, const int32_t * positions, int64_t T, int heads,
                           int head_dim, float eps) {
    const int64_t unit = warp_row();
    if (unit >= T * heads)
        return;
    const int64_t t = unit / heads, h = unit % heads, half = head_dim / 2;
    const float * from = x.data + t * x.stride + h * head_dim;
    float * out = y + (to ? to[t] : t) * ldy + h * head_dim;
    const float *cosine = cosines + positions[t] * half, *sine = sines + positions[t] * half;
    const float r = inverse_rms(from, head_dim, eps);
    for (int64_t i = lane(); i < half; i += kWarp) {
        const float a = from[i] * r * w[i], b = from[i + half] * r * w[i + half];
        out[i] = a * cosine[i] - b * sine[i];
        out[i + half] = b * cosine[i] + a * sine[i];
    }
}

__global__ void turn_heads_back(DeviceRows dy, DeviceRows x, float * dx, int64_t ldx, const float * w,
                                const float * cosines, const float * sines, const int32_t * positions, int64_t T,
                                int heads, int head_dim, float eps) {
    const int64_t unit = warp_row();
    if (unit >= T * heads)
        return;
    const int64_t t = unit / heads, h = unit % heads, half = head_dim / 2;
    const float *d = dy.data + t * dy.stride + h * head_dim, *from = x.data + t * x.stride + h * head_dim;
    const float *cosine = cosines + positions[t] * half, *sine = sines + positions[t] * half;
    float * out = dx + t * ldx + h * head_dim;
    float squares = 0, products = 0;
    for (int64_t i = lane(); i < half; i += kWarp) {
        const float a = d[i] * cosine[i] + d[i + half] * sine[i], b = d[i + half] * cosine[i] - d[i] * sine[i];
        squares += from[i] * from[i] + from[i + half] * from[i + half];
        products += a * w[i] * from[i] + b * w[i + half] * from[i + half];
    }
    const float r = 1.0f / sqrtf(warp_sum(squares) / float(head_dim) + eps);
    const float c = r * r * warp_sum(products) / float(head_dim);
    for (int64_t i = lane(); i < half; i += kWarp) {
        const float a = d[i] * cosine[i] + d[i + half] * sine[i], b = d[i + half] * cosine[i] - d[i] * sine[i];
        out[i] = r * (a * w[i] - c * from[i]);
        out[i + half] = r * (b * w[i + half] - c * from[i + half]);
    }
}

constexpr float kGelu2C = 1.5957691216057308f;  // 2·√(2/π)
constexpr float kGeluCubic = 0.044715f;

__device__ inline float gelu_sigmoid(float g) { return 1.0f / (1.0f + expf(-kGelu2C * (g + kGeluCubic * g * g * g))); }

__global__ void geglu_rows(DeviceRows gu, float * y, int64_t ldy, int64_t T, int64_t F) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    const float *g = gu.data + t * gu.stride, *u = g + F;
    for (int64_t i = lane(); i < F; i += kWarp)
        y[t * ldy + i] = g[i] * gelu_sigmoid(g[i]) * u[i];
}

__global__ void geglu_rows_back(DeviceRows dy, DeviceRows gu, float * dgu, int64_t ldg, int64_t T, int64_t F) {
    const int64_t t = warp_row();
    if (t >= T)
        return;
    const float *g = gu.data + t * gu.stride, *u = g + F, *d = dy.data + t * dy.stride;
    float *dg = dgu + t * ldg, *du = dg + F;
    for (int64_t i = lane(); i < F; i += kWarp) {
        const float x = g[i], s = gelu_sigmoid(x);
        const float slope = s + x * s * (1.0f - s) * kGelu2C * (1.0f + 3.0f * kGeluCubic * x * x);
        dg[i] = d[i] * u[i] * slope;
        du[i] = d[i] * x * s;
    }
}

}  // namespace

void set_row_kernels(Kernels & k) {
    k.round_bf16 = [](Stream s, DeviceRows x, uint16_t * y, int64_t m, int64_t n) {
        VG_LAUNCH(round_rows, blocks_for(m, kRowsOfBlock), kThreads, 0, s, x, y, m, n);
    };
    k.embed = [](Stream s, DeviceWeights w, const int32_t * tokens, float * y, int64_t T, int64_t n, float scale) {
        VG_LAUNCH(embed_rows, blocks_for(T, kRowsOfBlock), kThreads, 0, s, w, tokens, y, T, n, scale);
    };
    k.gather = [](Stream s, DeviceRows x, const int32_t * rows, float * y, int64_t ldy, int64_t T, int64_t n) {
        VG_LAUNCH(move_rows, blocks_for(T, kRowsOfBlock), kThreads, 0, s, x, rows, y, ldy, nullptr, T, n);
    };
    k.copy_rows = [](Stream s, DeviceRows x, float * y, int64_t ldy, const int32_t * to, int64_t T, int64_t n) {
        VG_LAUNCH(move_rows, blocks_for(T, kRowsOfBlock), kThreads, 0, s, x, nullptr, y, ldy, to, T, n);
    };
    k.norm = [](Stream s, DeviceRows x, const int32_t * rows, const float * w, DeviceRows add, float * y, int64_t ldy,
                int64_t T, int64_t n, float eps) {
        VG_LAUNCH(norm_rows, blocks_for(T, kRowsOfBlock), kThreads, 0, s, x, rows, w, add, y, ldy, T, n, eps);
    };
    k.norm_back = [](Stream s, DeviceRows dy, DeviceRows x, const int32_t * rows, const float * w, DeviceRows add,
                     float * dx, int64_t ldx, int64_t T, int64_t n, float eps) {
        VG_LAUNCH(norm_rows_back, blocks_for(T, kRowsOfBlock), kThreads, 0, s, dy, x, rows, w, add, dx, ldx, T, n, eps);
    };
    k.turn = [](Stream s, DeviceRows x, float * y, int64_t ldy, const int32_t * to, const float * w,
                const float * cosines, const float * sines, const int32_t * positions, int64_t T, int heads,
                int head_dim, float eps) {
        VG_LAUNCH(turn_heads, blocks_for(T * heads, kRowsOfBlock), kThreads, 0, s, x, y, ldy, to, w, cosines, sines,
                  positions, T, heads, head_dim, eps);
    };
    k.turn_back = [](Stream s, DeviceRows dy, DeviceRows x, float * dx, int64_t ldx, const float * w,
                     const float * cosines, const float * sines, const int32_t * positions, int64_t T, int heads,
                     int head_dim, float eps) {
        VG_LAUNCH(turn_heads_back, blocks_for(T * heads, kRowsOfBlock), kThreads, 0, s, dy, x, dx, ldx, w, cosines,
                  sines, positions, T, heads, head_dim, eps);
    };
    k.geglu = [](Stream s, DeviceRows gu, float * y, int64_t ldy, int64_t T, int64_t F) {
        VG_LAUNCH(geglu_rows, blocks_for(T, kRowsOfBlock), kThreads, 0, s, gu, y, ldy, T, F);
    };
    k.geglu_back = [](Stream s, DeviceRows dy, DeviceRows gu, float * dgu, int64_t ldg, int64_t T, int64_t F) {
        VG_LAUNCH(geglu_rows_back, blocks_for(T, kRowsOfBlock), kThreads, 0, s, dy, gu, dgu, ldg, T, F);
    };
}

}  // namespace vg
