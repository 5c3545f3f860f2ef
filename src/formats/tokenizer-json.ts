/**
 * A SentencePiece vocabulary as tokenizer.json of Hugging Face's tokenizers: the inverse of `piecesOfTokenizer`.
 *
 * As transformers converts Gemma's (convert_slow_tokenizer.py, GemmaConverter): BPE with bytes for what no piece has, a space as
 * U+2581, and every way to part a piece in two as a merge, in the order of the pieces' scores.
 */
import { PIECE, type Piece } from './sentencepiece.js';

const SPACE = '\u2581';

/**
 * @param pieces by their ids, each text once
 * @param begin id of the token that begins a text; null: none does
 * @param unknown id of the token for what cannot be written; null: there is none
 */
export function tokenizerJson(
  pieces: readonly Piece[],
  { begin, unknown }: { begin: number | null; unknown: number | null },
): Record<string, unknown> {
  const texts = pieces.map(vocabularyText);
  const first = begin === null ? null : (texts[begin] as string);
  const single = { Sequence: { id: 'A', type_id: 0 } };
  const second = { Sequence: { id: 'B', type_id: 1 } };
  const special = (type: number) => ({ SpecialToken: { id: first, type_id: type } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: pieces.flatMap((piece, id) => {
      if (!isAdded(piece)) return [];
      const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
      return [{ id, content: piece.text, ...flags, special: piece.type !== PIECE.userDefined }];
    }),
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
    // There are no spaces left: it cuts nothing.
    pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
    post_processor:
      first === null
        ? null
        : {
            type: 'TemplateProcessing',
            single: [special(0), single],
            pair: [special(0), single, special(1), second],
            special_tokens: { [first]: { id: first, ids: [begin], tokens: [first] } },
          },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown === null ? null : texts[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
      merges: mergesOf(pieces, texts),
    },
  };
}

const isSpaces = (text: string): boolean => /^[ \u2581]+$/.test(text);

/** Found in the text before anything is merged. Runs of spaces cannot be: the text has none when it is searched. */
function isAdded({ text, type }: Piece): boolean {
  return type !== PIECE.normal && type !== PIECE.byte && !isSpaces(text);
}

/** A space stands as itself in GGUF's user-defined pieces. */
function vocabularyText({ text, type }: Piece): string {
  return type === PIECE.userDefined && isSpaces(text) ? text.replaceAll(' ', SPACE) : text;
}

/** Runs of spaces first, for SentencePiece finds them before it merges; then by score, as it merges. */
function mergesOf(pieces: readonly Piece[], texts: readonly string[]): [string, string][] {
  const ids = new Map<string, number>();
  for (const [id, piece] of pieces.entries()) {
    if (piece.type === PIECE.normal || (piece.type === PIECE.userDefined && isSpaces(piece.text))) {
      ids.set(texts[id] as string, id);
    }
  }
  const rank = (id: number): number => {
    const { type, score } = pieces[id] as Piece;
    return type === PIECE.normal ? score : Number.POSITIVE_INFINITY;
  };
  const order = [...ids.values()].sort((a, b) => {
    const [first, second] = [rank(a), rank(b)];
    return first === second ? a - b : second - first;
  });
  return order.flatMap((id) => {
    const text = texts[id] as string;
    const ways: { left: string; right: string; a: number; b: number }[] = [];
    for (let at = 1; at < text.length; at++) {
      const [left, right] = [text.slice(0, at), text.slice(at)];
      const [a, b] = [ids.get(left), ids.get(right)];
      if (a !== undefined && b !== undefined) ways.push({ left, right, a, b });
    }
    return ways.sort((x, y) => x.a - y.a || x.b - y.b).map(({ left, right }): [string, string] => [left, right]);
  });
}
