"""GRPO's loss as the oracles compute it: plain functions on padded arrays, in whatever type the model has.

N completions, L the longest. Completion n belongs to prompt n // G. Follows the formulas of TRL's documentation;
`check_against_trl` runs TRL's own loss on the same numbers and compares.
"""

from types import SimpleNamespace

import torch


def completion_logits(model, prompt, completion):
    """Logits [len(completion), V] at the places that predict the completion's tokens, each sequence alone, unpadded."""
    ids = torch.tensor([prompt + completion])
    hidden = model(input_ids=ids, use_cache=False, logits_to_keep=len(completion) + 1).logits[0]
    return hidden[:-1]


def log_probs(model, prompts, completions, group, temperature, length):
    """Log-probabilities and entropies [N, L] of softmax(logits / temperature); places past a completion's end are 0."""
    rows, entropies = [], []
    for n, completion in enumerate(completions):
        if not completion:
            rows.append(torch.zeros(length, dtype=next(model.parameters()).dtype))
            entropies.append(rows[-1])
            continue
        logp = (completion_logits(model, prompts[n // group], completion) / temperature).log_softmax(-1)
        picked = logp.gather(-1, torch.tensor(completion)[:, None])[:, 0]
        pad = length - len(completion)
        rows.append(torch.nn.functional.pad(picked, (0, pad)))
        entropies.append(torch.nn.functional.pad(-(logp.exp() * logp).sum(-1), (0, pad)))
    return torch.stack(rows), torch.stack(entropies)


def loss_weights(loss_type, lengths, masked, max_length, accumulation=1):
    """Weight of each token of a completion. `masked`: completions that mask_truncated_completions takes out."""
    active = [0 if m else length for length, m in zip(lengths, masked)]
    n = len(lengths)
    weights = {
        "grpo": [1 / (max(a, 1) * n * accumulation) for a in active],
        "bnpo": [1 / (sum(active) * accumulation)] * n,
        "dr_grpo": [1 / (n * max_length * accumulation)] * n,
        "dapo": [1 / sum(active)] * n,
    }[loss_type]
    return [w if a else 0.0 for w, a in zip(weights, active)]


def token_mask(lengths, weights, length):
    """[N, L]: 1 where a token takes part in the loss."""
    return torch.tensor([[1.0 if t < m and w else 0.0 for t in range(length)] for m, w in zip(lengths, weights)]).double()


def loss(logp, old, ref, advantages, weights, mask, epsilon, epsilon_high, beta):
    """Loss and the figures that are logged with it; `old` None means the policy is the one that sampled."""
    advantages = torch.as_tensor(advantages, dtype=logp.dtype)[:, None]
    weights = torch.as_tensor(weights, dtype=logp.dtype)[:, None]
    mask = mask.to(logp.dtype)
    ratio = (logp - (logp.detach() if old is None else old)).exp()
    per_token = -torch.minimum(ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantages)
    k3 = torch.zeros_like(logp)
    if beta:
        difference = ref - logp
        k3 = difference.exp() - difference - 1
        per_token = per_token + beta * k3
    active = mask.sum()
    low = ((ratio < 1 - epsilon) & (advantages < 0)).to(mask.dtype)
    high = ((ratio > 1 + epsilon_high) & (advantages > 0)).to(mask.dtype)
    figures = {
        "kl": (k3 * mask).sum() / active,
        "clip_low": (low * mask).sum() / active,
        "clip_high": (high * mask).sum() / active,
        "ratio_mean": (ratio * mask).sum() / active,
        "ratio_max": (ratio * mask).max(),
    }
    # How near the closest ratio is to a bound: float32 must fall on the same side.
    bounds = torch.tensor([1 - epsilon, 1 + epsilon_high], dtype=logp.dtype)
    margin = ((ratio[..., None] - bounds).abs() + 1e9 * (1 - mask)[..., None]).min()
    return (weights * per_token * mask).sum(), {k: v.item() for k, v in figures.items()}, margin.item()


def check_against_trl(logp, old, ref, advantages, lengths, masked, max_length, epsilon, epsilon_high, beta, loss_type):
    """Loss of TRL's GRPOTrainer on given log-probabilities: its own code on a stand-in for the trainer."""
    from trl import GRPOTrainer

    n, length = logp.shape
    mask = torch.tensor([[float(t < m and not out) for t in range(length)] for m, out in zip(lengths, masked)]).to(logp.dtype)
    logp = logp.detach().clone().requires_grad_()
    gather = SimpleNamespace(gather=lambda x: x, num_processes=1, sync_gradients=True, reduce=lambda x, **_: x)
    from collections import defaultdict

    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.zeros_like(logp), None),
        model=SimpleNamespace(training=True), accelerator=gather, _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token",
        beta=beta, loss_type=loss_type, epsilon_low=epsilon, epsilon_high=epsilon_high, use_vllm=False,
        vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=1,
        max_completion_length=max_length, _entropy_bonus_enabled=False, use_adaptive_entropy=False,
    )
    inputs = {
        "prompt_ids": torch.zeros(n, 1).long(), "prompt_mask": torch.ones(n, 1).long(),
        "completion_ids": torch.zeros(n, length).long(), "completion_mask": mask,
        "advantages": torch.as_tensor(advantages, dtype=logp.dtype), "num_items_in_batch": mask.sum(),
    }
    if old is not None:
        inputs["old_per_token_logps"] = old
    if ref is not None:
        inputs["ref_per_token_logps"] = ref
    value = GRPOTrainer._compute_loss(trainer, None, inputs)
    value.backward()
    return value.item(), logp.grad
