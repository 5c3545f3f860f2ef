"""Writes the Opus files of test/audio with what libopus makes of them, and resampled tones as soxr makes them.

    apt-get install ffmpeg opus-tools
    pip install numpy==2.4.6 soxr==1.1.0
    python tools/golden/audio_fixtures.py

opus-*.opus   a stereo sweep whose length is no multiple of a frame, speech in 60 ms frames, 5.1 channels
opus-*.f32    every 40th sample at 48 kHz of the mean of their channels, as opusdec (libopus) decodes them; float32
soxr.f32      for each of RATES samples 2000 to 2800 at 16 kHz of tones at that rate, resampled by soxr's very high quality
The other files are older: sweep.mp3, sweep.flac and sweep.ogg are one sweep of 0.8 s.
"""

import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
import soxr

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ROOT / "test" / "audio"
RATES = [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000]
# Hz; those that a rate holds below 0.43 of it, and above 8 kHz what must vanish.
KEPT = [110, 440, 1250, 2730, 3380, 4700, 6200, 6990]
GONE = [8100, 9500, 12300, 15000, 20000, 30000]


def run(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def decoded(path, *options):
    """[frames, channels] float32 at 48 kHz"""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.wav"
        run("ffmpeg", "-i", path, "-ar", "48000", *options, "-c:a", "pcm_s16le", out)
        with wave.open(str(out)) as file:
            data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            return data.reshape(-1, file.getnchannels()) / np.float32(32768)


def opus(name, samples, *options):
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder) / "in.wav", Path(folder) / "out.raw"
        with wave.open(str(source), "wb") as file:
            file.setparams((samples.shape[1], 2, 48000, 0, "NONE", ""))
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        target = AUDIO / f"opus-{name}.opus"
        run("opusenc", "--quiet", "--discard-comments", "--padding", "0", *options, source, target)
        run("opusdec", "--quiet", "--rate", "48000", "--float", target, raw.with_suffix(".wav"))
        run("ffmpeg", "-i", raw.with_suffix(".wav"), "-f", "f32le", raw)
        heard = np.fromfile(raw, dtype="<f4").reshape(-1, samples.shape[1])
        assert len(heard) == len(samples), (len(heard), len(samples))
        heard.mean(axis=1, dtype=np.float64)[::40].astype("<f4").tofile(AUDIO / f"opus-{name}.f32")


def tones(rate):
    time = np.arange(round(0.4 * rate)) / rate
    chosen = [f for f in KEPT if f < 0.43 * rate] + [f for f in GONE if f < 0.5 * rate]
    return sum(0.06 * np.sin(2 * np.pi * f * time + f) for f in chosen)


def main():
    sweep = decoded(AUDIO / "sweep.flac")[:37123]
    opus("stereo", sweep, "--serial", "1", "--bitrate", "48", "--max-delay", "200")
    speech = decoded(ROOT / "assets" / "clips" / "ifeval" / "000.ogg")[20000:65678]
    opus("speech", speech, "--serial", "2", "--bitrate", "16", "--framesize", "60", "--speech")
    time = np.arange(14400)[:, None] / 48000
    surround = 0.3 * np.sin(2 * np.pi * (200 + 170 * np.arange(6)) * time)
    opus("surround", surround, "--serial", "3", "--bitrate", "96")

    golden = [soxr.resample(tones(rate), rate, 16000, "VHQ")[2000:2800] for rate in RATES]
    np.concatenate(golden).astype("<f4").tofile(AUDIO / "soxr.f32")


main()
