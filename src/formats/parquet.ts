/**
 * Parquet files by their parts: the footer, cheap columns, and the audio of chosen rows. hyparquet decodes the pages, once they
 * were seen to hold what they claim; the footer, from which it would make whatever a file says, is read here.
 */
import {
  type AsyncBuffer,
  type ColumnChunk,
  type CompressionCodec,
  type FileMetaData,
  type ParquetType,
  parquetRead,
  type SchemaElement,
} from 'hyparquet';
import { CompressionCodecs, FieldRepetitionTypes, ParquetTypes } from 'hyparquet/src/constants.js';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getSchemaPath } from 'hyparquet/src/schema.js';
import { problem, VoiceGrpoError } from '../errors.js';
import type { RandomAccess } from '../hub/client.js';
import { COMPRESSORS, checkIndex, checkPages, MAX_BYTES } from './parquet-pages.js';
import { asStruct, asStructs, asText, countOf, Damage, isCount, readStruct, type Struct } from './parquet-thrift.js';

/** Read at the end of a file in the hope that the footer is in it, bytes. */
const FOOTER_BYTES = 64 * 1024;
/** Larger footers are not read: that of a file of 10000 row groups has about this. */
const MAX_FOOTER = 16 * 2 ** 20;
/** More is not a file of a spoken dataset; a footer can claim any number. */
const MAX_ROWS = 1_000_000;
/** Parts of a column: audio has three. */
const MAX_PARTS = 64;
/** Row groups of a cheap column that are read at once. */
const AT_ONCE = 8;

export interface RowGroup {
  /** Of the file's first row: 0. */
  start: number;
  rows: number;
  /** Whether rows of its largest column, which is the audio, can be found page by page. */
  indexed: boolean;
}

/** What a row of datasets' Audio feature holds. */
export interface StoredAudio {
  row: number;
  bytes: Uint8Array;
  path: string | null;
}

export class Parquet {
  readonly rows: number;
  readonly groups: readonly RowGroup[];
  readonly columns: readonly string[];

  private constructor(
    readonly where: string,
    private readonly access: RandomAccess,
    private readonly footer: Footer,
  ) {
    this.columns = [...footer.fields.keys()];
    let start = 0;
    this.groups = footer.groups.map(({ rows, chunks }) => {
      const largest = chunks.reduce<Chunk | null>(
        (most, chunk) => (most && bytesIn(most) >= bytesIn(chunk) ? most : chunk),
        null,
      );
      const group = { start, rows, indexed: (largest?.index ?? null) !== null };
      start += rows;
      return group;
    });
    this.rows = start;
  }

  /** @throws VoiceGrpoError E_DATA for what is no parquet file */
  static open(access: RandomAccess, where: string): Promise<Parquet> {
    return guarded(where, async () => new Parquet(where, access, await readFooter(access)));
  }

  /** Bytes of a column in a row group, as they lie in the file. */
  columnRanges(group: number, column: string): [start: number, end: number][] {
    return this.#chunks(group, column).map(({ range }) => range);
  }

  /** @throws VoiceGrpoError E_DATA naming the columns there are */
  need(column: string, flag: string): void {
    if (!this.columns.includes(column)) {
      throw problem({
        code: 'E_DATA',
        expected: `a column '${column}'`,
        where: this.where,
        got: `columns ${this.columns
          .slice(0, 20)
          .map((name) => `'${shown(name)}'`)
          .join(', ')}`,
        next: `name the right one with ${flag}`,
      });
    }
  }

  /** Names of a column's classes where the file has numbers for them (datasets' ClassLabel), else null. */
  classNames(column: string): string[] | null {
    try {
      const names = JSON.parse(this.footer.notes.get('huggingface') ?? '')?.info?.features?.[column]?.names;
      return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
    } catch {
      return null;
    }
  }

  /** Values of a column, [rowEnd − rowStart]. No other column is read. */
  async values(column: string, rowStart = 0, rowEnd = this.rows): Promise<unknown[]> {
    const parts = [...this.groups.entries()].flatMap(([group, { start, rows }]) => {
      const [from, to] = [Math.max(rowStart - start, 0), Math.min(rowEnd - start, rows)];
      return from < to ? [{ group, from, to }] : [];
    });
    const values: unknown[] = [];
    for (let at = 0; at < parts.length; at += AT_ONCE) {
      const read = parts
        .slice(at, at + AT_ONCE)
        .map(({ group, from, to }) => this.#read(column, group, from, to, true));
      for (const rows of await Promise.all(read)) {
        for (const [value] of rows) {
          values.push(value);
        }
      }
    }
    return values;
  }

  /** The audio of rows of one group, in ascending order. Pages that hold none of them are not read where the file has an index. */
  async *audio(column: string, group: number, rows: readonly number[]): AsyncGenerator<StoredAudio> {
    const { start, indexed } = this.groups[group] as RowGroup;
    const sorted = rows.toSorted((a, b) => a - b);
    // Without an index a column chunk is read as a whole: then all rows at once.
    const runs = indexed ? adjacent(sorted) : [sorted];
    for (const run of runs) {
      const first = run[0] as number;
      const read = await this.#read(column, group, first, (run.at(-1) as number) + 1, false);
      for (const row of run) {
        const { bytes, path } = (read[row - first]?.[0] ?? {}) as { bytes?: unknown; path?: unknown };
        if (!(bytes instanceof Uint8Array)) {
          throw problem({
            code: 'E_DATA',
            expected: `audio as bytes and path in column '${column}'`,
            where: `${this.where}, row ${start + row}`,
            got: bytes === undefined || bytes === null ? 'no bytes' : typeof bytes,
            next: 'name the right column with --audio-column',
          });
        }
        const name = path instanceof Uint8Array ? new TextDecoder().decode(path) : path;
        yield { row: start + row, bytes, path: typeof name === 'string' ? name : null };
      }
    }
  }

  #chunks(group: number, column: string): Chunk[] {
    return this.footer.groups[group]?.chunks.filter(({ path }) => path[0] === column) ?? [];
  }

