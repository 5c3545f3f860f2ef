"""Word error rate of a ggml Whisper file on the bundled clips, as whisper.cpp's own command line hears them."""

import argparse
import json
import subprocess
import tempfile
import wave
from pathlib import Path

from make_clips import ASSETS
from sentences import LABELS, key
from speech import RATE
from train_whisper import word_errors
from vorbis import decode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whisper_cli", type=Path)
    parser.add_argument("--model", type=Path, default=ASSETS / "models" / "whisper-tiny.bin")
    args = parser.parse_args()

    clips = [json.loads(line) for line in (ASSETS / "clips" / "manifest.jsonl").read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for i, clip in enumerate(clips):
            path = Path(folder) / f"{i:04}.wav"
            with wave.open(str(path), "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(2)
                out.setframerate(RATE)
                out.writeframes(decode((ASSETS / "clips" / clip["audio"]).read_bytes()).tobytes())
            files.append(str(path))
        options = ["-l", "en", "-nt", "-np", "-t", "1", "-bs", "1", "-bo", "1", "-otxt"]
        subprocess.run([args.whisper_cli, "-m", args.model, *options, *files], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        heard = [Path(f"{file}.txt").read_text() for file in files]
    errors, total, exact = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0), 0
    for clip, text in zip(clips, heard, strict=True):
        said, got = key(clip["text"]).split(), key(text).split()
        wrong = word_errors(said, got)
        errors[clip["label"]] += wrong
        total[clip["label"]] += len(said)
        exact += text.strip() == clip["text"]
        if wrong:
            print(f"{clip['audio']}: {clip['text']}\n    {text.strip()}")
    for label in LABELS:
        print(f"{label}: word error {errors[label] / total[label]:.2%} of {total[label]} words")
    print(f"all: {sum(errors.values()) / sum(total.values()):.2%}; {exact} of {len(clips)} texts equal to the letter")


if __name__ == "__main__":
    main()
