"""Trains the bundled Gemma 3 policy from random weights; writes its tokenizer, configuration and weights for export."""

import argparse
import random
import time
from pathlib import Path

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from policy_text import Texts
from policy_tokenizer import BOS, EOS, PAD, Tokenizer, train_tokenizer


def config(vocabulary):
    return Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=64,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        attn_implementation="sdpa",
    )


def sample(texts, tokenizer, rng):
    kind = rng.random()
    if kind < 0.35:
        return [BOS, *tokenizer.encode(texts.document()), EOS]
    user, answer = texts.guess() if kind < 0.65 else texts.obey()
    return [*tokenizer.chat(user), *tokenizer.encode(answer), tokenizer.end]


def batch(texts, tokenizer, rng, size, longest=192):
    rows = [sample(texts, tokenizer, rng)[:longest] for _ in range(size)]
    width = max(map(len, rows))
    ids = torch.full((size, width), PAD)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, torch.where(ids == PAD, -100, ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="checkpoint to write, .pt")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pieces = train_tokenizer(args.vocabulary, args.seed)
    tokenizer, texts, rng = Tokenizer(pieces), Texts(args.seed), random.Random(args.seed)
    model = Gemma3ForCausalLM(config(args.vocabulary))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, args.steps, pct_start=0.1)
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        ids, labels = batch(texts, tokenizer, rng, args.batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == args.steps:
            print(f"step {step}, {time.monotonic() - start:.0f} s: loss {loss.item():.3f}", flush=True)
            torch.save({"config": model.config.to_dict(), "weights": model.state_dict(), "pieces": pieces}, args.output)


if __name__ == "__main__":
    main()
