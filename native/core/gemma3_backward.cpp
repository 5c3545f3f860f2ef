#include "gemma3_backward.h"

#include "ops.h"

namespace vg {

namespace {

// Generous upper bounds of the tensor headers a layer needs; headers are small and a shortage would abort.
size_t most_nodes(const Gemma3Params & p) { return size_t(p.n_layer) * 128 + 64; }

bool in_order(const std::vector<int32_t> & rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
        if (rows[i] != int32_t(i))
            return false;
    }
    return true;
}

// dX is the loss's derivative by X.
class Backward {
  public:
    Backward(const Gemma3 & model, Engine & engine, const BackwardPass & pass)
        : model_(model), p_(model.params()), engine_(engine), pass_(pass),
          ctx_(make_context(most_nodes(p_), most_nodes(p_))), ops_(engine, ctx_.get()),
          graph_(ggml_new_graph_custom(ctx_.get(), most_nodes(p_), false)), in_order_(in_order(pass.rows)),
          cells_in_order_(in_order(pass.cells) && pass.plan.n_keys == int64_t(pass.cells.size())) {}

    void run(std::vector<float> & d_hidden);

  private:
    // The tokens' rows of a matrix on the tape.
    ggml_tensor * recall(ggml_tensor * on_tape) {
        if (!in_order_)
            return ops_.gather(on_tape, pass_.rows);
        ggml_tensor * leaf = ggml_new_tensor_2d(ctx_.get(), on_tape->type, on_tape->ne[0], int64_t(pass_.rows.size()));
        leaf->buffer = on_tape->buffer;
        leaf->data = on_tape->data;
        return leaf;
    }
    ggml_tensor * of_cells(ggml_tensor * x) { return cells_in_order_ ? x : ops_.gather(x, pass_.cells); }

    // y = W x + B z with z = s A x: adds dA, dB and returns dx, or null where it is not needed.
    ggml_tensor * adapted(int layer, Group group, ggml_tensor * x, ggml_tensor * dy, bool need_dx) {
        const LoraGroup * lora = pass_.lora->group(layer, group);
        ggml_tensor * dz = nullptr;
        if (lora) {
            dz = ops_.lora_out_back(*lora, dy, pass_.lora->scale());
            ggml_build_forward_expand(
                graph_, ops_.accumulate_lora(*lora, x, recall(pass_.tape->layer(layer).z[group]), dy, dz));
        }
        return need_dx ? ops_.linear_back(model_.layer(layer).group[group], dy, lora, dz) : nullptr;
    }
    ggml_tensor * attention(int layer, ggml_tensor * qkv, ggml_tensor * d_o);
    ggml_tensor * layer(int layer, ggml_tensor * dx);

    const Gemma3 & model_;
    const Gemma3Params & p_;
    Engine & engine_;
    const BackwardPass & pass_;
    Context ctx_;
    Ops ops_;
    ggml_cgraph * graph_;
    bool in_order_, cells_in_order_;
};

// d qkv. The probabilities are computed again.
ggml_tensor * Backward::attention(int i, ggml_tensor * qkv, ggml_tensor * d_o) {
    const Gemma3Layer & w = model_.layer(i);
    const KvLayer & kv = pass_.tape->cache().layers()[size_t(i)];
    const RopeTable & rope = pass_.ropes->of(p_.sliding(i));
    const auto & plan = pass_.plan;
    const int hd = p_.head_dim, window = p_.sliding(i) ? p_.window : 0;

    ggml_tensor * q = ops_.queries(qkv, p_.n_head, w.q_norm, p_.norm_eps, rope, pass_.positions);
    ggml_tensor * scores = ops_.attention_scores(q, kv.k, plan, hd, window);
    ggml_tensor * prob = ops_.attention_softmax(scores, plan, p_.attention_scale, window);
    ggml_tensor * dprob = ops_.attention_scores(d_o, kv.v, plan, hd, window);
    ggml_tensor * ds = ops_.attention_softmax_back(prob, dprob, plan, p_.attention_scale, window);
    ggml_tensor * dv = ops_.attention_mix_back(prob, d_o, plan, hd, p_.n_head_kv, window);
    ggml_tensor * dq = ops_.attention_mix(ds, kv.k, plan, hd, window);
    ggml_tensor * dk = ops_.attention_mix_back(ds, q, plan, hd, p_.n_head_kv, window);
    return ops_.qkv_back(dq, of_cells(dk), of_cells(dv), qkv, w.q_norm, w.k_norm, p_.norm_eps, rope, pass_.positions);
}

ggml_tensor * Backward::layer(int i, ggml_tensor * dx) {
    const Gemma3Layer & w = model_.layer(i);
    const TapeLayer & a = pass_.tape->layer(i);
    const float eps = p_.norm_eps;
    const bool first = i == 0;  // nothing below the first layer's projections is trained

    // x' = x1 + norm(d)·w4, d = Wd geglu(gu)
    ggml_tensor * gu = recall(a.gu);
    ggml_tensor * dd = ops_.norm_back(dx, recall(a.d), w.post_ffn_norm, eps, nullptr);
    ggml_tensor * da = adapted(i, DOWN, ops_.geglu(gu), dd, true);
    ggml_tensor * dgu = ops_.geglu_back(da, gu);
    ggml_tensor * x1 = recall(a.x1);
    ggml_tensor * dh2 = adapted(i, GATE_UP, ops_.norm(x1, w.ffn_norm, eps), dgu, true);
    ggml_tensor * dx1 = ops_.norm_back(dh2, x1, w.ffn_norm, eps, dx);

    // x1 = x + norm(ao)·w2, ao = Wo o
    ggml_tensor * dao = ops_.norm_back(dx1, recall(a.ao), w.post_attn_norm, eps, nullptr);
    ggml_tensor * d_o = adapted(i, O, recall(a.o), dao, true);
    ggml_tensor * dqkv = attention(i, recall(a.qkv), d_o);

    ggml_tensor * x = recall(a.x);
    ggml_tensor * dh = adapted(i, QKV, ops_.norm(x, w.attn_norm, eps), dqkv, !first);
    return first ? nullptr : ops_.norm_back(dh, x, w.attn_norm, eps, dx1);
}

void Backward::run(std::vector<float> & d_hidden) {
    ggml_tensor * dh = ggml_new_tensor_2d(ctx_.get(), GGML_TYPE_F32, p_.n_embd, int64_t(pass_.head_rows.size()));
    dh->data = d_hidden.data();
    ggml_tensor * dx =
        ops_.norm_at_back(dh, recall(pass_.tape->out()), pass_.head_rows, model_.output_norm(), p_.norm_eps);
    for (int i = p_.n_layer - 1; i >= 0; --i)
        dx = layer(i, dx);
    engine_.place(graph_);
    engine_.run(graph_, model_.linear_flops(int64_t(pass_.rows.size())));
}

}  // namespace

void gemma3_backward(const Gemma3 & model, Engine & engine, const BackwardPass & pass, std::vector<float> & d_hidden) {
    Backward(model, engine, pass).run(d_hidden);
}

}  // namespace vg
