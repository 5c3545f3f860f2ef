"""Converts an OpenAI-style Whisper checkpoint to whisper.cpp's ggml file, quantized."""

import argparse
import base64
import struct
from pathlib import Path

import gguf
import numpy as np
import torch
import whisper
from whisper.audio import mel_filters

from make_clips import ASSETS

MAGIC = 0x67676D6C
QUANTIZATION_VERSION = 2 * 1000  # GGML_QNT_VERSION * GGML_QNT_VERSION_FACTOR, added to the file type
# What matrices are stored as: (file type, tensor type).
TYPES = {
    "f16": (1, gguf.GGMLQuantizationType.F16),
    "q8_0": (7 + QUANTIZATION_VERSION, gguf.GGMLQuantizationType.Q8_0),
    "q5_1": (9 + QUANTIZATION_VERSION, gguf.GGMLQuantizationType.Q5_1),
}
DIMS = (
    "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head n_text_layer n_mels"
).split()


def byte_pieces():
    """GPT-2's tokens as bytes, in the order of their ids; the special tokens are whisper.cpp's to add."""
    path = Path(whisper.__file__).parent / "assets" / "gpt2.tiktoken"
    ranks = [line.split() for line in path.read_bytes().splitlines() if line]
    return [base64.b64decode(piece) for piece, _ in sorted(ranks, key=lambda pair: int(pair[1]))]


def tensor_data(name, tensor, matrix_type):
    """The tensor's type and array as whisper.cpp expects them."""
    data = tensor.float().numpy()
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        return gguf.GGMLQuantizationType.F32, data.reshape(-1, 1)
    if data.ndim < 2 or name.endswith("positional_embedding"):
        return gguf.GGMLQuantizationType.F32, data
    if data.ndim == 3:  # convolutions are never quantized
        return gguf.GGMLQuantizationType.F16, data.astype(np.float16)
    return matrix_type, data


def write(path, checkpoint, kind):
    file_type, matrix_type = TYPES[kind]
    dims, state = checkpoint["dims"], checkpoint["model_state_dict"]
    filters = mel_filters("cpu", dims["n_mels"]).numpy().astype(np.float32)
    with path.open("wb") as out:
        out.write(struct.pack("<12i", MAGIC, *(dims[d] for d in DIMS), file_type))
        out.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        pieces = byte_pieces()
        out.write(struct.pack("<i", len(pieces)))
        for piece in pieces:
            out.write(struct.pack("<i", len(piece)) + piece)
        for name, tensor in state.items():
            tensor_type, data = tensor_data(name, tensor, matrix_type)
            encoded = name.encode()
            out.write(struct.pack("<3i", data.ndim, len(encoded), tensor_type))
            out.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)) + encoded)
            quantized = tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
            stored = gguf.quants.quantize(data, tensor_type) if quantized else data.astype(
                np.float16 if tensor_type == gguf.GGMLQuantizationType.F16 else np.float32
            )
            out.write(np.ascontiguousarray(stored).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--type", choices=TYPES, default="q5_1")
    parser.add_argument("--output", type=Path, default=ASSETS / "models" / "whisper-tiny.bin")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write(args.output, torch.load(args.checkpoint, weights_only=True), args.type)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
