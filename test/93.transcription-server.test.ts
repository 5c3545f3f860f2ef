/** `voicegrpo transcribe --serve`: OpenAI's client, hostile requests, queue, limits, disconnects and the end. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import OpenAI, { APIError, toFile } from 'openai';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hostCheck } from '../src/server/host-check.js';
import { languageCode, languageName } from '../src/server/language-name.js';
import { type RunningServer, type ServerOptions, serveTranscription } from '../src/server/server.js';
import { Whisper } from '../src/whisper.js';
import { silentFlac } from './audio/make.js';
import { runCli } from './cli.js';
import { HOSTILE, type Hostile } from './server/hostile.js';
import { FORM_TYPE, formBody, formRequest, head, type Part, POST, type RawAnswer, sendRaw } from './server/raw.js';
import { type StandInWhisper, until, withStandIn } from './whisper/stand-in.js';

// Uploads go to a folder of our own, so that what is left of them can be seen.
const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-server-'));
process.env.TMPDIR = folder;

const CLIP = join('assets', 'clips', 'ifeval', '001.ogg');
const AUDIO = readFileSync(CLIP);
const FILE: Part = { name: 'file', value: AUDIO, fileName: 'clip.ogg', type: 'audio/ogg' };

interface Served {
  server: RunningServer;
  port: number;
  client: OpenAI;
  /** What was logged. */
  log: string[];
}

async function serving(
  whisper: Whisper,
  options: Partial<ServerOptions>,
  run: (served: Served) => Promise<void>,
): Promise<void> {
  const log: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      log.push(line);
      done();
    },
  });
  const server = await serveTranscription({
    whisper,
    modelName: 'bundled',
    port: 0,
    ...options,
    log: { stream, ...options.log },
  } as ServerOptions);
  try {
    const client = new OpenAI({ apiKey: 'sk-a-secret', baseURL: server.url, maxRetries: 0 });
    await run({ server, port: server.port, client, log });
  } finally {
    await server.stop();
  }
  assert.equal(uploads(), [], 'nothing is left on the disk');
}

/** Files that wait in the folders of servers. */
function uploads(): string[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => name.startsWith('voicegrpo-serve-'));
}

const bundled = await Whisper.open('bundled', { threads: 1, parallel: 2 });
const truth = await bundled.transcribe(CLIP, { wordTimestamps: true });

const upload = () => toFile(AUDIO, 'clip.ogg');

test("OpenAI's client gets each format", async () => {
  await serving(bundled, { parallel: 2 }, async ({ client }) => {
    const create = async (extra: object) =>
      client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1', ...extra });
    const json = await create({});
    assert.is(json.text, truth.text);
    assert.equal(json.usage, { type: 'duration', seconds: Math.ceil(truth.duration) });
    assert.is((await create({ response_format: 'json', language: 'en', temperature: 0 })).text, truth.text);
    assert.is(await create({ response_format: 'text' }), `${truth.text}\n`);
    const srt = (await create({ response_format: 'srt' })) as unknown as string;
    assert.match(srt, /^1\n00:00:00,\d{3} --> 00:00:0\d,\d{3}\nTell me about the ocean/);
    const vtt = (await create({ response_format: 'vtt' })) as unknown as string;
    assert.match(vtt, /^WEBVTT\n\n00:00\.\d{3} --> 00:0\d\.\d{3}\nTell me about the ocean/);
  });
});

test("verbose_json has segments, words or both, as asked, in the API's names", async () => {
  await serving(bundled, {}, async ({ client }) => {
    const create = async (timestamp_granularities?: ('word' | 'segment')[]) =>
      client.audio.transcriptions.create({
        file: await upload(),
        model: 'bundled',
        response_format: 'verbose_json',
        ...(timestamp_granularities && { timestamp_granularities }),
      });
    const plain = await create();
    assert.equal([plain.text, plain.language, plain.words], [truth.text, 'english', undefined]);
    assert.ok(Math.abs(plain.duration - truth.duration) < 1e-3);
    const [segment] = plain.segments!;
    assert.equal(Object.keys(segment!), [
      ...['id', 'seek', 'start', 'end', 'text', 'tokens', 'temperature'],
      ...['avg_logprob', 'compression_ratio', 'no_speech_prob'],
    ]);
    assert.is(plain.segments!.length, truth.segments.length);
    assert.ok(segment!.tokens.length > 10 && segment!.avg_logprob < 0, JSON.stringify(segment));
    const words = await create(['word']);
    assert.equal([words.segments, words.words!.length], [undefined, truth.words!.length]);
    assert.is(words.words!.map(({ word }) => word).join(' '), truth.text);
    const both = await create(['word', 'segment']);
    assert.equal([both.segments!.length, both.words!.length], [truth.segments.length, truth.words!.length]);
  });
});

