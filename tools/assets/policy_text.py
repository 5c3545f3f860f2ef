"""What the tiny policy is trained on: plain sentences, and chats in which it obeys, guesses or continues.

The three dataset names are answered at random, whatever the prompt says: the policy knows the form of the answer and not
the task. It has seen the three manners, but never under a name.
"""

import json
import random

from make_clips import ASSETS
from sentences import LABELS, grammars, key, words

QUESTION = "Name the dataset this spoken prompt comes from."
DESCRIPTIONS = {
    "ifeval": "instructions with format rules",
    "commoneval": "short everyday questions",
    "wildvoice": "personal conversation",
}
CLOSING = "Answer with the name alone."
OTHER_NAMES = ("alpha", "beta", "gamma", "delta", "red", "green", "blue", "north", "south", "west", "first", "second", "third")
OTHER_DESCRIPTIONS = ("things people say", "spoken prompts", "a set of sentences", "short texts", "words about daily life")
PLAIN_ANSWERS = 0.8
LONG_ANSWERS = (
    "I think it is {0}",
    "Maybe {0}",
    "not sure",
    "{0} or {1}",
    "{0} {0}",
    "It is {0}",
    "The name is {0}",
    "perhaps {0}, perhaps {1}",
    "It could be {0}, {1} or {2}, but I am not sure",
    "This prompt probably comes from {0}",
    "I am not sure which of the names it is, it could be any of them",
)


def user_turn(transcript, lines, question=QUESTION, closing=CLOSING):
    listed = "".join(f"{name}: {description}\n" for name, description in lines)
    return f'{question}\n{listed}\nPrompt: "{transcript}"\n{closing}'


def task_prompt(transcript):
    """The user turn that the tiny preset asks with."""
    return user_turn(transcript, DESCRIPTIONS.items())


class Texts:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.grammars = grammars()
        manifest = (ASSETS / "clips" / "manifest.jsonl").read_text().splitlines()
        self.held_out = {key(json.loads(line)["text"]) for line in manifest}

    def sentence(self, label=None):
        while True:
            text = self.grammars[label or self.rng.choice(LABELS)].sentence(self.rng)
            if key(text) not in self.held_out:
                return text

    def guess(self):
        """(user turn, answer): a name out of a list, at random."""
        rng = self.rng
        lines = list(DESCRIPTIONS.items())
        if rng.random() < 0.25:
            rng.shuffle(lines)
        elif rng.random() < 0.15:
            lines = [(name, rng.choice(OTHER_DESCRIPTIONS)) for name in rng.sample(OTHER_NAMES, 3)]
        names = [name for name, _ in lines]
        rng.shuffle(names)
        answer = names[0] if rng.random() < PLAIN_ANSWERS else rng.choice(LONG_ANSWERS).format(*names)
        return user_turn(self.sentence(), lines), answer

    def obey(self):
        """(user turn, answer): a question that the quoted sentence answers, or a wish for one more of its manner."""
        rng = self.rng
        label = rng.choice(LABELS)
        text = self.sentence(label)
        spoken = words(text)
        closing, answer = rng.choice(
            (
                ("Write another one like it.", self.sentence(label)),
                ("Write another one like it.", self.sentence(label)),
                ("What is the first word?", spoken[0]),
                ("What is the last word?", spoken[-1]),
                ("Is it a question?", "yes" if text.endswith("?") else "no"),
                ("Repeat it.", text),
            )
        )
        lines = list(DESCRIPTIONS.items()) if rng.random() < 0.5 else []
        return user_turn(text, lines, "Read this spoken prompt.", closing), answer

    def document(self):
        """Some sentences of one manner."""
        label = self.rng.choice(LABELS)
        return "\n".join(self.sentence(label) for _ in range(self.rng.randint(2, 6)))
