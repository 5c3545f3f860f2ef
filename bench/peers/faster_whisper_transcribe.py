#!/usr/bin/env python3
"""faster-whisper on all WAV files of a folder, one after another, with the decoding settings of `voicegrpo transcribe`."""

import argparse
import importlib.metadata
import pathlib

import faster_whisper
from protocol import serve

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="folder of a CTranslate2 model")
parser.add_argument("--speech", required=True, help="folder of WAV files")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--compute-type", default="float32")
args = parser.parse_args()

model = faster_whisper.WhisperModel(args.model, device="cpu", compute_type=args.compute_type, cpu_threads=args.threads)
files = sorted(str(path) for path in pathlib.Path(args.speech).glob("*.wav"))


def transcribe():
    characters = 0
    for file in files:
        segments, _ = model.transcribe(file, language="en", beam_size=5)
        characters += sum(len(segment.text) for segment in segments)
    return {"characters": characters}


serve({"files": len(files), "versions": {"faster-whisper": importlib.metadata.version("faster-whisper")}}, transcribe)