test('a stream of events has deltas that are the text, with log-probabilities if asked', async () => {
  await serving(bundled, {}, async ({ client }) => {
    const stream = await client.audio.transcriptions.create({
      file: await upload(),
      model: 'whisper-1',
      stream: true,
      include: ['logprobs'],
    });
    const events = [];
    for await (const event of stream) events.push(event);
    const deltas = events.filter((event) => event.type === 'transcript.text.delta');
    assert.ok(deltas.length >= 1 && deltas.length === events.length - 1);
    assert.is(deltas.map(({ delta }) => delta).join(''), truth.text);
    const done = events.at(-1)!;
    assert.is(done.type === 'transcript.text.done' && done.text, truth.text);
    const tokens = truth.segments.flatMap((segment) => segment.tokens);
    const logprobs = done.type === 'transcript.text.done' ? done.logprobs! : [];
    assert.equal(
      logprobs.map(({ token }) => token),
      tokens.map(({ text }) => text),
    );
    assert.equal(
      deltas.flatMap((delta) => delta.logprobs ?? []),
      logprobs,
    );
    assert.ok(logprobs.every(({ token, bytes, logprob }) => Buffer.from(bytes!).toString() === token && logprob! <= 0));
  });
});

test('a delta is sent while the rest is still worked on; an error in the middle is an event', async () => {
  await withStandIn({}, async ({ pass, fail }) => {
    const whisper = await Whisper.open();
    await serving(whisper, {}, async ({ client, log }) => {
      const begin = async () =>
        (await client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1', stream: true }))[
          Symbol.asyncIterator
        ]();
      const whole = await begin();
      assert.equal((await whole.next()).value, { type: 'transcript.text.delta', delta: 'one' });
      pass();
      assert.equal((await whole.next()).value, { type: 'transcript.text.delta', delta: ' two,' });
      assert.equal((await whole.next()).value, { type: 'transcript.text.done', text: 'one two,' });
      assert.is((await whole.next()).done, true);
      const broken = await begin();
      await broken.next();
      fail(new Error('at /secret/place'));
      const came = await broken.next().then(String, (reason: unknown) => reason);
      assert.instance(came, APIError);
      assert.is((came as APIError).type, 'server_error');
      assert.not.ok((came as APIError).message.includes('secret'), (came as APIError).message);
      assert.ok(
        log.some((line) => line.includes('at /secret/place')),
        'the log tells what happened',
      );
    });
  });
});

test('translations are English; a model that is English-only says that it cannot', async () => {
  await withStandIn({ gated: false }, async ({ calls }) => {
    const whisper = await Whisper.open();
    await serving(whisper, { defaults: { language: 'de', beamSize: 2 } }, async ({ client }) => {
      const file = await upload();
      const plain = await client.audio.translations.create({ file, model: 'whisper-1', prompt: 'Names: Zoë.' });
      assert.is(plain.text, 'one two,');
      const { options } = calls[0]!;
      assert.equal(
        [options.translate, options.initialPrompt, options.language, options.beamSize],
        [true, 'Names: Zoë.', 'de', 2],
      );
      const verbose = await client.audio.translations.create({
        file,
        model: 'whisper-1',
        response_format: 'verbose_json',
      });
      assert.is((verbose as { language?: string }).language, 'english');
      const german = await client.audio.transcriptions.create({
        file,
        model: 'whisper-1',
        language: 'German',
        temperature: 0.4,
        response_format: 'verbose_json',
      });
      assert.is(german.language, 'german');
      assert.equal([calls.at(-1)!.options.translate, calls.at(-1)!.options.temperature], [false, 0.4]);
    });
  });
  await serving(bundled, {}, async ({ client }) => {
    const refused = await client.audio.translations
      .create({ file: await upload(), model: 'whisper-1' })
      .then(String, (error: unknown) => error);
    assert.equal([(refused as APIError).status, (refused as APIError).param], [400, 'model']);
  });
});

test("OpenAI's client sees models, and errors with their parameter and code", async () => {
  await serving(bundled, { modelName: 'ggml-base' }, async ({ client }) => {
    const ids = [];
    for await (const { id } of client.models.list()) ids.push(id);
    assert.equal(ids, ['ggml-base', 'whisper-1']);
    assert.is((await client.models.retrieve('ggml-base')).object, 'model');
    const cases: [number, string | null, string, () => Promise<unknown>][] = [
      [404, 'model', 'model_not_found', () => client.models.retrieve('gpt-4/../x')],
      [
        404,
        'model',
        'model_not_found',
        async () => client.audio.transcriptions.create({ file: await upload(), model: 'gpt-4o-transcribe' }),
      ],
      [
        400,
        'file',
        'invalid_audio',
        async () =>
          client.audio.transcriptions.create({ file: await toFile(Buffer.from('text'), 'a.wav'), model: 'whisper-1' }),
      ],
      [
        400,
        'language',
        'invalid_value',
        async () => client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1', language: 'tlh' }),
      ],
    ];
    for (const [status, param, code, run] of cases) {
      const error = (await run().then(String, (reason: unknown) => reason)) as APIError;
      assert.instance(error, APIError, String(error));
      assert.equal([error.status, error.param, error.code], [status, param, code]);
      assert.ok(error.requestID, 'an id to find it in the log');
    }
  });
});

