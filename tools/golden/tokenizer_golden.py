"""Writes test/golden/tokenizer.gguf: a small SentencePiece vocabulary of Gemma's kind, and what SentencePiece makes of texts.

    pip install sentencepiece==0.2.3 protobuf gguf
    python tools/golden/tokenizer_golden.py

The cases lie in the same file as metadata, so that the native test needs no other parser:
golden.texts (strings), golden.parse_special (bools), golden.lengths (ids of each case), golden.ids (all of them, one after another).
SentencePiece knows no "special tokens in the text"; for those cases the text is cut at the control tokens first.
"""

import io
import random
import re
from pathlib import Path

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "tokenizer.gguf"
PAD, EOS, BOS, UNK = 0, 1, 2, 3
CONTROL = ["<start_of_turn>", "<end_of_turn>"]
# As in Gemma: runs of white space and a few tags are tokens of their own, found before anything is merged.
USER_DEFINED = ["\n" * n for n in range(1, 6)] + ["\u2581" * n for n in range(2, 6)] + ["\t", "\t\t", "<b>", "</b>", "<br>"]

CORPUS = """
Write a short note in exactly three sentences about the river behind the house, and begin every sentence with the same word.
What is the capital of Portugal, and how many people live there today?
Hey, so I was thinking, could you maybe tell me something nice about rainy Sundays?
The quick brown fox jumps over the lazy dog; the lazy dog does not mind, and the fox jumps again.
How do I boil an egg so that the yolk stays soft? Seven minutes, then cold water.
List five colours, one on each line, without numbers and without a full stop at the end.
for (int i = 0; i < n; ++i) { sum += values[i] * values[i]; } return sum / n;
def mean(values): return sum(values) / len(values) if values else 0.0
Der Hund läuft über die Straße und schläft danach zwölf Stunden. Größe, Öl, Übung.
Où est la bibliothèque? Elle est fermée jusqu'à lundi à cause de la fête.
El niño comió una manzana y después cantó una canción muy larga.
Съешь же ещё этих мягких французских булок, да выпей чаю. Мягкие булки.
日本語の文章を書く。日本の山は高い。中文的句子也在这里。中文和日本語。
שלום עולם, מה שלומך היום? שלום שלום.
مرحبا بالعالم، كيف حالك اليوم؟ مرحبا.
1234567890 3.14159 2,000,000 1e-9 0x1F
aaaa aaa aa a bbbb abab baba abba aabb
"""


def train():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in CORPUS.split("\n") if line] * 4),
        model_writer=model,
        model_type="bpe",
        vocab_size=720,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=0.98,
        control_symbols=CONTROL,
        user_defined_symbols=USER_DEFINED,
        pad_id=PAD, eos_id=EOS, bos_id=BOS, unk_id=UNK,
        pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def make_texts(pieces, rng):
    yield from ["", " ", "\u2581", "\0", "\r\n", "<unk>", "<0x41>", "e\u0301\u0327", "👩\u200d👩\u200d👧", "🇩🇪🇫🇷", "\ufeffx", "\u202eabc\u202c"]
    yield from ["<bos>", "<eos>", "<pad>", "<start_of_turn", "start_of_turn>", "<<bos>>", "<start_of_turn>user\nhi<end_of_turn>\n"]
    for n in (1, 2, 4, 5, 6, 11, 23):
        for run in (" ", "\n", "\t", "a", "\u2581", "é", "中", "<b>"):
            yield run * n
            yield "x" + run * n + "y"
    lines = [line for line in CORPUS.split("\n") if line]
    yield from lines
    for _ in range(120):
        line = rng.choice(lines)
        a = rng.randrange(len(line))
        yield line[a : a + rng.randint(1, 30)]
    for alphabet in ("ab", "aA ", "中日本語", " \n\t", "<b>/r", "אב", "😀a", "\u2581 a", "e\u0301"):
        for _ in range(12):
            yield "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40)))
    for _ in range(150):
        yield "".join(rng.choice(pieces).replace("\u2581", rng.choice(" \u2581")) for _ in range(rng.randint(1, 8)))
    for _ in range(60):
        points = [rng.choice([rng.randint(1, 0x7F), rng.randint(0x80, 0xD7FF), rng.randint(0xE000, 0x10FFFF)]) for _ in range(rng.randint(1, 10))]
        yield "".join(map(chr, points))


def main():
    data = train()
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    proto = model_pb2.ModelProto.FromString(data)
    pieces = [p.piece for p in proto.pieces]
    special = [p.piece for p in proto.pieces if p.type in (p.CONTROL, p.UNKNOWN)]
    cut = re.compile("(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")")

    def encode(text, parse_special):
        if not parse_special:
            return processor.encode(text)
        ids = []
        for part in cut.split(text):
            ids += [pieces.index(part)] if part in special else processor.encode(part)
        return ids

    texts = sorted(set(make_texts(pieces, random.Random(11))))
    cases = [(text, flag) for text in texts for flag in (False, True) if not flag or cut.search(text)]
    ids = [encode(*case) for case in cases]

    OUT.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(OUT, "gemma3")
    writer.add_tokenizer_model("llama")
    # White-space tokens are stored with spaces, as the converters of llama.cpp do it.
    user = model_pb2.ModelProto.SentencePiece.USER_DEFINED
    writer.add_token_list([p.piece.replace("\u2581", " ") if p.type == user else p.piece for p in proto.pieces])
    writer.add_token_scores([p.score for p in proto.pieces])
    writer.add_token_types([p.type for p in proto.pieces])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_array("golden.texts", [text for text, _ in cases])
    writer.add_array("golden.parse_special", [flag for _, flag in cases])
    writer.add_array("golden.lengths", [len(case) for case in ids])
    writer.add_array("golden.ids", [i for case in ids for i in case])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    print(f"{OUT.name}: {len(pieces)} tokens, {len(cases)} cases, {sum(map(len, ids))} ids, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
