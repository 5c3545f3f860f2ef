"""Writes test/golden/torch.pt and test/golden/whisper.json: what torch.save, librosa's filters, tiktoken's files and ggml's types are.

    python tools/golden/whisper_checkpoint.py test/golden

Needs torch, numpy, gguf and openai-whisper (for its assets).
"""

import base64
import collections
import hashlib
import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import whisper

to = pathlib.Path(sys.argv[1])
assets = pathlib.Path(whisper.__file__).parent / "assets"

# Every way in which a tensor can lie in a file. Element i of each is (i - 5) / 4, of 3 x 4.
numbers = (torch.arange(12, dtype=torch.float32) - 5) / 4
matrix = numbers.reshape(3, 4)
long = torch.cat([torch.zeros(7), numbers, torch.zeros(3)])
state = collections.OrderedDict(
    f32=matrix,
    f16=matrix.half(),
    bf16=matrix.bfloat16(),
    f64=matrix.double(),
    parameter=torch.nn.Parameter(matrix.clone()),
    view=long[7:19].view(3, 4),
    transposed=matrix.t().contiguous().t(),
    columns=torch.stack([matrix, -matrix], dim=2)[:, :, 0],
)
state._metadata = {"": {"version": 1}}
saved = {
    "dims": {"n_mels": 80, "n_vocab": 51864},
    "model_state_dict": state,
    "shared": state["view"],
    "scalar": torch.tensor(2.5),
    "step": torch.tensor(7),
    "history": [1, -2, 3.5, None, True, "é", (1, 2, 3, 4), 2**40, -(2**40), 2**80],
}
torch.save(saved, to / "torch.pt")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


filters = np.load(assets / "mel_filters.npz")
tokens = {
    name: b"".join(
        len(token).to_bytes(4, "little") + token
        for token in (base64.b64decode(line.split()[0]) for line in (assets / f"{name}.tiktoken").read_bytes().splitlines())
    )
    for name in ("gpt2", "multilingual")
}
# 64 values of many sizes, float16 so that rounding to it changes nothing.
row = np.array([(-1) ** i * 1.37**i / 2000 * ((i * 7) % 11) for i in range(32)] + [0.5] * 31 + [0.0], dtype=np.float16)
kinds = gguf.GGMLQuantizationType
with open(to / "whisper.json", "w") as file:
    json.dump(
        {
            "mel_filters": {str(bins): sha256(filters[f"mel_{bins}"].tobytes()) for bins in (80, 128)},
            "tokens": {name: sha256(data) for name, data in tokens.items()},
            "row": row.astype(np.float32).tolist(),
            "q8_0": gguf.quants.quantize(row.astype(np.float32), kinds.Q8_0).tobytes().hex(),
            "q5_1": gguf.quants.quantize(row.astype(np.float32), kinds.Q5_1).tobytes().hex(),
        },
        file,
        indent=2,
    )
    file.write("\n")