  /** Rows [from, to) of a group. */
  async #read(column: string, group: number, from: number, to: number, texts: boolean): Promise<unknown[][]> {
    const { rows } = this.groups[group] as RowGroup;
    const field = this.footer.fields.get(column) ?? [];
    const schema = [{ name: 'root', num_children: 1 }, ...field];
    const chunks = this.#chunks(group, column);
    return guarded(this.where, async () => {
      countOf(field.length, MAX_PARTS, `parts of column '${shown(column)}'`);
      if (chunks.length === 0 || chunks.length !== field.filter((part) => part.num_children === undefined).length) {
        throw new Damage(`a row group without all of column '${shown(column)}'`);
      }
      const paths = chunks.map(({ path }) => getSchemaPath(schema, path));
      if (paths.some((path) => getMaxRepetitionLevel(path) > 0)) {
        throw problem({
          code: 'E_DATA',
          expected: `single values in column '${column}'`,
          where: this.where,
          got: 'lists',
          next: 'name another column',
        });
      }
      const levels = paths.map((path) => 32 - Math.clz32(getMaxDefinitionLevel(path)));
      const metadata: FileMetaData = {
        version: 1,
        schema,
        num_rows: BigInt(rows),
        row_groups: [{ columns: chunks.map(described), total_byte_size: 0n, num_rows: BigInt(rows) }],
        metadata_length: 0,
      };
      let read: unknown[][] = [];
      await parquetRead({
        file: checked(this.access, chunks, levels, rows),
        metadata,
        columns: [column],
        rowStart: from,
        rowEnd: to,
        utf8: texts,
        useOffsetIndex: true,
        compressors: COMPRESSORS,
        geoparquet: false,
        onComplete: (all) => {
          read = all;
        },
      });
      if (read.length !== to - from) {
        throw new Damage(`${read.length} of ${to - from} rows`);
      }
      return read;
    });
  }
}

/** Part of a column in a row group. */
interface Chunk {
  /** Names from the column down. */
  path: string[];
  type: ParquetType;
  codec: CompressionCodec;
  range: [start: number, end: number];
  /** Where the pages with rows begin; before them lies the dictionary, if there is one. */
  data: number;
  /** Where the index of its pages lies. */
  index: [start: number, end: number] | null;
}

function bytesIn({ range: [start, end] }: Chunk): number {
  return end - start;
}

interface Footer {
  /** The columns, each with its parts. */
  fields: ReadonlyMap<string, readonly SchemaElement[]>;
  groups: readonly { rows: number; chunks: readonly Chunk[] }[];
  /** Key-value metadata. */
  notes: ReadonlyMap<string, string>;
}

async function readFooter(access: RandomAccess): Promise<Footer> {
  const { size } = access;
  const tailStart = Math.max(0, size - FOOTER_BYTES);
  const tail = Buffer.from(await access.slice(tailStart, size));
  if (tail.length < 12 || tail.toString('latin1', tail.length - 4) !== 'PAR1') {
    throw new Damage("no 'PAR1' at its end");
  }
  const length = tail.readUInt32LE(tail.length - 8);
  const start = size - 8 - length;
  if (start < 4 || length > MAX_FOOTER) {
    throw new Damage(`a footer of ${length} bytes in a file of ${size}`);
  }
  const bytes =
    start < tailStart
      ? Buffer.concat([await access.slice(start, tailStart), tail.subarray(0, -8)])
      : tail.subarray(start - tailStart, -8);
  const { 2: schema, 4: groups, 5: notes } = readStruct(bytes).value;
  let rows = 0;
  return {
    fields: fieldsOf(asStructs(schema)),
    groups: asStructs(groups).map(({ 1: columns, 3: own }) => {
      const count = countOf(own, MAX_ROWS - rows, 'rows in a row group');
      rows += count;
      return { rows: count, chunks: asStructs(columns).map((column) => chunkOf(column, size)) };
    }),
    notes: new Map(asStructs(notes).map(({ 1: key, 2: value }) => [asText(key), asText(value)])),
  };
}

