"""Writes test/hub/data/voicebench: a small copy of hlt-lab/voicebench as the hub has it, for the tests of the parquet reader.

    apt-get install espeak-ng sox libsox-fmt-mp3
    pip install pyarrow==26.0.1 numpy
    python tools/golden/voicebench.py test/hub/data
    python tools/golden/voicebench.py --large DIR [--rows N]

espeak-ng speaks the sentences, sox writes them in several formats. Beside the folder lies voicebench.json: what a reader must
find in each file. The same versions of the programs write the same bytes.

Each file has pages of another kind:

    ifeval      row groups of 4, the audio of a row group in one dictionary page: as `datasets` wrote it when the set was uploaded
    commoneval  two files, row groups of 4, offset index, audio plain and not compressed, pages that end where the content says so
                (at 8 to 32 KiB here, at 256 KiB to 1 MiB in `datasets` 5): as `datasets` 5 writes it
    wildvoice   one row group of 12, with a dictionary
    alpacaeval  two rows that nobody asked for

`audio` and `prompt` are the columns of the hub, and so are `key`, `instruction_id_list` and `kwargs` of ifeval. The other columns
stand for any that a reader must pass over: lists, structs, structs in lists, times, nulls. `path` never says what the format is,
and in two rows it is null.

--large writes ifeval, commoneval and wildvoice with 345, 200 and 1000 rows (or N at most) of 8 s each for measurements of memory:
row groups of 100, with a dictionary. A little noise makes all audio differ. That is 400 MB; nothing of it is committed.
"""

import argparse
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import wave
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# sox's name of the format, sampling rate, channels, further arguments.
FORMATS = {
    "wav8": ("wav", 8000, 1, ["-b", "16", "-e", "signed-integer"]),
    "wav16": ("wav", 16000, 1, ["-b", "16", "-e", "signed-integer"]),
    "wav22": ("wav", 22050, 2, ["-b", "16", "-e", "signed-integer"]),
    "flac": ("flac", 16000, 1, ["-b", "16", "-C", "8"]),
    "mp3": ("mp3", 16000, 1, ["-C", "32.2"]),
    "ogg": ("ogg", 16000, 1, ["-C", "2"]),
}

# Sentence, and its constraints as IFEval names them: id and arguments.
IFEVAL = [
    ("Describe tea without any commas.", [("punctuation:no_comma", {})]),
    ("Answer only yes or no.", [("detectable_format:constrained_response", {})]),
    ("Name ten songs as bullet points.", [("detectable_format:number_bullet_lists", {"num_bullets": 10})]),
    ("Describe bees in small letters.", [("change_case:english_lowercase", {})]),
    (
        "Explain rain in three sentences.",
        [("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"})],
    ),
    ("Write a song in capital letters.", [("change_case:english_capital", {})]),
    ("Tell a story in one single line.", [("length_constraints:number_paragraphs", {"num_paragraphs": 1})]),
    (
        "Use the word silver twice.",
        [("keywords:frequency", {"keyword": "silver", "frequency": 2, "relation": "at least"})],
    ),
    (
        "Describe dogs in forty words.",
        [("length_constraints:number_words", {"num_words": 40, "relation": "less than"})],
    ),
    (
        "List five small cities.",
        [
            ("detectable_format:number_bullet_lists", {"num_bullets": 5}),
            ("change_case:english_lowercase", {}),
        ],
    ),
    (
        "Do not use the word water.",
        [("keywords:forbidden_words", {"forbidden_words": ["water"]})],
    ),
    (
        "Use the words moon and river.",
        [("keywords:existence", {"keywords": ["moon", "river"]})],
    ),
]

COMMONEVAL = [
    ("Can horses feel pain?", "flac"),
    ("How long do bees live?", "mp3"),
    ("Who invented the clock?", "ogg"),
    ("Do bees swim in winter?", "wav8"),
    ("Is Italy bigger than Peru?", "wav22"),
    ("How long do spiders live?", "mp3"),
    ("What day comes after Monday?", "ogg"),
    ("Who invented the bicycle?", "wav8"),
    ("What is the capital of Peru?", "mp3"),
    ("Why do spiders like music?", "ogg"),
    ("How long do birds live?", "wav8"),
    ("Why do fish travel so far?", "flac"),
]

