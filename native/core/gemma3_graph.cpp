#include "gemma3_graph.h"

#include <cmath>

#include "error.h"

namespace vg {

// Generous upper bounds of tensor headers a layer needs; headers are small and a shortage would abort.
static constexpr size_t kForwardPerLayer = 128, kBackwardPerLayer = 256, kOutside = 64;

static size_t forward_nodes(const Gemma3Params & p) { return size_t(p.n_layer) * kForwardPerLayer + kOutside; }
static size_t backward_nodes(const Gemma3Params & p) { return size_t(p.n_layer) * kBackwardPerLayer + kOutside; }

static constexpr int kRopeNeox = GGML_ROPE_TYPE_NEOX;

// Keeps the tensor's memory until the arena's next graph. The allocator looks at the tensor that owns the memory.
static void keep_data(ggml_tensor * t) { ggml_set_output(t->view_src ? t->view_src : t); }

Gemma3Graph::Gemma3Graph(const Gemma3 & model, Engine & engine, const ForwardPass & pass)
    : model_(model), p_(model.params()), engine_(engine), pass_(pass),
      ctx_(make_context(forward_nodes(p_), forward_nodes(p_))), ops_(engine, ctx_.get()) {
    const auto T = int64_t(pass.tokens.size()), R = int64_t(pass.head_rows.size());
    ggml_context * ctx = ctx_.get();
    graph_ = ggml_new_graph_custom(ctx, forward_nodes(p_), false);
    const auto input = [&](ggml_type type, int64_t n) {
        ggml_tensor * t = ggml_new_tensor_1d(ctx, type, n);
        ggml_set_input(t);
        ggml_set_output(t);  // also read by the backward graph
        return t;
    };
    tokens_ = input(GGML_TYPE_I32, T);
    positions_ = input(GGML_TYPE_I32, T);
    rows_ = input(GGML_TYPE_I32, R);
    if (pass.cache)
        cells_ = input(GGML_TYPE_I64, T);

    layers_.resize(size_t(p_.n_layer));
    ggml_tensor * x = ggml_scale(ctx, ggml_get_rows(ctx, model.token_embd(), tokens_), std::sqrt(float(p_.n_embd)));
    for (int i = 0; i < p_.n_layer; ++i)
        x = forward_layer(i, x);
    head_input_ = ggml_get_rows(ctx, x, rows_);
    ggml_set_output(head_input_);
    hidden_ = ggml_mul(ctx, ggml_rms_norm(ctx, head_input_, p_.norm_eps), model.output_norm());
    ggml_set_output(hidden_);
    ggml_build_forward_expand(graph_, hidden_);
}

// W x, plus (alpha / r) B A x where the module is adapted. z receives (alpha / r) A x.
ggml_tensor * Gemma3Graph::adapted(int layer, Module module, ggml_tensor * x, ggml_tensor ** z) {
    ggml_tensor * y = ops_.linear(model_.layer(layer).linear[module], x);
    *z = nullptr;
    if (!pass_.lora)
        return y;
    const LoraPair pair = pass_.lora->pair(layer, module);
    if (!pair.a)
        return y;
    *z = ggml_scale(ctx_.get(), ops_.linear(pair.a->data, x, Engine::LORA), pass_.lora->scale());
    if (pass_.keep)
        keep_data(*z);
    return ggml_add(ctx_.get(), y, ops_.linear(pair.b->data, *z, Engine::LORA));
}

ggml_tensor * Gemma3Graph::rope(ggml_tensor * x, int n_head, int layer) {
    const bool sliding = p_.sliding(layer);
    ggml_tensor * heads = ggml_reshape_3d(ctx_.get(), x, p_.head_dim, n_head, int64_t(pass_.tokens.size()));
    ggml_tensor * turned =
        ggml_rope_ext(ctx_.get(), heads, positions_, nullptr, p_.head_dim, kRopeNeox, p_.n_ctx,
                      sliding ? p_.rope_base_local : p_.rope_base, sliding ? 1.0f : p_.rope_scale, 0, 1, 0, 0);
    return ggml_reshape_2d(ctx_.get(), turned, int64_t{p_.head_dim} * n_head, int64_t(pass_.tokens.size()));
}

ggml_tensor * Gemma3Graph::forward_layer(int i, ggml_tensor * x) {
    ggml_context * ctx = ctx_.get();
    const Gemma3Layer & w = model_.layer(i);
    LayerActivations & a = layers_[size_t(i)];
    const auto T = int64_t(pass_.tokens.size());
    const int hd = p_.head_dim;
    const auto norm = [&](ggml_tensor * t, ggml_tensor * weight) {
        return ggml_mul(ctx, ggml_rms_norm(ctx, t, p_.norm_eps), weight);
    };
    const auto head_norm = [&](ggml_tensor * t, ggml_tensor * weight, int n_head) {
        return ggml_reshape_2d(ctx, norm(ggml_reshape_3d(ctx, t, hd, n_head, T), weight), int64_t{hd} * n_head, T);
    };

    a.x = x;
    ggml_tensor * h = norm(x, w.attn_norm);
    a.q0 = adapted(i, Q_PROJ, h, &a.z[Q_PROJ]);
    a.k0 = adapted(i, K_PROJ, h, &a.z[K_PROJ]);
    a.v = adapted(i, V_PROJ, h, &a.z[V_PROJ]);
    a.q = rope(head_norm(a.q0, w.q_norm, p_.n_head), p_.n_head, i);
    a.k = rope(head_norm(a.k0, w.k_norm, p_.n_head_kv), p_.n_head_kv, i);

    ggml_tensor *keys = a.k, *values = a.v;
    if (pass_.cache) {
        keys = ggml_set_rows(ctx, (*pass_.cache)[size_t(i)].k, a.k, cells_);
        values = ggml_set_rows(ctx, (*pass_.cache)[size_t(i)].v, a.v, cells_);
    }
    ggml_tensor * scores = ops_.attention_scores(a.q, keys, *pass_.plan, hd);
    ggml_tensor * p = ops_.attention_softmax(scores, *pass_.plan, p_.attention_scale, p_.sliding(i) ? p_.window : 0);
    a.o = ops_.attention_mix(p, values, *pass_.plan, hd);
    a.ao = adapted(i, O_PROJ, a.o, &a.z[O_PROJ]);
    a.x1 = ggml_add(ctx, x, norm(a.ao, w.post_attn_norm));

    ggml_tensor * h2 = norm(a.x1, w.ffn_norm);
    a.gate = adapted(i, GATE_PROJ, h2, &a.z[GATE_PROJ]);
    a.up = adapted(i, UP_PROJ, h2, &a.z[UP_PROJ]);
    a.d = adapted(i, DOWN_PROJ, ops_.geglu(a.gate, a.up), &a.z[DOWN_PROJ]);
    if (pass_.keep) {
        for (ggml_tensor * t : {a.x, a.q0, a.k0, a.q, a.k, a.v, a.o, a.ao, a.x1, a.gate, a.up, a.d})
            keep_data(t);
    }
    return ggml_add(ctx, a.x1, norm(a.d, w.post_ffn_norm));
}

// Of the linear layers; the rest is small beside them.
double Gemma3Graph::flops() const {
    double weights = 0;
    for (int m = 0; m < N_MODULES; ++m)
        weights += double(module_in(p_, Module(m))) * double(module_out(p_, Module(m)));
    return 2 * weights * p_.n_layer * double(pass_.tokens.size());
}

void Gemma3Graph::forward() {
    engine_.place(graph_, Engine::FORWARD);
    const auto set = [](ggml_tensor * t, const void * values) {
        ggml_backend_tensor_set(t, values, 0, ggml_nbytes(t));
    };
    set(tokens_, pass_.tokens.data());
    set(positions_, pass_.positions.data());
    set(rows_, pass_.head_rows.data());
    if (cells_)
        set(cells_, pass_.cells.data());
    engine_.run(graph_, flops());
}

const float * Gemma3Graph::hidden() const { return static_cast<const float *>(hidden_->data); }

// ---- backward ----

// Nodes of the reverse pass. dX is the loss's derivative by X.
struct Gemma3Graph::Backward {
    Gemma3Graph & f;
    Context ctx_owner;
    ggml_context * ctx;
    Ops ops;
    ggml_cgraph * graph;

