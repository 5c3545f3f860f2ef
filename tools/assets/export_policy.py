"""Writes the trained policy as a GGUF file, as llama.cpp's own converter would."""

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch

from make_clips import ASSETS
from policy_tokenizer import BOS, CHAT_TEMPLATE, EOS, PAD, UNK, Tokenizer

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def gguf_name(name):
    """The GGUF name of a tensor of transformers' Gemma3ForCausalLM; None for the tied head."""
    name = name.removesuffix(".weight")
    if name == "lm_head":
        return None
    if name == "model.embed_tokens":
        return "token_embd.weight"
    if name == "model.norm":
        return "output_norm.weight"
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[rest]}.weight"


def token_lists(pieces):
    tokens, scores, types = [], [], []
    for i in range(pieces.get_piece_size()):
        piece = pieces.id_to_piece(i)
        if i == UNK:
            kind = gguf.TokenType.UNKNOWN
        elif pieces.is_control(i):
            kind = gguf.TokenType.CONTROL
        elif pieces.is_byte(i):
            kind = gguf.TokenType.BYTE
        elif piece == "\n":
            kind = gguf.TokenType.USER_DEFINED
        else:
            kind = gguf.TokenType.NORMAL
        tokens.append(piece.encode())
        scores.append(pieces.get_score(i))
        types.append(kind)
    return tokens, scores, types


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, default=ASSETS / "models" / "gemma3-tiny.gguf")
    args = parser.parse_args()

    saved = torch.load(args.checkpoint, weights_only=True)
    c, tokenizer = saved["config"], Tokenizer(saved["pieces"])
    rope = c["rope_parameters"]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(args.output, "gemma3")
    writer.add_name("voicegrpo tiny policy")
    writer.add_description("Trained from random weights on a toy grammar; for trying and testing voicegrpo")
    writer.add_license("MIT")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
    writer.add_float32("gemma3.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"])
    writer.add_sliding_window(c["sliding_window"])
    writer.add_uint32("gemma3.attention.sliding_window_pattern", 1 + c["layer_types"].index("full_attention"))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

    tokens, scores, types = token_lists(tokenizer.pieces)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(tokenizer.end)
    writer.add_unk_token_id(UNK)
    writer.add_pad_token_id(PAD)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    for name, tensor in saved["weights"].items():
        target = gguf_name(name)
        if target is None:
            continue
        data = tensor.float().numpy()
        if target.endswith("norm.weight"):
            data = data + 1  # Gemma multiplies by 1 + w; a GGUF file holds the factor itself
        writer.add_tensor(target, data.astype(np.float16) if data.ndim == 2 else data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
