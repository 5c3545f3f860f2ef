/**
 * Python's pickles, read without executing anything: a small machine for the opcodes that hold data, and globals by name only.
 *
 * Protocols 2 to 5 as CPython's pickler writes them (Lib/pickletools.py describes the opcodes). A global is not looked up
 * anywhere: the caller lists those that may be named, and says what a call of one is worth. Every other global, and every
 * opcode that could make an object of a class, ends the reading. Counts, sizes and depth have bounds, so that a file of a
 * few kilobytes cannot ask for much memory; what a value shares through the memo is shared here too and never copied.
 */
import { quoted } from './safetensors.js';

export const PICKLE_LIMITS = {
  /** bytes; the largest Whisper's is 200 kB */
  bytes: 16 * 2 ** 20,
  /** Values on the stack at one time. */
  stack: 200_000,
  /** Marks at one time, and containers in containers. */
  depth: 64,
  /** Values kept for later use. */
  memo: 1_000_000,
  /** Dicts, lists, tuples, and what calls and persistent ids give. */
  made: 500_000,
};

/** A class or function by its name, from the list of those that may be named. */
export class PickleGlobal {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}
}

/** A container knows how deep the values in it go. */
abstract class Container {
  depth = 1;

  protected adopt(value: PickleValue): void {
    if (!(value instanceof Container)) return;
    this.depth = Math.max(this.depth, value.depth + 1);
    if (this.depth > PICKLE_LIMITS.depth)
      throw new PickleError(`containers nested more than ${PICKLE_LIMITS.depth} deep`);
  }
}

export class PickleTuple extends Container {
  constructor(readonly items: readonly PickleValue[]) {
    super();
    for (const item of items) this.adopt(item);
  }
}

export class PickleList extends Container {
  readonly items: PickleValue[] = [];

  push(value: PickleValue): void {
    this.adopt(value);
    this.items.push(value);
  }
}

export type PickleKey = string | number | boolean | null;

export class PickleDict extends Container {
  readonly entries = new Map<PickleKey, PickleValue>();

  set(key: PickleValue, value: PickleValue): void {
    if (key !== null && typeof key !== 'string' && typeof key !== 'number' && typeof key !== 'boolean') {
      throw new PickleError('a dict with a key that is no text or number');
    }
    if (this.entries.has(key)) throw new PickleError(`a dict with the key ${quoted(String(key))} twice`);
    this.adopt(value);
    this.entries.set(key, value);
  }
}

/** What a call of a listed global gave; the caller knows what it is. */
export abstract class PickleObject {
  protected readonly isPickleObject = true;
}

/** Integers are numbers where they are safe, else bigint. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Buffer
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleObject;

/** What is wrong, to be read after "got"; `global` where one was named that is not on the list. */
export class PickleError extends Error {
  constructor(
    message: string,
    readonly global?: PickleGlobal,
  ) {
    super(message);
    this.name = 'PickleError';
  }
}

export interface PickleRules {
  /** Whether a pickle may name this global. */
  allows(global: PickleGlobal): boolean;
  /** The value of `callable(*args)`. @throws PickleError for other arguments than it takes */
  call(callable: PickleGlobal, args: readonly PickleValue[]): PickleValue;
  /** The value of a persistent id. @throws PickleError for another form */
  persistent(id: PickleValue): PickleValue;
}

/**
 * @returns the value of the pickle
 * @throws PickleError for whatever is damaged, too large, or not data
 */
