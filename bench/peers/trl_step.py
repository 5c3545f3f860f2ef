#!/usr/bin/env python3
"""TRL's GRPO step on the work of `voicegrpo bench step`: same model, lengths, LoRA and threads.

Prompts have exactly --prompt-tokens tokens, completions are forced to --completion-tokens. After the model is loaded and one step has
been made, the script writes {"ready": true, ...}; for each line on stdin it then makes one step and writes {"seconds": s}. So a
caller can alternate it with something else. At the end of stdin it writes the peak of its resident memory.

Needs torch, transformers, trl, peft, datasets. Settings that would slow TRL down for nothing are off: gradient checkpointing,
logging to trackers, a reference model (beta = 0).
"""

import argparse
import os
import sys
import tempfile
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=127)
    parser.add_argument("--completion-tokens", type=int, default=16)
    parser.add_argument("--lora-r", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return parser.parse_args()


args = arguments()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from protocol import peak_rss_bytes, say  # noqa: E402

torch.set_num_threads(args.threads)
transformers.utils.logging.disable_progress_bar()


def prompt(tokenizer, number):
    """A text of exactly --prompt-tokens tokens, different for each number."""
    words = [" one", " two", " red", " blue", " tree", " house", " river", " light"]
    text = "".join(words[(number * 7 + i * (number + 3)) % len(words)] for i in range(args.prompt_tokens * 2))
    tokens = tokenizer(text)["input_ids"][: args.prompt_tokens]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    got = len(tokenizer(text)["input_ids"])
    assert got == args.prompt_tokens, f"the prompt has {got} tokens, expected {args.prompt_tokens}"
    return text


def reward(completions, **_):
    """By lot, as in `voicegrpo bench step`: no group's rewards are all equal."""
    return torch.rand(len(completions)).tolist()


def synchronize():
    """A GPU is given work and goes on by itself: the clock must wait for it."""
    if args.device == "cuda":
        torch.cuda.synchronize()


class Alternate(transformers.TrainerCallback):
    """Waits for a line before each step but the first, and tells how long the step took."""

    def on_step_begin(self, _args, state, control, **_):
        if state.global_step > 0:
            if not sys.stdin.readline():
                say(peak_rss_bytes=peak_rss_bytes())
                sys.stdout.flush()
                os._exit(0)  # the trainer has no way to leave before a step
        synchronize()
        self.start = time.perf_counter()

    def on_step_end(self, _args, state, control, **_):
        synchronize()
        seconds = time.perf_counter() - self.start
        if state.global_step == 1:
            say(
                ready=True,
                first_step_seconds=seconds,
                versions={
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "trl": trl.__version__,
                    "peft": peft.__version__,
                },
                threads=torch.get_num_threads(),
            )
        else:
            say(seconds=seconds)


def main():
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    prompts = [prompt(tokenizer, i) for i in range(64)]
    batch = args.prompts * args.generations
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
        peft_config=peft.LoraConfig(
            r=args.lora_r,
            lora_alpha=2 * args.lora_r,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
        ),
        args=trl.GRPOConfig(
            output_dir=tempfile.mkdtemp(prefix="trl-step-"),
            per_device_train_batch_size=batch,
            num_generations=args.generations,
            gradient_accumulation_steps=1,
            max_completion_length=args.completion_tokens,
            generation_kwargs={"min_new_tokens": args.completion_tokens},
            max_steps=100_000,
            learning_rate=1e-5,
            beta=0.0,
            temperature=1.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=args.device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        callbacks=[Alternate()],
    )
    sys.stdout = sys.stderr  # what libraries print is not ours
    trainer.train()


main()