    explicit Backward(Gemma3Graph & forward)
        : f(forward), ctx_owner(make_context(backward_nodes(forward.p_), backward_nodes(forward.p_))),
          ctx(ctx_owner.get()), ops(forward.engine_, ctx),
          graph(ggml_new_graph_custom(ctx, backward_nodes(forward.p_), false)) {}

    // A tensor of the forward pass as a leaf: without its sources, so that this graph does not run that one again.
    ggml_tensor * leaf(ggml_tensor * t) {
        ggml_tensor * l = ggml_new_tensor(ctx, t->type, GGML_MAX_DIMS, t->ne);
        l->buffer = t->view_src ? t->view_src->buffer : t->buffer;
        l->data = t->data;
        return l;
    }
    ggml_tensor * norm(ggml_tensor * x, ggml_tensor * weight) {
        return ggml_mul(ctx, ggml_rms_norm(ctx, x, f.p_.norm_eps), weight);
    }
    // y = rms_norm(x) · weight
    ggml_tensor * norm_back(ggml_tensor * dy, ggml_tensor * x, ggml_tensor * weight) {
        return ggml_rms_norm_back(ctx, ggml_mul(ctx, dy, weight), x, f.p_.norm_eps);
    }
    ggml_tensor * head_norm_back(ggml_tensor * dy, ggml_tensor * x, ggml_tensor * weight, int n_head) {
        const int64_t T = x->ne[1], hd = f.p_.head_dim;
        ggml_tensor * d =
            norm_back(ggml_reshape_3d(ctx, dy, hd, n_head, T), ggml_reshape_3d(ctx, x, hd, n_head, T), weight);
        return ggml_reshape_2d(ctx, d, hd * n_head, T);
    }
    ggml_tensor * rope_back(ggml_tensor * dy, int n_head, int layer) {
        const auto & p = f.p_;
        const bool sliding = p.sliding(layer);
        ggml_tensor * heads = ggml_reshape_3d(ctx, dy, p.head_dim, n_head, dy->ne[1]);
        ggml_tensor * d =
            ggml_rope_ext_back(ctx, heads, leaf(f.positions_), nullptr, p.head_dim, kRopeNeox, p.n_ctx,
                               sliding ? p.rope_base_local : p.rope_base, sliding ? 1.0f : p.rope_scale, 0, 1, 0, 0);
        return ggml_reshape_2d(ctx, d, dy->ne[0], dy->ne[1]);
    }
    // Gradients of A and B go to the adapter; returns dx when `need_dx`.
    // y = W x + B z with z = s A x:  dB += dy zᵀ, dz = s Bᵀ dy, dA += dz xᵀ, dx = Wᵀ dy + Aᵀ dz.
    ggml_tensor * adapted_back(int layer, Module module, ggml_tensor * x, ggml_tensor * dy, bool need_dx) {
        ggml_tensor * dx = need_dx ? ops.linear_back(f.model_.layer(layer).linear[module], dy) : nullptr;
        if (!f.layers_[size_t(layer)].z[module])
            return dx;
        ggml_tensor * z = leaf(f.layers_[size_t(layer)].z[module]);
        const LoraPair pair = f.pass_.lora->pair(layer, module);
        ggml_tensor * dz = ggml_scale(ctx, ops.linear_back(pair.b->data, dy, Engine::LORA), f.pass_.lora->scale());
        ggml_build_forward_expand(graph, ops.accumulate_outer(pair.b->gradient, dy, z));
        ggml_build_forward_expand(graph, ops.accumulate_outer(pair.a->gradient, dz, x));
        return need_dx ? ggml_add(ctx, dx, ops.linear_back(pair.a->data, dz, Engine::LORA)) : nullptr;
    }

