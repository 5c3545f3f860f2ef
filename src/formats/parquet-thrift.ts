/** Thrift's compact protocol, as parquet has it, out of bytes that may say anything: what comes of them is never larger than they are. */

/** Every number is read as one: beyond 2^53 it is not exact, and no size or offset that holds. */
export type Value = boolean | number | Uint8Array | Value[] | Struct;

/** Values by the number of their field. */
export interface Struct {
  [field: number]: Value;
}

/** parquet nests about eight deep. */
const MAX_DEPTH = 16;
/** A row group of ten columns has about 400. */
const MAX_VALUES = 4_000_000;

/** What is wrong with a file, said as what was got. */
export class Damage extends Error {}

/** The struct that begins at `start`, and where it ends. */
export function readStruct(bytes: Uint8Array, start = 0): { value: Struct; end: number } {
  let at = start;
  let left = MAX_VALUES;
  const byte = (): number => {
    if (at >= bytes.length) {
      throw new Damage('a structure that is cut off');
    }
    return bytes[at++] as number;
  };
  const natural = (): number => {
    for (let result = 0, factor = 1; ; factor *= 128) {
      const next = byte();
      result += (next & 0x7f) * factor;
      if (next < 0x80) {
        return result;
      }
      if (factor > 2 ** 62) {
        throw new Damage('a number without an end');
      }
    }
  };
  const integer = (): number => {
    const zigzag = natural();
    return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
  };
  /** Something that takes a byte or more each. */
  const counted = (count: number): number => {
    if (count > bytes.length - at) {
      throw new Damage(`${count} bytes or values where ${bytes.length - at} bytes are left`);
    }
    return count;
  };
  const element = (type: number, depth: number): Value => {
    if (--left < 0 || depth > MAX_DEPTH) {
      throw new Damage('a structure without an end');
    }
    switch (type) {
      case 1:
      case 2:
        return type === 1;
      case 3:
        return byte();
      case 4:
      case 5:
      case 6:
        return integer();
      case 7:
        at += counted(8);
        return Number.NaN; // only where something lies on the earth
      case 8: {
        const length = counted(natural());
        at += length;
        return bytes.subarray(at - length, at);
      }
      case 9: {
        const head = byte();
        const list: Value[] = [];
        for (let more = counted(head >> 4 === 15 ? natural() : head >> 4); more > 0; more--) {
          // In a list a truth value takes a byte.
          list.push((head & 15) === 1 || (head & 15) === 2 ? element(3, depth) === 1 : element(head & 15, depth + 1));
        }
        return list;
      }
      case 12:
        return struct(depth + 1);
      default:
        throw new Damage(`a value of the unknown type ${type}`);
    }
  };
  const struct = (depth: number): Struct => {
    const value: Struct = {};
    for (let field = 0; ; ) {
      const head = byte();
      if ((head & 15) === 0) {
        return value;
      }
      field = head >> 4 === 0 ? integer() : field + (head >> 4);
      if (!(field >= 0 && field < 2 ** 15)) {
        throw new Damage(`a field of the number ${field}`);
      }
      value[field] = element(head & 15, depth);
    }
  };
  return { value: struct(0), end: at };
}

/** The struct that a value is; of anything else one without fields. */
export function asStruct(value: Value | undefined): Struct {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Uint8Array) ? value : {};
}

export function asStructs(value: Value | undefined): Struct[] {
  return Array.isArray(value) ? value.map(asStruct) : [];
}

export function asText(value: Value | undefined): string {
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : '';
}

/** A number of `what` that can be. @throws Damage */
export function countOf(value: unknown, most: number, what: string): number {
  if (!isCount(value, most)) {
    const got = typeof value === 'number' ? String(value) : 'an unknown number of';
    throw new Damage(`${got} ${what}, where at most ${most} can be`);
  }
  return value;
}

/** True for a whole number from 0 to `most`. */
export function isCount(value: unknown, most = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}
