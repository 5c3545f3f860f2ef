/**
 * Checkpoints that torch.save wrote (PyTorch 1.6 and newer): a zip archive with a pickle, and an entry for each storage.
 *
 * torch/serialization.py and torch/_utils.py say what is in them: `<root>/data.pkl` describes the values, each tensor a view
 * (offset, size, stride) of a storage `<root>/data/<key>`; `<root>/byteorder` names the order of the bytes. The pickle is read
 * by a list of names and runs nothing (pickle.ts). Tensors are read when they are asked for, a few megabytes at a time.
 */
import { basename } from 'node:path';
import { crc32 } from 'node:zlib';
import { problem, type VoiceGrpoError } from '../errors.js';
import {
  PICKLE_LIMITS,
  PickleDict,
  PickleError,
  PickleGlobal,
  PickleObject,
  PickleTuple,
  type PickleValue,
  readPickle,
} from './pickle.js';
import { quoted } from './safetensors.js';
import { type FileBytes, readZipDirectory, type ZipEntry } from './zip-directory.js';

/** Elements of a chunk; a multiple of every quantization block. */
export const CHUNK_ELEMENTS = 2 ** 20;
/** A tensor that is no plain row of its storage is read with all that lies between its elements, bytes. */
const MAX_SPAN = 2 ** 30;
const MAX_DIMENSIONS = 8;

/** Storage classes of torch, and what an element is. Those of whole numbers hold counters of training, never weights. */
const STORAGES: Readonly<Record<string, ElementType>> = {
  HalfStorage: 'f16',
  BFloat16Storage: 'bf16',
  FloatStorage: 'f32',
  DoubleStorage: 'f64',
  LongStorage: 'i64',
  IntStorage: 'i32',
  ShortStorage: 'i16',
  CharStorage: 'i8',
  ByteStorage: 'u8',
  BoolStorage: 'bool',
};

export const ELEMENT_BYTES = {
  f16: 2,
  bf16: 2,
  f32: 4,
  f64: 8,
  i64: 8,
  i32: 4,
  i16: 2,
  i8: 1,
  u8: 1,
  bool: 1,
} as const;
export type ElementType = keyof typeof ELEMENT_BYTES;

/** A tensor in a file. */
export interface StoredTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly bytes: number;
  /**
   * The elements in the order of rows, little-endian, in chunks of 2^20 and one of what is left. A chunk is valid until the
   * next one is asked for.
   *
   * @throws VoiceGrpoError E_MODEL where the file is damaged
   */
  chunks(): Iterable<Buffer>;
}

