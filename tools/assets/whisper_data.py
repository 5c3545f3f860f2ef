"""Training batches for Whisper: shards of speech -> augmented log-mel, tokens, and the frames of words and phonemes."""

import json
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from whisper.audio import mel_filters
from whisper.tokenizer import get_tokenizer

from sentences import words
from speech import RATE
from whisper_model import EOT, NEWLINE, NO_SPEECH, NO_TIMESTAMPS, SOT

HOP, N_FFT = 160, 400
FRAME = 2 * HOP  # samples in an encoder frame
IGNORE = -100


def log_mel(audio, frames):
    """audio [B, samples] in -1..1 -> [B, 80, frames] as openai-whisper computes it for the clip padded to 30 s."""
    audio = F.pad(audio, (0, max(0, (frames + 4) * HOP - audio.shape[1])))
    spectrum = torch.stft(audio, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True)
    power = spectrum[..., :frames].abs() ** 2
    log = torch.clamp(mel_filters("cpu", 80) @ power, min=1e-10).log10()
    log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0)
    return (log + 4.0) / 4.0


class Corpus:
    def __init__(self, folder):
        self.folder, self.shards, self.clips = folder, {}, []
        self.tokenizer = get_tokenizer(False)
        self.phonemes, self.words, tokens = {"_": 0}, {"": 0}, {EOT, NEWLINE, SOT, NO_SPEECH, NO_TIMESTAMPS}
        for path in sorted(folder.glob("*.jsonl")):
            self.shards[path.stem] = np.load(path.with_suffix(".npy"), mmap_mode="r")
            for line in path.read_text().splitlines():
                clip = json.loads(line)
                clip["shard"] = path.stem
                clip["tokens"], clip["token_word"] = self.encode(clip["text"])
                clip["word_ids"] = [self.words.setdefault(w.lower(), len(self.words)) for w in words(clip["text"])]
                clip["phoneme_ids"] = [
                    [0 if m.startswith("_") else self.phonemes.setdefault(m, len(self.phonemes)), t]
                    for m, t in clip["phonemes"]
                ]
                del clip["phonemes"]
                tokens.update(clip["tokens"])
                self.clips.append(clip)
        self.used = sorted(tokens)
        self.place = {token: i for i, token in enumerate(self.used)}

    def encode(self, text):
        """Token ids of " text", and for each the index of the word it belongs to (punctuation: the word before)."""
        text = " " + text
        ids = self.tokenizer.encode(text)
        starts, position = [], 0
        for word in words(text):
            position = text.index(word, position)
            starts.append(position)
            position += len(word)
        owner, at = [], 0
        for token in ids:
            piece = self.tokenizer.decode([token])
            first = at + (len(piece) - len(piece.lstrip()))
            owner.append(max(0, sum(s <= first for s in starts) - 1))
            at += len(piece)
        return ids, owner

    def batches(self, rng, size, pool=40):
        """Endless lists of clips of similar length."""
        while True:
            order = rng.permutation(len(self.clips))
            for start in range(0, len(order) - size * pool + 1, size * pool):
                group = sorted(order[start : start + size * pool], key=lambda i: self.clips[i]["length"])
                for b in rng.permutation(pool):
                    yield [self.clips[i] for i in group[b * size : (b + 1) * size]]


@dataclass
class Batch:
    mel: torch.Tensor  # [B, 80, 2T]
    inputs: torch.Tensor  # [B, L] places in the used vocabulary
    targets: torch.Tensor  # [B, L]
    spans: torch.Tensor  # [B, L, 2] the encoder frames of the word that is predicted; -1 where there is none
    phonemes: torch.Tensor  # [B, T]
    words: torch.Tensor  # [B, T]


