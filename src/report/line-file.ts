/** A file of one JSON object a line that grows while it is read: each look reads what is new. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/** Bytes in front of the place read up to that must be as they were; else the file is another one. */
const TAIL = 256;

export class LineFile<T> {
  readonly #path: string;
  readonly #limit: number;
  #values: T[] = [];
  #count = 0;
  #inode = -1;
  /** Bytes that are read: whole lines. */
  #offset = 0;
  #tail = Buffer.alloc(0);
  /** At a line that is no JSON everything ends. */
  #broken = false;

  /** @param limit of older values than the last `limit` none is kept */
  constructor(path: string, limit = Number.POSITIVE_INFINITY) {
    this.#path = path;
    this.#limit = limit;
  }

  /** Lines that were read, kept or not. */
  get count(): number {
    return this.#count;
  }

  /**
   * The values of all whole lines, the last `limit` of them; none where there is no file. A value is the same object as at the look
   * before, unless the file was cut or replaced.
   */
  read(): readonly T[] {
    let file: number;
    try {
      file = openSync(this.#path, 'r');
    } catch {
      this.#reset(-1);
      return this.#values;
    }
    try {
      const { ino, size } = fstatSync(file);
      if (ino !== this.#inode || size < this.#offset || !this.#isTail(file)) this.#reset(ino);
      if (!this.#broken && size > this.#offset) this.#append(bytesOf(file, this.#offset, size - this.#offset));
    } finally {
      closeSync(file);
    }
    return this.#values;
  }

  #reset(inode: number): void {
    this.#values = [];
    this.#count = 0;
    this.#inode = inode;
    this.#offset = 0;
    this.#tail = Buffer.alloc(0);
    this.#broken = false;
  }

  #isTail(file: number): boolean {
    return bytesOf(file, this.#offset - this.#tail.length, this.#tail.length).equals(this.#tail);
  }

  #append(bytes: Buffer): void {
    const values = [...this.#values];
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0 && !this.#broken; end = bytes.indexOf(10, start)) {
      try {
        values.push(JSON.parse(bytes.toString('utf8', start, end)));
        this.#count++;
        start = end + 1;
      } catch {
        this.#broken = true;
      }
    }
    if (start === 0) return;
    this.#values = values.slice(-this.#limit);
    this.#offset += start;
    const read = Buffer.concat([this.#tail, bytes.subarray(0, start)]);
    this.#tail = Buffer.from(read.subarray(-TAIL));
  }
}

function bytesOf(file: number, from: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, length === 0 ? 0 : readSync(file, bytes, 0, length, from));
}
