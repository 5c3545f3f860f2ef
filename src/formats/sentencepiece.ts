/**
 * Gemma's vocabulary as GGUF stores it for SentencePiece ("llama"): a text, a score and a type for each token. It comes from
 * SentencePiece's own file, tokenizer.model, or from the same as transformers writes it, tokenizer.json.
 */
import { quoted } from './safetensors.js';

/** Types of a piece (sentencepiece_model.proto), which are GGUF's too. */
export const PIECE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** SentencePiece writes a space as U+2581. */
const SPACE = '\u2581';
/** What llama.cpp gives a token that is found before anything is merged; it is read nowhere. */
const ADDED_SCORE = -1000;

export interface Piece {
  text: string;
  /** Of two merges the one whose result has the larger score comes first. */
  score: number;
  /** One of PIECE. */
  type: number;
}

/** A token that is found in the text before anything else: of tokenizer.json or tokenizer_config.json. */
export interface AddedToken {
  id: number;
  content: string;
  /** Control tokens are special, words of the text like '<b>' are not. */
  special: boolean;
}

/**
 * Reads tokenizer.model, a protocol buffer (sentencepiece_model.proto, https://protobuf.dev/programming-guides/encoding):
 * ModelProto { pieces = 1 { piece = 1, score = 2, type = 3 }, trainer_spec = 2 { model_type = 3 } }.
 *
 * @throws Error with a plain sentence for anything else, and for a model that does not merge pairs
 */
export function readSentencePiece(bytes: Uint8Array): Piece[] {
  const pieces: Piece[] = [];
  let modelType = 1; // unigram, the format's default
  for (const field of fields(bytes)) {
    if (field.number === 1) pieces.push(readPiece(field.bytes, pieces.length));
    if (field.number === 2) {
      for (const { number, value } of fields(field.bytes)) if (number === 3) modelType = value;
    }
  }
  if (pieces.length === 0) throw new Error('it has no pieces');
  if (modelType !== 2) throw new Error(`its model_type is ${modelType}, only 2 (BPE) is read`);
  return pieces;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function readPiece(bytes: Uint8Array, id: number): Piece {
  const piece: Piece = { text: '', score: 0, type: PIECE.normal };
  for (const { number, value, bytes: content } of fields(bytes)) {
    if (number === 1) {
      try {
        piece.text = utf8.decode(content);
      } catch {
        throw new Error(`the text of piece ${id} is not UTF-8`);
      }
    }
    if (number === 2) {
      if (content.length !== 4) throw new Error(`the score of piece ${id} is no number of four bytes`);
      piece.score = new DataView(content.buffer, content.byteOffset).getFloat32(0, true);
    }
    if (number === 3) piece.type = value;
  }
  if (!Number.isFinite(piece.score)) throw new Error(`the score of piece ${id} is not a finite number`);
  if (!Object.values(PIECE).some((type) => type === piece.type)) {
    throw new Error(`piece ${id} has the type ${piece.type}, expected 1 to 6`);
  }
  return piece;
}

/** The fields of one message: `value` of a varint, else 0; `bytes` of what has a length or is fixed, else none. */
function* fields(message: Uint8Array): Generator<{ number: number; value: number; bytes: Uint8Array }> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      if (byte === undefined || factor > 2 ** 63)
        throw new Error('it ends inside of a number, or has one that is too long');
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const none = new Uint8Array();
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    if (wire === 0) {
      yield { number, value: varint(), bytes: none };
      continue;
    }
    const size = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? varint() : -1;
    if (size < 0 || number === 0) throw new Error(`it is no protocol buffer: field ${number} has wire type ${wire}`);
    if (size > message.length - at)
      throw new Error(`field ${number} has ${size} bytes, but only ${message.length - at} follow`);
    yield { number, value: 0, bytes: message.subarray(at, at + size) };
    at += size;
  }
}

