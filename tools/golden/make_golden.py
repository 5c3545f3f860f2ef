"""Writes test/golden: a tiny random Gemma 3 as GGUF and what transformers, PEFT and torch compute with it in float64.

usage: python tools/golden/make_golden.py [OUT]        (needs torch, transformers, peft, trl, safetensors, gguf)

The model has what the real one has, small: 7 layers of which the sixth is global, a window of 9 tokens that prompts cross,
grouped heads whose width is not D / heads, different rotary bases, norms away from 1, an epsilon that is felt. Weights and
adapter are rounded to float32 before anything is computed: the GGUF holds exactly the model that made the numbers.
"""

import json
import math
import pathlib
import sys

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, get_cosine_schedule_with_warmup

from exact import make_exact
from grpo import check_against_trl, completion_logits, log_probs, loss, loss_weights, token_mask

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

GROUP = 3
LENGTH = 12
PROMPT_LENGTHS = [5, 14, 41]
COMPLETION_LENGTHS = [7, 1, 12, 12, 4, 9, 3, 12, 6]
MASKED = [False] * 7 + [True, False]
RANK, ALPHA = 4, 8
EPSILON, EPSILON_HIGH, BETA = 0.2, 0.28, 0.04
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PIECES = (
    ["▁", "\n", "\n\n", "▁▁"] + list("etaoinshrdlucmfwygpbvk") + list(".,?!'01")
    + ["th", "he", "in", "er", "an", "on", "▁t", "▁a", "▁s", "▁th", "▁the", "▁in", "ing", "▁an", "▁and", "▁on", "or", "ar",
       "▁w", "▁wh", "at", "▁what", "es", "▁so", "▁to", "▁yes", "▁no", "re", "ea", "▁re", "ou", "▁you", "é", "▁日", "本", "语"]
)
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
VOCAB = len(SPECIAL) + 256 + len(PIECES)


def make_model():
    config = Gemma3TextConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=7, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32, sliding_window=9, max_position_embeddings=256,
        rms_norm_eps=3e-3, pad_token_id=0, eos_token_id=1, bos_token_id=2, tie_word_embeddings=True,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 50000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
        },
    )
    config._attn_implementation = "sdpa"
    assert config.layer_types == ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    model = make_exact(Gemma3ForCausalLM(config))
    generator = torch.Generator().manual_seed(20261)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(0.25 * noise)
            elif "embed_tokens" in name:
                p.copy_(0.32 * noise)
                p[len(SPECIAL) : len(SPECIAL) + 256] *= 0.3  # byte pieces stay rare, so that sampled text can be read
            else:
                p.copy_(1.2 * noise / math.sqrt(p.shape[1]))
        for name, p in model.named_parameters():
            # The GGUF stores 1 + norm in float32: round that sum, not the parameter.
            p.copy_((1 + p).float().double() - 1 if "norm" in name else p.float().double())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return model.eval().requires_grad_(False)


