"""What transformers and PEFT compute in float64 with the real Gemma 3 270M: the figures `run.ts` compares with.

usage: DIR/venv/bin/python test/real/oracle.py DIR [logprobs] [gradients] [greedy] [steps]

DIR holds gemma-3-270m/, the same weights as the GGUF. Writes DIR/oracle/<part>.{json,safetensors}; a part that is there
already is left alone.
"""

import json
import math
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoTokenizer, Gemma3ForCausalLM

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools" / "golden"))
from exact import make_exact  # noqa: E402
from grpo import log_probs, loss, loss_weights, token_mask  # noqa: E402

GROUP = 2
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# The eighth prompt is longer than the sliding window of 512 tokens.
LONG = " ".join(
    f"Item {i}: the {a} {b} was moved from shelf {i * 7 % 23} to shelf {i * 5 % 19}."
    for i, (a, b) in enumerate([(x, y) for x in ("old", "green", "heavy", "broken", "quiet", "narrow")
                                for y in ("lamp", "atlas", "kettle", "violin", "ladder", "clock")]))
CASES = [
    ("The capital of France is", [" Paris, a city of about two million people.", " a question that children learn to answer early."]),
    ("def fibonacci(n):\n    if n < 2:\n        return n\n", ["    return fibonacci(n - 1) + fibonacci(n - 2)\n", "    # the rest follows"]),
    ("Text: \"Could you write a poem of four lines without the letter e?\"\nLabel: ifeval\n\nText: \"Is it better to rent or to buy a house?\"\nLabel:",
     [" commoneval\n\n", " wildvoice\n\n"]),
    ("Es war einmal ein König, der hatte drei Töchter. Die jüngste", [" war so schön, dass die Sonne sich wunderte.", " hieß Anna."]),
    ("2 + 2 = 4\n3 + 5 = 8\n9 + 7 =", [" 16\n", " 15\n12 + 1 = 13"]),
    ("日本の首都は", ["東京です。", "大阪ではありません。"]),
    ("Ingredients: 200 g flour, 3 eggs, 1 cup of milk, a pinch of salt.\n\nInstructions:\n1.", [" Whisk the eggs with the milk.", " Preheat the oven to 180°C."]),
    (LONG + "\nQuestion: where did the first lamp go?\nAnswer:", [" It was moved to shelf 0.", " Nobody knows; the list does not say."]),
    ("A", [" long time ago in a galaxy far, far away", "."]),
    ("   <b>Hello</b>\t\tworld!!   \n\n\n", ["Привет, мир! 👋🏽", "## Chapter 1"]),
]
GREEDY = [
    "The three primary colours are",
    "Once upon a time there was a small village by the sea where",
    "Q: What is the boiling point of water?\nA:",
    "import numpy as np\n\ndef softmax(x):\n",
    "Der schnellste Weg nach Hause ist",
    LONG + "\nQuestion: what is this list about?\nAnswer:",
]


def load(directory):
    model = Gemma3ForCausalLM.from_pretrained(directory / "gemma-3-270m", dtype=torch.float32, attn_implementation="sdpa")
    return make_exact(model).eval().requires_grad_(False), AutoTokenizer.from_pretrained(directory / "gemma-3-270m")


def encode(tokenizer, text, bos):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return ([2] if bos else []) + ids


def cases(tokenizer, chosen):
    prompts = [encode(tokenizer, CASES[i][0], True) for i in chosen]
    return prompts, [encode(tokenizer, c, False) for i in chosen for c in CASES[i][1]]


def pack(completions):
    length = max(map(len, completions))
    rows = torch.zeros(len(completions), length, dtype=torch.int32)
    for n, c in enumerate(completions):
        rows[n, : len(c)] = torch.tensor(c, dtype=torch.int32)
    return rows, length


def write(out, part, meta, tensors):
    if tensors:
        save_file({k: v.clone() for k, v in tensors.items()}, out / f"{part}.safetensors")
    (out / f"{part}.json").write_text(json.dumps(meta) + "\n")  # last: its presence says that the part is whole
    print(f"{part}: written", flush=True)


def part_logprobs(model, tokenizer, out):
    prompts, completions = cases(tokenizer, range(len(CASES)))
    rows, length = pack(completions)
    assert max(map(len, prompts)) > 512
    with torch.no_grad():
        logp, entropy = log_probs(model, prompts, completions, GROUP, 1.0, length)
    meta = dict(prompts=prompts, texts=[p for p, _ in CASES], lengths=list(map(len, completions)), group=GROUP, length=length,
                completion_texts=[c for _, pair in CASES for c in pair])
    write(out, "logprobs", meta, {"tokens": rows, "log_probs": logp, "entropies": entropy})


