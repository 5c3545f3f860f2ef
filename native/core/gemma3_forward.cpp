#include "gemma3_forward.h"

#include <algorithm>
#include <cmath>

namespace vg {

// Generous upper bounds of the tensor headers a layer needs; headers are small and a shortage would abort.
static size_t most_nodes(const Gemma3Params & p) { return size_t(p.n_layer) * 64 + 64; }

Gemma3Forward::Gemma3Forward(const Gemma3 & model, Engine & engine, const ForwardPass & pass)
    : model_(model), p_(model.params()), engine_(engine), pass_(pass),
      ctx_(make_context(most_nodes(p_), most_nodes(p_))), ops_(engine, ctx_.get()),
      graph_(ggml_new_graph_custom(ctx_.get(), most_nodes(p_), false)) {
    pass.ropes->reserve(*std::max_element(pass.positions.begin(), pass.positions.end()) + 1);
    ggml_tensor * x = ops_.embed(model.token_embd(), pass.tokens, std::sqrt(float(p_.n_embd)));
    x = keep(x, pass.tape ? pass.tape->layer(0).x : nullptr);
    for (int i = 0; i < p_.n_layer; ++i)
        x = layer(i, x);
    hidden_ = ops_.norm_at(x, pass.head_rows, model.output_norm(), p_.norm_eps);
    ggml_set_output(hidden_);
    ggml_build_forward_expand(graph_, hidden_);
}

// Has t written to its rows of the tape.
ggml_tensor * Gemma3Forward::keep(ggml_tensor * t, ggml_tensor * on_tape) const {
    if (on_tape) {
        GGML_ASSERT(t->ne[0] == on_tape->ne[0] && pass_.tape_row + t->ne[1] <= on_tape->ne[1]);
        t->buffer = on_tape->buffer;
        t->data = static_cast<char *>(on_tape->data) + size_t(pass_.tape_row) * on_tape->nb[1];
    }
    return t;
}

// W x, plus (alpha / r) B A x where modules of the group are adapted.
ggml_tensor * Gemma3Forward::adapted(int layer, Group group, ggml_tensor * x, ggml_tensor * on_tape) {
    const LoraGroup * lora = pass_.lora ? pass_.lora->group(layer, group) : nullptr;
    ggml_tensor * z = nullptr;
    if (lora) {
        z = keep(ops_.lora_in(*lora, x, pass_.lora->scale()), pass_.tape ? pass_.tape->layer(layer).z[group] : nullptr);
    }
    return keep(ops_.linear(model_.layer(layer).group[group], x, lora, z), on_tape);
}

ggml_tensor * Gemma3Forward::attention(int i, ggml_tensor * qkv) {
    const Gemma3Layer & w = model_.layer(i);
    const KvLayer & kv = pass_.cache->layers()[size_t(i)];
    const RopeTable & rope = pass_.ropes->of(p_.sliding(i));
    // Nothing but the order of the nodes says that attention reads what this one wrote.
    ggml_build_forward_expand(graph_,
                              ops_.store_keys(qkv, kv, pass_.cells, w.k_norm, p_.norm_eps, rope, pass_.positions));
    ggml_tensor * q = ops_.queries(qkv, p_.n_head, w.q_norm, p_.norm_eps, rope, pass_.positions);
    const int window = p_.sliding(i) ? p_.window : 0;
    ggml_tensor * scores = ops_.attention_scores(q, kv.k, pass_.plan, p_.head_dim, window);
    ggml_tensor * prob = ops_.attention_softmax(scores, pass_.plan, p_.attention_scale, window);
    return ops_.attention_mix(prob, kv.v, pass_.plan, p_.head_dim, window);
}

ggml_tensor * Gemma3Forward::layer(int i, ggml_tensor * x) {
    const Gemma3Layer & w = model_.layer(i);
    const Tape * tape = pass_.tape;
    const TapeLayer nowhere = {};
    const TapeLayer & to = tape ? tape->layer(i) : nowhere;
    ggml_tensor * next = nullptr;
    if (tape)
        next = i + 1 < p_.n_layer ? tape->layer(i + 1).x : tape->out();

    ggml_tensor * qkv = adapted(i, QKV, ops_.norm(x, w.attn_norm, p_.norm_eps), to.qkv);
    ggml_tensor * o = keep(attention(i, qkv), to.o);
    ggml_tensor * ao = adapted(i, O, o, to.ao);
    ggml_tensor * x1 = keep(ops_.add_norm(x, ao, w.post_attn_norm, p_.norm_eps), to.x1);
    ggml_tensor * gu = adapted(i, GATE_UP, ops_.norm(x1, w.ffn_norm, p_.norm_eps), to.gu);
    ggml_tensor * d = adapted(i, DOWN, ops_.geglu(gu), to.d);
    return keep(ops_.add_norm(x1, d, w.post_ffn_norm, p_.norm_eps), next);
}

void Gemma3Forward::run() {
    engine_.place(graph_);
    engine_.run(graph_, model_.linear_flops(int64_t(pass_.tokens.size())));
}

}  // namespace vg
