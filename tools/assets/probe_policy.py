"""Checks of the trained policy in plain PyTorch: what it answers untrained, and whether LoRA and GRPO teach it the task.

A quick reference for the product's own run, on the texts of the bundled clips (half to learn from, half held out).
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from make_clips import ASSETS
from policy_text import task_prompt
from policy_tokenizer import PAD, Tokenizer
from sentences import LABELS

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoRA(nn.Module):
    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as PEFT does

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.a.T @ self.b.T)


def add_lora(model, rank, alpha):
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in PROJECTIONS:
                setattr(module, name, LoRA(child, rank, alpha))
    return [p for p in model.parameters() if p.requires_grad]


def completion_logits(model, prompts, completions):
    """Logits [rows, longest completion, V] that predict each completion token, and the padded tokens and mask."""
    longest = max(map(len, completions))
    rows = [p + c for p, c in zip(prompts, completions, strict=True)]
    ids = torch.full((len(rows), max(map(len, rows)) + 1), PAD)
    at = torch.zeros(len(rows), longest, dtype=torch.long)
    tokens, mask = torch.zeros_like(at), torch.zeros(len(rows), longest)
    for i, (row, prompt, completion) in enumerate(zip(rows, prompts, completions, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        n = len(completion)
        at[i, :n] = torch.arange(len(prompt) - 1, len(prompt) - 1 + n)
        tokens[i, :n] = torch.tensor(completion)
        mask[i, :n] = 1
    hidden = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    picked = hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))
    return model.lm_head(picked), tokens, mask


@torch.no_grad()
def sample(model, prompts, end, longest, greedy=False):
    completions = [[] for _ in prompts]
    active = list(range(len(prompts)))
    for _ in range(longest):
        rows = [prompts[i] + completions[i] for i in active]
        logits, _, _ = completion_logits(model, [r[:-1] for r in rows], [r[-1:] + [PAD] for r in rows])
        last = logits[:, 1]
        picked = last.argmax(-1) if greedy else torch.multinomial(last.softmax(-1), 1)[:, 0]
        for i, token in zip(active, picked.tolist(), strict=True):
            completions[i].append(token)
        active = [i for i in active if completions[i][-1] != end]
        if not active:
            break
    return completions


def reward(text, label):
    """The product's table without its balance reward."""
    answer = text.strip().lower()
    named = [name for name in LABELS if name in answer]
    count = len(answer.split())
    exact = 1.0 if answer == label else 0.5 if named == [label] else 0.0
    form = 1.0 if answer in LABELS else 0.5 if named else -0.25 if count > 10 else 0.0
    hedges = sum(h in answer for h in ("not sure", "maybe", "possibly", "might be", "could be", "i think", "probably", "perhaps"))
    length = 1.0 if count == 1 else 0.8 if count <= 3 else 0.5 if count <= 10 else 0.0
    return 3 * exact + 2 * form + (max(0.0, 1 - 0.5 * hedges) if answer else 0.0) + 0.5 * length


def accuracy(model, tokenizer, clips):
    answers = sample(model, [c["prompt"] for c in clips], tokenizer.end, 12, greedy=True)
    said = [tokenizer.decode(a).strip() for a in answers]
    right = sum(s == c["label"] for s, c in zip(said, clips, strict=True)) / len(clips)
    return right, Counter(s if s in LABELS else "other" for s in said)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=8, help="B")
    parser.add_argument("--generations", type=int, default=8, help="G")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    saved = torch.load(args.checkpoint, weights_only=True)
    tokenizer = Tokenizer(saved["pieces"])
    model = Gemma3ForCausalLM(Gemma3TextConfig(**saved["config"])).eval()
    model.load_state_dict(saved["weights"])
    clips = [json.loads(line) for line in (ASSETS / "clips" / "manifest.jsonl").read_text().splitlines()]
    for clip in clips:
        clip["prompt"] = tokenizer.chat(task_prompt(clip["text"]))
    rng.shuffle(clips)
    train, held_out = clips[: len(clips) // 2], clips[len(clips) // 2 :]
    print(f"prompts of {min(len(c['prompt']) for c in clips)} to {max(len(c['prompt']) for c in clips)} tokens")

    answers = sample(model, [c["prompt"] for c in clips], tokenizer.end, 32)
    texts = [tokenizer.decode(a) for a in answers]
    print("sampled:", Counter(t if t in LABELS else "other" for t in texts))
    print("others:", [t for t in texts if t not in LABELS][:12])
    per_label = {name: Counter(t for t, c in zip(texts, clips, strict=True) if c["label"] == name and t in LABELS) for name in LABELS}
    print("by label:", {name: dict(count) for name, count in per_label.items()})
    print("held out, greedy:", *accuracy(model, tokenizer, held_out), flush=True)

    weights = add_lora(model, args.rank, args.rank)
    optimizer = torch.optim.AdamW(weights, lr=args.learning_rate, betas=(0.9, 0.99), weight_decay=0.1)
    start = time.monotonic()
    for step in range(1, args.steps + 1):
        group = rng.sample(train, args.prompts)
        prompts = [c["prompt"] for c in group for _ in range(args.generations)]
        completions = sample(model, prompts, tokenizer.end, 16)
        rewards = torch.tensor(
            [reward(tokenizer.decode(c), group[i // args.generations]["label"]) for i, c in enumerate(completions)]
        ).view(args.prompts, args.generations)
        advantage = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        logits, tokens, mask = completion_logits(model, prompts, completions)
        chosen = -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(mask)
        loss = -(advantage.flatten()[:, None] * chosen * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for g in optimizer.param_groups:
            g["lr"] = args.learning_rate * min(1.0, step / 5) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        optimizer.step()
        if step % 10 == 0:
            dead = (rewards.std(1) == 0).float().mean()
            right, said = accuracy(model, tokenizer, held_out)
            print(f"step {step}, {time.monotonic() - start:.0f} s: reward {rewards.mean():.2f}, groups without spread"
                  f" {dead:.2f}, held out {right:.3f} {dict(said)}", flush=True)


if __name__ == "__main__":
    main()