/** A file's name as Python writes it, for the line that saves it anew. */
export function pythonName(path: string, change = (name: string) => name): string {
  const escaped = change(basename(path)).replace(/[\p{C}'\\]/gu, (c) => {
    const code = c.codePointAt(0) ?? 0;
    return code < 0x20 || c === "'" || c === '\\'
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\U${code.toString(16).padStart(8, '0')}`;
  });
  return `'${escaped}'`;
}

/** The name for the file that is saved anew: 'wpt.pt' becomes 'wpt-new.pt'. */
export function newName(path: string): string {
  return pythonName(path, (name) => `${name.replace(/\.[^.]*$/, '')}-new.pt`);
}

export function product(numbers: readonly number[]): number {
  return numbers.reduce((all, number) => all * number, 1);
}

class Storage extends PickleObject {
  constructor(
    readonly type: ElementType,
    readonly key: string,
    readonly elements: number,
    readonly entry: ZipEntry,
  ) {
    super();
  }
}

export class TorchTensor extends PickleObject implements StoredTensor {
  readonly bytes: number;

  /** @param source where the storage can be read */
  constructor(
    private readonly source: { chunks(tensor: TorchTensor): Iterable<Buffer> },
    readonly storage: Storage,
    /** Of the first element in the storage. */
    readonly offset: number,
    readonly shape: readonly number[],
    /** Elements from one to the next, along each dimension. */
    readonly strides: readonly number[],
  ) {
    super();
    this.bytes = product(shape) * ELEMENT_BYTES[storage.type];
  }

  get type(): ElementType {
    return this.storage.type;
  }

  chunks(): Iterable<Buffer> {
    return this.source.chunks(this);
  }

  /** Whether both are one view of the same numbers, as tied weights are. */
  is(other: StoredTensor): boolean {
    return (
      other instanceof TorchTensor &&
      other.storage.key === this.storage.key &&
      other.type === this.type &&
      other.offset === this.offset &&
      other.shape.join() === this.shape.join() &&
      other.strides.join() === this.strides.join()
    );
  }
}

export class TorchCheckpoint {
  /** What was saved: dicts, lists, numbers, texts, and tensors as TorchTensor. */
  readonly value: PickleValue;
  readonly #file: FileBytes;
  readonly #entries: Map<string, ZipEntry>;
  /** Name of the folder in the archive, with its slash. */
  readonly #root: string;
  readonly #swap: boolean;
  /** Keys of the storages whose checksum was found right. */
  readonly #checked = new Set<string>();

  /**
   * @param file that begins as a zip archive; it is the caller's to close
   * @throws VoiceGrpoError E_MODEL for what is damaged, and for a TorchScript, a pickled module and other files that torch.save
   *   writes too but that hold more than data, with the line of Python that saves the weights
   */
  constructor(file: FileBytes) {
    this.#file = file;
    this.#entries = readZipDirectory(file);
    const names = [...this.#entries.keys()];
    this.#root = names[0]?.replace(/\/.*$/s, '/') ?? '';
    const stray = names.find((name) => !name.startsWith(this.#root));
    const pickle = this.#entries.get(`${this.#root}data.pkl`);
    if (stray !== undefined || !this.#root.endsWith('/') || !pickle) throw this.#otherArchive(names);
    if (names.some((name) => name.startsWith(`${this.#root}code/`) || name === `${this.#root}constants.pkl`)) {
      throw this.#refused('a TorchScript archive, which holds a program', {
        next: `In Python: import torch; torch.save(torch.jit.load(${pythonName(file.path)}, map_location='cpu').state_dict(), ${newName(file.path)})`,
      });
    }
    this.#swap = this.#isBigEndian();
    this.value = this.#unpickle(pickle);
  }

  /** Chunks of a tensor's elements: StoredTensor.chunks. */
  *chunks(tensor: TorchTensor): Generator<Buffer> {
    const { storage, shape, strides, offset } = tensor;
    this.#check(storage);
    const size = ELEMENT_BYTES[storage.type];
    const count = product(shape);
    const dense = isDense(shape, strides);
    const indices = dense ? null : this.#gather(tensor);
    const chunk = Buffer.alloc(Math.min(count, CHUNK_ELEMENTS) * size);
    for (let done = 0; done < count; done += CHUNK_ELEMENTS) {
      const elements = Math.min(CHUNK_ELEMENTS, count - done);
      const part = chunk.subarray(0, elements * size);
      if (indices) indices(done, part);
      else this.#file.read(storage.entry.offset + (offset + done) * size, part.length, part);
      yield this.#swap ? swapped(part, size) : part;
    }
  }

  #refused(
    got: string,
    { next = 'Copy or download the file again, or save it again with torch.save.' } = {},
  ): VoiceGrpoError {
    return problem({ code: 'E_MODEL', expected: 'a checkpoint of weights', where: this.#file.path, got, next });
  }

  #otherArchive(names: string[]): VoiceGrpoError {
    const kind = names.every((name) => name.endsWith('.npy'))
      ? 'a NumPy archive (npz)'
      : `a zip archive without data.pkl in one folder, with ${quoted(names[0] ?? '')}`;
    return this.#refused(kind, { next: 'Give the file that torch.save wrote (.pt), not an archive around it.' });
  }

  #isBigEndian(): boolean {
    const entry = this.#entries.get(`${this.#root}byteorder`);
    if (!entry) return false;
    const text = entry.size <= 16 ? this.#file.read(entry.offset, entry.size).toString('latin1') : '';
    if (text !== 'little' && text !== 'big') throw this.#refused(`the byte order ${quoted(text)}`);
    return text === 'big';
  }

  #unpickle(pickle: ZipEntry): PickleValue {
    try {
      // Its size is checked before it is read.
      if (pickle.size > PICKLE_LIMITS.bytes) throw new PickleError(`a pickle of ${pickle.size} bytes`);
      const bytes = this.#file.read(pickle.offset, pickle.size);
      if (pickle.crc32 !== 0 && crc32(bytes) !== pickle.crc32)
        throw new PickleError('a checksum that is not that of data.pkl');
      return readPickle(bytes, {
        allows: (global) => ALLOWED.has(`${global.module} ${global.name}`),
        call: (callable, args) => this.#call(callable, args),
        persistent: (id) => this.#storage(id),
      });
    } catch (error) {
      if (!(error instanceof PickleError)) throw error;
      throw this.#refused(error.message, error.global && this.#resave(error.global));
    }
  }

  /** The line of Python that saves the weights of a file with objects of classes. */
  #resave({ module, name }: PickleGlobal): { next: string } {
    const load = `import torch; c = torch.load(${pythonName(this.#file.path)}, map_location='cpu', weights_only=False)`;
    if (
      /^(builtins|__builtin__|os|posix|nt|sys|subprocess|socket|shutil|runpy|importlib|commands|pty)(\.|$)/.test(module)
    ) {
      return {
        next: 'Do not load this file in Python, which would run what it names; take the model from another source.',
      };
    }
    const trusting = 'In Python, if you trust the file, for this runs what is in it:';
    if (name === 'ModelDimensions') {
      return { next: `${trusting} ${load}; c['dims'] = vars(c['dims']); torch.save(c, ${newName(this.#file.path)})` };
    }
    if (/^(torch\.nn|whisper\.model|transformers)\b/.test(module)) {
      const whole = module.startsWith('whisper')
        ? `{'dims': vars(c.dims), 'model_state_dict': c.state_dict()}`
        : 'c.state_dict()';
      return {
        next: `This is a pickled model, not its weights. ${trusting} ${load}; torch.save(${whole}, ${newName(this.#file.path)})`,
      };
    }
    return {
      next: `${trusting} ${load}; torch.save({k: c[k] for k in ('dims', 'model_state_dict', 'state_dict', 'model') if k in c}, ${newName(this.#file.path)})`,
    };
  }

  #call({ name }: PickleGlobal, args: readonly PickleValue[]): PickleValue {
    if (name === 'OrderedDict') {
      if (args.length > 0) throw new PickleError('an OrderedDict with arguments');
      return new PickleDict();
    }
    if (name === '_rebuild_tensor_v2') return this.#tensor(args);
    const [tensor] = args;
    if (name !== '_rebuild_parameter' || !(tensor instanceof TorchTensor) || args.length !== 3) {
      throw new PickleError(`a call of ${name} with other arguments than torch gives it`);
    }
    return tensor;
  }

  /** ('storage', class, key, device, number of elements) */
  #storage(id: PickleValue): Storage {
    const [word, kind, key, device, elements] = id instanceof PickleTuple ? id.items : [];
    const type = kind instanceof PickleGlobal && kind.module === 'torch' ? STORAGES[kind.name] : undefined;
    if (word !== 'storage' || !type || typeof key !== 'string' || typeof device !== 'string' || !isCount(elements)) {
      throw new PickleError('a storage in another form than torch gives it');
    }
    const entry = this.#entries.get(`${this.#root}data/${key}`);
    if (!entry) throw new PickleError(`a storage without its entry, ${quoted(key)}`);
    if (entry.size !== elements * ELEMENT_BYTES[type]) {
      throw new PickleError(
        `a storage of ${elements} ${type} in an entry of ${entry.size} bytes, ${quoted(entry.name)}`,
      );
    }
    return new Storage(type, key, elements, entry);
  }

  /** (storage, offset, size, stride, requires_grad, hooks) and, from newer versions, metadata. */
  #tensor(args: readonly PickleValue[]): TorchTensor {
    const [storage, offset, size, stride] = args;
    const shape = counts(size);
    const strides = counts(stride);
    if (!(storage instanceof Storage) || !isCount(offset) || !shape || !strides || args.length < 6 || args.length > 7) {
      throw new PickleError('a tensor in another form than torch gives it');
    }
    if (shape.length !== strides.length || shape.length > MAX_DIMENSIONS) {
      throw new PickleError(`a tensor of ${shape.length} dimensions with ${strides.length} strides`);
    }
    const last = offset + shape.reduce((at, n, i) => at + (n - 1) * (strides[i] as number), 0);
    if (!Number.isSafeInteger(product(shape) * 8) || (product(shape) > 0 && !(last < storage.elements))) {
      throw new PickleError(
        `a tensor [${shape.join(', ')}] with strides [${strides.join(', ')}] from element ${offset}, past the end of its storage of ${storage.elements}`,
      );
    }
    return new TorchTensor(this, storage, offset, shape, strides);
  }

  /** Compares the storage with its checksum, once. */
  #check({ key, entry }: Storage): void {
    if (this.#checked.has(key) || entry.crc32 === 0) return;
    const chunk = Buffer.allocUnsafe(Math.min(entry.size, 4 * CHUNK_ELEMENTS));
    let found = 0;
    for (let at = 0; at < entry.size; at += chunk.length) {
      const bytes = Math.min(chunk.length, entry.size - at);
      found = crc32(this.#file.read(entry.offset + at, bytes, chunk), found);
    }
    if (found !== entry.crc32) throw this.#refused(`a checksum that is not that of ${quoted(entry.name)}`);
    this.#checked.add(key);
  }

  /** Fills a chunk from element `done` on, for a tensor whose elements do not follow one another. */
  #gather({ storage, shape, strides, offset }: TorchTensor): (done: number, chunk: Buffer) => void {
    const size = ELEMENT_BYTES[storage.type];
    const elements = 1 + shape.reduce((at, n, i) => at + (n - 1) * (strides[i] as number), 0);
    if (overlaps(shape, strides) || elements * size > MAX_SPAN) {
      throw this.#refused(`a tensor [${shape.join(', ')}] with strides [${strides.join(', ')}]`, {
        next: `In Python: import torch; c = torch.load(${pythonName(this.#file.path)}, map_location='cpu', weights_only=True), then save it with .contiguous().clone() of each tensor.`,
      });
    }
    const span = this.#file.read(storage.entry.offset + offset * size, elements * size, Buffer.alloc(elements * size));
    return (done, chunk) => {
      const index = shape.map(() => 0);
      let rest = done;
      for (let d = shape.length - 1; d >= 0; d--) {
        index[d] = rest % (shape[d] as number);
        rest = Math.floor(rest / (shape[d] as number));
      }
      let at = index.reduce((sum, n, d) => sum + n * (strides[d] as number), 0);
      for (let to = 0; to < chunk.length; to += size) {
        span.copy(chunk, to, at * size, at * size + size);
        for (let d = shape.length - 1; d >= 0; d--) {
          at += strides[d] as number;
          if (++(index[d] as number) < (shape[d] as number)) break;
          at -= (shape[d] as number) * (strides[d] as number);
          index[d] = 0;
        }
      }
    };
  }
}

