"""A small Whisper, with the parameter names of OpenAI's checkpoints, and the extra heads it is trained with.

Shapes: B clips, T encoder frames of 20 ms, L decoder tokens, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

N_VOCAB, EOT, SOT, NO_SPEECH, NO_TIMESTAMPS = 51864, 50256, 50257, 50361, 50362  # English only
NEWLINE = 198
DIMS = {
    "n_mels": 80,
    "n_vocab": N_VOCAB,
    "n_audio_ctx": 500,
    "n_audio_state": 128,
    "n_audio_head": 4,
    "n_audio_layer": 4,
    "n_text_ctx": 128,
    "n_text_state": 128,
    "n_text_head": 4,
    "n_text_layer": 2,
}
# Encoder heads start out looking this many frames away; one row a layer.
OFFSETS = ((-1, 1, -3, 3), (-2, 2, -5, 5), (-4, 4, -9, 9), (-7, 7, -14, 14))


def rates(width):
    return torch.exp(-math.log(10000) / (width // 2 - 1) * torch.arange(width // 2))


def sinusoids(length, width):
    angle = torch.arange(length)[:, None] * rates(width)[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, source=None, causal=False, want_weights=False):
        source = x if source is None else source
        q, k, v = self.split(self.query(x)), self.split(self.key(source)), self.split(self.value(source))
        if not want_weights:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.out(y.transpose(1, 2).flatten(2)), None
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).float().softmax(-1)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)), weights

    @torch.no_grad()
    def look_away(self, offsets):
        """Weights for which head h attends to the frame offsets[h] away, read off the sinusoids in the residual."""
        width = self.query.weight.shape[0]
        pairs, size = width // self.heads // 2, width // self.heads
        rate = rates(width)
        self.query.weight.mul_(0.2)
        self.key.weight.mul_(0.2)
        for head, offset in enumerate(offsets):
            for j in range(pairs):
                f = 2 * j + head % 2  # the faster half of the sinusoids, every second one
                sin, cos = f, f + width // 2
                row = head * size + j
                turn = rate[f] * offset
                self.key.weight[row, sin] += 1
                self.key.weight[row + pairs, cos] += 1
                self.query.weight[row, sin] += turn.cos()
                self.query.weight[row, cos] += turn.sin()
                self.query.weight[row + pairs, cos] += turn.cos()
                self.query.weight[row + pairs, sin] -= turn.sin()


class Block(nn.Module):
    def __init__(self, width, heads, cross=False):
        super().__init__()
        self.attn, self.attn_ln = Attention(width, heads), nn.LayerNorm(width)
        self.cross_attn = Attention(width, heads) if cross else None
        self.cross_attn_ln = nn.LayerNorm(width) if cross else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x, source=None, drop=0.0):
        x = x + F.dropout(self.attn(self.attn_ln(x), causal=source is not None)[0], drop, self.training)
        weights = None
        if source is not None:
            y, weights = self.cross_attn(self.cross_attn_ln(x), source, want_weights=True)
            x = x + F.dropout(y, drop, self.training)
        return x + F.dropout(self.mlp(self.mlp_ln(x)), drop, self.training), weights


class Encoder(nn.Module):
    def __init__(self, dims):
        super().__init__()
        width = dims["n_audio_state"]
        self.conv1 = nn.Conv1d(dims["n_mels"], width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(dims["n_audio_ctx"], width))
        self.blocks = nn.ModuleList(Block(width, dims["n_audio_head"]) for _ in range(dims["n_audio_layer"]))
        self.ln_post = nn.LayerNorm(width)
        for block, offsets in zip(self.blocks, OFFSETS, strict=True):
            block.attn.look_away(offsets)

    def forward(self, mel):
        """mel [B, 80, 2T] -> the output [B, T, D] and the residual after the second block."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel), approximate="tanh")), approximate="tanh").transpose(1, 2)
        x = x + self.positional_embedding[: x.shape[1]]
        for i, block in enumerate(self.blocks):
            x, _ = block(x)
            if i == 1:
                middle = x
        return self.ln_post(x), middle


class Decoder(nn.Module):
    """Over the tokens in use only. Row `n_used` of the embedding stands for every unused token."""

    def __init__(self, dims, n_used):
        super().__init__()
        width = dims["n_text_state"]
        self.token_embedding = nn.Embedding(n_used + 1, width)
        self.positional_embedding = nn.Parameter(torch.randn(dims["n_text_ctx"], width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, dims["n_text_head"], True) for _ in range(dims["n_text_layer"]))
        self.ln = nn.LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.05)
        bias = torch.zeros(n_used + 1)
        bias[-1] = math.log(dims["n_vocab"] - n_used)
        self.register_buffer("unused_bias", bias)

    def forward(self, tokens, audio, drop=0.0):
        """tokens [B, L], audio [B, T, D] -> logits [B, L, n_used + 1] and each block's cross-attention [B, heads, L, T]."""
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        weights = []
        for block in self.blocks:
            x, w = block(x, audio, drop)
            weights.append(w)
        logits = self.ln(x) @ self.token_embedding.weight.T
        return logits.float() + self.unused_bias, weights


class Whisper(nn.Module):
    def __init__(self, used, phonemes, spoken_words, dims=DIMS):
        super().__init__()
        self.dims, self.used = dims, used
        self.encoder, self.decoder = Encoder(dims), Decoder(dims, len(used))
        # For training alone; the export leaves them out.
        self.phoneme_head = nn.Linear(dims["n_audio_state"], phonemes)
        self.word_head = nn.Linear(dims["n_audio_state"], spoken_words)

    @torch.no_grad()
    def transcribe(self, mel, longest=64):
        """Greedy decoding of mel [B, 80, 2T]: lists of token ids, without the end token."""
        audio, _ = self.encoder(mel)
        place = {token: i for i, token in enumerate(self.used)}
        rows = torch.tensor([[place[SOT], place[NO_TIMESTAMPS]]] * len(mel))
        done = torch.zeros(len(mel), dtype=torch.bool)
        for _ in range(longest):
            best = self.decoder(rows, audio)[0][:, -1].argmax(-1)
            rows = torch.cat([rows, best[:, None]], 1)
            done |= best == place[EOT]
            if done.all():
                break
        stops = {place[EOT], len(self.used)}
        texts = []
        for row in rows[:, 2:].tolist():
            end = next((i for i, token in enumerate(row) if token in stops), len(row))
            texts.append([self.used[token] for token in row[:end]])
        return texts

    @torch.no_grad()
    def load_exported(self, state):
        """Takes back the weights of state_for_export(); the training heads stay as they are."""
        state = dict(state)
        full = state["decoder.token_embedding.weight"]
        unused = next(i for i in range(len(full)) if i not in set(self.used))
        state["decoder.token_embedding.weight"] = torch.cat([full[self.used], full[unused : unused + 1]])
        left = self.load_state_dict(state, strict=False)
        if left.unexpected_keys:
            raise ValueError(f"not a checkpoint of this model: {left.unexpected_keys}")

    def state_for_export(self):
        """OpenAI's state dict: the unused rows of the embedding all hold the shared vector."""
        state = {k: v.clone() for k, v in self.state_dict().items() if not k.startswith(("phoneme_", "word_"))}
        del state["decoder.unused_bias"]
        small = state["decoder.token_embedding.weight"]
        full = small[-1:].repeat(self.dims["n_vocab"], 1)
        full[self.used] = small[:-1]
        state["decoder.token_embedding.weight"] = full
        return state
