// What a device computes, as a table of launchers with plain C++ signatures: the core calls them and needs no compiler
// of NVIDIA's. Each has its CPU twin in native/core (named beside it). Every pointer is to device memory; matrices are
// row-major float32 with the distance of two rows in floats. Launches are queued on the stream and return at once.
// Sums are taken in a fixed order and nothing is added atomically: two runs give the same bits.
#pragma once

#include <cstdint>

namespace vg {

using Stream = void *;  // cudaStream_t

// Rows of `n` floats, `stride` floats apart.
struct DeviceRows {
    const float * data;
    int64_t stride;
};

// A frozen matrix: f32, or bf16.
struct DeviceWeights {
    const void * data;
    int64_t stride;  // elements
    bool bf16;
};

// Which keys a query sees: column c of its score row is key `prompt` + c where c < split, else `own` + c - split.
struct DeviceQuery {
    int32_t prompt, split, own, position;
};

// Queries [q, q + n_q) may see a key, in column `column`. In the order of the plan's blocks.
struct DeviceKeyUse {
    int32_t q, n_q, column;
};

struct AttentionShape {
    int64_t n_tokens, n_keys;
    int n_head, n_kv, head_dim, window;  // window 0: none
    float scale;
};

// One completion's next token: from row `row` of the logits with the random number u, or `given` where that is not
// negative.
struct DeviceDraw {
    double u;
    int32_t row, given;
};
struct DeviceChoice {
    double logit;  // over the temperature
    int32_t token;
};

// Σ e^(x - max) over a part of the vocabulary.
struct DevicePartial {
    double sum, weighted;  // weighted: Σ e^(x - max)·x
    float max, shrink;     // shrink: by how much the last chunk made the sums before it smaller
};

// One LoRA matrix with its optimizer state.
struct DeviceParameter {
    float *value, *gradient, *exp_avg, *exp_avg_sq;
    int64_t size;
};
struct DeviceAdamW {
    double learning_rate, beta1, beta2, epsilon, decay, clip, correction1, correction2;
};

struct Kernels {
    // y [m, n] of bf16 = x [m, n], to nearest even. The product's rounding of activations.
    void (*round_bf16)(Stream, DeviceRows x, uint16_t * y, int64_t m, int64_t n);

    // Ops::embed: y [T, n] = scale · w[tokens]
    void (*embed)(Stream, DeviceWeights w, const int32_t * tokens, float * y, int64_t T, int64_t n, float scale);
    // Ops::gather: y [T, n] = x[rows]
    void (*gather)(Stream, DeviceRows x, const int32_t * rows, float * y, int64_t ldy, int64_t T, int64_t n);
    // Ops::norm, norm_at (rows not null), add_norm (add not null): y = add + x·r·w
    void (*norm)(Stream, DeviceRows x, const int32_t * rows, const float * w, DeviceRows add, float * y, int64_t ldy,
                 int64_t T, int64_t n, float eps);
    // Ops::norm_back, norm_at_back (rows not null: x and dx are read and written there, dy and add in order)
    void (*norm_back)(Stream, DeviceRows dy, DeviceRows x, const int32_t * rows, const float * w, DeviceRows add,
                      float * dx, int64_t ldx, int64_t T, int64_t n, float eps);
    // Ops::queries and the keys of store_keys: y[to ? to[t] : t] = RoPE(norm(x)) of `heads` heads that stand one after
    // another
    void (*turn)(Stream, DeviceRows x, float * y, int64_t ldy, const int32_t * to, const float * w,
                 const float * cosines, const float * sines, const int32_t * positions, int64_t T, int heads,
                 int head_dim, float eps);
    // Ops::qkv_back, of the heads of q or k
    void (*turn_back)(Stream, DeviceRows dy, DeviceRows x, float * dx, int64_t ldx, const float * w,
                      const float * cosines, const float * sines, const int32_t * positions, int64_t T, int heads,
                      int head_dim, float eps);
    // y[to ? to[t] : t] = x[t]: the values of store_keys, dv in qkv_back
    void (*copy_rows)(Stream, DeviceRows x, float * y, int64_t ldy, const int32_t * to, int64_t T, int64_t n);
    // Ops::geglu: y [T, F] of gu [T, 2F]
    void (*geglu)(Stream, DeviceRows gu, float * y, int64_t ldy, int64_t T, int64_t F);
    void (*geglu_back)(Stream, DeviceRows dy, DeviceRows gu, float * dgu, int64_t ldg, int64_t T, int64_t F);