/** All that a pickle of weights may name. */
const ALLOWED: ReadonlySet<string> = new Set([
  'collections OrderedDict',
  'torch._utils _rebuild_tensor_v2',
  'torch._utils _rebuild_parameter',
  ...Object.keys(STORAGES).map((name) => `torch ${name}`),
]);

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function counts(value: PickleValue | undefined): number[] | null {
  return value instanceof PickleTuple && value.items.every(isCount) ? (value.items as number[]) : null;
}

/** Whether the elements lie one behind the other in the order of rows. */
function isDense(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && strides[d] !== expected) return false;
    expected *= shape[d] as number;
  }
  return true;
}

/** Whether two elements may be one number of the storage, as in an expanded tensor. */
function overlaps(shape: readonly number[], strides: readonly number[]): boolean {
  const steps = shape.map((n, d) => ({ n, stride: strides[d] as number })).filter(({ n }) => n > 1);
  let reach = 0;
  for (const { n, stride } of steps.sort((a, b) => a.stride - b.stride)) {
    if (stride <= reach) return true;
    reach += (n - 1) * stride;
  }
  return false;
}

function swapped(bytes: Buffer, size: number): Buffer {
  if (size === 2) return bytes.swap16();
  if (size === 4) return bytes.swap32();
  return size === 8 ? bytes.swap64() : bytes;
}