test('audio without speech has an empty text', async () => {
  await serving(bundled, {}, async ({ client }) => {
    const silence = Buffer.alloc(44 + 32000);
    Buffer.from('524946462400000057415645666d74201000000001000100803e0000007d0000020010006461746100000000', 'hex').copy(
      silence,
    );
    silence.writeUInt32LE(36 + 32000, 4);
    silence.writeUInt32LE(32000, 40);
    const file = await toFile(silence, 'silence.wav');
    for (const [response_format, body] of [
      ['text', '\n'],
      ['srt', ''],
      ['vtt', 'WEBVTT\n\n'],
    ] as const) {
      assert.is(await client.audio.transcriptions.create({ file, model: 'whisper-1', response_format }), body);
    }
    const verbose = await client.audio.transcriptions.create({
      file,
      model: 'whisper-1',
      response_format: 'verbose_json',
    });
    assert.equal([verbose.text, verbose.segments, verbose.language], ['', [], 'unknown']);
    const stream = await client.audio.transcriptions.create({ file, model: 'whisper-1', stream: true });
    const events = [];
    for await (const event of stream) events.push(event);
    assert.equal(events, [{ type: 'transcript.text.done', text: '' }]);
  });
});

test(`${HOSTILE.length} hostile requests: each gets its status and a sentence, and the server goes on`, async () => {
  const limits = { body: 200_000, parts: 20, field: 1000, headersSeconds: 0.6, requestSeconds: 1 };
  await serving(bundled, { limits, parallel: 2 }, async ({ port, client, log }) => {
    const failures: string[] = [];
    const check = ({ name, status, message, headers = {} }: Hostile, answer: RawAnswer | null) => {
      const wrong = (what: string) => failures.push(`${name}: ${what}: ${JSON.stringify(answer)}`);
      if (answer === null) return wrong('no answer');
      if (answer.status !== status) return wrong(`expected ${status}`);
      const { error } = JSON.parse(answer.body) as { error: Record<string, unknown> };
      if (Object.keys(error).join() !== 'message,type,param,code') wrong('another form');
      if (!message.test(String(error.message)) || !/[.?!]$/.test(String(error.message))) wrong(`expected ${message}`);
      if (answer.body.includes(folder)) wrong('tells a path');
      for (const [key, value] of Object.entries(headers))
        if (answer.headers[key] !== value) wrong(`expected ${key}: ${value}`);
    };
    for (let i = 0; i < HOSTILE.length; i += 8) {
      await Promise.all(
        HOSTILE.slice(i, i + 8).map(async (hostile) =>
          check(hostile, await sendRaw(port, hostile.parts, hostile.close)),
        ),
      );
    }
    assert.equal(failures, []);
    assert.ok(
      log.every((line) => line.endsWith('\n') && !/\p{Cc}/u.test(line.slice(0, -1))),
      'lines stay lines',
    );
    assert.not.ok(
      log.some((line) => line.includes('    at ')),
      log.find((line) => line.includes('    at ')),
    );
    const json = await client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1' });
    assert.is(json.text, truth.text);
    const health = (await (await fetch(`http://127.0.0.1:${port}/health`)).json()) as {
      working: number;
      waiting: number;
    };
    assert.equal([health.working, health.waiting], [0, 0]);
  });
});

/** What the check of hosts says to a request: 'ok' or its status. */
function hostAnswer(names: { host: string; names?: string[] }, host: string, origin?: string): number | 'ok' {
  try {
    hostCheck(
      names.host,
      names.names ?? [],
    )({
      headers: { host, ...(origin !== undefined && { origin }) },
      headersDistinct: { host: [host] },
    } as never);
    return 'ok';
  } catch (error) {
    return (error as { status: number }).status;
  }
}

test('an address to listen on is a name of the server, IPv6 in brackets and however it is written', () => {
  const six = { host: 'fd00::1' };
  for (const host of ['[fd00::1]', '[fd00::1]:8000', '[FD00:0:0::1]:8000', 'localhost:8000', '[::1]', '127.0.0.1']) {
    assert.is(hostAnswer(six, host), 'ok', host);
  }
  for (const host of ['fd00::1', '[fd00::2]', '192.168.1.7', 'box.lan']) assert.is(hostAnswer(six, host), 403, host);
  assert.is(hostAnswer({ host: 'fe80::1%eth0' }, '[fe80::1]:8000'), 'ok');
  assert.is(hostAnswer({ host: '192.168.1.7' }, '192.168.1.7:8000', 'http://192.168.1.7:3000'), 'ok');
  assert.is(hostAnswer({ host: '192.168.1.7' }, '192.168.1.8:8000'), 403);
});

