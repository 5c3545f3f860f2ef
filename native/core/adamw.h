// AdamW with decoupled weight decay (Loshchilov & Hutter, 2019), as torch.optim.AdamW computes it.
#pragma once

#include "lora.h"

namespace vg {

struct AdamWOptions {
    double learning_rate = 0;
    double beta1 = 0.9;
    double beta2 = 0.99;
    double epsilon = 1e-8;
    double weight_decay = 0;
    double max_grad_norm = 0;  // 0: no clipping
};

// Clips the gradient to max_grad_norm (torch's clip_grad_norm_), updates the adapter and returns the norm before
// clipping. Throws E_NUMERIC naming the tensor, with nothing changed, when a gradient is not finite.
double adamw_step(Lora & lora, const AdamWOptions & options);

}  // namespace vg
