"""Advantages and loss weights as TRL computes them, for test/golden/trl.json.

The advantages come from the statements of GRPOTrainer._generate_and_score_completions, run with torch on float64 rewards and
TRL's own `nanstd`. The losses come from GRPOTrainer._compute_loss itself, called with a stand-in for the trainer whose model
returns given log-probabilities.

    python tools/golden/trl_advantages.py test/golden/trl.json
"""

import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
from transformers import get_scheduler
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd


def advantages(rewards, num_generations, scale_rewards):
    """The branch 'sum_then_normalize' of TRL 1.16."""
    mean = torch.nanmean(rewards.view(-1, num_generations), dim=1).repeat_interleave(num_generations, dim=0)
    if scale_rewards in ["group", "none"]:
        std = nanstd(rewards.view(-1, num_generations), dim=1).repeat_interleave(num_generations, dim=0)
    else:
        std = nanstd(rewards).expand_as(rewards)
    result = rewards - mean
    if scale_rewards != "none":
        result = result / (std + 1e-4)
    return result


class Accelerator:
    num_processes = 1

    def gather(self, tensor):
        return tensor

    def reduce(self, tensor, reduction):
        return tensor


def loss(case, loss_type):
    """GRPOTrainer._compute_loss on given log-probabilities."""
    new, old, ref, mask, adv = (torch.tensor(case[k], dtype=torch.float64) for k in ["new", "old", "ref", "mask", "advantages"])
    new.requires_grad_(True)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (new, torch.zeros_like(new), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token",
        beta=case["beta"], args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=case["steps_per_generation"]),
        loss_type=loss_type, epsilon_low=case["epsilon"], epsilon_high=case["epsilon_high"], use_vllm=False,
        vllm_importance_sampling_correction=False, model=SimpleNamespace(training=True), accelerator=Accelerator(),
        current_gradient_accumulation_steps=case["gradient_accumulation_steps"], max_completion_length=case["max_completion_length"],
        _entropy_bonus_enabled=False, _metrics={"train": defaultdict(list)},
    )
    prompt = torch.ones(new.shape[0], 1, dtype=torch.long)
    inputs = {
        "prompt_ids": prompt, "prompt_mask": prompt, "completion_ids": torch.ones_like(mask, dtype=torch.long),
        "completion_mask": mask, "advantages": adv, "old_per_token_logps": old, "ref_per_token_logps": ref,
        "num_items_in_batch": torch.tensor(float(case["num_items_in_batch"])),
    }
    value = GRPOTrainer._compute_loss(trainer, None, inputs)
    value.backward()
    return {"loss": value.item(), "gradient": new.grad.tolist()}


def main():
    generator = torch.Generator().manual_seed(7)
    rewards = torch.randint(-2, 14, (24,), generator=generator).double() / 2
    rewards[4:8] = 6.5  # a dead group
    result = {"advantages": {"rewards": rewards.tolist(), "num_generations": 4}}
    for scale in ["group", "batch", "none"]:
        result["advantages"][scale] = advantages(rewards, 4, scale).tolist()

    n, length = 6, 5
    lengths = [5, 2, 1, 4, 5, 3]
    masked = [False, False, False, False, True, False]
    mask = [[1.0 if t < lengths[i] and not masked[i] else 0.0 for t in range(length)] for i in range(n)]
    draw = lambda scale: (torch.randn(n, length, generator=generator, dtype=torch.float64) * scale).tolist()
    new = torch.tensor(draw(0.5)) - 1.5
    case = {
        "new": new.tolist(), "old": (new + torch.tensor(draw(0.25))).tolist(), "ref": (new + torch.tensor(draw(0.3))).tolist(),
        "mask": mask, "lengths": lengths, "masked": masked, "advantages": torch.randn(n, generator=generator).tolist(),
        "beta": 0.04, "epsilon": 0.2, "epsilon_high": 0.28, "gradient_accumulation_steps": 2, "steps_per_generation": 3,
        "num_items_in_batch": 41, "max_completion_length": 8,
    }
    case["results"] = {name: loss(case, name) for name in ["grpo", "bnpo", "dr_grpo", "dapo"]}
    result["loss"] = case

    result["schedule"] = {"max_steps": 20, "warmup_steps": 3, "factors": {}}
    for name in ["cosine", "linear", "constant_with_warmup"]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=3, num_training_steps=20)
        factors = []
        for _ in range(20):
            factors.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        result["schedule"]["factors"][name.replace("_with_warmup", "")] = factors
    with open(sys.argv[1], "w") as file:
        json.dump(result, file)
        file.write("\n")


if __name__ == "__main__":
    main()