test('listening on every address: any address is a name of the server, a name only if it was given', () => {
  for (const any of [{ host: '0.0.0.0' }, { host: '::' }, { host: '0:0::0' }]) {
    for (const host of ['192.168.1.7:8000', '[fd00::1]:8000', '127.0.0.1', 'localhost']) {
      assert.is(hostAnswer(any, host), 'ok', `${any.host} ${host}`);
    }
    for (const host of ['evil.com', '192.168.1.7.evil.com:8000', 'box.lan'])
      assert.is(hostAnswer(any, host), 403, host);
    // A page of another address is another site; one of the same address is ours.
    assert.is(hostAnswer(any, '192.168.1.7:8000', 'http://192.168.1.7:3000'), 'ok');
    assert.is(hostAnswer(any, '192.168.1.7:8000', 'http://localhost:3000'), 'ok');
    assert.is(hostAnswer(any, '192.168.1.7:8000', 'http://203.0.113.5'), 403);
    assert.is(hostAnswer(any, '127.0.0.1:8000', 'http://203.0.113.5'), 403);
  }
  const named = { host: '0.0.0.0', names: ['Box.LAN', 'whisper.example'] };
  assert.is(hostAnswer(named, 'box.lan:8000', 'https://whisper.example'), 'ok');
  assert.is(hostAnswer(named, 'other.lan'), 403);
  for (const name of ['box.lan:8000', 'http://box.lan', 'box/lan', '', 'a b']) {
    assert.throws(
      () => hostCheck('127.0.0.1', [name]),
      (error: { code: string; message: string }) => error.code === 'E_CONFIG' && error.message.includes(name),
    );
  }
});

test('a server on 0.0.0.0 answers to the address of this machine', async () => {
  await serving(bundled, { host: '0.0.0.0', hostNames: ['box.lan'] }, async ({ port }) => {
    const statuses = [];
    for (const host of ['192.168.1.7', 'box.lan', 'evil.com']) {
      statuses.push((await sendRaw(port, [head('GET /health', { host: `${host}:${port}` })]))?.status);
    }
    assert.equal(statuses, [200, 200, 403]);
  });
});

test('audio may be only so long, whatever its file says of it', async () => {
  /** Silence that says it has so many samples; 0: not known. */
  const claiming = (seconds: number, samples: number): Buffer => {
    const flac = silentFlac(seconds);
    flac.writeUInt8(flac[21]! & 0xf0, 21);
    flac.writeUInt32BE(samples, 22);
    return flac;
  };
  const ask = async (port: number, file: Buffer, ...more: Part[]) => {
    const answer = (await sendRaw(port, [formRequest([{ ...FILE, value: file }, ...more])]))!;
    return [answer.status, JSON.parse(answer.body).error?.code ?? 'heard'];
  };
  await serving(bundled, { limits: { audioSeconds: 60 } }, async ({ port, log }) => {
    const tooLong = [400, 'audio_too_long'];
    assert.equal(await ask(port, silentFlac(61)), tooLong, 'as it says');
    assert.equal(await ask(port, claiming(300, 5 * 16000)), tooLong, 'it says 5 s');
    assert.equal(await ask(port, claiming(300, 0)), tooLong, 'it does not say');
    assert.equal(await ask(port, claiming(300, 0), { name: 'stream', value: 'true' }), tooLong, 'before events begin');
    assert.equal(await ask(port, silentFlac(60)), [200, 'heard']);
    assert.equal(await ask(port, claiming(60, 0)), [200, 'heard']);
    await until('a line', () => log.length === 6);
    assert.ok(!log.some((line) => line.includes('    at ')), 'nothing failed');
  });
  await serving(bundled, {}, async ({ port }) => {
    assert.equal(await ask(port, silentFlac(4 * 3600 + 1)), [400, 'audio_too_long'], 'four hours if nothing is said');
  });
});

test('what a client calls its file and sends in its fields is neither a path nor in the log', async () => {
  await serving(bundled, { log: { format: 'json' } as never }, async ({ port, log }) => {
    const answer = await sendRaw(port, [
      formRequest(
        [
          { ...FILE, fileName: '..\\..\\a-secret-name.ogg' },
          { name: 'prompt', value: 'a secret prompt' },
        ],
        { authorization: 'Bearer sk-a-secret', origin: 'http://localhost:3000', host: `LOCALHOST:${port}` },
      ),
    ]);
    assert.equal([answer?.status, JSON.parse(answer!.body).text.length > 0], [200, true]);
    await until('a line', () => log.length > 0);
    assert.not.ok(log.join('').includes('secret'), log.join(''));
    const line = JSON.parse(log[0]!);
    assert.equal(
      [line.event, line.method, line.route, line.status, line.bytes, line.code, line.id],
      ['request', 'POST', '/v1/audio/transcriptions', 200, AUDIO.length, null, answer!.headers['x-request-id']],
    );
    assert.ok(line.audio > 1 && line.seconds > 0 && line.queued >= 0);
  });
});

