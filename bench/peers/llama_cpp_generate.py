#!/usr/bin/env python3
"""llama.cpp's Python package sampling G completions of a fixed length for each of B prompts, from the same GGUF file.

The package's API decodes one sequence at a time; it keeps the prompt's keys and values between the completions of a group.
"""

import argparse
import importlib.metadata

import llama_cpp
from protocol import serve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", required=True, help="GGUF file")
parser.add_argument("--prompts", type=int, default=2)
parser.add_argument("--generations", type=int, default=8)
parser.add_argument("--prompt-tokens", type=int, default=127)
parser.add_argument("--completion-tokens", type=int, default=16)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

model = llama_cpp.Llama(
    args.model,
    n_ctx=args.prompt_tokens + args.completion_tokens + 8,
    n_threads=args.threads,
    n_threads_batch=args.threads,
    verbose=False,
)
rounds = 0


def generate():
    global rounds
    rounds += 1
    for b in range(args.prompts):
        start = b * args.prompt_tokens
        prompt = [1000 + ((start + i) * 7919 + rounds * 104729) % 50000 for i in range(args.prompt_tokens)]
        for _ in range(args.generations):
            tokens = model.generate(prompt, temp=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
            for _ in range(args.completion_tokens):
                next(tokens)


serve({"versions": {"llama-cpp-python": importlib.metadata.version("llama-cpp-python")}}, generate)
