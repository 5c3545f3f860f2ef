/** Requests byte by byte, as no HTTP client would send them. */
import { connect } from 'node:net';

export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/**
 * Sends the parts and reads one answer.
 *
 * @param parts a number is a pause, ms
 * @param close 'half': our side ends behind the parts; 'never': it stays open
 * @returns null where the connection ended without an answer
 */
export function sendRaw(
  port: number,
  parts: readonly (string | Uint8Array | number)[],
  close: 'half' | 'never' = 'never',
): Promise<RawAnswer | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = Buffer.alloc(0);
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no whole answer after 20 s: ${received.toString('latin1').slice(0, 200)}`));
    }, 20_000);
    const settle = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(parsed(received));
    };
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (parsed(received) !== null) settle();
    });
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', settle);
    socket.on('connect', async () => {
      for (const part of parts) {
        if (socket.destroyed) return;
        if (typeof part === 'number') await new Promise((next) => setTimeout(next, part));
        else await new Promise<void>((next) => socket.write(part, () => next()));
      }
      if (close === 'half') socket.end();
    });
  });
}

/** Null while it is not whole. */
function parsed(bytes: Buffer): RawAnswer | null {
  const end = bytes.indexOf('\r\n\r\n');
  if (end === -1) return null;
  const [first = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  if (status === 100) return parsed(bytes.subarray(end + 4));
  const length = Number(headers['content-length'] ?? 0);
  const body = bytes.subarray(end + 4);
  return body.length < length ? null : { status, headers, body: body.toString('utf8', 0, length) };
}

export interface Part {
  name: string;
  value: string | Uint8Array;
  fileName?: string;
  type?: string;
}

export const BOUNDARY = 'X-BOUNDARY';

/** A multipart body. */
export function formBody(parts: readonly Part[]): Buffer {
  const pieces = parts.map(({ name, value, fileName, type }) =>
    Buffer.concat([
      Buffer.from(
        `--${BOUNDARY}\r\ncontent-disposition: form-data; name="${name}"${fileName === undefined ? '' : `; filename="${fileName}"`}\r\n${type === undefined ? '' : `content-type: ${type}\r\n`}\r\n`,
      ),
      Buffer.from(value),
      Buffer.from('\r\n'),
    ]),
  );
  return Buffer.concat([...pieces, Buffer.from(`--${BOUNDARY}--\r\n`)]);
}

/** The head of a request, with an empty line behind it. */
export function head(first: string, headers: Record<string, string> = {}): string {
  const all = { host: 'localhost', ...headers };
  return `${first} HTTP/1.1\r\n${Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;
}

export const POST = 'POST /v1/audio/transcriptions';

/** A whole request with a form. */
export function formRequest(parts: readonly Part[], headers: Record<string, string> = {}, first = POST): Buffer {
  const body = formBody(parts);
  return Buffer.concat([
    Buffer.from(
      head(first, {
        'content-type': `multipart/form-data; boundary=${BOUNDARY}`,
        'content-length': String(body.length),
        ...headers,
      }),
    ),
    body,
  ]);
}

export const FORM_TYPE = { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` };
