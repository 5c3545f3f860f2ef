/** Parquet files by their parts: the footer, cheap columns, and the audio of chosen rows. hyparquet does the decoding. */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import {
  type AsyncBuffer,
  type ColumnChunk,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetRead,
} from 'hyparquet';
import { decompressZstd, compressors as others } from 'hyparquet-compressors';
import { problem, VoiceGrpoError } from '../errors.js';
import type { RandomAccess } from '../hub/client.js';

/** Read at the end of a file in the hope that the footer is in it, bytes. */
const FOOTER_BYTES = 64 * 1024;
/** A page may be this many times its compressed size, or this large: audio is never smaller, a decompression bomb is. */
const MAX_RATIO = 24;
const SMALL_PAGE = 64 * 2 ** 20;
/** V8 holds no larger array. */
const MAX_PAGE = 2 ** 32 - 1;
/** More is not a spoken dataset; a footer can claim any number. */
const MAX_ROWS = 10_000_000;

export interface RowGroup {
  /** Of the file's first row: 0. */
  start: number;
  rows: number;
  /** Where the rows of a column can be found page by page. */
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
    private readonly metadata: FileMetaData,
  ) {
    this.columns = [...new Set(metadata.row_groups.flatMap(({ columns }) => columns.map(nameOf)))];
    let start = 0;
    this.groups = metadata.row_groups.map(({ num_rows, columns }) => {
      const group = {
        start,
        rows: Number(num_rows),
        indexed: columns.every((chunk) => Boolean(chunk.offset_index_length)),
      };
      start += group.rows;
      return group;
    });
    this.rows = start;
  }

  /** @throws VoiceGrpoError E_DATA for what is no parquet file */
  static async open(access: RandomAccess, where: string): Promise<Parquet> {
    const metadata = await guarded(where, () =>
      parquetMetadataAsync(bufferOf(access), { initialFetchSize: FOOTER_BYTES, geoparquet: false }),
    );
    for (const { columns, num_rows } of metadata.row_groups) {
      const ranges = columns.map(rangeOf);
      if (Number(num_rows) < 0 || ranges.some(([start, end]) => !(start >= 4 && start <= end && end <= access.size))) {
        throw damaged(where, 'a column that lies outside the file');
      }
    }
    const parquet = new Parquet(where, access, metadata);
    if (!(parquet.rows <= MAX_ROWS)) {
      throw damaged(where, `${parquet.rows} rows, more than ${MAX_ROWS}`);
    }
    return parquet;
  }

  /** Bytes of a column in a row group, as they lie in the file. */
  columnRanges(group: number, column: string): [start: number, end: number][] {
    const chunks = this.metadata.row_groups[group]?.columns ?? [];
    return chunks.filter((chunk) => nameOf(chunk) === column).map(rangeOf);
  }

  /** @throws VoiceGrpoError E_DATA naming the columns there are */
  need(column: string, flag: string): void {
    if (!this.columns.includes(column)) {
      throw problem({
        code: 'E_DATA',
        expected: `a column '${column}'`,
        where: this.where,
        got: `columns ${this.columns.map((name) => `'${name}'`).join(', ')}`,
        next: `name the right one with ${flag}`,
      });
    }
  }

  /** Names of a column's classes where the file has numbers for them (datasets' ClassLabel), else null. */
  classNames(column: string): string[] | null {
    const text = this.metadata.key_value_metadata?.find(({ key }) => key === 'huggingface')?.value;
    try {
      const names = JSON.parse(text ?? '')?.info?.features?.[column]?.names;
      return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
    } catch {
      return null;
    }
  }

  /** Values of a column, [rowEnd − rowStart]. No other column is read. */
  async values(column: string, rowStart = 0, rowEnd = this.rows): Promise<unknown[]> {
    if (rowStart >= rowEnd) {
      return [];
    }
    const rows = await this.#read(column, rowStart, rowEnd, true, false);
    return rows.map(([value]) => value);
  }

  /** The audio of rows of one group, in ascending order. Pages that hold none of them are not read where the file has an index. */
  async *audio(column: string, group: number, rows: readonly number[]): AsyncGenerator<StoredAudio> {
    const { start, indexed } = this.groups[group] as RowGroup;
    const sorted = rows.toSorted((a, b) => a - b);
    // Without an index a column chunk is read as a whole: then all rows at once.
    const runs = indexed ? adjacent(sorted) : [sorted];
    for (const run of runs) {
      const first = run[0] as number;
      const read = await this.#read(column, start + first, start + (run.at(-1) as number) + 1, false, indexed);
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

  async #read(
    column: string,
    rowStart: number,
    rowEnd: number,
    utf8: boolean,
    useOffsetIndex: boolean,
  ): Promise<unknown[][]> {
    let rows: unknown[][] = [];
    await guarded(this.where, () =>
      parquetRead({
        file: bufferOf(this.access),
        metadata: this.metadata,
        columns: [column],
        rowStart,
        rowEnd,
        utf8,
        useOffsetIndex,
        compressors: BOUNDED,
        geoparquet: false,
        onComplete: (read) => {
          rows = read;
        },
      }),
    );
    if (rows.length !== rowEnd - rowStart) {
      throw damaged(this.where, `${rows.length} of ${rowEnd - rowStart} rows`);
    }
    return rows;
  }
}

const COMPRESSORS: Compressors = {
  ...others,
  GZIP: (input, length) => gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ZSTD: (input, length) => decompressZstd(input, new Uint8Array(length)),
};

const BOUNDED: Compressors = Object.fromEntries(
  Object.entries(COMPRESSORS).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, length: number) => {
      if (!(length >= 0 && length <= MAX_PAGE && length <= Math.max(SMALL_PAGE, MAX_RATIO * input.length))) {
        throw new Error(`a page of ${input.length} bytes that claims to hold ${length}`);
      }
      return decompress(input, length);
    },
  ]),
);

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

function nameOf(chunk: ColumnChunk): string {
  return chunk.meta_data?.path_in_schema[0] ?? '';
}

function rangeOf({ meta_data: meta }: ColumnChunk): [start: number, end: number] {
  const start = Number(meta?.dictionary_page_offset || meta?.data_page_offset);
  return [start, start + Number(meta?.total_compressed_size)];
}

function bufferOf(access: RandomAccess): AsyncBuffer {
  return {
    byteLength: access.size,
    async slice(start, end = access.size) {
      const { buffer, byteOffset, byteLength } = await access.slice(start, Math.min(end, access.size));
      return byteOffset === 0 && byteLength === buffer.byteLength
        ? (buffer as ArrayBuffer)
        : (buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
    },
  };
}

/** What a decoder says of a damaged file becomes a sentence; what fetching says stays as it is. */
async function guarded<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    if (error instanceof VoiceGrpoError || name === 'AbortError' || /^E[A-Z]+$/.test(code ?? '')) {
      throw error;
    }
    throw damaged(where, (error as Error).message);
  }
}

function damaged(where: string, got: string): VoiceGrpoError {
  return problem({
    code: 'E_DATA',
    expected: 'a whole parquet file',
    where,
    got,
    next: 'fetch it anew, or choose another file',
  });
}
