/** Reads a small GGUF file whole: its values as they are, its float32 tensors as numbers, of other tensors the bytes. */
export interface ReadTensor {
  /** The fastest dimension first, as GGUF has it. */
  dims: number[];
  type: number;
  bytes: Uint8Array;
}

export interface ReadGguf {
  values: Map<string, unknown>;
  tensors: Map<string, ReadTensor>;
}

export function readGguf(file: Buffer): ReadGguf {
  let at = 0;
  const take = (size: number): Buffer => {
    if (at + size > file.length) throw new Error(`the file ends at ${file.length}, ${size} bytes were to follow ${at}`);
    at += size;
    return file.subarray(at - size, at);
  };
  const u32 = () => take(4).readUInt32LE();
  const u64 = () => Number(take(8).readBigUInt64LE());
  const text = () => take(u64()).toString('utf8');
  const value = (kind: number): unknown => {
    if (kind === 4) return u32();
    if (kind === 5) return take(4).readInt32LE();
    if (kind === 6) return take(4).readFloatLE();
    if (kind === 7) return take(1)[0] === 1;
    if (kind === 8) return text();
    if (kind !== 9) throw new Error(`kind ${kind} of a value at ${at}`);
    const element = u32();
    return Array.from({ length: u64() }, () => value(element));
  };
  if (take(4).toString('latin1') !== 'GGUF' || u32() !== 3) throw new Error('no GGUF of version 3');
  const counts = [u64(), u64()] as const;
  const values = new Map<string, unknown>();
  for (let i = 0; i < counts[1]; i++) values.set(text(), value(u32()));
  const described = Array.from({ length: counts[0] }, () => {
    const name = text();
    const dims = Array.from({ length: u32() }, u64);
    return { name, dims, type: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors = new Map<string, ReadTensor>();
  for (const { name, dims, type, offset } of described) {
    const count = dims.reduce((a, b) => a * b, 1);
    const size = type === 0 ? 4 * count : type === 8 ? (count / 32) * 34 : 2 * count;
    at = start + offset;
    // A copy, so that it begins at a multiple of 4.
    tensors.set(name, { dims, type, bytes: Uint8Array.from(take(size)) });
  }
  return { values, tensors };
}

export function floats({ bytes, type }: ReadTensor): Float32Array {
  if (type !== 0) throw new Error(`a tensor of type ${type}, not float32`);
  return new Float32Array(bytes.buffer, 0, bytes.length / 4);
}
