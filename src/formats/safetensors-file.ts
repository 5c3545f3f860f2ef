/** Safetensors files of any size, written tensor by tensor (safetensors.ts has the layout). */
import { open } from 'node:fs/promises';
import { FLOAT_BYTES, type FloatDtype } from './gguf-types.js';
import { safetensorsHeader } from './safetensors.js';

export interface TensorSource {
  name: string;
  dtype: FloatDtype;
  shape: readonly number[];
  /** The tensor's bytes one piece after another. A piece is written before the next is asked for, so its memory may be the same. */
  pieces: () => AsyncIterable<Uint8Array>;
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
  const sized = tensors.map((tensor) => ({
    ...tensor,
    bytes: tensor.shape.reduce((product, size) => product * size, 1) * FLOAT_BYTES[tensor.dtype],
  }));
  const total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
  const header = safetensorsHeader(sized, metadata);
  const file = await open(path, 'wx');
  try {
    await file.writeFile(header);
    let written = 0;
    for (const { name, bytes, pieces } of sized) {
      const begin = written;
      for await (const piece of pieces()) {
        signal?.throwIfAborted();
        await file.writeFile(piece);
        written += piece.length;
        progress?.(written, total);
      }
      if (written - begin !== bytes) {
        throw new RangeError(`tensor ${name} has ${bytes} bytes, ${written - begin} came`);
      }
    }
    await file.sync();
    return header.length + total;
  } finally {
    await file.close();
  }
}
