/** Safetensors files of any size, written tensor by tensor (safetensors.ts has the layout). */
import { open } from 'node:fs/promises';
import { FLOAT_BYTES, type FloatDtype } from './gguf-types.js';

export interface TensorSource {
  name: string;
  dtype: FloatDtype;
  shape: readonly number[];
  /** The tensor's bytes one piece after another. A piece is written before the next is asked for, so its memory may be the same. */
  pieces(): AsyncIterable<Uint8Array>;
}

export interface WriteOptions {
  /** Called after each piece with bytes of tensors written and their sum. */
  progress?: ((written: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Writes and syncs the file, in the order given.
 *
 * @returns bytes of the file
 * @throws what `pieces` throws, the signal's reason, an error of the file system; the file is then not whole
 */
export async function writeSafetensorsFile(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Record<string, string>,
  { progress, signal }: WriteOptions = {},
): Promise<number> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let total = 0;
  for (const { name, dtype, shape } of tensors) {
    const bytes = shape.reduce((product, size) => product * size, 1) * FLOAT_BYTES[dtype];
    header[name] = { dtype, shape, data_offsets: [total, total + bytes] };
    total += bytes;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const length = Math.ceil(text.length / 8) * 8;
  const first = Buffer.alloc(8 + length, ' ');
  first.writeBigUInt64LE(BigInt(length), 0);
  text.copy(first, 8);
  const file = await open(path, 'wx');
  try {
    await file.writeFile(first);
    let written = 0;
    for (const tensor of tensors) {
      const [begin, end] = (header[tensor.name] as { data_offsets: [number, number] }).data_offsets;
      for await (const piece of tensor.pieces()) {
        signal?.throwIfAborted();
        await file.writeFile(piece);
        written += piece.length;
        progress?.(written, total);
      }
      if (written !== end) {
        throw new RangeError(`tensor ${tensor.name} has ${end - begin} bytes, ${written - begin} came`);
      }
    }
    await file.sync();
    return first.length + total;
  } finally {
    await file.close();
  }
}
