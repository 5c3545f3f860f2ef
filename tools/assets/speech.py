"""espeak-ng through its C library: 16 kHz speech with the times of its words and phonemes."""

import ctypes
import ctypes.util
from dataclasses import dataclass

import numpy as np
import torch

RATE = 16000
# Names as espeak_SetVoiceByName takes them. "en-gb" is not one: it fails and leaves the old voice in place.
VOICES = ("en", "en-us", "en+f3", "en-us+m3")
SPEEDS = (150, 195)  # words a minute
PITCHES = (35, 70)

_EVENT_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass
class Speech:
    pcm: np.ndarray  # int16 at RATE
    words: list  # [first character in the text, number of characters, seconds]
    phonemes: list  # [mnemonic, seconds]


class Resampler:
    """Windowed sinc, rate_in -> RATE; one convolution per output phase."""

    def __init__(self, rate_in, zeros=16, rolloff=0.95):
        gcd = np.gcd(rate_in, RATE)
        self.step, self.phases = rate_in // gcd, RATE // gcd
        cut = min(1.0, RATE / rate_in) * rolloff
        self.half = int(np.ceil(zeros / cut))
        taps = np.arange(-self.half, self.half + self.step + 1)
        at = taps[None, :] - np.arange(self.phases)[:, None] * self.step / self.phases
        window = np.cos(np.clip(at / self.half, -1, 1) * np.pi / 2) ** 2
        self.kernel = torch.tensor((np.sinc(at * cut) * cut * window)[:, None, :], dtype=torch.float32)

    def __call__(self, x):
        length = -(-len(x) * self.phases // self.step)
        x = torch.nn.functional.pad(torch.from_numpy(x)[None, None], (self.half, self.half + self.step))
        y = torch.nn.functional.conv1d(x, self.kernel, stride=self.step)
        return y[0].T.reshape(-1)[:length].numpy()


class Espeak:
    def __init__(self):
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise RuntimeError("libespeak-ng was not found. Install it: apt-get install espeak-ng libespeak-ng1")
        self.lib = ctypes.CDLL(name)
        output_synchronous, phoneme_events = 2, 1
        rate = self.lib.espeak_Initialize(output_synchronous, 0, None, phoneme_events)
        if rate <= 0:
            raise RuntimeError("espeak_Initialize failed")
        self.rate = rate
        self.resample = Resampler(rate)
        self.chunks, self.events = [], []
        self._callback = _CALLBACK(self._receive)  # kept: espeak holds only a pointer
        self.lib.espeak_SetSynthCallback(self._callback)
        self.voice = None

    def _receive(self, samples, count, events):
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            e = events[i]
            if e.type == _EVENT_WORD:
                self.events.append(("word", e.text_position, e.length, e.sample))
            elif e.type == _EVENT_PHONEME:
                self.events.append(("phoneme", e.id.string.decode(errors="replace"), 0, e.sample))
            i += 1
        return 0

    def say(self, text, voice, speed, pitch):
        if voice != self.voice:
            if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
                raise RuntimeError(f"espeak-ng has no voice {voice!r}")
            self.voice = voice
        set_rate, set_pitch = 1, 3
        self.lib.espeak_SetParameter(set_rate, speed, 0)
        self.lib.espeak_SetParameter(set_pitch, pitch, 0)
        self.chunks, self.events = [], []
        data = text.encode()
        characters, utf8 = 1, 1
        self.lib.espeak_Synth(data, len(data) + 1, 0, characters, 0, utf8, None, None)
        self.lib.espeak_Synchronize()
        pcm = self.resample(np.concatenate(self.chunks).astype(np.float32))
        return Speech(
            np.clip(np.round(pcm), -32768, 32767).astype(np.int16),
            [[p - 1, n, s / self.rate] for kind, p, n, s in self.events if kind == "word"],
            [[m, s / self.rate] for kind, m, _, s in self.events if kind == "phoneme"],
        )
