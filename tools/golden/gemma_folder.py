"""Writes test/golden/gemma-folder: a tiny Gemma 3 with a vision part as transformers saves it, and what transformers computes with it.

    pip install sentencepiece==0.2.3 protobuf torch transformers gguf
    python tools/golden/gemma_folder.py && npm run format

Weights are bfloat16 in parts of a few kB, of the kind that 4B and larger models are: text_config, tensors below language_model,
RoPE scaled by 8. The vocabulary is that of tokenizer.gguf: tokenizer.model as SentencePiece wrote it, tokenizer.json as
transformers makes it from that. expected.json has log-probabilities in float64 and the tokens of many texts.
"""

import copy
import json
import random
import shutil
import tempfile
from pathlib import Path

import gguf
import torch
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForCausalLM, Gemma3ForConditionalGeneration

import tokenizer_golden
from exact import make_exact

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "gemma-folder"
ROWS = 724  # four more than there are pieces, as in models whose embedding is filled up
TOKENS = 60  # several windows
PART = "24KB"
FACTOR = 8.0  # of RoPE


def make_model():
    config = Gemma3Config(
        text_config=dict(
            vocab_size=ROWS, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8, sliding_window=7, max_position_embeddings=512,
            layer_types=["sliding_attention", "full_attention"] * 2, rms_norm_eps=2e-3,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": FACTOR},
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            }),
        vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
    )
    model = Gemma3ForConditionalGeneration(config).bfloat16()
    generator = torch.Generator().manual_seed(404)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            scale = 0.25 if "norm" in name else 0.5 if "embed_tokens" in name else 1.2 / p.shape[-1] ** 0.5
            p.copy_(scale * noise)
    return model.eval()


def log_probs(model, tokens):
    """log softmax of each token but the first, in float64, checked with transformers' own float32."""
    weights = {"model." + n: p for n, p in model.model.language_model.state_dict().items()}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]

    def text_model(change):
        config = copy.deepcopy(model.config.text_config)
        config._attn_implementation = "sdpa"
        change(config.rope_parameters["full_attention"])
        made = Gemma3ForCausalLM(config)
        made.load_state_dict(weights)
        return made.eval()

    def run(text):
        with torch.no_grad():
            logits = text(input_ids=torch.tensor([tokens])).logits[0]
        return logits.log_softmax(-1)[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]

    exact = make_exact(text_model(lambda rope: rope.update(rope_type="default")))
    rotary = exact.model.rotary_emb
    plain = rotary.forward
    # Linear scaling: positions of the layers that see the whole text are divided.
    rotary.forward = lambda x, position_ids, layer_type: plain(
        x, position_ids / FACTOR if layer_type == "full_attention" else position_ids, layer_type)
    values = run(exact)
    theirs = run(text_model(lambda rope: None))
    unscaled = run(text_model(lambda rope: rope.update(factor=1.0)))
    assert (values - theirs).abs().max() < 1e-4, (values - theirs).abs().max()
    assert (values - unscaled).abs().max() > 1e-2, "the scaling is not felt"
    print(f"float64 against transformers' float32: {(values - theirs).abs().max():.1e}; without scaling {(values - unscaled).abs().max():.1e}")
    return values.tolist()


def stored_numbers():
    """What gguf-py stores for numbers of every size: ties, the ends of the types' ranges, blocks of 0 and of one number."""
    generator = torch.Generator().manual_seed(1)
    random_part = torch.randn(64, generator=generator) * torch.logspace(-9, 4, 64)
    edges = [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 65519.9, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 2.0**-14,
             2.0**-24, 2.0**-25, 1.5 * 2**-25, 3 * 2.0**-25, 5 * 2.0**-25, 2.0**-126, 1e-40, 0.1, -0.3, 127.0, 63.5, 64.5, -63.5, 3.14159, 1e4]
    values = torch.tensor([*random_part.tolist(), *edges, *[0.0] * 5, *[0.0] * 32, *[-2.5] * 32]).float().numpy()
    kinds = gguf.GGMLQuantizationType
    stored = {name: gguf.quants.quantize(values, kinds[name.upper()]).view("uint8").tobytes().hex() for name in ("f16", "bf16", "q8_0")}
    return {"f32": values.tobytes().hex(), **stored}


def main():
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        data = tokenizer_golden.train()
        (raw / "tokenizer.model").write_bytes(data)
        tokens = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "pad", "unk")}
        (raw / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GemmaTokenizer", **tokens}))
        tokenizer = AutoTokenizer.from_pretrained(raw)
        tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"

        shutil.rmtree(OUT, ignore_errors=True)
        model = make_model()
        model.save_pretrained(OUT, max_shard_size=PART)
        tokenizer.save_pretrained(OUT)
        (OUT / "tokenizer.model").write_bytes(data)
        config = json.loads((OUT / "tokenizer_config.json").read_text())
        (OUT / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "vocab_file"}, indent=2))

    pieces = [p.piece for p in model_pb2.ModelProto.FromString(data).pieces]
    stored = gguf.GGUFReader(tokenizer_golden.OUT).fields["tokenizer.ggml.tokens"].contents()
    assert [p.replace("\u2581", " ") for p in pieces] == [p.replace("\u2581", " ") for p in stored], "tokenizer.gguf differs"
    texts = sorted(set(tokenizer_golden.make_texts(pieces, random.Random(11))))
    texts = texts[::2]
    generator = torch.Generator().manual_seed(8)
    chosen = [2] + torch.randint(20, len(pieces), (TOKENS,), generator=generator).tolist()
    expected = {
        "tokens": chosen, "log_probs": log_probs(model, chosen),
        "numbers": stored_numbers(), "texts": texts, "ids": [tokenizer.encode(text, add_special_tokens=False) for text in texts],
    }
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")
    for path in OUT.iterdir():
        path.chmod(0o644)
    sizes = {p.name: p.stat().st_size for p in sorted(OUT.iterdir())}
    print(sizes, sum(sizes.values()))


if __name__ == "__main__":
    main()