test('an upload lies in a folder that only we can look into', async () => {
  await withStandIn({}, async ({ calls, pass }) => {
    await serving(await Whisper.open(), {}, async ({ port }) => {
      const answer = sendRaw(port, [formRequest([{ ...FILE, fileName: '/tmp/../evil' }])]);
      await until('the call', () => calls.length === 1);
      const names = uploads();
      assert.is(names.length, 2);
      assert.match(names.at(-1)!, /^voicegrpo-serve-\w+\/\d+$/);
      assert.equal(
        names.map((name) => statSync(join(folder, name)).mode & 0o777),
        [0o700, 0o600],
      );
      pass();
      assert.is((await answer)?.status, 200);
      await until('it is gone', () => uploads().length === 1);
    });
  });
});

/** A server over a stand-in: two requests at once, two wait. */
async function crowded(
  run: (
    served: Served & StandInWhisper & { send: (headers?: Record<string, string>) => Promise<RawAnswer | null> },
  ) => Promise<void>,
  options: Partial<ServerOptions> = {},
): Promise<void> {
  await withStandIn({}, async (standIn) => {
    const whisper = await Whisper.open('bundled', { parallel: 2, threads: 1 });
    await serving(whisper, { parallel: 2, limits: { waiting: 2 }, ...options }, (served) =>
      run({ ...served, ...standIn, send: (headers) => sendRaw(served.port, [formRequest([FILE], headers)]) }),
    );
  });
}

interface Health {
  working: number;
  waiting: number;
  uploading: number;
}

async function healthOf(port: number): Promise<Health> {
  return (await (await fetch(`http://127.0.0.1:${port}/health`)).json()) as Health;
}

test('the queue is bounded: beyond it 503 with Retry-After, before the body is read; then there is room again', async () => {
  await crowded(async ({ port, calls, pass, send }) => {
    const admitted = [send(), send()];
    await until('both work', () => calls.length === 2);
    admitted.push(send(), send());
    await until('two wait', async () => (await healthOf(port)).waiting === 2);
    const refused = await sendRaw(port, [head(POST, { ...FORM_TYPE, 'content-length': '90000' })]); // and sends no body
    assert.is(refused?.status, 503);
    assert.match(refused!.headers['retry-after']!, /^[1-9]\d?$/);
    assert.is(JSON.parse(refused!.body).error.code, 'overloaded');
    for (let i = 0; i < 4; i++) pass();
    assert.equal(
      (await Promise.all(admitted)).map((answer) => answer?.status),
      [200, 200, 200, 200],
    );
    pass();
    assert.is((await send())?.status, 200);
    assert.is(calls.length, 5);
  });
});

test('what fails on our side is no error of the client, and the log tells more', async () => {
  await withStandIn({}, async ({ calls, fail }) => {
    await serving(await Whisper.open(), {}, async ({ port, log }) => {
      const cases: [string, number, string][] = [
        ['E_LIMIT', 503, 'out_of_memory'],
        ['E_NUMERIC', 500, 'model_failure'],
      ];
      for (const [i, [code, status, said]] of cases.entries()) {
        const answer = sendRaw(port, [formRequest([FILE])]);
        await until('the call', () => calls.length === i + 1);
        fail(Object.assign(new Error(`layer 3 at 0x7f of ${code}`), { code, hint: 'use a smaller model' }));
        const { status: got, headers, body } = (await answer)!;
        const { error } = JSON.parse(body);
        assert.equal([got, error.type, error.code, error.param], [status, 'server_error', said, null]);
        assert.not.ok(/layer|0x7f|smaller/.test(error.message), error.message);
        assert.is(
          status === 503,
          /^[1-9]\d*$/.test(headers['retry-after'] ?? ''),
          'Retry-After where it helps to retry',
        );
        await until('a note', () => log.some((line) => line.includes(`layer 3 at 0x7f of ${code}`)));
      }
    });
  });
});

/** A request that sends all but the end of its body, and the rest when it is told. */
async function slowUpload(port: number): Promise<{ finish: () => void; leave: () => void; answer: Promise<Response> }> {
  const body = formBody([FILE]);
  let finish = () => {};
  const told = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const gone = new AbortController();
  async function* parts() {
    yield body.subarray(0, 2000);
    await told;
    yield body.subarray(2000);
  }
  const before = (await healthOf(port)).uploading;
  const answer = fetch(`http://127.0.0.1:${port}/v1/audio/transcriptions`, {
    method: 'POST',
    headers: FORM_TYPE,
    body: parts(),
    duplex: 'half',
    signal: gone.signal,
  } as never);
  answer.catch(() => {});
  await until('it uploads', async () => (await healthOf(port)).uploading === before + 1);
  return { finish, leave: () => gone.abort(), answer };
}