export function readPickle(bytes: Buffer, rules: PickleRules): PickleValue {
  if (bytes.length > PICKLE_LIMITS.bytes) {
    throw new PickleError(`a pickle of ${bytes.length} bytes, more than ${PICKLE_LIMITS.bytes}`);
  }
  return new Machine(bytes, rules).run();
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

class Machine {
  readonly #bytes: Buffer;
  readonly #rules: PickleRules;
  #at = 0;
  #made = 0;
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();

  constructor(bytes: Buffer, rules: PickleRules) {
    this.#bytes = bytes;
    this.#rules = rules;
  }

  run(): PickleValue {
    if (this.#bytes[0] !== 0x80) throw new PickleError('no pickle of protocol 2 or newer');
    for (;;) {
      const at = this.#at;
      const opcode = this.#u8();
      if (opcode === 0x2e) break; // STOP
      const act = OPCODES[opcode];
      if (!act) {
        const text = opcode > 32 && opcode < 127 ? ` (${String.fromCharCode(opcode)})` : '';
        throw new PickleError(
          `opcode 0x${opcode.toString(16)}${text} at byte ${at} of the pickle, which holds no weights`,
        );
      }
      act(this);
      if (this.#stack.length > PICKLE_LIMITS.stack)
        throw new PickleError(`more than ${PICKLE_LIMITS.stack} open values`);
    }
    if (this.#at !== this.#bytes.length) throw new PickleError('bytes behind the end of the pickle');
    if (this.#stack.length !== 1 || this.#marks.length !== 0) throw new PickleError('a pickle that is not one value');
    return this.#stack[0] as PickleValue;
  }

  take(count: number): Buffer {
    if (!(count <= this.#bytes.length - this.#at)) {
      throw new PickleError(`a pickle that ends inside a value of ${count} bytes`);
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  #u8(): number {
    return this.take(1)[0] as number;
  }

  /** Little-endian, `size` bytes. */
  unsigned(size: 1 | 2 | 4 | 8): number {
    const bytes = this.take(size);
    return size === 8 ? Number(bytes.readBigUInt64LE()) : bytes.readUIntLE(0, size);
  }

  text(size: 1 | 4 | 8): string {
    const bytes = this.take(this.unsigned(size));
    try {
      return UTF8.decode(bytes);
    } catch {
      throw new PickleError('a text that is not UTF-8');
    }
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0 || end - this.#at > 1024) throw new PickleError('a name without an end');
    return this.take(end - this.#at + 1)
      .subarray(0, -1)
      .toString('utf8');
  }

  push(value: PickleValue): void {
    this.#stack.push(value);
  }

  pop(): PickleValue {
    const value = this.#stack.length > (this.#marks.at(-1) ?? 0) ? this.#stack.pop() : undefined;
    if (value === undefined) throw new PickleError('a pickle that takes more values than it has');
    return value;
  }

  top(): PickleValue {
    const value = this.pop();
    this.#stack.push(value);
    return value;
  }

  mark(): void {
    if (this.#marks.length >= PICKLE_LIMITS.depth) {
      throw new PickleError(`containers nested more than ${PICKLE_LIMITS.depth} deep`);
    }
    this.#marks.push(this.#stack.length);
  }

  /** Values above the last mark, which goes. */
  popMark(): PickleValue[] {
    const height = this.#marks.pop();
    if (height === undefined) throw new PickleError('a pickle that takes more values than it has');
    return this.#stack.splice(height);
  }

  popMany(count: number): PickleValue[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  made(value: PickleValue): void {
    if (++this.#made > PICKLE_LIMITS.made) throw new PickleError(`more than ${PICKLE_LIMITS.made} objects`);
    this.#stack.push(value);
  }

  put(index: number): void {
    if (index >= PICKLE_LIMITS.memo) throw new PickleError(`memo entry ${index}, more than ${PICKLE_LIMITS.memo}`);
    this.#memo.set(index, this.top());
  }

  memoize(): void {
    this.put(this.#memo.size);
  }

  get(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new PickleError(`memo entry ${index}, which was never made`);
    this.#stack.push(value);
  }

  setItems(pairs: PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof PickleDict) || pairs.length % 2 !== 0) throw new PickleError('items for what is no dict');
    for (let i = 0; i < pairs.length; i += 2) dict.set(pairs[i] as PickleValue, pairs[i + 1] as PickleValue);
  }

  append(values: PickleValue[]): void {
    const list = this.top();
    if (!(list instanceof PickleList)) throw new PickleError('items for what is no list');
    for (const value of values) list.push(value);
  }

  global(module: PickleValue, name: PickleValue): void {
    if (typeof module !== 'string' || typeof name !== 'string') throw new PickleError('a global without a name');
    const global = new PickleGlobal(module, name);
    if (!this.#rules.allows(global)) {
      throw new PickleError(`a pickle that names ${quoted(`${module}.${name}`)}, which no weights need`, global);
    }
    this.#stack.push(global);
  }

  reduce(): void {
    const args = this.pop();
    const callable = this.pop();
    if (!(callable instanceof PickleGlobal) || !(args instanceof PickleTuple)) {
      throw new PickleError('a call of what is no listed function');
    }
    this.made(this.#rules.call(callable, args.items));
  }

  /** State of an object. Of the listed classes only OrderedDict has any (`_metadata` of a state dict), and no weights need it. */
  build(): void {
    const state = this.pop();
    if (!(state instanceof PickleDict) || !(this.top() instanceof PickleDict)) {
      throw new PickleError('state for what is no OrderedDict');
    }
  }

  persistent(): void {
    this.made(this.#rules.persistent(this.pop()));
  }
}

/** Two's complement, little-endian, as LONG1 has it. */
function longInteger(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0;
  if (bytes.length <= 6) return bytes.readIntLE(0, bytes.length);
  let value = 0n;
  for (const byte of [...bytes].reverse()) value = (value << 8n) | BigInt(byte);
  value = BigInt.asIntN(8 * bytes.length, value);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const OPCODES: Partial<Record<number, (machine: Machine) => void>> = {
  // PROTO
  128: (m) => {
    const protocol = m.unsigned(1);
    if (protocol < 2 || protocol > 5) throw new PickleError(`pickle protocol ${protocol}`);
  },
  // FRAME: its length is a hint for buffering
  149: (m) => void m.unsigned(8),
  // NONE, NEWTRUE, NEWFALSE
  78: (m) => m.push(null),
  136: (m) => m.push(true),
  137: (m) => m.push(false),
  // BININT, BININT1, BININT2, LONG1, BINFLOAT
  74: (m) => m.push(m.take(4).readInt32LE()),
  75: (m) => m.push(m.unsigned(1)),
  77: (m) => m.push(m.unsigned(2)),
  138: (m) => m.push(longInteger(m.take(m.unsigned(1)))),
  71: (m) => m.push(m.take(8).readDoubleBE()),
  // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
  88: (m) => m.push(m.text(4)),
  140: (m) => m.push(m.text(1)),
  141: (m) => m.push(m.text(8)),
  // BINBYTES, SHORT_BINBYTES, BINBYTES8
  66: (m) => m.push(m.take(m.unsigned(4))),
  67: (m) => m.push(m.take(m.unsigned(1))),
  142: (m) => m.push(m.take(m.unsigned(8))),
  // MARK, TUPLE, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3
  40: (m) => m.mark(),
  116: (m) => m.made(new PickleTuple(m.popMark())),
  41: (m) => m.made(new PickleTuple([])),
  133: (m) => m.made(new PickleTuple(m.popMany(1))),
  134: (m) => m.made(new PickleTuple(m.popMany(2))),
  135: (m) => m.made(new PickleTuple(m.popMany(3))),
  // EMPTY_LIST, APPEND, APPENDS
  93: (m) => m.made(new PickleList()),
  97: (m) => m.append(m.popMany(1)),
  101: (m) => m.append(m.popMark()),
  // EMPTY_DICT, SETITEM, SETITEMS
  125: (m) => m.made(new PickleDict()),
  115: (m) => m.setItems(m.popMany(2)),
  117: (m) => m.setItems(m.popMark()),
  // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
  113: (m) => m.put(m.unsigned(1)),
  114: (m) => m.put(m.unsigned(4)),
  148: (m) => m.memoize(),
  104: (m) => m.get(m.unsigned(1)),
  106: (m) => m.get(m.unsigned(4)),
  // GLOBAL, STACK_GLOBAL
  99: (m) => m.global(m.line(), m.line()),
  147: (m) => m.global(...(m.popMany(2) as [PickleValue, PickleValue])),
  // REDUCE, BUILD, BINPERSID
  82: (m) => m.reduce(),
  98: (m) => m.build(),
  81: (m) => m.persistent(),
};