class Augment:
    def __init__(self, corpus, rng, silent_share=0.03):
        self.corpus, self.rng, self.silent_share = corpus, rng, silent_share
        white = rng.standard_normal(120 * RATE).astype(np.float32)
        spectrum = np.fft.rfft(white)
        pink = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum))), len(white)).astype(np.float32)
        self.noises = np.stack([white, pink / pink.std()])  # made once: noise for each clip costs as much as the model

    def noise(self, samples):
        """A stretch of white noise or of noise that falls with frequency, of about unit power."""
        start = self.rng.integers(self.noises.shape[1] - samples)
        return self.noises[self.rng.integers(len(self.noises)), start : start + samples]

    def silent(self, samples):
        kind = self.rng.random()
        if kind < 0.25:
            return np.zeros(samples, np.float32)
        x = self.noise(samples) * 10 ** (self.rng.uniform(-80, -10) / 20)
        if kind > 0.8:  # a hum
            x += np.sin(np.arange(samples) * self.rng.uniform(0.02, 0.5)).astype(np.float32) * 0.1
        return x

    def speech(self, clip, lead, samples):
        pcm = self.corpus.shards[clip["shard"]][clip["offset"] : clip["offset"] + clip["length"]]
        x = np.zeros(samples, np.float32)
        x[lead : lead + len(pcm)] = pcm / np.float32(32768)
        level = x.std() + 1e-6
        if self.rng.random() < 0.7:
            x += self.noise(samples) * level * 10 ** (-self.rng.uniform(30, 60) / 20)
        return np.clip(x * 10 ** (self.rng.uniform(-12, 3) / 20), -1, 1)

    def distort(self, mel):
        """A smooth equaliser curve, and a few masked bands and moments."""
        b, bands, frames = mel.shape
        curve = self.rng.normal(0, 0.05, (b, 6, 1)).astype(np.float32)
        mel = mel + F.interpolate(torch.from_numpy(curve).transpose(1, 2), bands, mode="linear").transpose(1, 2)
        for i in range(b):
            if self.rng.random() < 0.5:
                width, at = self.rng.integers(1, 8), self.rng.integers(0, bands - 8)
                mel[i, at : at + width] = mel[i].mean()
            if self.rng.random() < 0.5:
                width, at = self.rng.integers(1, 8), self.rng.integers(0, frames - 8)
                mel[i, :, at : at + width] = mel[i].mean()
        return mel

    def batch(self, clips, frames=None, random_tokens=0.06):
        """`frames`: encoder frames to pad to; by default a little over the longest clip."""
        rng, place = self.rng, self.corpus.place
        leads = [int(rng.uniform(0, 0.5) * RATE) for _ in clips]
        longest = max(lead + c["length"] for lead, c in zip(leads, clips, strict=True))
        frames = max(frames or 0, min(500, math.ceil(longest / FRAME) + int(rng.integers(1, 31))))
        silent = rng.random(len(clips)) < self.silent_share
        samples = max(longest, frames * FRAME)
        length = max(len(c["tokens"]) for c in clips) + 2
        inputs = np.full((len(clips), length), place[EOT])
        targets = np.full((len(clips), length), IGNORE)
        spans = np.full((len(clips), length, 2), -1)
        phonemes, spoken = np.zeros((2, len(clips), frames), int)
        audio = []
        for i, (clip, lead) in enumerate(zip(clips, leads, strict=True)):
            inputs[i, :2] = place[SOT], place[NO_TIMESTAMPS]
            if silent[i]:
                # whisper.cpp forbids the end, a space and "no speech" as the first token; an empty line is an empty text too.
                targets[i, :3] = place[NO_SPEECH], place[NEWLINE], place[EOT]
                inputs[i, 2] = place[NEWLINE]
                audio.append(self.silent(samples))
                continue
            audio.append(self.speech(clip, lead, samples))
            ids = [place[t] for t in clip["tokens"]]
            inputs[i, 2 : 2 + len(ids)] = ids
            targets[i, : len(ids) + 2] = [place[NO_TIMESTAMPS], *ids, place[EOT]]
            frame = [[int((t * RATE + lead) / FRAME) for t in span] for span in clip["words"]]
            spans[i, 1 : 1 + len(ids)] = [frame[w] for w in clip["token_word"]]
            for (first, last), word in zip(frame, clip["word_ids"], strict=True):
                spoken[i, first:last] = word
            marks = clip["phoneme_ids"]
            for (phoneme, t), after in zip(marks, [*marks[1:], [0, clip["length"] / RATE]], strict=True):
                phonemes[i, int((t * RATE + lead) / FRAME) : int((after[1] * RATE + lead) / FRAME)] = phoneme
            swap = rng.random(len(ids)) < random_tokens
            inputs[i, 2 : 2 + len(ids)][swap] = rng.integers(len(place), size=swap.sum())
        mel = self.distort(log_mel(torch.from_numpy(np.stack(audio)), 2 * frames))
        return Batch(mel, *(torch.from_numpy(a) for a in (inputs, targets, spans, phonemes, spoken)))
