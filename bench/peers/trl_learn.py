#!/usr/bin/env python3
"""TRL's GRPO on the prompts and with the rewards of a run of ours: the other side of bench/learning.mjs.

--work is a JSON file that bench/learning.mjs writes: `prompts` in the order of the steps, each with its label; the run's `config`; the
command of bench/ours/rewards.mjs as `rewards`. Writes {"step": n, "reward": mean, "frac_reward_zero_std": share} for each step.
Needs torch, transformers, trl, peft, datasets.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, help="folder of the checkpoint")
parser.add_argument("--work", required=True)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from protocol import say  # noqa: E402

torch.set_num_threads(args.threads)
transformers.utils.logging.disable_progress_bar()
with open(args.work) as file:
    work = json.load(file)
grpo, optimizer, lora = (work["config"][part] for part in ("grpo", "optimizer", "lora"))
judge = subprocess.Popen(work["rewards"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def reward(prompts, completions, label, trainer_state, **_):
    answers = [{"completion": text, "label": name} for text, name in zip(completions, label)]
    print(json.dumps({"step": trainer_state.global_step + 1, "answers": answers}), file=judge.stdin, flush=True)
    return json.loads(judge.stdout.readline())["rewards"]


class Tell(transformers.TrainerCallback):
    def on_log(self, _args, state, control, logs=None, **_):
        if "reward" in logs:
            say(step=state.global_step, reward=logs["reward"], frac_reward_zero_std=logs["frac_reward_zero_std"])


tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
# An answer ends at a line's end, as ours does in completion mode.
ends = [token for text, token in tokenizer.get_vocab().items() if "\n" in text]
model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
trainer = trl.GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    reward_funcs=reward,
    train_dataset=datasets.Dataset.from_list(work["prompts"]),
    peft_config=peft.LoraConfig(
        r=lora["r"], lora_alpha=lora["lora_alpha"], target_modules=lora["target_modules"], task_type="CAUSAL_LM"
    ),
    args=trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl-learn-"),
        seed=work["config"]["seed"],
        shuffle_dataset=False,
        max_steps=grpo["max_steps"],
        per_device_train_batch_size=grpo["prompts_per_step"] * grpo["num_generations"],
        gradient_accumulation_steps=1,
        num_generations=grpo["num_generations"],
        max_completion_length=grpo["max_completion_length"],
        temperature=grpo["temperature"],
        top_p=grpo["top_p"],
        top_k=grpo["top_k"],
        beta=grpo["beta"],
        epsilon=grpo["epsilon"],
        loss_type=grpo["loss_type"],
        scale_rewards=grpo["scale_rewards"],
        learning_rate=optimizer["learning_rate"],
        lr_scheduler_type=optimizer["lr_scheduler_type"],
        warmup_steps=0,
        adam_beta1=optimizer["adam_beta1"],
        adam_beta2=optimizer["adam_beta2"],
        adam_epsilon=optimizer["adam_epsilon"],
        weight_decay=optimizer["weight_decay"],
        max_grad_norm=optimizer["max_grad_norm"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    ),
    callbacks=[Tell()],
)
sys.stdout = sys.stderr  # what libraries print is not ours
trainer.train()
