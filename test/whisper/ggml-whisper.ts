/** A Whisper file in ggml's format taken apart and put together again, so that a test can change one part of it. */

export interface GgmlWhisper {
  /** n_vocab, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_text_ctx, …, n_mels, ftype */
  header: number[];
  filters: Buffer;
  words: Buffer[];
  tensors: { name: string; type: number; ne: number[]; data: Buffer }[];
}

export const AUDIO_CONTEXT = 1;
export const FTYPE = 10;
export const F32 = 0;
export const F16 = 1;
export const Q4_0 = 2;
const Q5_1 = 7;

/** ggml's types: elements and bytes of a block. */
const BLOCKS: Record<number, [number, number]> = { [F32]: [1, 4], [F16]: [1, 2], [Q4_0]: [32, 18], [Q5_1]: [32, 24] };

export function tensorBytes(type: number, ne: number[]): number {
  const [elements, bytes] = BLOCKS[type]!;
  return (ne.reduce((all, n) => all * n, 1) / elements) * bytes;
}

export function readGgmlWhisper(file: Buffer): GgmlWhisper {
  let at = 4;
  const integer = () => {
    at += 4;
    return file.readInt32LE(at - 4);
  };
  const bytes = (n: number) => {
    at += n;
    return file.subarray(at - n, at);
  };
  const integers = (n: number) => Array.from({ length: n }, integer);
  const header = integers(11);
  const start = at;
  const [mels, bins] = integers(2) as [number, number];
  bytes(mels * bins * 4);
  const filters = file.subarray(start, at);
  const words = Array.from({ length: integer() }, () => bytes(integer()));
  const tensors: GgmlWhisper['tensors'] = [];
  while (at < file.length) {
    const [dims, length, type] = integers(3) as [number, number, number];
    const ne = integers(dims);
    const name = bytes(length).toString('latin1');
    tensors.push({ name, type, ne, data: bytes(tensorBytes(type, ne)) });
  }
  return { header, filters, words, tensors };
}

export function ggmlWhisperFile({ header, filters, words, tensors }: GgmlWhisper): Buffer {
  const integers = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
  return Buffer.concat([
    Buffer.from('lmgg'),
    integers(...header),
    filters,
    integers(words.length),
    ...words.flatMap((word) => [integers(word.length), word]),
    ...tensors.flatMap(({ name, type, ne, data }) => [
      integers(ne.length, name.length, type, ...ne),
      Buffer.from(name, 'latin1'),
      data,
    ]),
  ]);
}
