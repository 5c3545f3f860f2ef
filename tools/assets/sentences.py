"""Sentences of the three manners, drawn from the grammars in grammar/*.txt.

A grammar is a set of rules; `@start` is what a sentence expands from, {rule} is replaced by one of the rule's
alternatives, and [a|b] by one of a and b. Everything is driven by a random.Random, so a seed gives a corpus.
"""

import random
import re
from pathlib import Path

LABELS = ("ifeval", "commoneval", "wildvoice")
GRAMMAR_DIR = Path(__file__).parent / "grammar"

_SLOT = re.compile(r"\{(\w+)\}|\[([^\]]*)\]")


def read_rules(path):
    rules, name = {}, None
    for line in path.read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            name = line[1:]
            rules[name] = []
        else:
            rules[name].append(line)
    return rules


class Grammar:
    """One manner: its own rules over the shared ones."""

    def __init__(self, label):
        self.label = label
        self.rules = {**read_rules(GRAMMAR_DIR / "shared.txt"), **read_rules(GRAMMAR_DIR / f"{label}.txt")}

    def expand(self, text, rng):
        """`text` with every slot filled. A rule used twice in one sentence gives two different words where it can."""
        used = set()

        def fill(match):
            rule, choice = match.groups()
            if rule is None:
                return rng.choice(choice.split("|"))
            options = self.rules[rule]
            picked = rng.choice([o for o in options if o not in used] or options)
            used.add(picked)
            return _SLOT.sub(fill, picked)

        return _SLOT.sub(fill, text)

    def sentence(self, rng, template=None):
        text = self.expand(template or rng.choice(self.rules["start"]), rng)
        return text[0].upper() + text[1:]


def grammars():
    return {label: Grammar(label) for label in LABELS}


def key(text):
    """What "the same sentence" means: the words alone, without case and punctuation."""
    return re.sub(r"[^a-z' ]+", "", text.lower().replace("-", " "))


def words(text):
    return re.findall(r"[A-Za-z']+", text)


def vocabulary(all_grammars):
    """Every word a grammar can produce, with its case, without sentence-initial capitals that only start a sentence."""
    found = set()
    for grammar in all_grammars.values():
        for rule, options in grammar.rules.items():
            for option in options:
                found.update(words(_SLOT.sub(lambda m: (m.group(2) or "").replace("|", " "), option)))
    return sorted(found)