def write_gguf(model, path):
    c = model.config
    w = gguf.GGUFWriter(path, "gemma3")
    w.add_name("golden")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_sliding_window(c.sliding_window)
    w.add_rope_freq_base(c.rope_parameters["full_attention"]["rope_theta"])
    w.add_float32("gemma3.rope.freq_base_swa", c.rope_parameters["sliding_attention"]["rope_theta"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    kinds = gguf.TokenType
    w.add_token_list(SPECIAL + [f"<0x{b:02X}>" for b in range(256)] + PIECES)
    w.add_token_scores([0.0] * (len(SPECIAL) + 256) + [-float(i) for i in range(len(PIECES))])
    w.add_token_types(
        [kinds.UNKNOWN if s == "<unk>" else kinds.CONTROL for s in SPECIAL] + [kinds.BYTE] * 256
        + [kinds.USER_DEFINED if set(s) <= set("\n▁") and len(s) > 1 else kinds.NORMAL for s in PIECES]
    )
    w.add_bos_token_id(2)
    w.add_eos_token_id(1)
    w.add_unk_token_id(3)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
    for name, p in model.named_parameters():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            target = f"blk.{layer}.{names[stem]}.weight"
        else:
            target = f"{names[stem]}.weight"
        value = 1 + p if "norm" in name else p
        assert torch.equal(value.float().double(), value), name
        w.add_tensor(target, value.float().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def check_exactness(model, prompt):
    """The float64 version against transformers' own float32 one, and that window and both rotary bases are felt."""
    def with_config(change):
        config = Gemma3TextConfig.from_dict(model.config.to_dict())
        config._attn_implementation = "sdpa"
        change(config)
        other = Gemma3ForCausalLM(config)
        other.load_state_dict(model.state_dict())
        return other.eval()

    def base(config, kind):
        config.rope_parameters[kind]["rope_theta"] = 10000.0

    with torch.no_grad():
        exact = model(torch.tensor([prompt])).logits
        plain = with_config(lambda c: None).float()(torch.tensor([prompt])).logits
        difference = (exact - plain).abs().max() / exact.abs().max()
        assert difference < 1e-5, f"float64 and float32 part by {difference:.1e}"
        for change in (
            lambda c: setattr(c, "sliding_window", 10), lambda c: base(c, "full_attention"),
            lambda c: base(c, "sliding_attention"), lambda c: setattr(c, "layer_types", ["sliding_attention"] * 7)):
            moved = (make_exact(with_config(change))(torch.tensor([prompt])).logits - exact).abs().max() / exact.abs().max()
            assert moved > 1e-2, f"a change of the architecture moves the logits by {moved:.1e} only"


def make_data():
    generator = torch.Generator().manual_seed(7)
    draw = lambda n: torch.randint(len(SPECIAL), VOCAB, (n,), generator=generator).tolist()
    prompts = [[2] + draw(n - 1) for n in PROMPT_LENGTHS]
    completions = [draw(n - 1) + [1] if n < LENGTH else draw(n) for n in COMPLETION_LENGTHS]
    noise = 0.35 * torch.randn(len(completions), LENGTH, generator=generator)
    advantages = [1.5, -0.75, 0.0, 0.9, -1.3, 0.4, -0.6, 1.1, -0.5]
    return prompts, completions, noise, advantages


def add_adapter(model):
    peft = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, lora_dropout=0.0))
    peft.double().eval()
    generator = torch.Generator().manual_seed(99)
    with torch.no_grad():
        for name, p in adapter(peft).items():
            scale = 1 / math.sqrt(p.shape[1]) if "lora_A" in name else 0.03
            p.copy_((scale * torch.randn(p.shape, generator=generator)).float().double())
    return peft


def adapter(peft):
    """Trainable matrices by the name the addon gives them."""
    return {
        n.removeprefix("base_model.model.").replace(".default", ""): p for n, p in peft.named_parameters() if p.requires_grad
    }


def set_adapter(peft, values):
    with torch.no_grad():
        for name, p in adapter(peft).items():
            p.copy_(values[name])


def gradients(peft, value):
    parameters = adapter(peft)
    return dict(zip(parameters, torch.autograd.grad(value, list(parameters.values()))))


def finite_differences(peft, value_of, grads):
    """The analytic gradient against central differences in float64, the largest entry of every ninth matrix."""
    worst = 0.0
    for name, p in list(adapter(peft).items())[::9]:
        at = grads[name].abs().flatten().argmax().item()
        flat = p.data.view(-1)
        kept, h = flat[at].item(), 1e-5
        values = []
        for sign in (1, -1):
            flat[at] = kept + sign * h
            with torch.no_grad():
                values.append(value_of().item())
        flat[at] = kept
        numeric, analytic = (values[0] - values[1]) / (2 * h), grads[name].view(-1)[at].item()
        worst = max(worst, abs(numeric - analytic) / abs(analytic))
    assert worst < 1e-5, f"finite differences disagree with autograd: {worst:.2e}"
    return worst


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "test" / "golden")
    out.mkdir(parents=True, exist_ok=True)
    tensors, meta = {}, {}
    model = make_model()
    write_gguf(model, out / "golden.gguf")
    prompts, completions, noise, advantages = make_data()
    lengths = [len(c) for c in completions]
    tokens = torch.zeros(len(completions), LENGTH, dtype=torch.int32)
    for n, c in enumerate(completions):
        tokens[n, : len(c)] = torch.tensor(c, dtype=torch.int32)

    check_exactness(model, prompts[2])
    with torch.no_grad():
        for n in (0, 3, 7):  # one completion of each prompt: all logits of its places
            tensors[f"base.logits.{n}"] = completion_logits(model, prompts[n // GROUP], completions[n]).float()
        for t in (1.0, 0.7):
            logp, entropy = log_probs(model, prompts, completions, GROUP, t, LENGTH)
            tensors[f"base.log_probs.{t}"], tensors[f"base.entropies.{t}"] = logp, entropy
        reference = tensors["base.log_probs.1.0"]
        reference_07 = tensors["base.log_probs.0.7"]

    peft = add_adapter(model)
    start = {n: p.detach().clone() for n, p in adapter(peft).items()}
    for name, value in start.items():
        tensors[f"start.{name}"] = value.float()
    with torch.no_grad():
        for n in (0, 3, 7):
            tensors[f"adapter.logits.{n}"] = completion_logits(peft, prompts[n // GROUP], completions[n]).float()
        for t in (1.0, 0.7):
            logp, entropy = log_probs(peft, prompts, completions, GROUP, t, LENGTH)
            tensors[f"adapter.log_probs.{t}"], tensors[f"adapter.entropies.{t}"] = logp, entropy

    # Old log-probabilities away from the present ones by what several updates would do, rounded as they cross as float32.
    old = (tensors["adapter.log_probs.1.0"] + noise).float().double()
    old_07 = (tensors["adapter.log_probs.0.7"] + noise).float().double()
    cases = [
        dict(name="on_policy_grpo", loss_type="grpo", temperature=1.0, old=None, ref=None, beta=0.0),
        dict(name="off_policy_bnpo", loss_type="bnpo", temperature=1.0, old=old, ref=None, beta=0.0),
        dict(name="off_policy_dr_grpo", loss_type="dr_grpo", temperature=0.7, old=old_07, ref=reference_07, beta=BETA),
        dict(name="off_policy_dapo", loss_type="dapo", temperature=1.0, old=old, ref=reference, beta=BETA),
    ]
    meta["gradients"] = []
    for case in cases:
        weights = torch.tensor(loss_weights(case["loss_type"], lengths, MASKED, LENGTH)).float().double().tolist()
        mask = token_mask(lengths, weights, LENGTH)
        ref = None if case["ref"] is None else case["ref"].float().double()

        def evaluate():
            logp, _ = log_probs(peft, prompts, completions, GROUP, case["temperature"], LENGTH)
            return logp, loss(logp, case["old"], ref, advantages, weights, mask, EPSILON, EPSILON_HIGH, case["beta"])

        logp, (value, figures, margin) = evaluate()
        grads = gradients(peft, value)
        if case["old"] is not None:
            assert margin > 1e-4, f"{case['name']}: a ratio within {margin:.1e} of a bound"
            assert figures["clip_low"] > 0.05 and figures["clip_high"] > 0.05, figures
            worst = finite_differences(peft, lambda: evaluate()[1][0], grads)
            print(f"{case['name']}: finite differences agree to {worst:.1e}")
        exact = loss_weights(case["loss_type"], lengths, MASKED, LENGTH)
        leaf = logp.detach().requires_grad_()
        ours = loss(leaf, case["old"], ref, advantages, exact, mask, EPSILON, EPSILON_HIGH, case["beta"])[0]
        (slope,) = torch.autograd.grad(ours, leaf)
        theirs, their_slope = check_against_trl(
            logp, case["old"], ref, advantages, lengths, MASKED, LENGTH, EPSILON, EPSILON_HIGH, case["beta"], case["loss_type"])
        # TRL keeps the advantages and some constants in float32.
        assert abs(ours.item() - theirs) < 1e-6 * max(1, abs(theirs)), (case["name"], ours.item(), theirs)
        assert (slope - their_slope).abs().max() < 1e-6 * their_slope.abs().max(), case["name"]
        print(f"{case['name']}: loss {value.item():.6f}, TRL's {theirs:.6f}, {figures}")
        for name, g in grads.items():
            tensors[f"gradient.{case['name']}.{name}"] = g.float()
        tensors[f"weights.{case['name']}"] = torch.tensor(weights)
        if case["old"] is not None:
            tensors[f"old.{case['name']}"] = case["old"]
        if ref is not None:
            tensors[f"ref.{case['name']}"] = ref
        meta["gradients"].append({
            "name": case["name"], "loss_type": case["loss_type"], "temperature": case["temperature"], "beta": case["beta"],
            "off_policy": case["old"] is not None, "loss": value.item(), **figures})

    # Ten updates on the same completions with the log-probabilities of the start as old ones.
    schedule = dict(learning_rate=9e-5, warmup_ratio=0.1, steps=10)
    adamw = dict(beta1=0.9, beta2=0.99, epsilon=1e-8, weight_decay=0.1, max_grad_norm=0.1)
    weights = tensors["weights.off_policy_dapo"].tolist()
    mask = token_mask(lengths, weights, LENGTH)
    first = tensors["adapter.log_probs.1.0"].float().double()
    ref = reference.float().double()
    parameters = list(adapter(peft).values())
    optimizer = torch.optim.AdamW(parameters, lr=schedule["learning_rate"], betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    cosine = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.1 * 10), 10)
    steps = []
    for _ in range(10):
        optimizer.zero_grad()
        logp, _ = log_probs(peft, prompts, completions, GROUP, 1.0, LENGTH)
        value, figures, margin = loss(logp, first, ref, advantages, weights, mask, EPSILON, EPSILON_HIGH, BETA)
        assert margin > 1e-4, f"update: a ratio within {margin:.1e} of a bound"
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.1).item()
        steps.append({"learning_rate": cosine.get_last_lr()[0], "loss": value.item(), "grad_norm": norm, **figures})
        optimizer.step()
        cosine.step()
    for name, p in adapter(peft).items():
        tensors[f"final.{name}"] = p.detach().float()
    with torch.no_grad():
        tensors["final.log_probs.1.0"] = log_probs(peft, prompts, completions, GROUP, 1.0, LENGTH)[0]
    meta["updates"] = {**schedule, **adamw, "beta": BETA, "steps": steps}
    print("updates:", [(round(s["loss"], 4), round(s["grad_norm"], 3), round(s["clip_high"], 2)) for s in steps])
    set_adapter(peft, start)

    # Greedy text, with a top-1 lead that float32 cannot turn round.
    meta["greedy"] = []
    for prompt in prompts:
        with torch.no_grad():
            made = peft.generate(
                input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)).long(), max_new_tokens=24,
                do_sample=False, eos_token_id=None)[0, len(prompt):].tolist()
            top = completion_logits(peft, prompt, made).topk(2).values
        lead = (top[:, 0] - top[:, 1]).min().item()
        assert len(made) == 24 and lead > 2e-3, (len(made), lead)
        meta["greedy"].append({"tokens": made, "lead": lead})

    tensors["tokens"], tensors["advantages"] = tokens, torch.tensor(advantages)
    meta.update(
        vocab=VOCAB, rank=RANK, alpha=ALPHA, target_modules=MODULES, group=GROUP, max_completion_length=LENGTH,
        epsilon=EPSILON, epsilon_high=EPSILON_HIGH, prompts=prompts, lengths=lengths, masked=MASKED,
        logits_of=[0, 3, 7], pieces_from=len(SPECIAL) + 256)
    save_file({k: v.clone() for k, v in tensors.items()}, out / "golden.safetensors")
    (out / "golden.json").write_text(json.dumps(meta, indent=1) + "\n")
    for p in sorted(out.iterdir()):
        print(f"{p.name}: {p.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
