"""Trains the bundled Whisper from random weights on the corpus of make_corpus.py, for a given number of minutes."""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from make_clips import ASSETS
from sentences import key
from speech import RATE
from vorbis import decode
from whisper_data import FRAME, IGNORE, Augment, Corpus, log_mel
from whisper_model import Whisper

WARMUP, FLAT = 0.06, 0.35  # shares of the time: the learning rate rises, has stayed up


def word_errors(said, heard):
    """The edit distance between two lists of words."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def bundled_clips(limit=None):
    folder = ASSETS / "clips"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    if limit:
        lines = random.Random(0).sample(lines, limit)
    return [(line["text"], decode((folder / line["audio"]).read_bytes())) for line in lines]


def word_error_rate(model, tokenizer, clips, show=0):
    """On whole clips padded to the model's full context, as whisper.cpp runs them."""
    model.eval()
    errors = total = 0
    for start in range(0, len(clips), 25):
        part = clips[start : start + 25]
        audio = np.zeros((len(part), model.dims["n_audio_ctx"] * FRAME), np.float32)
        for row, (_, pcm) in zip(audio, part, strict=True):
            row[: len(pcm)] = pcm / np.float32(32768)
        for (text, _), ids in zip(part, model.transcribe(log_mel(torch.from_numpy(audio), 2 * model.dims["n_audio_ctx"])), strict=True):
            said, heard = key(text).split(), key(tokenizer.decode(ids)).split()
            wrong = word_errors(said, heard)
            errors, total = errors + wrong, total + len(said)
            if wrong and show > 0:
                show -= 1
                print(f"    {' '.join(said)}\n    {' '.join(heard)}", flush=True)
    model.train()
    return errors / total


def losses(model, batch):
    audio, middle = model.encoder(batch.mel)
    logits, attention = model.decoder(batch.inputs, audio, drop=0.05)
    token = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    phoneme = F.cross_entropy(model.phoneme_head(middle).float().flatten(0, 1), batch.phonemes.flatten())
    word = F.cross_entropy(model.word_head(audio).float().flatten(0, 1), batch.words.flatten())
    frames = torch.arange(batch.mel.shape[2] // 2)
    inside = (frames >= batch.spans[..., :1] - 2) & (frames < batch.spans[..., 1:] + 2)
    spoken = batch.spans[..., 0] >= 0
    guided = 0.0
    for weights in attention:
        mass = (weights[:, :2].mean(1) * inside).sum(-1)  # half of the heads stay free
        guided = guided - mass[spoken].clamp(min=1e-6).log().mean() / len(attention)
    return token, phoneme, word, guided


def rate_at(peak, done):
    if done < FLAT:
        return peak * min(1, done / WARMUP)
    return peak * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (done - FLAT) / (1 - FLAT))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path, help="checkpoint to write, .pt")
    parser.add_argument("--minutes", type=float, default=37)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--silent", type=float, default=0.03, help="share of clips replaced by silence or noise, without text")
    parser.add_argument("--from", dest="source", type=Path, help="go on from this checkpoint, the decoder alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    corpus = Corpus(args.corpus)
    model = Whisper(corpus.used, len(corpus.phonemes), len(corpus.words))
    if args.source:
        model.load_exported(torch.load(args.source, weights_only=True)["model_state_dict"])
        model.encoder.requires_grad_(False)
    clips = bundled_clips(75)
    hours = sum(c["length"] for c in corpus.clips) / RATE / 3600
    print(f"{len(corpus.clips)} clips, {hours:.1f} hours, {len(corpus.used)} tokens, {len(corpus.words)} words,"
          f" {len(corpus.phonemes)} phonemes, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98), weight_decay=0.02)
    augment, source = Augment(corpus, rng, args.silent), corpus.batches(rng, args.batch)
    start, step, next_report, running = time.monotonic(), 0, 60.0, np.zeros(4)
    while (done := (time.monotonic() - start) / (60 * args.minutes)) < 1:
        full = done > 0.6 and rng.random() < 1 / 3
        batch = augment.batch(next(source), frames=model.dims["n_audio_ctx"] if full else None)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(args.rate, done)
        with torch.autocast("cpu", torch.bfloat16):
            token, phoneme, word, guided = losses(model, batch)
        (token + 0.5 * phoneme + 0.4 * word + (0.3 - 0.2 * done) * guided).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        parts = np.array([float(x.detach()) for x in (token, phoneme, word, guided)])
        running = parts if step == 1 else 0.98 * running + 0.02 * parts
        elapsed = time.monotonic() - start
        if elapsed > next_report:
            next_report = elapsed + max(60.0, 60.0 * args.minutes / 15)
            wer = word_error_rate(model, corpus.tokenizer, clips)
            torch.save({"dims": model.dims, "model_state_dict": model.state_for_export()}, args.output)
            print(f"{elapsed / 60:.1f} min, step {step}, rate {rate_at(args.rate, done):.1e}: token {running[0]:.3f} phoneme"
                  f" {running[1]:.3f} word {running[2]:.3f} guided {running[3]:.3f}, bundled word error {wer:.2%}", flush=True)
    torch.save({"dims": model.dims, "model_state_dict": model.state_for_export()}, args.output)
    wer = word_error_rate(model, corpus.tokenizer, bundled_clips(), show=20)
    print(f"{step} steps: word error {wer:.2%} on all bundled clips", flush=True)


if __name__ == "__main__":
    main()