    // Ops::attention: o [T, hd·n_head]; lse [T, n_head] may be null
    void (*attention)(Stream, const AttentionShape &, DeviceRows q, DeviceRows k, DeviceRows v,
                      const DeviceQuery * queries, float * o, int64_t ldo, float * lse);
    // Ops::attention_back. delta [T, n_head] = Σ p·dp; first this one, then that for keys.
    void (*attention_back_queries)(Stream, const AttentionShape &, DeviceRows q, DeviceRows k, DeviceRows v,
                                   DeviceRows d_o, const DeviceQuery * queries, float * dq, int64_t ldq, float * lse,
                                   float * delta);
    // uses [first[key], first[key + 1])
    void (*attention_back_keys)(Stream, const AttentionShape &, DeviceRows q, DeviceRows k, DeviceRows v,
                                DeviceRows d_o, const DeviceQuery * queries, const int32_t * first,
                                const DeviceKeyUse * uses, const float * lse, const float * delta, float * dk,
                                float * dv, int64_t ldk);

    // Head::sweep over one chunk of the vocabulary. logits [R, n]; total [R] is continued (`begin`: begun), segment
    // [R] of stride `segments` receives the chunk's own sums, exps [R, n] (null: none) e^(x - total.max).
    void (*head_chunk)(Stream, DeviceRows logits, float * exps, int64_t ld_exps, DevicePartial * total,
                       DevicePartial * segment, int segments, int64_t R, int64_t n, float inverse, bool begin);
    // y [R, n] *= total[r].shrink, or, at the end, /= total[r].sum
    void (*head_scale)(Stream, float * y, DevicePartial * total, int64_t R, int64_t n, bool end);
    // Targets (row, token) whose token is in [c, c + n) and whose row in [first, first + R): out[i] = logit · inverse
    void (*head_pick)(Stream, DeviceRows logits, const int32_t * rows, const int32_t * tokens, double * out,
                      int64_t targets, int64_t first, int64_t R, int64_t c, int64_t n, float inverse);
    // Head::backward: dh [R, n] = Σ_targets slope·W[token] - (Σ slope)·E. Targets of row r: order[first[r] …
    // first[r + 1])
    void (*head_backward)(Stream, DeviceWeights w, const float * expectation, const int32_t * first,
                          const int32_t * order, const int32_t * tokens, const double * slopes, float * dh, int64_t R,
                          int64_t n);
    // sample(): temperature, or greedy. logits [R, V], parts [R, segments] of `part` tokens each
    void (*draw)(Stream, DeviceRows logits, const DevicePartial * parts, int segments, int64_t part, int64_t V,
                 const DeviceDraw * draws, DeviceChoice * out, int64_t n, float inverse, bool greedy);

    // adamw_step: sums [n] of squared gradients
    void (*square_sums)(Stream, const DeviceParameter * parameters, double * sums, int64_t n);
    void (*adamw)(Stream, const DeviceParameter * parameters, int64_t n, int64_t largest, DeviceAdamW options);
    // Lora::fingerprint: hashes [n] of the values' bits and places
    void (*hash)(Stream, const DeviceParameter * parameters, uint64_t * hashes, int64_t n);
};

// Fill their part of the table (*.cu).
void set_row_kernels(Kernels &);
void set_attention_kernels(Kernels &);
void set_head_kernels(Kernels &);
void set_adapter_kernels(Kernels &);

}  // namespace vg