test('who sends slowly takes no place in the queue, and gets one when all is there', async () => {
  await crowded(
    async ({ port, calls, pass, send }) => {
      const slow = [await slowUpload(port), await slowUpload(port), await slowUpload(port)];
      pass();
      assert.is((await send())?.status, 200);
      assert.equal(await healthOf(port), { status: 'ok', model: 'bundled', working: 0, waiting: 0, uploading: 3 });
      slow[0]!.finish();
      await until('it works', () => calls.length === 2);
      assert.is((await send())?.status, 503, 'the queue is full');
      slow[1]!.finish(); // too late
      const late = await slow[1]!.answer;
      assert.equal([late.status, Number(late.headers.get('retry-after')) > 0], [503, true]);
      pass();
      assert.is((await slow[0]!.answer).status, 200);
      slow[2]!.leave();
      await until('none uploads', async () => (await healthOf(port)).uploading === 0);
    },
    { parallel: 1, limits: { waiting: 0 } },
  );
});

test('uploads are bounded too: beyond it 503 with Retry-After, before the body is read; then there is room again', async () => {
  await crowded(
    async ({ port, pass, send }) => {
      const slow = [await slowUpload(port), await slowUpload(port)];
      const refused = await sendRaw(port, [head(POST, { ...FORM_TYPE, 'content-length': '90000' })]);
      assert.equal([refused?.status, JSON.parse(refused!.body).error.code], [503, 'overloaded']);
      assert.match(refused!.headers['retry-after']!, /^[1-9]\d?$/);
      slow[0]!.leave();
      await until('one uploads', async () => (await healthOf(port)).uploading === 1);
      pass();
      assert.is((await send())?.status, 200);
      slow[1]!.leave();
    },
    { limits: { uploads: 2 } },
  );
});

test('a request that is alone has all threads, one that comes beside it its share', async () => {
  await withStandIn({}, async ({ calls, pass }) => {
    const whisper = await Whisper.open('bundled', { parallel: 4, threads: 9 });
    await serving(whisper, { parallel: 4 }, async ({ port }) => {
      const send = () => sendRaw(port, [formRequest([FILE])]);
      const threads = () => calls.map(({ options }) => options.threads);
      const first = send();
      await until('one works', () => calls.length === 1);
      const second = send();
      await until('two work', () => calls.length === 2);
      assert.equal(threads(), [9, 4]);
      pass();
      await first;
      const third = send();
      await until('the third works', () => calls.length === 3);
      pass();
      pass();
      await Promise.all([second, third]);
      const last = send();
      await until('the last works', () => calls.length === 4);
      assert.equal(threads(), [9, 4, 5, 9]);
      pass();
      await last;
    });
  });
});

test("OpenAI's client waits as Retry-After says, and gets its answer", async () => {
  await crowded(
    async ({ server, calls, pass }) => {
      const patient = new OpenAI({ apiKey: 'x', baseURL: server.url, maxRetries: 3 });
      const create = async () => patient.audio.transcriptions.create({ file: await upload(), model: 'whisper-1' });
      const first = create();
      await until('it works', () => calls.length === 1);
      const second = create();
      setTimeout(pass, 300);
      setTimeout(pass, 300);
      assert.equal([(await first).text, (await second).text], ['one two,', 'one two,']);
    },
    { parallel: 1, limits: { waiting: 0 } },
  );
});

test('Expect: 100-continue is answered before the body, or with the refusal', async () => {
  await crowded(
    async ({ port, calls, pass, send }) => {
      pass();
      const allowed = await send({ expect: '100-continue' });
      assert.is(allowed?.status, 200);
      const running = send();
      await until('it works', () => calls.length === 2);
      const refused = await sendRaw(port, [
        head(POST, { ...FORM_TYPE, 'content-length': '90000', expect: '100-continue' }),
      ]);
      assert.equal([refused?.status, refused?.headers.connection], [503, 'close']);
      pass();
      assert.is((await running)?.status, 200);
    },
    { parallel: 1, limits: { waiting: 0 } },
  );
});

test('a client that goes away ends its work, waiting or running, and makes room', async () => {
  await crowded(async ({ client, port, calls, pass, log }) => {
    const leave: AbortController[] = [];
    const start = async (stream: boolean) => {
      const gone = new AbortController();
      leave.push(gone);
      const body = { file: await upload(), model: 'whisper-1', ...(stream && { stream }) };
      client.audio.transcriptions.create(body as never, { signal: gone.signal }).catch(() => {});
    };
    await start(false);
    await start(true);
    await until('both work', () => calls.length === 2);
    await start(false);
    await until('one waits', async () => (await healthOf(port)).waiting === 1);
    leave[2]!.abort();
    await until('it waits no more', async () => (await healthOf(port)).waiting === 0);
    assert.is(calls.length, 2);
    leave[0]!.abort();
    leave[1]!.abort();
    await until('nothing works', async () => (await healthOf(port)).working === 0);
    assert.ok(calls.every(({ signal }) => signal?.aborted));
    await until('three lines', () => log.filter((line) => line.includes('POST')).length === 3);
    assert.is(log.filter((line) => / gone /.test(line)).length, 2, log.join('')); // events had begun in the third
    pass();
    const answer = await client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1' });
    assert.is(answer.text, 'one two,');
  });
});