    ggml_tensor * layer(int i, ggml_tensor * dx);
};

ggml_tensor * Gemma3Graph::Backward::layer(int i, ggml_tensor * dx) {
    const auto & p = f.p_;
    const Gemma3Layer & w = f.model_.layer(i);
    LayerActivations a = f.layers_[size_t(i)];
    for (ggml_tensor ** t : {&a.x, &a.q0, &a.k0, &a.q, &a.k, &a.v, &a.o, &a.ao, &a.x1, &a.gate, &a.up, &a.d})
        *t = leaf(*t);
    const auto & plan = *f.pass_.plan;
    const int window = p.sliding(i) ? p.window : 0;
    const bool first = i == 0;  // nothing below the first layer's projections is trained

    // x' = x1 + norm(d)·w4, d = Wd geglu(gate, up)
    ggml_tensor * dd = norm_back(dx, a.d, w.post_ffn_norm);
    ggml_tensor * da = adapted_back(i, DOWN_PROJ, ops.geglu(a.gate, a.up), dd, true);
    ggml_tensor * dgu = ops.geglu_back(da, a.gate, a.up);
    const size_t F = size_t(p.n_ff) * sizeof(float);
    ggml_tensor * dgate = ggml_view_2d(ctx, dgu, p.n_ff, dgu->ne[1], dgu->nb[1], 0);
    ggml_tensor * dup = ggml_view_2d(ctx, dgu, p.n_ff, dgu->ne[1], dgu->nb[1], F);
    ggml_tensor * h2 = norm(a.x1, w.ffn_norm);
    ggml_tensor * dh2 =
        ggml_add(ctx, adapted_back(i, GATE_PROJ, h2, dgate, true), adapted_back(i, UP_PROJ, h2, dup, true));
    ggml_tensor * dx1 = ggml_add(ctx, dx, norm_back(dh2, a.x1, w.ffn_norm));

    // x1 = x + norm(ao)·w2, ao = Wo o
    ggml_tensor * dao = norm_back(dx1, a.ao, w.post_attn_norm);
    ggml_tensor * d_o = adapted_back(i, O_PROJ, a.o, dao, true);

    // The probabilities are cheaper to compute again than to keep.
    ggml_tensor * scores = ops.attention_scores(a.q, a.k, plan, p.head_dim);
    ggml_tensor * prob = ops.attention_softmax(scores, plan, p.attention_scale, window);
    ggml_tensor * dprob = ops.attention_scores(d_o, a.v, plan, p.head_dim);
    ggml_tensor * ds = ops.attention_softmax_back(prob, dprob, plan, p.attention_scale, window);
    ggml_tensor * dv = ops.attention_mix_back(prob, d_o, plan, p.head_dim, p.n_head_kv);
    ggml_tensor * dq = ops.attention_mix(ds, a.k, plan, p.head_dim);
    ggml_tensor * dk = ops.attention_mix_back(ds, a.q, plan, p.head_dim, p.n_head_kv);
    ggml_tensor * dq0 = head_norm_back(rope_back(dq, p.n_head, i), a.q0, w.q_norm, p.n_head);
    ggml_tensor * dk0 = head_norm_back(rope_back(dk, p.n_head_kv, i), a.k0, w.k_norm, p.n_head_kv);

    ggml_tensor * h = norm(a.x, w.attn_norm);
    ggml_tensor * dhq = adapted_back(i, Q_PROJ, h, dq0, !first);
    ggml_tensor * dhk = adapted_back(i, K_PROJ, h, dk0, !first);
    ggml_tensor * dhv = adapted_back(i, V_PROJ, h, dv, !first);
    if (first)
        return nullptr;
    ggml_tensor * dh = ggml_add(ctx, ggml_add(ctx, dhq, dhk), dhv);
    return ggml_add(ctx, dx1, norm_back(dh, a.x, w.attn_norm));
}

void Gemma3Graph::backward(const std::vector<float> & d_hidden) {
    if (!pass_.keep || !pass_.lora)
        throw Error("E_INTERNAL", "backward without kept activations or without an adapter");
    Backward b(*this);
    ggml_tensor * dh = ggml_new_tensor_2d(b.ctx, GGML_TYPE_F32, p_.n_embd, int64_t(pass_.head_rows.size()));
    ggml_set_input(dh);
    ggml_tensor * d_rows = b.norm_back(dh, b.leaf(head_input_), model_.output_norm());
    ggml_tensor * dx = ggml_get_rows_back(b.ctx, d_rows, b.leaf(rows_), b.leaf(layers_[0].x));
    for (int i = p_.n_layer - 1; i >= 0; --i)
        dx = b.layer(i, dx);

    engine_.place(b.graph, Engine::BACKWARD);
    ggml_backend_tensor_set(dh, d_hidden.data(), 0, ggml_nbytes(dh));
    engine_.run(b.graph, flops());
}

}  // namespace vg
