/** Makes files as torch.save makes them, and others that it would never make. */
import { crc32 } from 'node:zlib';

/* ---- Pickles, as the pickler of protocol 2 writes them ---- */

export const bytes = (...values: number[]) => Buffer.from(values);
export const u32 = (value: number) => {
  const result = Buffer.alloc(4);
  result.writeUInt32LE(value);
  return result;
};
export const u64 = (value: bigint) => {
  const result = Buffer.alloc(8);
  result.writeBigUInt64LE(value);
  return result;
};

export const py = {
  none: Buffer.from('N'),
  text: (value: string) => Buffer.concat([Buffer.from('X'), u32(Buffer.byteLength(value)), Buffer.from(value)]),
  int: (value: number) => {
    if (value >= -(2 ** 31) && value < 2 ** 31) {
      const result = Buffer.from('J....');
      result.writeInt32LE(value, 1);
      return result;
    }
    const result = Buffer.concat([bytes(0x8a, 8), Buffer.alloc(8)]);
    result.writeBigInt64LE(BigInt(value), 2);
    return result;
  },
  tuple: (...items: Buffer[]) => Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')]),
  dict: (entries: Record<string, Buffer>) =>
    Buffer.concat([
      Buffer.from('}('),
      ...Object.entries(entries).flatMap(([key, value]) => [py.text(key), value]),
      Buffer.from('u'),
    ]),
  global: (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`),
  call: (callable: Buffer, ...args: Buffer[]) => Buffer.concat([callable, py.tuple(...args), Buffer.from('R')]),
  storage: (kind: string, key: string, elements: number) =>
    Buffer.concat([
      py.tuple(py.text('storage'), py.global('torch', kind), py.text(key), py.text('cpu'), py.int(elements)),
      Buffer.from('Q'),
    ]),
  tensor: (storage: Buffer, offset: number, shape: number[], strides = denseStrides(shape)) =>
    py.call(
      py.global('torch._utils', '_rebuild_tensor_v2'),
      ...[storage, py.int(offset), py.tuple(...shape.map(py.int)), py.tuple(...strides.map(py.int))],
      ...[Buffer.from([0x89]), py.call(py.global('collections', 'OrderedDict'))],
    ),
  file: (value: Buffer) => Buffer.concat([bytes(0x80, 2), value, Buffer.from('.')]),
};

function denseStrides(shape: number[]): number[] {
  return shape.map((_, d) => shape.slice(d + 1).reduce((all, n) => all * n, 1));
}

/* ---- Archives, as PyTorch's writer makes them: stored, sizes behind the content, aligned to 64 bytes ---- */

export interface Entry {
  name: string;
  content: Buffer;
  /** What is written instead of the truth. */
  lie?: Partial<{
    method: number;
    flags: number;
    crc32: number;
    size: number;
    packed: number;
    at: number;
    localName: string;
    /** The bytes of the name, in both places. */
    rawName: Buffer;
  }>;
}

export interface ZipOptions {
  zip64?: boolean;
  /** Entries, bytes and offset of the directory in the zip64 record. */
  lie64?: Partial<{ locator: number; entries: number; bytes: number; start: number }>;
  entries?: number;
}

export function zip(
  entries: Entry[],
  { zip64 = false, lie64 = {}, entries: count = entries.length }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [];
  const central: Buffer[] = [];
  let at = 0;
  const add = (part: Buffer) => {
    parts.push(part);
    at += part.length;
  };
  for (const { name, content, lie = {} } of entries) {
    const [method, flags, sum] = [lie.method ?? 0, lie.flags ?? 0x808, lie.crc32 ?? crc32(content)];
    const start = lie.at ?? at;
    const local = Buffer.alloc(30);
    const rawName = lie.rawName ?? Buffer.from(name);
    const localName = lie.localName === undefined ? rawName : Buffer.from(lie.localName);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(flags, 6);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(localName.length, 26);
    const padding = (64 - ((at + 34 + localName.length) % 64)) % 64;
    local.writeUInt16LE(4 + padding, 28);
    const extra = Buffer.alloc(4 + padding, 'Z');
    extra.write('FB');
    extra.writeUInt16LE(padding, 2);
    for (const part of [local, localName, extra, content]) add(part);
    add(Buffer.concat([u32(0x08074b50), u32(sum), u32(content.length), u32(content.length)]));
    const header = Buffer.alloc(46);
    header.writeUInt32LE(0x02014b50);
    header.writeUInt16LE(flags, 8);
    header.writeUInt16LE(method, 10);
    header.writeUInt32LE(sum, 16);
    const [size, packed] = [lie.size ?? content.length, lie.packed ?? lie.size ?? content.length];
    const wide = zip64
      ? Buffer.concat([bytes(1, 0, 24, 0), u64(BigInt(size)), u64(BigInt(packed)), u64(BigInt(start))])
      : Buffer.alloc(0);
    header.writeUInt32LE(zip64 ? 0xffffffff : packed, 20);
    header.writeUInt32LE(zip64 ? 0xffffffff : size, 24);
    header.writeUInt16LE(rawName.length, 28);
    header.writeUInt16LE(wide.length, 30);
    header.writeUInt32LE(zip64 ? 0xffffffff : start, 42);
    central.push(header, rawName, wide);
  }
  const start = at;
  for (const part of central) add(part);
  const size = at - start;
  if (zip64) {
    const recordAt = at;
    const wide = [lie64.entries ?? count, lie64.entries ?? count, lie64.bytes ?? size, lie64.start ?? start];
    add(
      Buffer.concat([
        u32(0x06064b50),
        u64(44n),
        bytes(0x1e, 3, 45, 0),
        u32(0),
        u32(0),
        ...wide.map((n) => u64(BigInt(n))),
      ]),
    );
    add(Buffer.concat([u32(0x07064b50), u32(0), u64(BigInt(lie64.locator ?? recordAt)), u32(1)]));
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(count, 8);
  end.writeUInt16LE(count, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(start, 16);
  add(end);
  return Buffer.concat(parts);
}

/** An archive with this pickle and these storages, data/0, data/1, … */
export function torchZip(value: Buffer, storages: Buffer[] = [], options: ZipOptions = {}, more: Entry[] = []): Buffer {
  return zip(
    [
      { name: 'wpt/data.pkl', content: value },
      { name: 'wpt/byteorder', content: Buffer.from('little') },
      ...storages.map((content, i) => ({ name: `wpt/data/${i}`, content })),
      { name: 'wpt/version', content: Buffer.from('3\n') },
      ...more,
    ],
    options,
  );
}