/**
 * The pieces of tokenizer.json, by their ids; a hole is undefined.
 *
 * transformers' converter keeps neither scores nor types, but the order of the merges is the scores', and it writes every way
 * to part a piece in two. SentencePiece merges whatever pair is a piece, so only a list of merges that is complete in this
 * sense, with the merges of each piece together, has the same result; any other is refused. Where the merges follow the ids,
 * as in Gemma, the scores do too; SentencePiece's own have the same order.
 *
 * @param rows rows of the embedding: added tokens past them are left out
 * @throws Error with a plain sentence for a tokenizer that is not of this kind
 */
export function piecesOfTokenizer(tokenizer: Record<string, unknown>, rows: number): (Piece | undefined)[] {
  const model = (tokenizer.model ?? {}) as Record<string, unknown>;
  const { vocab } = model;
  if (model.type !== 'BPE' || model.byte_fallback !== true || vocab === null || typeof vocab !== 'object') {
    throw new Error('its model is not BPE with byte_fallback');
  }
  if (model.dropout || model.ignore_merges || model.continuing_subword_prefix || model.end_of_word_suffix) {
    throw new Error('its model has dropout, ignore_merges, a prefix or a suffix, which SentencePiece has not');
  }
  if (!steps(tokenizer.normalizer, 'normalizers').every(isSpaceMark) || !tokenizer.normalizer) {
    throw new Error(`its normalizer is not the one that writes a space as ${quoted(SPACE)}`);
  }
  if (!steps(tokenizer.pre_tokenizer, 'pretokenizers').every(isSpaceSplit)) {
    throw new Error('its pre_tokenizer cuts text at other places than spaces');
  }
  const ids = new Map<string, number>();
  const texts = new Array<string | undefined>(rows).fill(undefined);
  for (const [text, id] of Object.entries(vocab)) {
    if (!isId(id)) throw new Error(`the id of ${quoted(text)} is ${quoted(String(id))}, no whole number`);
    if (texts[id] !== undefined) throw new Error(`${quoted(texts[id])} and ${quoted(text)} have the same id ${id}`);
    if (id < rows) texts[id] = text;
    ids.set(text, id);
  }
  const added = new Map<number, AddedToken>();
  for (const token of addedTokens(tokenizer.added_tokens)) {
    const other = ids.get(token.content) ?? token.id;
    if (other !== token.id || (texts[token.id] ?? token.content) !== token.content) {
      throw new Error(
        `the added token ${quoted(token.content)} has id ${token.id}, which the vocabulary gives differently`,
      );
    }
    if (token.id < rows) texts[token.id] = token.content;
    added.set(token.id, token);
  }
  for (const [text, id] of ids) {
    if (id >= rows && !added.has(id)) {
      throw new Error(`${quoted(text)} has id ${id}, but the embedding only ${rows} rows`);
    }
  }
  const pieces = texts.map((text, id) => (text === undefined ? undefined : pieceOf(text, added.get(id), model)));
  scoreByMerges(pieces, ids, model.merges);
  return pieces;
}

const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0;

function pieceOf(text: string, added: AddedToken | undefined, { unk_token: unknown }: Record<string, unknown>): Piece {
  if (/^<0x[0-9A-F]{2}>$/.test(text)) return { text, score: 0, type: PIECE.byte };
  if (added !== undefined) return addedPiece(added);
  if (text === unknown) return { text, score: 0, type: PIECE.unknown };
  // User-defined in Gemma's SentencePiece model. As added tokens they would not match, for a text has spaces, so some
  // versions of transformers leave them out there.
  if (isSpaces(text)) return addedPiece({ id: 0, content: text, special: false });
  return { text, score: 0, type: PIECE.normal };
}

const isSpaces = (text: string): boolean => text.length > 1 && text === SPACE.repeat(text.length);

/** As llama.cpp's converter: control tokens, among them some that are not marked so, and words, whose spaces are written out. */
export function addedPiece({ content, special }: AddedToken): Piece {
  const control = special || /^(?:<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<｜.*｜>|<unused.*>)$/s.test(content);
  return control
    ? { text: content, score: ADDED_SCORE, type: PIECE.control }
    : { text: content.replaceAll(SPACE, ' '), score: ADDED_SCORE, type: PIECE.userDefined };
}

