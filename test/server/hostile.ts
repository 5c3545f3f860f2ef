/** Requests that a well-meaning client does not send, and what must come of each. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BOUNDARY, FORM_TYPE, formBody, formRequest, head, type Part, POST } from './raw.js';

const AUDIO = readFileSync(join('assets', 'clips', 'ifeval', '001.ogg'));
const FILE: Part = { name: 'file', value: AUDIO, fileName: 'clip.ogg', type: 'audio/ogg' };
const MODEL: Part = { name: 'model', value: 'whisper-1' };

/** A request that a well-meaning client does not send, and what must come of it. */
export interface Hostile {
  name: string;
  parts: (string | Uint8Array | number)[];
  close?: 'half';
  status: number;
  message: RegExp;
  /** Of the answer. */
  headers?: Record<string, string>;
}

const whole = (parts: Part[], headers: Record<string, string> = {}, first = POST) => [
  formRequest(parts, headers, first),
];
const withBody = (body: string | Uint8Array, headers: Record<string, string>) => [head(POST, headers), body];
const body = formBody([FILE, MODEL]);
const field = (name: string, value: string) => whole([FILE, { name, value }]);
const zeros = Buffer.alloc(300_000);

/** Limits of the server that gets them: 200 kB, 20 parts, 1000 bytes a field, 1 s for a request. */
export const HOSTILE: Hostile[] = [
  // Who asks
  { name: 'another Host', parts: whole([FILE], { host: 'evil.com' }), status: 403, message: /Host/ },
  {
    name: 'a Host that begins like ours',
    parts: whole([FILE], { host: 'localhost.evil.com' }),
    status: 403,
    message: /Host/,
  },
  {
    name: 'a Host with a user name',
    parts: whole([FILE], { host: 'localhost@evil.com' }),
    status: 403,
    message: /Host/,
  },
  { name: 'a Host with a path', parts: whole([FILE], { host: 'evil.com/localhost' }), status: 403, message: /Host/ },
  {
    name: 'an address on the network as Host',
    parts: whole([FILE], { host: '192.168.1.7:8000' }),
    status: 403,
    message: /Host/,
  },
  { name: 'no Host', parts: ['GET /v1/models HTTP/1.1\r\n\r\n'], status: 400, message: /one Host/ },
  { name: 'no Host in HTTP/1.0', parts: ['GET /v1/models HTTP/1.0\r\n\r\n'], status: 400, message: /one Host/ },
  {
    name: 'two Hosts',
    parts: ['GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.com\r\n\r\n'],
    status: 400,
    message: /one Host/,
  },
  { name: 'another Origin', parts: whole([FILE], { origin: 'https://evil.com' }), status: 403, message: /Origin/ },
  {
    name: 'an Origin that begins like ours',
    parts: whole([FILE], { origin: 'http://127.0.0.1.evil.com' }),
    status: 403,
    message: /Origin/,
  },
  { name: 'an Origin of nothing', parts: whole([FILE], { origin: 'null' }), status: 403, message: /Origin/ },
  {
    name: 'an Origin of another kind',
    parts: whole([FILE], { origin: 'file://localhost' }),
    status: 403,
    message: /Origin/,
  },
  {
    name: 'another Host in the target',
    parts: [head('GET http://evil.com/v1/models')],
    status: 404,
    message: /nothing at this path/,
  },
  // What is asked
  { name: 'a path upwards', parts: [head('GET /v1/../../etc/passwd')], status: 404, message: /nothing at this path/ },
  { name: 'a path of an object', parts: [head('GET __proto__')], status: 400, message: /valid HTTP/ },
  { name: 'a path of an object, with a slash', parts: [head('GET /constructor')], status: 404, message: /nothing/ },
  {
    name: 'another API',
    parts: [head('POST /v1/chat/completions', { 'content-length': '0' })],
    status: 404,
    message: /nothing/,
  },
  { name: 'a model with a broken escape', parts: [head('GET /v1/models/%E0%A4%A')], status: 404, message: /no model/ },
  {
    name: 'GET for POST',
    parts: [head('GET /v1/audio/transcriptions')],
    status: 405,
    message: /takes POST, not GET/,
    headers: { allow: 'POST' },
  },
  {
    name: 'DELETE',
    parts: [head('DELETE /v1/models')],
    status: 405,
    message: /takes GET, not DELETE/,
    headers: { allow: 'GET, HEAD' },
  },
  { name: 'OPTIONS', parts: [head('OPTIONS /v1/audio/transcriptions')], status: 405, message: /not OPTIONS/ },
  { name: 'TRACE', parts: [head('TRACE /health')], status: 405, message: /not TRACE/ },
  {
    name: 'CONNECT',
    parts: ['CONNECT evil.com:443 HTTP/1.1\r\nhost: evil.com:443\r\n\r\n'],
    status: 405,
    message: /no proxy/,
  },
  { name: 'a method that is none', parts: [head('STEAL /health')], status: 400, message: /valid HTTP/ },
  {
    name: 'an expectation that is none',
    parts: [head('GET /health', { expect: 'a-miracle' })],
    status: 417,
    message: /100-continue/,
  },
  // HTTP itself
  {
    name: 'garbage',
    parts: [Buffer.from([0, 255, 13, 10, 7, 7, 7, 13, 10, 13, 10])],
    status: 400,
    message: /valid HTTP/,
  },
  { name: 'TLS', parts: [Buffer.from('16030100c8010000c40303', 'hex')], status: 400, message: /valid HTTP/ },
  { name: 'HTTP/2', parts: ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], status: 400, message: /valid HTTP/ },
  {
    name: 'a head of 1000 lines',
    parts: [
      head('GET /health', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`x-${i}`, 'a'.repeat(20)]))),
    ],
    status: 431,
    message: /head of the request/,
  },
  {
    name: 'a line of 64 kB',
    parts: [head('GET /health', { 'x-long': 'a'.repeat(65536) })],
    status: 431,
    message: /head of the request/,
  },
  { name: 'a path of 64 kB', parts: [head(`GET /${'a'.repeat(65536)}`)], status: 431, message: /head of the request/ },
  {
    name: 'a header with a zero byte',
    parts: [head('GET /health', { 'x-zero': 'a\0b' })],
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a space before the colon',
    parts: [`${POST} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n`],
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'two lengths',
    parts: withBody(body, { ...FORM_TYPE, 'content-length': String(body.length), 'Content-length': '5' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a length and chunks',
    parts: withBody('0\r\n\r\n', { ...FORM_TYPE, 'content-length': '5', 'transfer-encoding': 'chunked' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a length below zero',
    parts: withBody(body, { ...FORM_TYPE, 'content-length': '-1' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a length that is no number',
    parts: withBody(body, { ...FORM_TYPE, 'content-length': '0x10' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a length that is too small',
    parts: withBody(body, { ...FORM_TYPE, 'content-length': String(body.length - 5000) }),
    status: 400,
    message: /form cannot be read|valid HTTP/,
  },
  {
    name: 'a length that is too large, and the end',
    parts: withBody(body, { ...FORM_TYPE, 'content-length': String(body.length + 100) }),
    close: 'half',
    status: 400,
    message: /closed in the middle/,
  },
  {
    name: 'chunks of garbage',
    parts: withBody('zz\r\nrubbish\r\n', { ...FORM_TYPE, 'transfer-encoding': 'chunked' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'a chunk of a size beyond all numbers',
    parts: withBody('ffffffffffffffffff\r\nx', { ...FORM_TYPE, 'transfer-encoding': 'chunked' }),
    status: 400,
    message: /valid HTTP/,
  },
  {
    name: 'chunks without an end',
    parts: withBody('5\r\nhello\r\n', { ...FORM_TYPE, 'transfer-encoding': 'chunked' }),
    close: 'half',
    status: 400,
    message: /closed in the middle/,
  },
  {
    name: 'another transfer coding',
    parts: withBody('x', { ...FORM_TYPE, 'transfer-encoding': 'gzip' }),
    status: 400,
    message: /valid HTTP/,
  },
  // Time
  {
    name: 'a head that does not end',
    parts: ['GET /health HTTP/1.1\r\nhost: localhost\r\nx-a: '],
    status: 408,
    message: /in time/,
  },
  {
    name: 'a head a byte at a time',
    parts: [...head('GET /health')].flatMap((byte) => [byte, 60]),
    status: 408,
    message: /in time/,
  },
  {
    name: 'a body that does not end',
    parts: withBody(body.subarray(0, 900), { ...FORM_TYPE, 'content-length': String(body.length) }),
    status: 408,
    message: /in time/,
  },
  // Size
  {
    name: 'a body that says that it is too large',
    parts: withBody('', { ...FORM_TYPE, 'content-length': '4000000000' }),
    status: 413,
    message: /larger than 200000 bytes/,
  },
  {
    name: 'a body that is too large',
    parts: whole([{ ...FILE, value: zeros }]),
    status: 413,
    message: /larger than 200000 bytes/,
  },
  {
    name: 'chunks that are too large',
    parts: [
      head(POST, { ...FORM_TYPE, 'transfer-encoding': 'chunked' }),
      `${(300_000).toString(16)}\r\n`,
      formBody([{ ...FILE, value: zeros }]).subarray(0, 300_000),
      '\r\n0\r\n\r\n',
    ],
    status: 413,
    message: /larger than 200000 bytes/,
  },
  {
    name: 'too much in front of the form',
    parts: [
      head(POST, { ...FORM_TYPE, 'transfer-encoding': 'chunked' }),
      `${(300_000).toString(16)}\r\n`,
      zeros,
      '\r\n0\r\n\r\n',
    ],
    status: 413,
    message: /larger than 200000 bytes/,
  },
  {
    name: 'a field that is too large',
    parts: field('prompt', 'a'.repeat(5000)),
    status: 400,
    message: /more than 1000 bytes/,
  },
  {
    name: 'very many parts',
    parts: whole([...Array.from({ length: 1500 }, (_, i) => ({ name: `f${i}`, value: '' })), FILE]),
    status: 400,
    message: /more than 20 parts/,
  },
  {
    name: 'a part with a head of 50 kB',
    parts: whole([{ name: 'a'.repeat(50_000), value: '' }, FILE]),
    status: 400,
    message: /no parameter|form has/,
  },
  // The form
  { name: 'no form', parts: [head(POST, { 'content-length': '0' })], status: 415, message: /multipart\/form-data/ },
  {
    name: 'JSON',
    parts: withBody('{"model":"x"}', { 'content-type': 'application/json', 'content-length': '13' }),
    status: 415,
    message: /multipart\/form-data/,
  },
  {
    name: 'a form of another kind',
    parts: withBody('model=whisper-1', { 'content-type': 'application/x-www-form-urlencoded', 'content-length': '15' }),
    status: 415,
    message: /multipart/,
  },
  {
    name: 'no boundary',
    parts: withBody(body, { 'content-type': 'multipart/form-data', 'content-length': String(body.length) }),
    status: 400,
    message: /no boundary/,
  },
  {
    name: 'another boundary',
    parts: withBody(body, {
      'content-type': 'multipart/form-data; boundary=other',
      'content-length': String(body.length),
    }),
    status: 400,
    message: /form cannot be read/,
  },
  {
    name: 'a boundary of 10 kB',
    parts: withBody('', {
      'content-type': `multipart/form-data; boundary=${'b'.repeat(10_000)}`,
      'content-length': '0',
    }),
    status: 400,
    message: /boundary/,
  },
  {
    name: 'an empty form',
    parts: withBody(`--${BOUNDARY}--\r\n`, { ...FORM_TYPE, 'content-length': String(BOUNDARY.length + 6) }),
    status: 400,
    message: /no file/,
  },
  { name: 'no body', parts: withBody('', { ...FORM_TYPE, 'content-length': '0' }), status: 400, message: /form/ },
  {
    name: 'a form cut in the file',
    parts: withBody(body.subarray(0, 3000), { ...FORM_TYPE, 'content-length': '3000' }),
    status: 400,
    message: /form cannot be read/,
  },
  {
    name: 'a form cut in a head',
    parts: withBody(body.subarray(0, 40), { ...FORM_TYPE, 'content-length': '40' }),
    status: 400,
    message: /form cannot be read/,
  },
  {
    name: 'a body that is compressed',
    parts: withBody(Buffer.from('1f8b0800000000000003', 'hex'), {
      ...FORM_TYPE,
      'content-encoding': 'gzip',
      'content-length': '10',
    }),
    status: 400,
    message: /form cannot be read/,
  },
  { name: 'no file', parts: whole([MODEL]), status: 400, message: /no file/ },
  { name: 'a file as text', parts: whole([{ name: 'file', value: 'words' }]), status: 400, message: /no file/ },
  { name: 'two files', parts: whole([FILE, FILE]), status: 400, message: /more than one file/ },
  {
    name: 'a file in another part',
    parts: whole([{ ...FILE, name: 'audio' }]),
    status: 400,
    message: /another part than "file"/,
  },
  {
    name: 'a path upwards as file name',
    parts: whole([{ ...FILE, value: 'x', fileName: '../../../../tmp/evil.wav' }]),
    status: 400,
    message: /file:/,
  },
  {
    name: 'an absolute path as file name',
    parts: whole([{ ...FILE, value: 'x', fileName: '/etc/passwd' }]),
    status: 400,
    message: /file:/,
  },
  { name: 'an empty file', parts: whole([{ ...FILE, value: '' }]), status: 400, message: /file is empty/ },
  // The fields
  { name: 'a model that is not here', parts: field('model', 'gpt-9'), status: 404, message: /no model 'gpt-9'/ },
  {
    name: 'a model with line breaks',
    parts: field('model', 'a\r\nx-evil: 1\r\n\u001b[2J'),
    status: 404,
    message: /no model 'a x-evil: 1 \[2J'/,
  },
  { name: 'two models', parts: whole([FILE, MODEL, MODEL]), status: 400, message: /given 2 times/ },
  {
    name: 'a parameter that is none',
    parts: field('__proto__', 'x'),
    status: 400,
    message: /no parameter '__proto__'/,
  },
  { name: 'a format that is none', parts: field('response_format', 'exe'), status: 400, message: /one of json, text/ },
  { name: 'a temperature of 2', parts: field('temperature', '2'), status: 400, message: /number from 0 to 1/ },
  {
    name: 'a temperature that is no number',
    parts: field('temperature', 'NaN'),
    status: 400,
    message: /number from 0 to 1/,
  },
  { name: 'an empty temperature', parts: field('temperature', ''), status: 400, message: /number from 0 to 1/ },
  {
    name: 'a language that is none',
    parts: field('language', '../en'),
    status: 400,
    message: /no language of this model/,
  },
  { name: 'a stream that is neither', parts: field('stream', 'perhaps'), status: 400, message: /one of true, false/ },
  {
    name: 'a stream of subtitles',
    parts: whole([FILE, { name: 'stream', value: 'true' }, { name: 'response_format', value: 'srt' }]),
    status: 400,
    message: /needs response_format 'json'/,
  },
  {
    name: 'word times without a place for them',
    parts: field('timestamp_granularities[]', 'word'),
    status: 400,
    message: /verbose_json/,
  },
  // The file
  {
    name: 'a file that is no audio',
    parts: whole([{ ...FILE, value: readFileSync('package.json') }]),
    status: 400,
    message: /^file:/,
  },
  {
    name: 'a file of zeros',
    parts: whole([{ ...FILE, value: zeros.subarray(0, 100_000) }]),
    status: 400,
    message: /^file:/,
  },
  { name: 'half a file', parts: whole([{ ...FILE, value: AUDIO.subarray(0, 700) }]), status: 400, message: /^file:/ },
];