def add_adapter(model, rank, alpha):
    """A as PEFT makes it, B small but not zero, so that every matrix has a gradient of its own."""
    peft = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=MODULES, lora_dropout=0.0))
    peft.double().eval()
    generator = torch.Generator().manual_seed(5)
    parameters = {n.removeprefix("base_model.model.").replace(".default", ""): p
                  for n, p in peft.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, p in parameters.items():
            uniform = (2 * torch.rand(p.shape, generator=generator, dtype=torch.float64) - 1) / math.sqrt(p.shape[1])
            p.copy_((uniform if "lora_A" in name else 0.02 * uniform).float().double())
    return peft, parameters


def part_gradients(model, tokenizer, out):
    prompts, completions = cases(tokenizer, [0, 2, 7])
    lengths = list(map(len, completions))
    rows, length = pack(completions)
    advantages, epsilon, epsilon_high, beta = [1.2, -0.8, 0.7, -1.1, 0.5, -0.9], 0.2, 0.28, 0.04
    with torch.no_grad():
        ref = log_probs(model, prompts, completions, GROUP, 1.0, length)[0].float().double()
    peft, parameters = add_adapter(model, 8, 8)
    logp, _ = log_probs(peft, prompts, completions, GROUP, 1.0, length)
    noise = 0.3 * torch.randn(logp.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    old = (logp.detach() + noise).float().double()
    weights = torch.tensor(loss_weights("dapo", lengths, [False] * 6, length)).double().float().double().tolist()
    mask = token_mask(lengths, weights, length)
    value, figures, margin = loss(logp, old, ref, advantages, weights, mask, epsilon, epsilon_high, beta)
    assert margin > 1e-3 and figures["clip_low"] > 0 and figures["clip_high"] > 0, (margin, figures)
    grads = torch.autograd.grad(value, list(parameters.values()))
    tensors = {"tokens": rows, "log_probs": logp.detach(), "old": old, "ref": ref}
    for (name, p), g in zip(parameters.items(), grads):
        tensors[f"value.{name}"], tensors[f"gradient.{name}"] = p.detach().float(), g.float()
    meta = dict(prompts=prompts, lengths=lengths, group=GROUP, length=length, advantages=advantages, weights=weights,
                epsilon=epsilon, epsilon_high=epsilon_high, beta=beta, rank=8, alpha=8, target_modules=MODULES,
                loss=value.item(), **figures)
    write(out, "gradients", meta, tensors)


def part_steps(model, tokenizer, out):
    """Ten AdamW updates on fixed completions: the old probabilities are those of the start, so ratios move and clip."""
    prompts, completions = cases(tokenizer, [0, 4, 6])
    lengths = list(map(len, completions))
    rows, length = pack(completions)
    advantages, epsilon, epsilon_high, beta = [1.0, -1.0, 0.7, -0.7, 0.9, -0.9], 0.2, 0.28, 0.04
    settings = dict(lr=1e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    max_grad_norm = 1.0
    with torch.no_grad():
        ref = log_probs(model, prompts, completions, GROUP, 1.0, length)[0].float().double()
    peft, parameters = add_adapter(model, 8, 16)
    start = {f"value.{n}": p.detach().float() for n, p in parameters.items()}
    optimizer = torch.optim.AdamW(list(parameters.values()), **settings)
    weights = torch.tensor(loss_weights("dapo", lengths, [False] * 6, length)).double().float().double().tolist()
    mask = token_mask(lengths, weights, length)
    old, steps = None, []
    for step in range(10):
        logp, _ = log_probs(peft, prompts, completions, GROUP, 1.0, length)
        if old is None:
            old = logp.detach().float().double()
        value, figures, _ = loss(logp, old, ref, advantages, weights, mask, epsilon, epsilon_high, beta)
        optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), max_grad_norm).item()
        optimizer.step()
        steps.append(dict(loss=value.item(), grad_norm=norm))
        print(f"  step {step + 1}: loss {value.item():.6f}, gradient norm {norm:.4f}", flush=True)
    final = {f"final.{n}": p.detach().float() for n, p in parameters.items()}
    meta = dict(prompts=prompts, lengths=lengths, group=GROUP, length=length, advantages=advantages, weights=weights,
                epsilon=epsilon, epsilon_high=epsilon_high, beta=beta, rank=8, alpha=16, target_modules=MODULES,
                learning_rate=settings["lr"], beta1=0.9, beta2=0.99, adam_epsilon=1e-8, weight_decay=0.1,
                max_grad_norm=max_grad_norm, steps=steps)
    write(out, "steps", meta, {"tokens": rows, "old": old, "ref": ref, **start, **final})


def part_greedy(model, tokenizer, out):
    rows = []
    for text in GREEDY:
        prompt = encode(tokenizer, text, True)
        with torch.no_grad():
            made = model.generate(
                input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)).long(), max_new_tokens=32,
                do_sample=False, eos_token_id=None, top_k=None, top_p=None, return_dict_in_generate=True, output_logits=True)
        tokens = made.sequences[0, len(prompt):].tolist()
        leads = [(top[0] - top[1]).item() for top in (step[0].topk(2).values for step in made.logits)]
        # Compare as far as the choice is clear: past a near-tie either continuation is right.
        clear = next((i for i, lead in enumerate(leads) if lead < 2e-3), len(leads))
        assert clear >= 20, (text, clear)
        rows.append(dict(prompt=prompt, tokens=tokens[:clear], text=tokenizer.decode(tokens[:clear]), lead=min(leads[:clear])))
        print(f"  {rows[-1]['text']!r}, smallest lead {rows[-1]['lead']:.4f}", flush=True)
    write(out, "greedy", rows, {})


def main():
    directory = pathlib.Path(sys.argv[1])
    out = directory / "oracle"
    out.mkdir(exist_ok=True)
    parts = [p for p in sys.argv[2:] or ["logprobs", "greedy", "gradients", "steps"] if not (out / f"{p}.json").exists()]
    if not parts:
        return
    torch.manual_seed(0)
    for part in parts:
        model, tokenizer = load(directory)  # anew: some parts add an adapter to it
        globals()[f"part_{part}"](model, tokenizer, out)


if __name__ == "__main__":
    main()
