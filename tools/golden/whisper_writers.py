"""What openai-whisper's writers, its text normalizer and its compression ratio make of made-up segments, for test/21.transcription.test.ts.

    python tools/golden/whisper_writers.py test/golden/writers.json
"""
import io
import json
import sys

from whisper.normalizers import BasicTextNormalizer
from whisper.utils import WriteSRT, WriteTSV, WriteTXT, WriteVTT, compression_ratio


def timed(text, start, step=0.25):
    words = []
    for part in text.split(" ")[1:]:
        words.append({"word": " " + part, "start": start, "end": start + step, "probability": 0.5})
        start += step
    return words


def segment(start, end, text, gap=0.25):
    return {"start": start, "end": end, "text": text, "words": timed(text, start, gap)}


SPEECH = [
    segment(0.0, 3.25, " And so, my fellow Americans: ask not what your country can do for you,"),
    segment(3.28, 5.0125, " ask what you can do for your country."),
    segment(9.5, 11.0, " Größe, ça va? 你好 世界 --> arrow"),
    segment(59.9995, 61.0005, " Tabs\tand 🙂 emoji 👩‍👩‍👧 stay"),
    segment(3599.9995, 3601.5, " An hour later it is still on"),
    segment(359999.9996, 360000.5, " and very late"),
]
PLAIN = [{key: value for key, value in each.items() if key != "words"} for each in SPEECH]
# The first without words, or none at all.
CASES = {"plain": PLAIN, "timed": SPEECH, "one": SPEECH[:1], "empty": []}
OPTIONS = [
    {},
    {"highlight_words": True},
    {"max_line_width": 20},
    {"max_line_width": 20, "max_line_count": 1},
    {"max_line_width": 32, "max_line_count": 2},
    {"max_line_width": 32, "max_line_count": 2, "highlight_words": True},
    {"max_words_per_line": 4},
    {"max_words_per_line": 3, "highlight_words": True},
    {"max_line_width": 1, "max_line_count": 3},
]
TEXTS = [
    "Hello, World!",
    "Don't — she's 20% 'sure'",
    "[BLANK_AUDIO] (music) <noise> words",
    "Größe naïve ﬁne café ½",
    "Mr. Smith's  e-mail\tat\n9:30",
    "你好，世界。 हिन्दी",
    "İstanbul STRASSE ß",
    "",
]


def written(writer, segments, **options):
    file = io.StringIO()
    writer("").write_result({"segments": segments}, file=file, **options)
    return file.getvalue()


result = {
    "segments": CASES,
    "written": [
        {"segments": name, "format": format, "options": options, "text": written(writer, segments, **options)}
        for name, segments in CASES.items()
        for format, writer in [("txt", WriteTXT), ("srt", WriteSRT), ("vtt", WriteVTT), ("tsv", WriteTSV)]
        for options in (OPTIONS if format in ("srt", "vtt") and name == "timed" else [{}])
    ],
    "normalized": [[text, BasicTextNormalizer()(text)] for text in TEXTS],
    "compression_ratio": [[text, compression_ratio(text)] for text in [" ".join(["Thank you."] * n) for n in (1, 5, 40)] + TEXTS[:-1]],
}
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(result, file, ensure_ascii=False, indent=1)
    file.write("\n")