/** The list of tokenizer.json. @throws Error with a plain sentence for one that is none */
export function addedTokens(list: unknown): AddedToken[] {
  if (list === undefined || list === null) return [];
  if (!Array.isArray(list)) throw new Error("its 'added_tokens' is no list");
  return list.map((token: unknown) => {
    const { id, content, special } = (token ?? {}) as Record<string, unknown>;
    if (!isId(id) || typeof content !== 'string' || content === '') {
      throw new Error(`the added token ${quoted(JSON.stringify(token))} has no proper id or content`);
    }
    return { id, content, special: special === true };
  });
}

/** A step of the tokenizer and those of a sequence of steps; none for null. */
function steps(step: unknown, list: string): Record<string, unknown>[] {
  if (step === null || step === undefined) return [];
  const { type, [list]: parts } = step as Record<string, unknown>;
  return type === 'Sequence' && Array.isArray(parts)
    ? parts.flatMap((part) => steps(part, list))
    : [step as Record<string, unknown>];
}

const isPattern = (pattern: unknown, text: string): boolean =>
  typeof pattern === 'object' && (pattern as Record<string, unknown> | null)?.String === text;
const isSpaceMark = ({ type, pattern, content }: Record<string, unknown>): boolean =>
  type === 'Replace' && isPattern(pattern, ' ') && content === SPACE;
/** Does nothing, for there are no spaces after the normalizer. */
const isSpaceSplit = ({ type, pattern }: Record<string, unknown>): boolean =>
  type === 'Split' && isPattern(pattern, ' ');

/**
 * Sets the scores of normal pieces, 0 and down. Merges that have to do with tokens which are found before anything is merged
 * never happen: some versions of transformers write them, some do not.
 */
function scoreByMerges(
  pieces: readonly (Piece | undefined)[],
  ids: ReadonlyMap<string, number>,
  merges: unknown,
): void {
  if (!Array.isArray(merges)) throw new Error("its 'merges' is no list");
  const merged = new Set<string>();
  for (const [text, id] of ids) {
    if (pieces[id]?.type === PIECE.normal || isSpaces(text)) merged.add(text);
  }
  const order: number[] = [];
  const seen = new Set<number>();
  const ways = new Set<number>();
  for (const merge of merges) {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    const [left, right] = Array.isArray(pair) && pair.length === 2 ? (pair as unknown[]) : [];
    if (typeof left !== 'string' || typeof right !== 'string' || !ids.has(left) || !ids.has(right)) {
      throw new Error(`the merge ${quoted(JSON.stringify(merge))} is not of two pieces`);
    }
    const text = left + right;
    const id = ids.get(text);
    if (id === undefined) throw new Error(`the merge ${quoted(JSON.stringify(merge))} makes no piece`);
    if (!merged.has(text) || !merged.has(left) || !merged.has(right)) continue;
    const way = id * 2 ** 20 + left.length;
    if (ways.has(way)) throw new Error(`the merge ${quoted(JSON.stringify(merge))} stands there twice`);
    ways.add(way);
    // Pieces of spaces may have one score, so that their merges stand in any order. They are found first anyway.
    if (isSpaces(text) || id === order.at(-1)) continue;
    if (seen.has(id)) throw new Error(`the merges that make ${quoted(text)} are not together`);
    seen.add(id);
    order.push(id);
  }
  // All are different and valid, so their number says whether they are all that there can be.
  let all = 0;
  for (const text of merged) all += waysToPart(text, merged);
  if (all !== ways.size)
    throw new Error(`it has ${ways.size} of the ${all} merges by which SentencePiece would merge its pieces`);
  const byId = order.every((id, i) => i === 0 || id > (order[i - 1] as number));
  const rest = [...pieces.keys()].filter((id) => byId || !seen.has(id));
  let rank = 0;
  for (const id of byId ? rest : [...order, ...rest]) {
    const piece = pieces[id];
    if (piece?.type === PIECE.normal) piece.score = 0 - rank++;
  }
}

function waysToPart(text: string, pieces: ReadonlySet<string>): number {
  let ways = 0;
  for (let at = 1; at < text.length; at++) {
    if (pieces.has(text.slice(0, at)) && pieces.has(text.slice(at))) ways++;
  }
  return ways;
}
