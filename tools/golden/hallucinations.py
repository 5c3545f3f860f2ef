"""What openai-whisper writes, with its own guards off, where nobody speaks, and what it writes of real speech: test/golden/hallucinations.json.

    python tools/golden/hallucinations.py DIR test/golden/hallucinations.json

DIR holds tiny.en.pt, base.pt and speech/ with transcripts.tsv (CONTRIBUTING.md, "Real weights"). Each record: model, audio, speech (whether
there is any), duration in s, language with its probability, segments.
"""
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import whisper

RATE = 16000
FIELDS = ("start", "end", "text", "avg_logprob", "no_speech_prob", "tokens")


def seconds(length):
    return np.arange(int(RATE * length)) / RATE


def pink(random, n):
    spectrum = np.fft.rfft(random.standard_normal(n))
    spectrum[1:] /= np.sqrt(np.fft.rfftfreq(n, 1 / RATE)[1:])
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n)
    return noise / np.abs(noise).max()


def music(random, length):
    """Notes of a piano's decay, four a second."""
    sound = np.zeros(int(RATE * length))
    for k in range(int(length * 4)):
        pitch = 220 * 2 ** (random.integers(0, 24) / 12)
        at = k * RATE // 4
        t = np.arange(min(RATE, len(sound) - at)) / RATE
        sound[at : at + len(t)] += sum(np.sin(2 * np.pi * pitch * h * t) / h for h in (1, 2, 3, 4)) * np.exp(-4 * t)
    return 0.4 * sound / np.abs(sound).max()


def fan(random, length):
    t = seconds(length)
    rumble = np.cumsum(pink(random, len(t)))
    rumble -= np.convolve(rumble, np.ones(800) / 800, "same")
    blades = (1 + 0.5 * np.sin(2 * np.pi * 7 * t)) * (1 + 0.3 * np.sin(2 * np.pi * 0.4 * t))
    return 0.4 * rumble / np.abs(rumble).max() * blades


def typing(random, length):
    sound = 0.001 * random.standard_normal(int(RATE * length))
    for _ in range(int(length * 5)):
        at = random.integers(0, len(sound) - 400)
        sound[at : at + 400] += 0.5 * random.standard_normal(400) * np.exp(-np.arange(400) / 60)
    return sound


SOUNDS = {
    "silence": lambda random, length: 0 * seconds(length),
    "hiss": lambda random, length: 0.05 * random.standard_normal(int(RATE * length)),
    "pink noise": lambda random, length: 0.3 * pink(random, int(RATE * length)),
    "fan": fan,
    "hum": lambda random, length: 0.2 * sum(np.sin(2 * np.pi * 50 * h * seconds(length)) / h for h in (1, 2, 3, 5)),
    "music": music,
    "typing": typing,
    "noise in bursts": lambda random, length: 0.2 * random.standard_normal(int(RATE * length)) * (seconds(length) * 2 % 1 < 0.5),
}


def recordings(folder):
    for name, make in SOUNDS.items():
        for length in (0.12, 1, 5, 30):
            if name in ("music", "typing", "fan") and length < 1:
                continue
            yield f"{name}, {length} s", False, make(np.random.default_rng(1), length).astype(np.float32)
    for line in (folder / "speech" / "transcripts.tsv").read_text().splitlines():
        name = line.split("\t")[0]
        yield name, True, read_wav(folder / "speech" / name)


def read_wav(path):
    import soundfile
    from scipy.signal import resample_poly

    sound, rate = soundfile.read(path, dtype="float32")
    sound = sound if sound.ndim == 1 else sound.mean(axis=1)
    return sound if rate == RATE else resample_poly(sound, RATE, rate).astype(np.float32)


folder = Path(sys.argv[1])
torch.set_num_threads(int(os.environ.get("THREADS", "1")))
records = []
for name in ("tiny.en", "base"):
    model = whisper.load_model(str(folder / f"{name}.pt"))
    for audio, speech, sound in recordings(folder):
        probability = 1.0
        if model.is_multilingual:
            mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(sound), model.dims.n_mels)
            probability = max(model.detect_language(mel)[1].values())
        result = model.transcribe(
            sound, temperature=0, fp16=False, no_speech_threshold=None, logprob_threshold=None, compression_ratio_threshold=None
        )
        records.append(
            {
                "model": name,
                "audio": audio,
                "speech": speech,
                "duration": round(len(sound) / RATE, 4),
                "language": result["language"],
                "language_probability": round(probability, 4),
                "segments": [
                    {
                        field: len(segment[field]) if field == "tokens" else round(segment[field], 4) if field != "text" else segment[field]
                        for field in FIELDS
                    }
                    for segment in result["segments"]
                ],
            }
        )
        print(name, audio, result["language"], round(probability, 2), result["text"][:60], flush=True)
with open(sys.argv[2], "w", encoding="utf-8") as file:
    file.write("[\n" + ",\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n]\n")
