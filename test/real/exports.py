"""Exports in their own ecosystems: transformers, PEFT, llama.cpp through llama-cpp-python.

usage: DIR/venv/bin/python test/real/exports.py SPEC.json RESULT.json

SPEC: {"prompts": [{"text", "tokens"}], "answers": [[token]], "stop_tokens": [id], "length": n, "threads": n,
"exports": [{"name", "format", "path", "base"}]}. RESULT: for each export the log-probability of every token of every answer
after every prompt, the greedy tokens, and, where there is a tokenizer, how many prompts it reads as other tokens.
"""

import json
import pathlib
import sys

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class Transformers:
    def __init__(self, export, threads):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(threads)
        self.torch = torch
        if export["format"] == "peft":
            from peft import PeftModel

            base = AutoModelForCausalLM.from_pretrained(export["base"], dtype=torch.float32)
            self.model = PeftModel.from_pretrained(base, export["path"]).eval()
            self.tokenizer = None
        else:
            self.model = AutoModelForCausalLM.from_pretrained(export["path"]).float().eval()
            self.tokenizer = AutoTokenizer.from_pretrained(export["path"])

    def logits(self, tokens):
        with self.torch.no_grad():
            return self.model(self.torch.tensor([tokens])).logits[0].numpy()


class LlamaCpp:
    tokenizer = None

    def __init__(self, export, threads):
        from llama_cpp import Llama

        lora = {"model_path": export["base"], "lora_path": export["path"]}
        files = lora if export["format"] == "gguf-lora" else {"model_path": export["path"]}
        self.model = Llama(**files, n_ctx=1024, n_batch=1024, n_threads=threads, logits_all=True, verbose=False)

    def logits(self, tokens):
        self.model.reset()
        self.model.eval(tokens)
        return np.array(self.model.scores[: len(tokens)])


def check(export, spec):
    model = (Transformers if export["format"] in ("peft", "merged") else LlamaCpp)(export, spec["threads"])
    rows, greedy, misread = [], [], 0
    for prompt in spec["prompts"]:
        tokens = prompt["tokens"]
        if model.tokenizer is not None:
            misread += model.tokenizer(prompt["text"]).input_ids != tokens
        for answer in spec["answers"]:
            scores = log_softmax(model.logits(tokens + answer)[len(tokens) - 1 : -1])
            rows.append([scores[i, token] for i, token in enumerate(answer)])
        said = []
        while len(said) < spec["length"] and (not said or said[-1] not in spec["stop_tokens"]):
            said.append(int(model.logits(tokens + said)[-1].argmax()))
        greedy.append(said)
    return {"name": export["name"], "log_probs": rows, "greedy": greedy, "misread": misread}


spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
pathlib.Path(sys.argv[2]).write_text(json.dumps([check(export, spec) for export in spec["exports"]]))
