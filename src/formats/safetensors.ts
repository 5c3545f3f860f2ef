/**
 * Safetensors, float32 only: what an adapter and its optimizer state need.
 *
 * Layout (https://github.com/huggingface/safetensors): u64 little-endian length of the header, the header as JSON
 * {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {…}}, then the tensors' bytes. The header is padded with
 * spaces so that the bytes start at a multiple of 8.
 */

export interface Tensor {
  shape: readonly number[];
  data: Float32Array;
}

/** The bytes of a file that holds `tensors`, in the order of their names, so that equal tensors give equal bytes. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  const names = [...tensors.keys()].sort();
  let offset = 0;
  for (const name of names) {
    const { shape, data } = tensors.get(name) as Tensor;
    const count = shape.reduce((product, size) => product * size, 1);
    if (count !== data.length) {
      throw new RangeError(
        `tensor '${name}': shape [${shape.join(', ')}] has ${count} numbers, data has ${data.length}`,
      );
    }
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const headerLength = Math.ceil(text.length / 8) * 8;
  const bytes = Buffer.alloc(8 + headerLength + offset, ' ');
  bytes.writeBigUInt64LE(BigInt(headerLength), 0);
  text.copy(bytes, 8);
  let at = 8 + headerLength;
  for (const name of names) {
    const { data } = tensors.get(name) as Tensor;
    Buffer.from(data.buffer, data.byteOffset, data.byteLength).copy(bytes, at);
    at += data.byteLength;
  }
  return bytes;
}

/**
 * Reads what `writeSafetensors` and PEFT's float32 adapters write.
 *
 * @throws Error with a plain sentence for anything that is not such a file
 */
export function readSafetensors(bytes: Uint8Array): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < 8) {
    throw new Error(`a safetensors file has at least 8 bytes, this one ${buffer.length}`);
  }
  const headerLength = Number(buffer.readBigUInt64LE(0));
  if (!(headerLength <= buffer.length - 8)) {
    throw new Error(`the header should have ${headerLength} bytes, but only ${buffer.length - 8} follow`);
  }
  let header: unknown;
  try {
    header = JSON.parse(buffer.toString('utf8', 8, 8 + headerLength));
  } catch {
    throw new Error('the header is not JSON');
  }
  if (header === null || typeof header !== 'object' || Array.isArray(header)) {
    throw new Error('the header is not a JSON object');
  }
  const body = buffer.subarray(8 + headerLength);
  const tensors = new Map<string, Tensor>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      metadata = value as Record<string, string>;
      continue;
    }
    tensors.set(name, readTensor(name, value, body));
  }
  return { tensors, metadata };
}

function readTensor(name: string, entry: unknown, body: Buffer): Tensor {
  const {
    dtype,
    shape,
    data_offsets: offsets,
  } = (entry ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (dtype !== 'F32') {
    throw new Error(`tensor '${name}' has type ${String(dtype)}; only F32 is read here`);
  }
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (
    !Array.isArray(shape) ||
    !shape.every(isCount) ||
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isCount)
  ) {
    throw new Error(`tensor '${name}' has no proper shape or offsets`);
  }
  const [start, end] = offsets as [number, number];
  const count = shape.reduce((product, size) => product * size, 1);
  if (end > body.length || end - start !== 4 * count) {
    throw new Error(
      `tensor '${name}' should lie at bytes ${start} to ${end} of ${body.length}, with ${4 * count} bytes`,
    );
  }
  const data = new Float32Array(count);
  Buffer.from(data.buffer).set(body.subarray(start, end));
  return { shape, data };
}
