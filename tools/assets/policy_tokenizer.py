"""The policy's vocabulary: SentencePiece BPE with byte fallback and Gemma's special tokens at Gemma's first ids."""

import io
import string

import sentencepiece

from policy_text import Texts

PAD, EOS, BOS, UNK = 0, 1, 2, 3
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
# Renders what Gemma's own template does: no system role (it goes in front of the first user turn), "model" answers.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- if messages[0]['role'] == 'system' -%}"
    "{%- set prefix = messages[0]['content'] + '\n\n' -%}{%- set turns = messages[1:] -%}"
    "{%- else -%}"
    "{%- set prefix = '' -%}{%- set turns = messages -%}"
    "{%- endif -%}"
    "{%- for message in turns -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def train_tokenizer(size, seed, documents=20000):
    """The bytes of a SentencePiece model."""
    texts, lines = Texts(seed), []
    for _ in range(documents):
        for user, answer in (texts.guess(), texts.obey()):
            lines += [*user.split("\n"), answer]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        required_chars=string.ascii_letters + string.digits + string.punctuation,
        control_symbols=[START_OF_TURN, END_OF_TURN],
        user_defined_symbols=["\n"],
        pad_id=PAD,
        eos_id=EOS,
        bos_id=BOS,
        unk_id=UNK,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


class Tokenizer:
    def __init__(self, data):
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
        self.start, self.end = (self.pieces.piece_to_id(t) for t in (START_OF_TURN, END_OF_TURN))

    def encode(self, text):
        return self.pieces.encode(text)

    def decode(self, ids):
        return self.pieces.decode([i for i in ids if i not in (PAD, EOS, BOS, self.start, self.end)])

    def chat(self, user):
        """Ids up to where the model answers."""
        newline = self.encode("\n")
        turn = [BOS, self.start, *self.encode("user\n" + user), self.end, *newline]
        return [*turn, self.start, *self.encode("model\n")]
