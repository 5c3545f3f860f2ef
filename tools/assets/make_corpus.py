"""Writes the speech that Whisper is trained on: shards of 16 kHz audio with the times of words and phonemes.

A shard is NNN.npy (int16, all clips end to end) and NNN.jsonl (a line a clip). Every third shard has been through Ogg
Vorbis, as the bundled clips have. No text here is a bundled clip's text.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch

from make_clips import ASSETS
from sentences import LABELS, grammars, key, vocabulary, words
from speech import PITCHES, RATE, SPEEDS, VOICES, Espeak
from vorbis import decode, encode

# Sounds that two words share cannot be told apart among random words.
HOMOPHONES = {"ate", "eight", "for", "four", "no", "know", "wear", "where", "write"}
SHARES = {"sentence": 0.72, "fragments": 0.14, "words": 0.14}
LONGEST = 8.0  # seconds


class Texts:
    def __init__(self, rng, held_out):
        self.rng, self.held_out = rng, held_out
        self.grammars = grammars()
        shared = self.grammars[LABELS[0]].rules
        self.proper = {"I", "I'm", "Spanish", *shared["country"], *shared["weekday"]}
        every = {w if w in self.proper else w.lower() for w in vocabulary(self.grammars)}
        self.words = sorted(every - HOMOPHONES)

    def sentence(self):
        return self.grammars[self.rng.choice(LABELS)].sentence(self.rng)

    def fragment(self):
        all_words = [w if w in self.proper else w.lower() for w in words(self.sentence())]
        size = self.rng.randint(2, 6)
        start = self.rng.randint(0, max(0, len(all_words) - size))
        return all_words[start : start + size]

    def draw(self):
        kind = self.rng.choices(list(SHARES), SHARES.values())[0]
        if kind == "sentence":
            text = self.sentence()
        else:
            if kind == "fragments":
                picked = [w for _ in range(self.rng.randint(1, 4)) for w in self.fragment()]
            else:
                picked = self.rng.choices(self.words, k=self.rng.randint(2, 9))
            text = " ".join(picked)
            text = text[0].upper() + text[1:] + self.rng.choice(".?")
        return self.draw() if key(text) in self.held_out else text


def word_times(text, speech):
    """[start, end] in seconds of each word of `text`. espeak says some pairs ("in the") as one word: both get its time."""
    starts = [(0, 0.0)] + [(p, t) for p, n, t in speech.words if n > 0]
    times, position = [], 0
    for word in words(text):
        position = text.index(word, position)
        begin = max(t for p, t in starts if p <= position)
        end = min((t for _, t in starts if t > begin), default=len(speech.pcm) / RATE)
        times.append([round(begin, 3), round(end, 3)])
        position += len(word)
    return times


def write_shard(path, clips, through_vorbis):
    audio = np.concatenate([speech.pcm for _, speech in clips])
    if through_vorbis:
        audio = decode(encode(audio))
    lines, offset = [], 0
    for text, speech in clips:
        lines.append(
            {
                "text": text,
                "offset": offset,
                "length": len(speech.pcm),
                "words": word_times(text, speech),
                "phonemes": [[m, round(t, 3)] for m, t in speech.phonemes],
            }
        )
        offset += len(speech.pcm)
    if len(audio) < offset:
        raise SystemExit(f"Vorbis gave {len(audio)} samples of {offset}")
    np.save(path.with_suffix(".npy"), audio[:offset])
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    temporary.rename(path.with_suffix(".jsonl"))  # last: its presence says that the shard is complete


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--clips", type=int, default=2000, help="clips a shard")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    manifest = (ASSETS / "clips" / "manifest.jsonl").read_text().splitlines()
    held_out = {key(json.loads(line)["text"]) for line in manifest}
    espeak = Espeak()
    for number in range(args.shards):
        rng = random.Random(f"{args.seed}/{number}")
        texts, clips = Texts(rng, held_out), []
        while len(clips) < args.clips:
            text = texts.draw()
            speech = espeak.say(text, rng.choice(VOICES), rng.randint(*SPEEDS), rng.randint(*PITCHES))
            if len(speech.pcm) <= LONGEST * RATE:
                clips.append((text, speech))
        write_shard(args.output / f"{number:03}", clips, through_vorbis=number % 3 == 2)
        print(f"shard {number}: {sum(len(s.pcm) for _, s in clips) / RATE / 3600:.2f} hours", flush=True)


if __name__ == "__main__":
    main()