/** The schema is a list, each part followed by the parts inside it. Of a part, only what decoding its values needs. */
function fieldsOf(schema: readonly Struct[]): Map<string, SchemaElement[]> {
  const fields = new Map<string, SchemaElement[]>();
  let at = 1;
  for (let more = childrenOf(schema[0]); more > 0; more--) {
    const parts: SchemaElement[] = [];
    for (let open = 1; open > 0; open--) {
      const part = schema[at++];
      const children = childrenOf(part);
      open += children;
      parts.push({
        name: asText(part?.[4]),
        type: ParquetTypes[Number(part?.[1])],
        type_length: Number(part?.[2] ?? 0),
        repetition_type: FieldRepetitionTypes[Number(part?.[3])],
        ...(children > 0 && { num_children: children }),
      });
    }
    fields.set(parts[0]!.name, parts);
  }
  return fields;
}

function childrenOf(part: Struct | undefined): number {
  const children = part?.[5] ?? 0;
  if (part === undefined || !isCount(children)) {
    throw new Damage('a schema that is cut off');
  }
  return children;
}

function chunkOf({ 1: otherFile, 3: description, 4: indexStart, 5: indexLength }: Struct, size: number): Chunk {
  const { 1: type, 3: path, 4: codec, 7: length, 9: data, 11: dictionary } = asStruct(description);
  const start = Number(dictionary) > 0 && Number(dictionary) < Number(data) ? dictionary : data;
  if (otherFile !== undefined || !isCount(start) || !isCount(length) || start < 4 || start + length > size) {
    throw new Damage('a column that lies outside the file');
  }
  const index = Number(indexLength) > 0 ? [indexStart, Number(indexStart) + Number(indexLength)] : null;
  if (index !== null && !(isCount(index[0]) && isCount(index[1], size))) {
    throw new Damage('an index of pages that lies outside the file');
  }
  return {
    path: Array.isArray(path) ? path.map(asText) : [],
    type: ParquetTypes[Number(type)] as ParquetType,
    codec: CompressionCodecs[Number(codec)] as CompressionCodec,
    range: [start, start + length],
    data: data as number,
    index: index as Chunk['index'],
  };
}

/** A chunk as hyparquet wants it described. */
function described({ path, type, codec, range: [start, end], data, index }: Chunk): ColumnChunk {
  return {
    file_offset: 0n,
    meta_data: {
      type,
      encodings: [],
      path_in_schema: path,
      codec,
      num_values: 0n,
      total_uncompressed_size: 0n,
      total_compressed_size: BigInt(end - start),
      data_page_offset: BigInt(data),
      ...(start < data && { dictionary_page_offset: BigInt(start) }),
    },
    ...(index !== null && { offset_index_offset: BigInt(index[0]), offset_index_length: index[1] - index[0] }),
  };
}

/** The bytes of chunks for hyparquet, which asks for their pages, their indexes, or several chunks that lie side by side. */
function checked(access: RandomAccess, chunks: readonly Chunk[], levels: readonly number[], rows: number): AsyncBuffer {
  return {
    byteLength: access.size,
    async slice(start, end = access.size) {
      const indexed = chunks.find(({ index }) => index !== null && index[0] === start && index[1] === end);
      if (end - start > MAX_BYTES) {
        throw new Damage(`a row group with ${end - start} bytes in a column, more than ${MAX_BYTES}`);
      }
      const bytes = await access.slice(start, end);
      if (indexed !== undefined) {
        checkIndex(bytes, indexed.range, rows);
      }
      for (const [i, { codec, range }] of chunks.entries()) {
        const own = bytes.subarray(Math.max(range[0] - start, 0), Math.max(range[1] - start, 0));
        const values = checkPages(own, { codec, levelBits: levels[i]!, rows });
        if (values !== rows && own.length === range[1] - range[0]) {
          throw new Damage(`a column of ${values} values in a row group of ${rows} rows`);
        }
      }
      const { buffer, byteOffset, byteLength } = bytes;
      return byteOffset === 0 && byteLength === buffer.byteLength
        ? (buffer as ArrayBuffer)
        : (buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
    },
  };
}

/** Ascending numbers divided where one is left out. */
function adjacent(numbers: readonly number[]): number[][] {
  const runs: number[][] = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run !== undefined && run.at(-1) === number - 1) {
      run.push(number);
    } else {
      runs.push([number]);
    }
  }
  return runs;
}

/** A text of a file, as far as it fits into a sentence. */
function shown(text: string): string {
  return text.replace(/\p{C}/gu, '?').slice(0, 200);
}

/** What is wrong with a file becomes a sentence; what fetching says stays as it is. */
async function guarded<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, name, message } = error as NodeJS.ErrnoException;
    if (error instanceof VoiceGrpoError || name === 'AbortError' || /^E[A-Z]+$/.test(code ?? '')) {
      throw error;
    }
    const line = shown(message);
    throw problem({
      code: 'E_DATA',
      expected: 'a parquet file that can be read',
      where,
      got: error instanceof Damage ? line : `pages that cannot be decoded (${line})`,
      next: 'fetch it anew, or choose another file',
    });
  }
}
