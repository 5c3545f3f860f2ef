"""Writes assets/clips: the bundled spoken prompts, about a hundred a label, and their manifest."""

import argparse
import json
import random
from pathlib import Path

import numpy as np

from sentences import LABELS, grammars, key, words
from speech import PITCHES, RATE, SPEEDS, VOICES, Espeak
from vorbis import encode

ASSETS = Path(__file__).resolve().parents[2] / "assets"
SECONDS = (2.0, 7.0)


def overlap(a, b):
    return len(a & b) / len(a | b)


def choose(grammar, count, rng, taken, most_alike=0.75):
    """`count` sentences, the templates in turn, no two of which share most of their words."""
    chosen = []
    templates = list(grammar.rules["start"])
    while len(chosen) < count:
        rng.shuffle(templates)
        for template in templates[: count - len(chosen)]:
            for _ in range(1000):
                text = grammar.sentence(rng, template)
                bag = set(key(text).split())
                if all(overlap(bag, other) < most_alike for other in taken):
                    break
            else:
                continue
            taken.append(bag)
            chosen.append(text)
    return chosen


def record(espeak, text, rng):
    """Speech with a moment of silence on both sides, of a length within SECONDS; None if ten voices do not give it."""
    for _ in range(10):
        speech = espeak.say(text, rng.choice(VOICES), rng.randint(*SPEEDS), rng.randint(*PITCHES))
        before, after = (np.zeros(rng.randint(RATE // 10, RATE // 3), np.int16) for _ in range(2))
        pcm = np.concatenate([before, speech.pcm, after])
        if SECONDS[0] <= len(pcm) / RATE <= SECONDS[1]:
            return pcm
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="clips a label")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default=ASSETS / "clips")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    espeak, taken, lines, total = Espeak(), [], [], 0
    for label, grammar in grammars().items():
        folder = args.output / label
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        # A few are too short or too long to say within SECONDS; they are passed over.
        for text in choose(grammar, args.count + args.count // 2, rng, taken):
            if number == args.count:
                break
            pcm = record(espeak, text, rng)
            if pcm is None:
                continue
            data = encode(pcm)
            total += len(data)
            (folder / f"{number:03}.ogg").write_bytes(data)
            lines.append({"audio": f"{label}/{number:03}.ogg", "label": label, "text": text})
            number += 1
        if number < args.count:
            raise SystemExit(f"only {number} of {args.count} {label} sentences fit {SECONDS} seconds: try another --seed")
    (args.output / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    longest = max(len(words(line["text"])) for line in lines)
    print(f"{len(lines)} clips of {len(LABELS)} labels, {total / 1e6:.1f} MB, at most {longest} words")


if __name__ == "__main__":
    main()