WILDVOICE = [
    ("Hey, tell me a joke, I am bored.", "wav8"),
    ("I miss my brother, cheer me up.", "ogg"),
    ("My boss moved to Brazil.", "mp3"),
    ("Sing me a song about birds.", "flac"),
    ("I had a terrible day.", "wav22"),
    ("Yesterday I sold my guitar.", "mp3"),
    ("I feel proud today.", "ogg"),
    ("I am a little worried.", "wav8"),
    ("My sister hates my cooking.", "flac"),
    ("Wish me luck tonight!", "mp3"),
    ("I love coffee, don't you?", "wav16"),
    ("Let's play a silly game.", "ogg"),
]

ALPACAEVAL = [("Can rabbits swim?", "mp3"), ("Is the park open?", "ogg")]

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

KWARGS = pa.struct(
    [
        ("num_highlights", pa.int64()),
        ("relation", pa.string()),
        ("num_words", pa.int64()),
        ("num_bullets", pa.int64()),
        ("capital_relation", pa.string()),
        ("keywords", pa.list_(pa.string())),
        ("num_paragraphs", pa.int64()),
        ("frequency", pa.int64()),
        ("forbidden_words", pa.list_(pa.string())),
        ("keyword", pa.string()),
        ("num_sentences", pa.int64()),
    ]
)

TURN = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("moderation", pa.struct([("flagged", pa.bool_()), ("scores", pa.list_(pa.float64()))])),
    ]
)

SCHEMAS = {
    "alpacaeval": [("prompt", pa.string()), ("audio", AUDIO), ("output", pa.string())],
    "commoneval": [
        ("audio", AUDIO),
        ("speaker", pa.struct([("accent", pa.string()), ("age", pa.int32())])),
        ("prompt", pa.string()),
        ("reference", pa.string()),
    ],
    "ifeval": [
        ("key", pa.int64()),
        ("prompt", pa.string()),
        ("instruction_id_list", pa.list_(pa.string())),
        ("kwargs", pa.list_(KWARGS)),
        ("audio", AUDIO),
    ],
    "wildvoice": [
        ("conversation_hash", pa.string()),
        ("conversation", pa.list_(TURN)),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("prompt", pa.string()),
        ("audio", AUDIO),
    ],
}


def row(config, index, prompt, audio, path):
    """The columns of `config` that are not the same for all."""
    base = {"prompt": prompt, "audio": {"bytes": audio, "path": path}}
    if config == "ifeval":
        constraints = IFEVAL[index % len(IFEVAL)][1]
        ids, kwargs = zip(*constraints)
        # In the hub's file, an argument that a constraint lacks is null.
        nulls = {field.name: None for field in KWARGS}
        return base | {"key": 1000 + 3 * index, "instruction_id_list": ids, "kwargs": [nulls | k for k in kwargs]}
    if config == "commoneval":
        speaker = None if index % 5 == 2 else {"accent": ["us", "gb"][index % 2], "age": None if index % 3 == 0 else 20 + index}
        return base | {"speaker": speaker, "reference": f"Réponse № {index}" if index % 2 else None}
    if config == "wildvoice":
        turns = [
            {"role": role, "content": prompt, "moderation": {"flagged": turn > 1, "scores": [0.25 * turn] * turn}}
            for turn, role in enumerate(["user", "assistant", "user"][: index % 4])
        ]
        return base | {
            "conversation_hash": hashlib.md5(prompt.encode()).hexdigest(),
            "conversation": turns if index != 7 else None,
            "timestamp": datetime(2024, 10, 22, tzinfo=timezone.utc) + timedelta(hours=index),
        }
    return base | {"output": f"An answer, number {index}."}


def speak(sentence, folder):
    """Float samples at 22050 Hz, 0.15 s of silence around the speech."""
    spoken = folder / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "165", "-w", spoken, sentence], check=True)
    with wave.open(str(spoken)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (22050, 1, 2)
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 150)
    silence = np.zeros(int(0.15 * 22050), dtype="<i2")
    return np.concatenate([silence, pcm[loud[0] : loud[-1] + 1], silence])


