#!/usr/bin/env python3
"""faster-whisper or openai-whisper on a list of audio files: one JSON line for each."""

import argparse
import json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("engine", choices=["faster-whisper", "openai-whisper"])
parser.add_argument("--model", required=True, help="folder of a CTranslate2 model, or a checkpoint")
parser.add_argument("--compute-type", default="float32")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--beam", type=int, default=5)
parser.add_argument("files", nargs="+")
args = parser.parse_args()

if args.engine == "faster-whisper":
    import faster_whisper

    model = faster_whisper.WhisperModel(
        args.model, device="cpu", compute_type=args.compute_type, cpu_threads=args.threads
    )

    def transcribe(file):
        segments, _ = model.transcribe(file, language="en", beam_size=args.beam)
        return "".join(segment.text for segment in segments)

else:
    import torch
    import whisper

    torch.set_num_threads(args.threads)
    model = whisper.load_model(args.model, device="cpu")

    def transcribe(file):
        result = model.transcribe(
            file, language="en", beam_size=args.beam, best_of=5, fp16=False, condition_on_previous_text=False
        )
        return result["text"]


for file in args.files:
    print(json.dumps({"file": file, "text": transcribe(file)}), flush=True)