test('stopping: what is under way is answered, new requests are not, connections close', async () => {
  await crowded(async ({ server, port, calls, pass, send }) => {
    const running = send();
    await until('it works', () => calls.length === 1);
    const stopping = server.stop();
    assert.is(server.stop(), stopping);
    await assert_refused(port);
    pass();
    const answer = await running;
    assert.is(answer?.status, 200);
    await stopping;
  });
  async function assert_refused(port: number): Promise<void> {
    const outcome = await fetch(`http://127.0.0.1:${port}/health`).then(
      (response) => response.status,
      () => 'refused',
    );
    assert.ok(outcome === 'refused' || outcome === 503, String(outcome));
  }
});

test('stopping: what takes too long is ended and told so', async () => {
  await crowded(
    async ({ server, calls, send }) => {
      const running = send();
      await until('it works', () => calls.length === 1);
      await server.stop();
      const answer = await running;
      assert.equal([answer?.status, JSON.parse(answer!.body).error.code], [503, 'stopping']);
      assert.is(calls[0]!.signal?.aborted, true);
    },
    { limits: { stopSeconds: 0.2 } },
  );
});

test('a port that is taken is a sentence', async () => {
  await serving(bundled, {}, async ({ port }) => {
    const error = await serving(bundled, { port }, async () => {}).then(
      String,
      (reason: Error & { code: string }) => reason,
    );
    assert.instance(error, Error);
    assert.equal([(error as { code: string }).code], ['E_CONFIG']);
    assert.match((error as Error).message, new RegExp(`127\\.0\\.0\\.1:${port}: expected a free port`));
  });
});

// openai-whisper's names (tokenizer.py, LANGUAGES).
const LANGUAGES: Record<string, string> = {
  en: 'english',
  zh: 'chinese',
  de: 'german',
  es: 'spanish',
  ru: 'russian',
  ko: 'korean',
  fr: 'french',
  ja: 'japanese',
  pt: 'portuguese',
  tr: 'turkish',
  pl: 'polish',
  ca: 'catalan',
  nl: 'dutch',
  ar: 'arabic',
  sv: 'swedish',
  it: 'italian',
  id: 'indonesian',
  hi: 'hindi',
  fi: 'finnish',
  vi: 'vietnamese',
  he: 'hebrew',
  uk: 'ukrainian',
  el: 'greek',
  ms: 'malay',
  cs: 'czech',
  ro: 'romanian',
  da: 'danish',
  hu: 'hungarian',
  ta: 'tamil',
  no: 'norwegian',
  th: 'thai',
  ur: 'urdu',
  hr: 'croatian',
  bg: 'bulgarian',
  lt: 'lithuanian',
  la: 'latin',
  mi: 'maori',
  ml: 'malayalam',
  cy: 'welsh',
  sk: 'slovak',
  te: 'telugu',
  fa: 'persian',
  lv: 'latvian',
  bn: 'bengali',
  sr: 'serbian',
  az: 'azerbaijani',
  sl: 'slovenian',
  kn: 'kannada',
  et: 'estonian',
  mk: 'macedonian',
  br: 'breton',
  eu: 'basque',
  is: 'icelandic',
  hy: 'armenian',
  ne: 'nepali',
  mn: 'mongolian',
  bs: 'bosnian',
  kk: 'kazakh',
  sq: 'albanian',
  sw: 'swahili',
  gl: 'galician',
  mr: 'marathi',
  pa: 'punjabi',
  si: 'sinhala',
  km: 'khmer',
  sn: 'shona',
  yo: 'yoruba',
  so: 'somali',
  af: 'afrikaans',
  oc: 'occitan',
  ka: 'georgian',
  be: 'belarusian',
  tg: 'tajik',
  sd: 'sindhi',
  gu: 'gujarati',
  am: 'amharic',
  yi: 'yiddish',
  lo: 'lao',
  uz: 'uzbek',
  fo: 'faroese',
  ht: 'haitian creole',
  ps: 'pashto',
  tk: 'turkmen',
  nn: 'nynorsk',
  mt: 'maltese',
  sa: 'sanskrit',
  lb: 'luxembourgish',
  my: 'myanmar',
  bo: 'tibetan',
  tl: 'tagalog',
  mg: 'malagasy',
  as: 'assamese',
  tt: 'tatar',
  haw: 'hawaiian',
  ln: 'lingala',
  ha: 'hausa',
  ba: 'bashkir',
  jw: 'javanese',
  su: 'sundanese',
  yue: 'cantonese',
};

