/** Answers to what never became a request. */
import { STATUS_CODES } from 'node:http';
import { ApiError } from './api-error.js';

/** Of a request's head, bytes. */
export const MAX_HEAD = 16 * 1024;

export function connectRefused(): ApiError {
  return new ApiError(405, 'This server is no proxy.', { code: 'method_not_allowed', headers: { allow: 'GET, POST' } });
}

/** What Node's parser says, as an answer; null where nobody is there to read it. */
export function parseErrorAnswer({ code }: NodeJS.ErrnoException): ApiError | null {
  switch (code) {
    case 'ECONNRESET':
    case 'EPIPE':
      return null;
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError(408, 'The request did not come in time.', { code: 'request_timeout' });
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError(431, `The head of the request is larger than ${MAX_HEAD} bytes.`, { code: 'head_too_large' });
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new ApiError(413, 'The chunk extensions of the request are too large.', { code: 'request_too_large' });
    case 'HPE_INVALID_EOF_STATE':
      return new ApiError(400, 'The connection was closed in the middle of the request.', {
        code: 'incomplete_request',
      });
    default:
      return new ApiError(400, 'This is not a valid HTTP request.', { code: 'malformed_http' });
  }
}

/** The whole answer as bytes on the line. */
export function rawAnswer({ status, headers, body }: ApiError): string {
  const text = JSON.stringify(body);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ];
  return `${head.join('\r\n')}\r\n\r\n${text}`;
}
