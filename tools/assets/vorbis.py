"""Ogg Vorbis through ffmpeg: the encoding the bundled clips are stored in, and what it does to training audio."""

import subprocess

import numpy as np

from speech import RATE

_PCM = ["-f", "s16le", "-ar", str(RATE), "-ac", "1"]
# bitexact leaves out the encoder's name and fixes the stream's serial number, so that the same speech gives the same file.
_ENCODE = ["-c:a", "libvorbis", "-b:a", "30k", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]


def _ffmpeg(arguments, data):
    command = ["ffmpeg", "-v", "error", "-threads", "1", *arguments, "pipe:1"]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def encode(pcm):
    """int16 at RATE -> the bytes of an .ogg file."""
    return _ffmpeg([*_PCM, "-i", "pipe:0", *_ENCODE, "-f", "ogg"], pcm.tobytes())


def decode(data):
    """The bytes of an audio file -> int16 at RATE, mono."""
    return np.frombuffer(_ffmpeg(["-i", "pipe:0", *_PCM], data), dtype=np.int16)