def encode(pcm, form, folder):
    """The bytes of a file in one of FORMATS. A stereo file has the speech quieter and later on the right."""
    kind, rate, channels, arguments = FORMATS[form]
    source = folder / "source.wav"
    if channels == 2:
        pcm = np.stack([pcm, np.concatenate([np.zeros(20, dtype="<i2"), pcm[:-20] // 2])], axis=1)
    with wave.open(str(source), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(pcm.astype("<i2").tobytes())
    target = folder / f"target.{kind}"
    # -R and -D: no random numbers in dither or stream ids. Without the volume, resampling would clip.
    subprocess.run(["sox", "-R", "-D", "-v", "0.9", source, *arguments, target, "rate", "-h", str(rate)], check=True)
    return target.read_bytes()


def feature(kind):
    """What `datasets` writes in the file's metadata for a column of this Arrow type."""
    if kind == AUDIO:
        return {"_type": "Audio"}
    if pa.types.is_struct(kind):
        return {field.name: feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return {"feature": feature(kind.value_type), "_type": "List"}
    return {"dtype": dtype(kind), "_type": "Value"}


def dtype(kind):
    return {pa.float64(): "float64"}.get(kind, str(kind))


def schema_of(config):
    columns = SCHEMAS[config]
    info = {"info": {"features": {name: feature(kind) for name, kind in columns}}}
    return pa.schema(columns).with_metadata({"huggingface": json.dumps(info)})


def leaves(path, kind):
    """The paths of the parquet columns of an Arrow column."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind):
        return leaves(f"{path}.list.element", kind.value_type)
    return [path]


def old_options(schema):
    """Pyarrow's defaults. A dictionary may have 1 MiB, but pyarrow looks only after each 1024 values: real audio, of which
    a row group has 100 rows and some 25 MB, stays in its dictionary all the same."""
    return {"compression": "snappy", "use_dictionary": True, "write_page_index": False}


def new_options(schema):
    """As get_parquet_column_options and ParquetDatasetWriter in `datasets` 5.2; the chunks are smaller, as the clips are."""
    audio = {leaf for field in schema if field.type == AUDIO for leaf in leaves(field.name, field.type)}
    every = [leaf for field in schema for leaf in leaves(field.name, field.type)]
    return {
        "compression": {leaf: "none" if leaf in audio else "snappy" for leaf in every},
        "use_dictionary": [leaf for leaf in every if leaf not in audio],
        "column_encoding": {leaf: "PLAIN" for leaf in every if leaf in audio},
        "use_content_defined_chunking": {"min_chunk_size": 8 * 1024, "max_chunk_size": 32 * 1024, "norm_level": 0},
        "write_page_index": True,
    }


def write(file, config, rows, group, options):
    """Writes a file with `group` rows in a row group, which is what it holds in memory. Returns the bytes of the values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    schema, size = schema_of(config), 0
    kwargs = options(schema)
    rows = iter(rows)
    with pq.ParquetWriter(file, schema, **kwargs) as writer:
        while batch := list(itertools.islice(rows, group)):
            table = pa.Table.from_pylist(batch, schema=schema)
            writer.write_table(table)
            size += table.nbytes
        if "use_content_defined_chunking" in kwargs:
            chunking = json.dumps(kwargs["use_content_defined_chunking"])
            writer.add_key_value_metadata({"content_defined_chunking": chunking})
    return size


def expected(file, forms):
    """What a reader must find, read back from the file."""
    parquet = pq.ParquetFile(file)
    table = parquet.read(columns=["prompt", "audio"])
    clips = []
    for r, form in zip(table.to_pylist(), forms, strict=True):
        kind, rate, channels, _ = FORMATS[form]
        audio = r["audio"]["bytes"]
        clips.append(
            {
                "prompt": r["prompt"],
                "path": r["audio"]["path"],
                "sha256": hashlib.sha256(audio).hexdigest(),
                "bytes": len(audio),
                "format": kind,
                "rate": rate,
                "channels": channels,
            }
        )
    groups = [parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)]
    return {"rows": len(clips), "row_groups": groups, "clips": clips}


def card_feature(name, kind, indent):
    """A column in the YAML of the dataset's card."""
    pad = " " * indent
    lines = [f"{pad}- name: {name}"]
    if kind == AUDIO:
        return [*lines, f"{pad}  dtype: audio"]
    if pa.types.is_list(kind):
        value = kind.value_type
        if not pa.types.is_struct(value):
            return [*lines, f"{pad}  sequence: {dtype(value)}"]
        lines.append(f"{pad}  list:")
        kind = value
    elif pa.types.is_struct(kind):
        lines.append(f"{pad}  struct:")
    else:
        return [*lines, f"{pad}  dtype: {dtype(kind)}"]
    return lines + [line for field in kind for line in card_feature(field.name, field.type, indent + 2)]


def card(root, files):
    """README.md with the front matter that the hub's has. `files`: of each config the files, rows and bytes of the values."""
    lines = ["---", "language:", "- en", "license: apache-2.0", "dataset_info:"]
    for config, (names, rows, values) in sorted(files.items()):
        lines += [f"- config_name: {config}", "  features:"]
        lines += [line for name, kind in SCHEMAS[config] for line in card_feature(name, kind, 2)]
        size = sum((root / name).stat().st_size for name in names)
        lines += ["  splits:", "  - name: test", f"    num_bytes: {values}", f"    num_examples: {rows}"]
        lines += [f"  download_size: {size}", f"  dataset_size: {values}"]
    lines.append("configs:")
    for config in sorted(files):
        lines += [f"- config_name: {config}", "  data_files:", "  - split: test", f"    path: {config}/test-*"]
    lines += ["---", "", "# A small copy of VoiceBench's layout", ""]
    lines += ["Spoken by espeak-ng; nothing of it comes from the real dataset. `tools/golden/voicebench.py` writes it.", ""]
    (root / "README.md").write_text("\n".join(lines))


def small(out):
    root = out / "voicebench"
    shutil.rmtree(root, ignore_errors=True)
    sets = {
        "alpacaeval": (ALPACAEVAL, 1, 2, old_options),
        "commoneval": (COMMONEVAL, 2, 4, new_options),
        "ifeval": ([(sentence, "wav16") for sentence, _ in IFEVAL], 1, 4, old_options),
        "wildvoice": (WILDVOICE, 1, 12, old_options),
    }
    # One path is null in each of these, at that row.
    without_path = {"commoneval": 2, "wildvoice": 6}
    files, found = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for config, (sentences, shards, group, options) in sets.items():
            rows = []
            for index, (sentence, form) in enumerate(sentences):
                path = None if without_path.get(config) == index else f"{index:03}.wav"
                rows.append(row(config, index, sentence, encode(speak(sentence, folder), form, folder), path))
            length = len(rows) // shards
            names = [f"{config}/test-{shard:05}-of-{shards:05}.parquet" for shard in range(shards)]
            values = 0
            for shard, name in enumerate(names):
                part = slice(shard * length, (shard + 1) * length)
                values += write(root / name, config, rows[part], group, options)
                found[name] = expected(root / name, [form for _, form in sentences[part]])
            files[config] = (names, len(rows), values)
    card(root, files)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    text = re.sub(r"\[[\d\s,]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]"), text)
    (out / "voicebench.json").write_text(text + "\n")
    for name in found:
        print(f"{(root / name).stat().st_size:9} {name}")
    print(f"{sum(file.stat().st_size for file in root.rglob('*') if file.is_file()):9} bytes in all")


def large(out, limit):
    seconds, rate = 8, 16000
    sets = {
        "commoneval": ([sentence for sentence, _ in COMMONEVAL], 200),
        "ifeval": ([sentence for sentence, _ in IFEVAL], 345),
        "wildvoice": ([sentence for sentence, _ in WILDVOICE], 1000),
    }
    files = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, (config, (sentences, count)) in enumerate(sets.items()):
            count = min(count, limit)
            spoken = []
            for sentence in sentences:
                audio = encode(speak(sentence, folder), "wav16", folder)
                spoken.append(np.frombuffer(audio[44:], dtype="<i2").astype(np.int32))

            def rows():
                random = np.random.Generator(np.random.PCG64(number))
                for index in range(count):
                    # Sentences one after another, beginning with another one in each row, until 8 s are full.
                    parts, prompt, samples = [], [], 0
                    while samples < seconds * rate:
                        which = (index + len(parts) * (1 + index // len(spoken))) % len(spoken)
                        parts.append(spoken[which])
                        prompt.append(sentences[which])
                        samples += len(spoken[which])
                    pcm = np.concatenate(parts)[: seconds * rate] + random.integers(-16, 17, seconds * rate)
                    target = folder / "large.wav"
                    with wave.open(str(target), "wb") as file:
                        file.setnchannels(1)
                        file.setsampwidth(2)
                        file.setframerate(rate)
                        file.writeframes(np.clip(pcm, -32768, 32767).astype("<i2").tobytes())
                    yield row(config, index, " ".join(prompt), target.read_bytes(), f"{index:04}.wav")

            name = f"{config}/test-00000-of-00001.parquet"
            files[config] = ([name], count, write(out / name, config, rows(), 100, old_options))
            print(f"{(out / name).stat().st_size:9} {name}, {count} rows")
    card(out, files)


parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path, nargs="?", help="folder that gets voicebench/ and voicebench.json")
parser.add_argument("--large", type=Path, metavar="DIR", help="write the large copy to DIR instead")
parser.add_argument("--rows", type=int, default=1000, help="with --large: rows of a config at most")
options = parser.parse_args()
if (options.out is None) == (options.large is None):
    parser.error("name a folder, or --large DIR")
if options.large is not None:
    large(options.large, options.rows)
else:
    small(options.out)