test('languages have the names of the API, and are known by code and name', () => {
  const codes = Object.keys(LANGUAGES);
  assert.is(codes.length, 100);
  for (const [code, name] of Object.entries(LANGUAGES)) {
    assert.is(languageName(code), name);
    assert.is(languageCode(code, codes), code);
    assert.is(languageCode(` ${name.toUpperCase()} `, codes), code);
  }
  assert.is(languageCode('klingon', codes), null);
  assert.is(languageCode('german', ['en']), null);
});

const SERVE = ['transcribe', '--serve', '0', '--threads', '2'];

/** The command, ended by a signal once `run` has done. */
async function served(args: string[], run: (url: string) => Promise<() => Promise<void>>, signal: NodeJS.Signals) {
  let begun = false;
  let after: Promise<() => Promise<void>> | undefined;
  const outcome = await runCli(args, { TMPDIR: folder }, (child, stderr) => {
    const url = /at (http:\S+) until/.exec(stderr)?.[1];
    if (url === undefined || begun) return;
    begun = true;
    after = run(url);
    after.then(
      () => child.kill(signal),
      () => child.kill('SIGKILL'),
    );
  });
  await (await after)?.();
  return outcome;
}

test('voicegrpo transcribe --serve: answers, finishes what is under way at SIGTERM, leaves nothing', async () => {
  const outcome = await served(
    SERVE,
    async (url) => {
      const client = new OpenAI({ apiKey: 'x', baseURL: url, maxRetries: 0 });
      const create = async () => client.audio.transcriptions.create({ file: await upload(), model: 'whisper-1' });
      assert.is((await create()).text, truth.text);
      const running = create();
      await until('it works', async () => {
        const { working } = (await (await fetch(url.replace('/v1', '/health'))).json()) as { working: number };
        return working === 1;
      });
      return async () => assert.is((await running).text, truth.text);
    },
    'SIGTERM',
  );
  assert.equal([outcome.code, outcome.stdout], [143, '']);
  const lines = outcome.stderr.trim().split('\n');
  assert.match(lines[0]!, /^Serving 'bundled' at http:\/\/127\.0\.0\.1:\d+\/v1 until Ctrl-C\.$/);
  assert.ok(
    lines.slice(1).every((line) => /^\d{4}-\S+Z (GET|POST) \/\S+ 200 /.test(line)),
    outcome.stderr,
  );
  assert.equal(uploads(), []);
});

test('voicegrpo transcribe --serve: Ctrl-C ends with 130; --log-format json makes every line JSON', async () => {
  const outcome = await served(
    [...SERVE, '--log-format', 'json', '--host', '0.0.0.0'],
    async (url) => {
      assert.is((await fetch(`${url}/models`)).status, 200);
      return async () => {};
    },
    'SIGINT',
  );
  assert.is(outcome.code, 130);
  const lines = outcome.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(
    lines.map(({ event, route, status }) => [event, route, status]),
    [
      ['note', undefined, undefined],
      ['note', undefined, undefined],
      ['request', '/v1/models', 200],
    ],
  );
  assert.ok(lines.every(({ time }) => !Number.isNaN(Date.parse(time))));
  assert.match(lines[0].text, /asks for no password/);
  assert.match(lines[1].text, /^Serving 'bundled' at http:\/\/0\.0\.0\.0:\d+\/v1 until Ctrl-C\.$/);
});

test('voicegrpo transcribe --serve --host-name: further names of this machine', async () => {
  const statuses: (number | undefined)[] = [];
  const outcome = await served(
    [...SERVE, '--host-name', 'box.lan', '--host-name', 'whisper.example'],
    async (url) => {
      for (const host of ['box.lan', 'whisper.example', 'evil.com']) {
        statuses.push((await sendRaw(Number(new URL(url).port), [head('GET /health', { host })]))?.status);
      }
      return async () => {};
    },
    'SIGINT',
  );
  assert.is(outcome.code, 130, outcome.stderr);
  assert.equal(statuses, [200, 200, 403]);
});

test('voicegrpo transcribe --serve: usage errors end with 2, a missing model with 3', async () => {
  const cases: [number, string[], RegExp][] = [
    [2, ['--serve', '70000'], /--serve: expected a whole number from 0 to 65535/],
    [2, ['--serve', '0', '--parallel', '0'], /--parallel/],
    [2, ['--serve', '0', '--log-format', 'xml'], /--log-format/],
    [2, ['--serve', '0', CLIP], /no files/],
    [2, ['--serve', '0', '--host-name', 'box.lan:80'], /box\.lan:80/],
    [2, ['--serve', '0', '--language', 'klingon'], /language/],
    [2, [], /audio files, or --serve PORT/],
    [3, ['--serve', '0', '--model', 'missing.bin'], /missing\.bin/],
  ];
  for (const [code, args, message] of cases) {
    const outcome = await runCli(['transcribe', ...args]);
    assert.is(outcome.code, code, outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.not.match(outcome.stderr, /^\s+at /m);
  }
});

test('the model closes when all is done', async () => {
  await bundled[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

test.run();
