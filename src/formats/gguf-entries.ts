/** Metadata of a GGUF file that the addon has opened and checked. */
import type { GgufEntry } from '../native/addon.js';
import type { GgufValue } from './gguf.js';

/** gguf_type, and how a number of the kind is read. */
const KINDS: Readonly<Record<number, { size: number; read: (view: DataView, at: number) => number }>> = {
  0: { size: 1, read: (view, at) => view.getUint8(at) },
  1: { size: 1, read: (view, at) => view.getInt8(at) },
  2: { size: 2, read: (view, at) => view.getUint16(at, true) },
  3: { size: 2, read: (view, at) => view.getInt16(at, true) },
  4: { size: 4, read: (view, at) => view.getUint32(at, true) },
  5: { size: 4, read: (view, at) => view.getInt32(at, true) },
  6: { size: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { size: 1, read: (view, at) => view.getUint8(at) },
  10: { size: 8, read: (view, at) => Number(view.getBigUint64(at, true)) },
  11: { size: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  12: { size: 8, read: (view, at) => view.getFloat64(at, true) },
};
const STRING = 8;
const ARRAY = 9;

/** Typed access by key; null where the key is not there or is of another kind. */
export class GgufEntries {
  readonly #entries: ReadonlyMap<string, GgufEntry>;

  constructor(entries: readonly GgufEntry[]) {
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
  }

  /** As another file takes them, in the order of the keys. */
  encoded(): [string, GgufValue][] {
    return [...this.#entries].map(([key, { kind, bytes }]) => [key, { kind: 'encoded', type: kind, value: bytes }]);
  }

  /** A number of any kind, or a boolean as 0 or 1. */
  number(key: string): number | null {
    const entry = this.#entries.get(key);
    const kind = entry && KINDS[entry.kind];
    return kind === undefined ? null : kind.read(viewOf((entry as GgufEntry).bytes), 0);
  }

  string(key: string): string | null {
    const entry = this.#entries.get(key);
    return entry?.kind === STRING ? utf8(entry.bytes.subarray(8)) : null;
  }

  numbers(key: string): number[] | null {
    const array = this.#array(key);
    const kind = array === null ? undefined : KINDS[array.kind];
    if (array === null || kind === undefined) return null;
    const view = viewOf(array.bytes);
    return Array.from({ length: array.count }, (_, i) => kind.read(view, i * kind.size));
  }

  strings(key: string): string[] | null {
    const array = this.#array(key);
    if (array?.kind !== STRING) return null;
    const { bytes } = array;
    const view = viewOf(bytes);
    const texts: string[] = [];
    for (let at = 0; texts.length < array.count; ) {
      const length = Number(view.getBigUint64(at, true));
      at += 8;
      texts.push(utf8(bytes.subarray(at, at + length)));
      at += length;
    }
    return texts;
  }

  #array(key: string): { kind: number; count: number; bytes: Uint8Array } | null {
    const entry = this.#entries.get(key);
    if (entry?.kind !== ARRAY) return null;
    const view = viewOf(entry.bytes);
    return {
      kind: view.getUint32(0, true),
      count: Number(view.getBigUint64(4, true)),
      bytes: entry.bytes.subarray(12),
    };
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function utf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
