"""Makes transformers' Gemma 3 compute in float64 from end to end.

A model cast with `.double()` is not enough: RMSNorm, the rotary tables and eager attention's softmax go through float32
inside transformers, which alone costs seven digits. `make_exact(model)` replaces the first two with float64 versions; the model
must have been made with attn_implementation="sdpa", whose CPU kernel keeps float64.
"""

import types

import torch


def _norm_forward(self, x):
    scaled = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
    return scaled * (1.0 + self.weight.to(x.dtype))


def _rotary_forward(self, x, position_ids, layer_type):
    theta = float(self.config.rope_parameters[layer_type]["rope_theta"])
    dim = self.config.head_dim
    inverse = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = position_ids[..., None].double() * inverse
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def make_exact(model):
    assert model.config._attn_implementation == "sdpa", model.config._attn_implementation
    model.double()
    for module in model.modules():
        name = type(module).__name__
        if name == "Gemma3RMSNorm":
            module.forward = types.MethodType(_norm_forward, module)
        elif name == "Gemma3RotaryEmbedding":
            module.forward = types.MethodType(_rotary_forward, module)
            assert all(kind == "default" for kind in module.rope_type.values()), module.rope_type
        elif name == "Gemma3TextScaledWordEmbedding":
            module.embed_scale = torch.tensor(model.config.hidden_size, dtype=torch.float64).sqrt()
    return model
