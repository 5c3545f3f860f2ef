/** The hub client against a stand-in of the hub: what it asks for, what it survives, what it refuses. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/errors.js';
import type { Repository, TreeEntry } from '../src/hub/cache.js';
import { Hub } from '../src/hub/client.js';
import { type HubEnvironment, hubEnvironment } from '../src/hub/environment.js';
import { type HttpOptions, HubHttp } from '../src/hub/http.js';
import { cachedRanges, localFile } from '../src/hub/ranges.js';
import { type Fault, type SeenRequest, StandInHub } from './hub/stand-in.js';

// The machine's own proxy is not part of any test.
for (const name of ['http_proxy', 'https_proxy', 'no_proxy', 'all_proxy']) {
  delete process.env[name];
  delete process.env[name.toUpperCase()];
}

const REPOSITORY: Repository = { type: 'dataset', id: 'org/data' };
const COMMIT = 'c0ffee'.padEnd(40, '0');
const TOKEN = 'hf_right';
const LARGE = contentOf('large', 400_000);
const SMALL = Buffer.from('a,b\n1,2\n');
const FILES = { 'data/large.bin': LARGE, 'small.csv': SMALL };
const MIB = 2 ** 20;

function contentOf(name: string, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(name).digest();
}

interface Scene {
  hub: StandInHub;
  /** Of all clients. */
  cache: string;
  /** Seconds that the clients were to wait. They do not. */
  waits: number[];
  notes: string[];
  client(environment?: Partial<HubEnvironment>, options?: HttpOptions): Hub;
  /** A file of the repository. */
  entry(path: string): Promise<TreeEntry>;
  /** Requests for the content of files. */
  fetched(host?: SeenRequest['host']): SeenRequest[];
}

/** A hub with FILES, and clients of an empty cache; closed and removed in the end. */
async function scene(
  work: (scene: Scene) => Promise<void>,
  options: { token?: string; pageSize?: number; files?: Record<string, Uint8Array> } = {},
): Promise<void> {
  const hub = await StandInHub.start(options);
  hub.add({ ...REPOSITORY, commit: COMMIT, files: options.files ?? FILES, refs: ['v1', 'refs/pr/2'] });
  const cache = mkdtempSync(join(tmpdir(), 'voicegrpo-hub-'));
  const clients: Hub[] = [];
  const waits: number[] = [];
  const notes: string[] = [];
  const client: Scene['client'] = (environment = {}, more = {}) => {
    const made = new Hub(
      { endpoint: hub.endpoint, cache, token: null, offline: false, ...environment },
      {
        wait: async (seconds) => void waits.push(seconds),
        jitter: () => 0.5,
        note: (text) => void notes.push(text),
        timeout: 5000,
        ...more,
      },
    );
    clients.push(made);
    return made;
  };
  try {
    await work({
      hub,
      cache,
      waits,
      notes,
      client,
      entry: (path) => client().entry(REPOSITORY, COMMIT, path),
      fetched: (host) =>
        hub.requests.filter(
          (request) => !/^\/api\/(?!resolve-cache)/.test(request.path) && request.host === (host ?? request.host),
        ),
    });
  } finally {
    await Promise.all(clients.map((made) => made.close()));
    await hub.close();
    rmSync(cache, { recursive: true });
  }
}

async function failure(work: () => Promise<unknown>): Promise<VoiceGrpoError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, VoiceGrpoError, String((error as Error).stack));
    assert.not.match((error as Error).message, /\n/);
    return error as VoiceGrpoError;
  }
  throw new Error('nothing was thrown');
}

async function refused(work: () => Promise<unknown>, message: string | RegExp): Promise<VoiceGrpoError> {
  const error = await failure(work);
  assert.is(error.code, 'E_HUB');
  assert.match(error.message, message);
  return error;
}

async function aborted(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.is((error as Error).name, 'AbortError', String((error as Error).stack));
    return;
  }
  throw new Error('nothing was thrown');
}

const folderOf = (cache: string) => join(cache, 'datasets--org--data');
const blobsOf = (cache: string) => join(folderOf(cache), 'blobs');
/** Content that was not finished. */
const partsOf = (cache: string) =>
  existsSync(blobsOf(cache)) ? readdirSync(blobsOf(cache)).filter((name) => name.endsWith('.incomplete')) : [];
/** Forgets content, not listings. */
function forget(cache: string): void {
  rmSync(blobsOf(cache), { recursive: true, force: true });
  rmSync(join(folderOf(cache), 'snapshots'), { recursive: true, force: true });
}
const ofCdn = ({ host }: { host: string }) => host === 'cdn';
const ofHub = ({ host }: { host: string }) => host === 'hub';
const firstByte = ({ range }: { range: string | null }) => Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
const plainAnswer = (status: number, headers: Record<string, string> = {}, body = ''): Fault => ({
  kind: 'status',
  status,
  headers,
  body,
});

async function listening<T extends { listen(port: number, address: string): unknown }>(server: T): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server as unknown as Server, 'listening');
  return `127.0.0.1:${((server as unknown as Server).address() as AddressInfo).port}`;
}

/** A server of its own mind. */
async function withServer(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  work: (address: string) => Promise<void>,
): Promise<void> {
  const server = createServer(handle);
  const address = await listening(server);
  try {
    await work(address);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

// The environment

test('environment: the variables of huggingface_hub', () => {
  const home = mkdtempSync(join(tmpdir(), 'voicegrpo-home-'));
  writeFileSync(join(home, 'token'), 'hf_file\n');
  const of = (env: Record<string, string>) => hubEnvironment({ HOME: '/home/me', ...env });

  assert.equal(of({}), {
    endpoint: 'https://huggingface.co',
    cache: '/home/me/.cache/huggingface/hub',
    token: null,
    offline: false,
  });
  assert.is(of({ XDG_CACHE_HOME: '/x' }).cache, '/x/huggingface/hub');
  assert.is(of({ XDG_CACHE_HOME: '/x', HF_HOME: '~/hf' }).cache, '/home/me/hf/hub');
  assert.is(of({ HUGGINGFACE_HUB_CACHE: '/old' }).cache, '/old');
  assert.is(
    of({ HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '$STORE/$NONE/$' + '{STORE}', STORE: 's' }).cache,
    's/$NONE/s',
  );

  assert.is(of({ HF_HOME: home }).token, 'hf_file');
  assert.is(of({ HF_TOKEN_PATH: join(home, 'token') }).token, 'hf_file');
  assert.is(of({ HF_HOME: home, HUGGING_FACE_HUB_TOKEN: 'hf_old' }).token, 'hf_old');
  assert.is(of({ HF_HOME: home, HUGGING_FACE_HUB_TOKEN: 'hf_old', HF_TOKEN: ' hf_new\r\n' }).token, 'hf_new');
  assert.is(of({ HF_HOME: home, HF_TOKEN: ' ' }).token, 'hf_file');
  assert.is(of({ HF_HOME: home, HF_TOKEN: 'hf_new', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' }).token, null);

  for (const [value, offline] of [
    ['1', true],
    ['yes', true],
    ['ON', true],
    ['True', true],
    ['0', false],
    ['', false],
  ] as const) {
    assert.is(of({ HF_HUB_OFFLINE: value }).offline, offline, value);
  }
  assert.is(of({ TRANSFORMERS_OFFLINE: '1' }).offline, true);
  assert.is(of({ TRANSFORMERS_OFFLINE: '1', HF_HUB_OFFLINE: '0' }).offline, false);

  assert.is(of({ HF_ENDPOINT: 'https://mirror.example/hub//' }).endpoint, 'https://mirror.example/hub');
  assert.is(of({ HF_ENDPOINT: ' http://localhost:8080/ ' }).endpoint, 'http://localhost:8080');
  rmSync(home, { recursive: true });
});

test('environment: an endpoint that is none and a token that cannot be sent are refused, the token unseen', async () => {
  for (const endpoint of ['mirror.example', 'ftp://mirror.example', 'https://']) {
    const error = await failure(async () => hubEnvironment({ HF_ENDPOINT: endpoint }));
    assert.is(error.code, 'E_CONFIG');
    assert.match(error.message, endpoint);
    assert.match(error.hint, 'HF_ENDPOINT=https://huggingface.co');
  }
  const error = await failure(async () => hubEnvironment({ HF_TOKEN: 'hf_…secret' }));
  assert.is(error.code, 'E_CONFIG');
  assert.match(error.message, 'HF_TOKEN');
  assert.not.match(`${error.message} ${error.hint}`, 'secret');
});

test('HF_ENDPOINT with a path: requests stay below it, and the token with them', async () => {
  const seen: string[] = [];
  await withServer(
    (request, response) => {
      seen.push(`${request.url} ${request.headers.authorization}`);
      response.end(JSON.stringify({ sha: COMMIT }));
    },
    (address) =>
      scene(async ({ client }) => {
        const { endpoint } = hubEnvironment({ HF_ENDPOINT: `http://${address}/mirror/` });
        assert.is(await client({ endpoint, token: TOKEN }).commit(REPOSITORY, 'main'), COMMIT);
        assert.equal(seen, [`/mirror/api/datasets/org/data/revision/main Bearer ${TOKEN}`]);
      }),
  );
});

// Commits and listings

test('commit: branches, tags, pull requests and short hashes; a whole hash needs no request', async () => {
  await scene(async ({ hub, cache, client }) => {
    for (const revision of ['main', 'v1', 'refs/pr/2', COMMIT.slice(0, 8)]) {
      assert.is(await client().commit(REPOSITORY, revision), COMMIT);
      assert.is(readFileSync(join(folderOf(cache), 'refs', revision), 'utf8'), COMMIT);
    }
    assert.equal(
      hub.requests.map(({ path }) => path.split('/').at(-1)),
      ['main', 'v1', 'refs%2Fpr%2F2', COMMIT.slice(0, 8)],
    );
    assert.is(await client().commit(REPOSITORY, 'f'.repeat(40)), 'f'.repeat(40));
    assert.is(hub.requests.length, 4);
    await refused(
      () => client().commit(REPOSITORY, 'nightly'),
      "'nightly' of org/data: expected a revision that exists",
    );
  });
});

test('commit: a branch that moved is seen; a ref with a newline is put right', async () => {
  await scene(async ({ hub, cache, client }) => {
    const ref = join(folderOf(cache), 'refs', 'main');
    mkdirSync(dirname(ref), { recursive: true });
    writeFileSync(ref, `${COMMIT}\n`);
    assert.is(await client().commit(REPOSITORY, 'main'), COMMIT);
    assert.is(readFileSync(ref, 'utf8'), COMMIT);
    const later = 'd'.repeat(40);
    hub.add({ ...REPOSITORY, commit: later, files: FILES });
    assert.is(await client().commit(REPOSITORY, 'main'), later);
    assert.is(readFileSync(ref, 'utf8'), later);
  });
});

test('commit: where the hub cannot be reached, the revision seen last will do; a refusal is one', async () => {
  await scene(async ({ hub, client, waits, notes }) => {
    const away = { endpoint: 'http://127.0.0.1:9' };
    const error = await refused(
      () => client(away).commit(REPOSITORY, 'main'),
      'an answer from 127.0.0.1:9, got ECONNREFUSED',
    );
    assert.match(error.hint, 'proxy');
    assert.is(waits.length, 4);

    await client().commit(REPOSITORY, 'main');
    assert.is(await client(away).commit(REPOSITORY, 'main'), COMMIT);
    assert.match(notes.at(-1) ?? '', `Taking the revision seen last, ${COMMIT}.`);
    for (const fault of [plainAnswer(503), { kind: 'reset' } as const, { kind: 'truncate', after: 5 } as const]) {
      hub.fault(ofHub, fault);
      assert.is(await client().commit(REPOSITORY, 'main'), COMMIT);
    }
    assert.is(notes.filter((note) => note.includes('seen last')).length, 4);
    assert.is(waits.length, 4, 'a network that is not there was waited for');

    hub.fault(ofHub, plainAnswer(401, { 'x-error-code': 'RepoNotFound' }));
    await refused(() => client().commit(REPOSITORY, 'main'), 'something that exists');
  });
});

test('a cache that cannot be written to still serves, and a ref that cannot be written is no failure', async () => {
  await scene(async ({ cache, client }) => {
    mkdirSync(join(folderOf(cache), 'refs', 'v1'), { recursive: true }); // as if there had been a branch v1/x
    writeFileSync(join(folderOf(cache), 'trees'), 'in the way');
    assert.is(await client().commit(REPOSITORY, 'v1'), COMMIT);
    const entry = await client().entry(REPOSITORY, COMMIT, 'small.csv');
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, entry)), SMALL);
  });
});

test('tree: every page, once per commit, and again where the file of it is damaged', async () => {
  const files = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`part/${i}.json`, Buffer.from(`${i}`)]));
  await scene(
    async ({ hub, cache, client }) => {
      const entries = await client().tree(REPOSITORY, COMMIT);
      assert.equal(entries.map(({ path }) => path).sort(), Object.keys(files).sort());
      assert.is(hub.requests.length, 4); // ten files and a folder
      assert.equal(await client().tree(REPOSITORY, COMMIT), entries);
      assert.equal(await client({ offline: true }).tree(REPOSITORY, COMMIT), entries);
      assert.is(hub.requests.length, 4);

      const stored = join(folderOf(cache), 'trees', `${COMMIT}.json`);
      for (const damaged of [
        '{"format_version": 1, "fil',
        '{"format_version": 2, "files": {}}',
        '{"format_version": 1, "files": {"../x": {"size": 1, "blob_id": "a"}}}',
      ]) {
        writeFileSync(stored, damaged);
        assert.equal(await client().tree(REPOSITORY, COMMIT), entries);
        assert.match(readFileSync(stored, 'utf8'), 'part/9.json');
      }
      assert.is(hub.requests.length, 16);
    },
    { files, pageSize: 3 },
  );
});

test('entry: a name that is none is told with the nearest one', async () => {
  await scene(async ({ client }) => {
    const error = await refused(
      () => client().entry(REPOSITORY, COMMIT, 'data/lagre.bin'),
      'data/lagre.bin of org/data',
    );
    assert.is(error.hint, 'did you mean data/large.bin?');
    await refused(() => client().entry(REPOSITORY, COMMIT, '../small.csv'), 'a file that exists');
  });
});

test('repository names are checked as the hub checks them', async () => {
  await scene(async ({ hub, client }) => {
    for (const id of [
      'org/data/more',
      '/org',
      'org/',
      '../data',
      'org/..',
      'org/a--b',
      '-org/a',
      'org/.a',
      'org/a.git',
      'o g/a',
      '',
    ]) {
      assert.is((await failure(() => client().commit({ type: 'dataset', id }, 'main'))).code, 'E_CONFIG', id);
    }
    assert.is(hub.requests.length, 0);
    for (const id of ['gpt2', '_org/data_', 'Org-1/a.b_c-d']) {
      hub.add({ type: 'model', id, commit: COMMIT, files: {} });
      assert.is(await client().commit({ type: 'model', id }, 'main'), COMMIT);
    }
  });
});

// Downloads

test('download: a large file from the CDN, a small one from the hub; the second time nothing is asked', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    const [large, small] = [await entry('data/large.bin'), await entry('small.csv')];
    const told: number[] = [];
    const path = await client().download(REPOSITORY, COMMIT, large, {
      progress: (bytes, of) => {
        assert.is(of, LARGE.length);
        told.push(bytes);
      },
    });
    assert.equal(readFileSync(path), LARGE);
    assert.is(path, join(folderOf(cache), 'snapshots', COMMIT, 'data', 'large.bin'));
    assert.is(told.at(-1), LARGE.length);
    assert.equal(
      told,
      told.toSorted((a, b) => a - b),
    );
    assert.equal(
      fetched().map(({ host, status }) => [host, status]),
      [
        ['hub', 302],
        ['cdn', 200],
      ],
    );

    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, small)), SMALL);
    assert.is(fetched().length, 3);
    const asked = hub.requests.length;
    assert.is(await client().download(REPOSITORY, COMMIT, large), path);
    assert.is(client({ offline: true }).local(REPOSITORY, COMMIT, large), path);
    assert.is(hub.requests.length, asked);
    assert.equal(partsOf(cache), []);
  });
});

test('download: names that need care in a URL, an empty file, the same content under two names', async () => {
  const files = {
    'a b/ä #1?.txt': SMALL,
    'b%20c&d+e.txt': Buffer.from('other'),
    'empty.txt': Buffer.alloc(0),
    'x/copy.txt': SMALL,
  };
  await scene(
    async ({ client, entry, fetched }) => {
      for (const [path, content] of Object.entries(files)) {
        assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, await entry(path))), content, path);
      }
      assert.is(fetched().length, 2); // an empty file and a copy need none
    },
    { files },
  );
});

test('download: content that another commit has is not fetched again', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    await client().download(REPOSITORY, COMMIT, await entry('data/large.bin'));
    const later = 'd'.repeat(40);
    hub.add({ ...REPOSITORY, commit: later, files: { 'moved.bin': LARGE } });
    const moved = await client().entry(REPOSITORY, later, 'moved.bin');
    assert.equal(readFileSync(await client().download(REPOSITORY, later, moved)), LARGE);
    assert.is(fetched().length, 2);
  });
});

test('download: the same file twice at once', async () => {
  await scene(async ({ cache, client, entry }) => {
    const large = await entry('data/large.bin');
    const one = client();
    const paths = await Promise.all([one, one, client()].map((hub) => hub.download(REPOSITORY, COMMIT, large)));
    assert.is(new Set(paths).size, 1);
    assert.equal(readFileSync(paths[0] as string), LARGE);
    assert.equal(partsOf(cache), []);
  });
});

// Tokens and redirects

test('the token goes to the hub, and never to the CDN, which refuses it', async () => {
  await scene(
    async ({ hub, client }) => {
      hub.add({ ...REPOSITORY, commit: COMMIT, files: FILES, private: true });
      const own = client({ token: TOKEN });
      assert.is(await own.commit(REPOSITORY, 'main'), COMMIT);
      const large = await own.entry(REPOSITORY, COMMIT, 'data/large.bin');
      assert.equal(await own.parts(REPOSITORY, COMMIT, large).slice(5, 10), new Uint8Array(LARGE.subarray(5, 10)));
      assert.equal(readFileSync(await own.download(REPOSITORY, COMMIT, large)), LARGE);
      assert.ok(hub.requests.some(ofCdn));
      for (const { host, authorization } of hub.requests) {
        assert.is(authorization, host === 'hub' ? `Bearer ${TOKEN}` : null);
      }
    },
    { token: TOKEN },
  );
});

test('a redirect on the same host keeps the token, one to another port or scheme does not', async () => {
  const seen: (string | undefined)[] = [];
  await withServer(
    (request, response) => {
      seen.push(request.headers.authorization);
      response.end(SMALL);
    },
    (address) =>
      scene(
        async ({ hub, cache, client, entry, fetched }) => {
          const small = await entry('small.csv');
          const own = client({ token: TOKEN });
          hub.fault(
            ({ path }) => path.includes('/resolve/'),
            plainAnswer(307, { location: `/api/resolve-cache/datasets/org/data/${COMMIT}/small.csv` }),
          );
          assert.equal(readFileSync(await own.download(REPOSITORY, COMMIT, small)), SMALL);
          assert.equal(
            fetched().map(({ status, authorization }) => [status, authorization]),
            [
              [307, `Bearer ${TOKEN}`],
              [200, `Bearer ${TOKEN}`],
            ],
          );

          forget(cache);
          hub.fault(({ path }) => path.includes('/resolve/'), {
            kind: 'redirect',
            location: `http://${address}/small.csv`,
          });
          assert.equal(readFileSync(await own.download(REPOSITORY, COMMIT, small)), SMALL);
          assert.equal(seen, [undefined]);
        },
        { token: TOKEN },
      ),
  );
});

test('redirects that lead nowhere end in a sentence at once', async () => {
  await scene(async ({ hub, cache, client, entry, waits, fetched }) => {
    const small = await entry('small.csv');
    const download = () => client().download(REPOSITORY, COMMIT, small);
    hub.fault(ofHub, { kind: 'redirect', location: '?again' }, 100);
    await refused(download, 'small.csv of org/data: expected an end of the redirects, got more than 10');
    assert.is(fetched().length, 11);
    for (const location of ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'http://', 'javascript:0']) {
      hub.clear();
      hub.fault(ofHub, { kind: 'redirect', location });
      await refused(download, location);
    }
    assert.equal(waits, []);
    assert.equal(partsOf(cache), [], 'a part without a byte was left');
  });
});

// What is survived

test('a body that breaks off goes on where it stopped', async () => {
  await scene(async ({ hub, cache, client, entry, waits, fetched }) => {
    const large = await entry('data/large.bin');
    for (const kind of ['truncate', 'reset'] as const) {
      hub.clear();
      hub.fault(ofCdn, { kind, after: 300_000 });
      hub.fault(({ host, range }) => host === 'cdn' && range !== null, { kind, after: 50_000 });
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
      const requests = fetched('cdn');
      assert.equal(
        requests.map(({ status }) => status),
        [200, 206, 206],
      );
      const [, second, third] = requests.map(firstByte) as [number, number, number];
      assert.ok(0 < second && second <= 300_000, `${kind} ${second}`);
      assert.ok(second < third && third <= second + 50_000, `${kind} ${third}`);
      assert.is(requests.at(-1)?.bytes, LARGE.length - third);
      forget(cache);
    }
    assert.equal(waits, [1, 2, 1, 2]);
  });
});

test('an interrupted download goes on in the next one: the bytes sent say so', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    const large = await entry('data/large.bin');
    hub.fault(ofCdn, { kind: 'truncate', after: 250_000 });
    hub.fault(({ host, range }) => host === 'hub' && range !== null, plainAnswer(403));
    await refused(() => client().download(REPOSITORY, COMMIT, large), 'status 403');
    assert.is(partsOf(cache).length, 1);
    const kept = statSync(join(blobsOf(cache), partsOf(cache)[0] as string)).size;
    assert.ok(kept > 0);
    hub.clear();
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
    assert.equal(
      fetched('cdn').map(({ range, bytes }) => [range, bytes]),
      [[`bytes=${kept}-`, LARGE.length - kept]],
    );
    assert.equal(partsOf(cache), []);
  });
});

test('a range that is answered with the whole starts anew instead of appending', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    hub.fault(ofCdn, { kind: 'truncate', after: 300_000 });
    hub.fault(ofCdn, { kind: 'ignore-range' });
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, await entry('data/large.bin'))), LARGE);
    assert.equal(
      fetched('cdn').map(({ status }) => status),
      [200, 200],
    );
  });
});

test('416, a part from elsewhere and a part of another file are not taken', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    const large = await entry('data/large.bin');
    const size = LARGE.length;
    for (const [answer, from] of [
      [plainAnswer(416, { 'content-range': `bytes */${size}` }), 0],
      [plainAnswer(206, { 'content-range': `bytes 5-9/${size}` }, 'wrong'), 0],
      [plainAnswer(206, { 'content-range': 'bytes 200000-200004/200005' }, 'wrong'), 1],
      [plainAnswer(206, {}, 'wrong'), 1],
      [plainAnswer(200, {}, 'Please log in to this network.'), 1],
    ] as const) {
      hub.clear();
      hub.fault(ofCdn, { kind: 'truncate', after: 200_000 });
      hub.fault(ofCdn, answer);
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
      assert.is(fetched('cdn').length, 3);
      // What is here is given up only where the server cannot go on from it.
      assert.is(Math.sign(firstByte(fetched('cdn').at(-1) as SeenRequest)), from, JSON.stringify(answer));
      forget(cache);
    }
    // Nothing was asked for by range, so a part from elsewhere is not the beginning.
    hub.clear();
    hub.fault(ofCdn, plainAnswer(206, { 'content-range': `bytes 7-${size - 1}/${size}` }, 'x'.repeat(size - 7)));
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
    assert.equal(
      fetched('cdn').map(({ range, status }) => [range, status]),
      [
        [null, 206],
        [null, 200],
      ],
    );
  });
});

test('silence, before the headers and within the body, is a broken connection', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    const small = await entry('small.csv');
    const own = client({}, { timeout: 300 });
    hub.fault(ofHub, { kind: 'stall' });
    hub.fault(ofHub, { kind: 'reset' });
    hub.fault(ofHub, { kind: 'reset', after: 0 });
    assert.equal(readFileSync(await own.download(REPOSITORY, COMMIT, small)), SMALL);
    assert.is(fetched().length, 4);
  });
  await withServer(
    () => {},
    (address) =>
      scene(async ({ client, notes }) => {
        const silent = client({ endpoint: `http://${address}` }, { timeout: 200 });
        silent.cache.rememberCommit(REPOSITORY, 'main', COMMIT);
        assert.is(await silent.commit(REPOSITORY, 'main'), COMMIT);
        assert.match(notes.join(), 'Headers Timeout Error');
      }),
  );
});

test('content with another checksum never gets a name', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    for (const [path, content] of Object.entries(FILES)) {
      const own = await entry(path);
      hub.clear();
      hub.fault(({ path }) => /large|small|lfs/.test(path), { kind: 'corrupt' }, 3);
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, own)), content);
      forget(cache);

      hub.clear();
      hub.fault(({ path }) => /small|lfs/.test(path), { kind: 'corrupt' }, 100);
      await refused(
        () => client().download(REPOSITORY, COMMIT, own),
        `content with the checksum ${own.etag}, got another`,
      );
      assert.is(fetched().filter(({ status }) => status === 200).length, 5);
      assert.equal(readdirSync(blobsOf(cache)), [], 'what is wrong was kept');
      assert.is(client().local(REPOSITORY, COMMIT, own), null);
    }
  });
});

test('a body without end stops at the size of the file', async () => {
  await scene(async ({ hub, cache, client, entry }) => {
    const large = await entry('data/large.bin');
    hub.fault(ofCdn, { kind: 'endless' });
    await refused(() => client().download(REPOSITORY, COMMIT, large), `expected ${LARGE.length} bytes, got more`);
    assert.equal(readdirSync(blobsOf(cache)), []);
    assert.ok((hub.requests.find(ofCdn)?.bytes ?? 0) < 64 * MIB);
  });
});

test('text that comes compressed, without a length', async () => {
  await scene(async ({ hub, client, entry }) => {
    hub.fault(ofHub, { kind: 'gzip-no-length' }, 2);
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, await entry('small.csv'))), SMALL);
  });
  // The client does not ask for it, and takes it all the same.
  const { gzipSync } = await import('node:zlib');
  await withServer(
    (_, response) => {
      response.setHeader('content-encoding', 'gzip');
      response.end(gzipSync(SMALL));
    },
    (address) =>
      scene(async ({ client, entry }) => {
        const small = await entry('small.csv');
        const other = client({ endpoint: `http://${address}` });
        assert.equal(await other.parts(REPOSITORY, COMMIT, small).slice(2, 6), new Uint8Array(SMALL.subarray(2, 6)));
        assert.equal(readFileSync(await other.download(REPOSITORY, COMMIT, small)), SMALL);
      }),
  );
});

test('a damaged compressed answer is one more failed try, and no crash before anyone reads it', async () => {
  await scene(async ({ hub, client, entry }) => {
    const large = await entry('data/large.bin');
    hub.fault(ofCdn, { kind: 'truncate', after: 200_000 });
    hub.fault(ofCdn, plainAnswer(200, { 'content-encoding': 'gzip' }, 'this is no gzip'), 2);
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);

    const http = new HubHttp({ endpoint: hub.endpoint, cache: '', token: null, offline: false });
    hub.fault(ofHub, plainAnswer(200, { 'content-encoding': 'gzip' }, 'this is no gzip'));
    const { body } = await http.answerOnce({ url: `${hub.endpoint}/x`, what: 'x' }, {});
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(body.errored);
    await http.close();
  });
});

test('an answer that nobody reads costs no connection', async () => {
  let connections = 0;
  const server = createServer((_, response) => {
    response.writeHead(404);
    response.flushHeaders();
    setTimeout(() => response.end('no such page'), 10); // not with the headers
  });
  server.on('connection', () => connections++);
  const endpoint = `http://${await listening(server)}`;
  await scene(async ({ client }) => {
    const own = client({ endpoint });
    for (let i = 0; i < 5; i++) {
      await refused(() => own.commit(REPOSITORY, 'main'), 'something that exists');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.is(connections, 1);
  }).finally(() => server.close());
});

test('tries that bring more than before do not count, those that bring the same again do', async () => {
  const huge = contentOf('huge', 9 * MIB + 5);
  await scene(
    async ({ hub, client, entry, waits, fetched }) => {
      const file = await entry('huge.bin');
      hub.fault(ofCdn, { kind: 'truncate', after: 1.5 * MIB }, 6);
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, file)), huge);
      assert.is(fetched('cdn').length, 7);
      assert.equal(waits, [1, 1, 1, 1, 1, 1]);
    },
    { files: { 'huge.bin': huge } },
  );
  // 2 MiB, then 416, then the same 2 MiB again: without end, if they counted as new.
  await scene(
    async ({ hub, client, entry, fetched }) => {
      const file = await entry('huge.bin');
      for (let i = 0; i < 20; i++) {
        hub.fault(ofCdn, { kind: 'truncate', after: 2 * MIB });
        hub.fault(ofCdn, plainAnswer(416));
      }
      await refused(() => client().download(REPOSITORY, COMMIT, file), 'of org/data');
      assert.ok(fetched('cdn').length <= 8, `${fetched('cdn').length} requests`);
    },
    { files: { 'huge.bin': huge } },
  );
});

test('every fault, one after the other and by twos, costs nothing and leaves nothing wrong', async () => {
  const faults: Fault[] = [
    plainAnswer(429, { 'retry-after': '1' }),
    plainAnswer(429, { ratelimit: '"resolvers";r=0;t=2' }),
    plainAnswer(503),
    plainAnswer(500),
    { kind: 'ignore-range' },
    { kind: 'truncate', after: 100_000 },
    { kind: 'reset', after: 100_000 },
    { kind: 'reset' },
    { kind: 'corrupt' },
    { kind: 'gzip-no-length' },
    plainAnswer(416),
  ];
  await scene(async ({ hub, cache, client, entry }) => {
    const large = await entry('data/large.bin');
    const own = client();
    const parts = own.parts(REPOSITORY, COMMIT, large);
    for (const first of faults) {
      for (const second of faults) {
        const unranged = first === faults.at(-1); // 416 to no range is a refusal
        hub.clear();
        hub.fault(ofCdn, unranged ? { kind: 'truncate', after: 50_000 } : first);
        hub.fault(
          ({ host, range }) => host === 'cdn' && (second.kind !== 'status' || second.status !== 416 || range !== null),
          second,
        );
        const name = JSON.stringify([first, second]);
        assert.equal(readFileSync(await own.download(REPOSITORY, COMMIT, large)), LARGE, name);
        assert.equal(partsOf(cache), [], name);
        forget(cache);
      }
      if (first.kind !== 'corrupt' && first !== faults.at(-1)) {
        hub.clear();
        hub.fault(ofCdn, first);
        assert.equal(
          Buffer.from(await parts.slice(1000, 390_000)),
          LARGE.subarray(1000, 390_000),
          JSON.stringify(first),
        );
      }
    }
  });
});

// Parts that others left

/** Works while another process has 300,000 bytes of the large file, or a little less, and waits; then that is killed. */
async function besideOther(hub: StandInHub, cache: string, work: () => Promise<void>): Promise<void> {
  const code = `
    import { Hub } from ${JSON.stringify(new URL('../src/hub/client.ts', import.meta.url).href)};
    const hub = new Hub(
      { endpoint: ${JSON.stringify(hub.endpoint)}, cache: ${JSON.stringify(cache)}, token: null, offline: false },
      { wait: () => new Promise((resolve) => { setTimeout(resolve, 600_000); console.log('waiting'); }) },
    );
    const entry = await hub.entry({ type: 'dataset', id: 'org/data' }, '${COMMIT}', 'data/large.bin');
    await hub.download({ type: 'dataset', id: 'org/data' }, '${COMMIT}', entry);
  `;
  hub.fault(ofCdn, { kind: 'truncate', after: 300_000 });
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  try {
    const waiting = await Promise.race([once(child.stdout, 'data'), ended.then(() => null)]);
    assert.ok(waiting !== null, 'the other process ended');
    await work();
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

test('the part of a live process is left alone, that of a dead one is taken over', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    const large = await entry('data/large.bin');
    let kept = 0;
    await besideOther(hub, cache, async () => {
      const [part] = partsOf(cache) as [string];
      const path = join(blobsOf(cache), part);
      kept = statSync(path).size;
      assert.ok(0 < kept && kept <= 300_000);
      utimesSync(path, new Date(), new Date(Date.now() - 200_000)); // it waits as the hub asked it to
      hub.clear();
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
      assert.equal(
        fetched('cdn').map(({ range }) => range),
        [null],
      );
      assert.equal(partsOf(cache), [part]);
    });
    rmSync(join(blobsOf(cache), large.etag));
    hub.clear();
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
    assert.equal(
      fetched('cdn').map(({ range, bytes }) => [range, bytes]),
      [[`bytes=${kept}-`, LARGE.length - kept]],
    );
    assert.equal(partsOf(cache), []);
  });
});

test('the part of another machine is taken over when it has been silent for long', async () => {
  await scene(async ({ hub, cache, client, entry, fetched }) => {
    const large = await entry('data/large.bin');
    const part = join(blobsOf(cache), `${large.etag}.00000000-1-00000000.incomplete`);
    const left = (bytes: Buffer, minutes: number) => {
      forget(cache);
      hub.clear();
      mkdirSync(blobsOf(cache), { recursive: true });
      writeFileSync(part, bytes);
      utimesSync(part, new Date(), new Date(Date.now() - minutes * 60_000));
    };
    const ranges = async () => {
      assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
      return fetched('cdn').map(({ range }) => range);
    };
    left(LARGE.subarray(0, 1000), 5); // a wait that the hub asks for may last as long
    assert.equal(await ranges(), [null]);
    assert.ok(existsSync(part));
    left(LARGE.subarray(0, 1000), 15);
    assert.equal(await ranges(), ['bytes=1000-']);
    assert.not.ok(existsSync(part));
    left(LARGE, 15);
    assert.equal(await ranges(), []); // nothing was missing
    left(contentOf('other', 1000), 15);
    assert.equal(await ranges(), ['bytes=1000-', null]); // another content, found out by the checksum
    left(contentOf('other', LARGE.length), 15);
    assert.equal(await ranges(), [null]);
    left(Buffer.concat([LARGE, SMALL]), 15);
    assert.equal(await ranges(), [null]); // longer than the file
  });
});

// Abort

test('abort: the part is kept, and the next download goes on from it', async () => {
  await scene(async ({ hub, cache, client, entry, waits, fetched }) => {
    const large = await entry('data/large.bin');
    const control = new AbortController();
    await aborted(() =>
      client().download(REPOSITORY, COMMIT, large, {
        signal: control.signal,
        progress: (bytes) => bytes > 100_000 && control.abort(),
      }),
    );
    assert.equal(waits, []);
    const kept = statSync(join(blobsOf(cache), partsOf(cache)[0] as string)).size;
    assert.ok(kept > 100_000);
    hub.clear();
    assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
    assert.equal(
      fetched('cdn').map(({ range }) => range),
      kept === LARGE.length ? [] : [`bytes=${kept}-`],
    );
  });
});

test('abort: before a request, within a wait, and within the last try', async () => {
  await scene(async ({ hub, client, entry, cache }) => {
    const large = await entry('data/large.bin');
    hub.clear();
    await aborted(() => client().download(REPOSITORY, COMMIT, large, { signal: AbortSignal.abort() }));
    await aborted(() => client().parts(REPOSITORY, COMMIT, large, { signal: AbortSignal.abort() }).slice(0, 9));
    assert.is(hub.requests.length, 0);

    // The client's own wait, of a minute.
    const control = new AbortController();
    hub.fault(ofHub, plainAnswer(429, { 'retry-after': '60' }));
    const waiting = new Hub(
      { endpoint: hub.endpoint, cache, token: null, offline: false },
      { note: () => setTimeout(() => control.abort(), 10) },
    );
    const started = Date.now();
    await aborted(() => waiting.commit(REPOSITORY, 'main', control.signal));
    assert.ok(Date.now() - started < 10_000);
    await waiting.close();

    const last = new AbortController();
    hub.clear();
    hub.fault(ofCdn, { kind: 'reset' }, 4);
    hub.fault(
      ({ host }) => {
        if (host === 'cdn') {
          setTimeout(() => last.abort(), 20);
        }
        return host === 'cdn';
      },
      { kind: 'stall' },
    );
    await aborted(() => client().parts(REPOSITORY, COMMIT, large, { signal: last.signal }).slice(0, 9));
    assert.is(hub.requests.filter(ofCdn).length, 5);
  });
});

// Refusals

test('each refusal of the hub is a sentence that says what to do, and is not tried again', async () => {
  const model: Repository = { type: 'model', id: 'org/model' };
  await scene(
    async ({ hub, client, waits }) => {
      hub.add({ ...model, commit: COMMIT, files: { 'a.bin': LARGE }, gated: true });
      const cases: [work: () => Promise<unknown>, message: string | RegExp, hint: string | RegExp][] = [];
      const expect = (work: () => Promise<unknown>, message: string | RegExp, hint: string | RegExp) =>
        cases.push([work, message, hint]);
      const token = { token: TOKEN };
      const none: Repository = { type: 'model', id: 'org/none' };
      expect(
        () => client().commit(none, 'main'),
        "'main' of org/none: expected something that exists",
        'if it is private, set HF_TOKEN',
      );
      expect(
        () => client(token).commit(none, 'main'),
        'nothing of that name, or nothing that may be seen',
        'take a token that may read it',
      );
      expect(
        () => client({ token: 'hf_wrong' }).commit(model, 'main'),
        'a token that the hub knows, got status 401',
        `make a new token on ${hub.endpoint}/settings/tokens`,
      );
      expect(
        () => client(token).commit(model, 'v9'),
        "revision 'v9' of org/model: expected a revision that exists",
        '--revision',
      );
      expect(() => client(token).tree(model, 'e'.repeat(40)), 'a revision that exists', '--revision');
      const gated = await client().entry(model, COMMIT, 'a.bin');
      expect(
        () => client().download(model, COMMIT, gated),
        'a.bin of org/model: expected access, got none: it is gated',
        new RegExp(`ask for access on ${hub.endpoint}/org/model, then set HF_TOKEN`),
      );
      expect(() => client(token).download(model, COMMIT, gated), 'it is gated', /^ask for access on \S+$/);
      expect(() => client(token).parts(model, COMMIT, gated).slice(0, 5), 'it is gated', /^ask for access on \S+$/);
      const gone: TreeEntry = { path: 'gone.bin', size: 5, etag: 'a'.repeat(40) };
      expect(
        () => client().download(REPOSITORY, COMMIT, gone),
        'gone.bin of org/data: expected a file that exists',
        `${hub.endpoint}/datasets/org/data/tree/main`,
      );
      for (const [work, message, hint] of cases) {
        hub.clear();
        assert.match((await refused(work, message)).hint, hint);
        assert.is(hub.requests.length, 1, String(message));
      }
      const other: [Fault, string | RegExp][] = [
        [
          plainAnswer(403, { 'x-error-message': 'Access to this resource is disabled.' }),
          'status 403 (Access to this resource is disabled.)',
        ],
        [plainAnswer(404), 'something that exists'],
        [plainAnswer(400), 'status 400'],
        [plainAnswer(451), 'status 451'],
        [plainAnswer(200, {}, '<html>Please log in</html>'), 'a JSON listing, got 26 characters of something else'],
      ];
      for (const [fault, message] of other) {
        hub.clear();
        hub.fault(ofHub, fault);
        await refused(() => client().commit(REPOSITORY, 'main'), message);
        assert.is(hub.requests.length, 1, String(message));
      }
      assert.equal(waits, []);
    },
    { token: TOKEN },
  );
});

test('429: waits as long as RateLimit or Retry-After say', async () => {
  const told: string[] = [];
  const waited = async (headers: Record<string, string>) => {
    let seconds = Number.NaN;
    await scene(async ({ hub, client, waits, notes }) => {
      hub.fault(ofHub, plainAnswer(429, headers));
      assert.is(await client().commit(REPOSITORY, 'main'), COMMIT);
      assert.is(waits.length, 1);
      seconds = waits[0] as number;
      told.push(...notes);
    });
    return seconds;
  };
  assert.is(await waited({ ratelimit: '"api";r=0;t=55', 'retry-after': '7' }), 55.5);
  assert.match(told.join(), 'too many requests. Waiting 56 s.');
  assert.is(await waited({ ratelimit: '"api";r=499;t=120', 'retry-after': '7' }), 7.5);
  assert.is(await waited({ 'retry-after': '0' }), 0.5);
  assert.is(await waited({}), 1);
  assert.is(told.length, 2);
  const dated = await waited({ 'retry-after': new Date(Date.now() + 60_000).toUTCString() });
  assert.ok(55 < dated && dated <= 60.5, `${dated}`);
  assert.is(await waited({ 'retry-after': new Date(Date.now() - 60_000).toUTCString() }), 0.5);
});

test('429: a wait of more than five minutes is not waited for', async () => {
  await scene(async ({ hub, client, waits }) => {
    hub.fault(ofHub, plainAnswer(429, { 'retry-after': '3600' }));
    await refused(() => client().commit(REPOSITORY, 'main'), 'too many requests');
    assert.equal(waits, []);
    assert.is(hub.requests.length, 1);
  });
});

test('5xx and broken connections: five tries, with waits that double and are spread; a sixth is not made', async () => {
  const failures: Fault[] = [503, 500, 502, 504, 408].map((status) =>
    plainAnswer(status, { 'x-error-message': 'Down' }),
  );
  for (const fault of [...failures, { kind: 'reset' } as const, { kind: 'truncate', after: 3 } as const]) {
    await scene(async ({ hub, client, waits }) => {
      hub.fault(ofHub, fault, 4);
      assert.is(await client().commit(REPOSITORY, 'main'), COMMIT);
      assert.equal(waits, [1, 2, 4, 8]);
      assert.is(hub.requests.length, 5);
    });
  }
  await scene(async ({ hub, client }) => {
    for (const [jitter, expected] of [
      [0, [0.5, 1, 2, 4]],
      [0.999, [1.499, 2.998, 5.996, 11.992]],
    ] as const) {
      hub.clear();
      hub.fault(ofHub, failures[0] as Fault, 100);
      const spread: number[] = [];
      const notes: string[] = [];
      const own = client(
        {},
        { jitter: () => jitter, wait: async (s) => void spread.push(s), note: (text) => void notes.push(text) },
      );
      await refused(
        () => own.tree(REPOSITORY, COMMIT),
        'the files of org/data: expected an answer, got status 503 (Down).',
      );
      assert.equal(spread, expected);
      assert.is(hub.requests.length, 5);
      assert.is(notes.length, spread.filter((seconds) => seconds > 5).length);
    }
  });
});

// Hostile servers

test('a commit that is none is refused', async () => {
  await scene(async ({ hub, cache, client }) => {
    for (const value of [
      { sha: 'main' },
      { sha: `../${'a'.repeat(37)}` },
      { sha: 'A'.repeat(40) },
      { sha: 'a'.repeat(41) },
      { sha: 7 },
      { sha: null },
      {},
      [],
      null,
      'a'.repeat(40),
    ]) {
      hub.fault(ofHub, plainAnswer(200, {}, JSON.stringify(value)));
      await refused(() => client().commit(REPOSITORY, 'main'), 'a commit of 40 hex digits');
    }
    hub.clear();
    for (const revision of ['../main', '/etc', 'a//b', 'a\\b', '', '.']) {
      await refused(() => client().commit(REPOSITORY, revision), 'a branch, a tag or a commit');
    }
    assert.is(hub.requests.length, 0);
    assert.not.ok(existsSync(folderOf(cache)));
  });
});

test('a listing with hostile paths, hashes or sizes is refused as a whole', async () => {
  const oid = 'a'.repeat(40);
  const hostile = [
    ...['../evil', '/abs', 'a/../../evil', 'a\\..\\evil', 'a//b', './a', 'a/.', '', 'a\0b', '\ud800', 7, null].map(
      (path) => ({ path }),
    ),
    ...[
      '../evil',
      '',
      'A'.repeat(40),
      'a'.repeat(39),
      'a'.repeat(41),
      `${'a'.repeat(40)}\n`,
      '/etc/passwd',
      7,
      null,
      [oid],
    ].map((oid) => ({ oid })),
    ...['../evil', 'a'.repeat(63), [oid]].map((oid) => ({ lfs: { oid, size: 5 } })),
    { oid: '../evil', lfs: { oid: 'a'.repeat(64), size: 5 } },
    ...[-1, 0.5, 1e300, '5', null].map((size) => ({ size })),
    { lfs: { oid: 'a'.repeat(64), size: -5 } },
  ];
  await scene(async ({ hub, cache, client }) => {
    const good = { type: 'file', path: 'ok.bin', size: 5, oid };
    for (const change of hostile) {
      hub.fault(ofHub, plainAnswer(200, {}, JSON.stringify([good, { ...good, ...change }])));
      await refused(() => client().tree(REPOSITORY, COMMIT), 'expected paths, sizes and hashes of files');
    }
    assert.not.ok(existsSync(folderOf(cache)));
    for (const [body, message] of [
      ['{}', 'a list of files, got object'],
      ['7', 'a list of files, got number'],
      ['', 'a JSON listing'],
      ['[', 'a JSON listing'],
    ] as const) {
      hub.fault(ofHub, plainAnswer(200, {}, body));
      await refused(() => client().tree(REPOSITORY, COMMIT), message);
    }
    // What is no file is passed over.
    hub.fault(ofHub, plainAnswer(200, {}, JSON.stringify([null, 7, { type: 'directory', path: '../evil' }, good])));
    assert.equal(await client().tree(REPOSITORY, COMMIT), [{ path: 'ok.bin', size: 5, etag: oid }]);
  });
});

test('a listing without end, in pages or in bytes, is given up', async () => {
  await scene(async ({ hub, client, waits }) => {
    hub.fault(ofHub, plainAnswer(200, { link: '<?again>; rel="next"' }, '[]'), 1000);
    await refused(() => client().tree(REPOSITORY, COMMIT), 'a list of files, got one without end');
    assert.ok(hub.requests.length <= 501);
    for (const next of ['<ftp://127.0.0.1/x>; rel="next"', '<http://>; rel="next"']) {
      hub.clear();
      hub.fault(ofHub, plainAnswer(200, { link: next }, '[]'));
      await refused(() => client().tree(REPOSITORY, COMMIT), 'a JSON listing');
      assert.is(hub.requests.length, 1);
    }
    hub.clear();
    hub.fault(ofHub, { kind: 'endless' });
    await refused(() => client().tree(REPOSITORY, COMMIT), `at most ${64 * MIB} bytes, got more`);
    assert.is(hub.requests.length, 1);
    assert.equal(waits, []);
  });
});

test('a page on another host is asked for without the token', async () => {
  const seen: (string | undefined)[] = [];
  await withServer(
    (request, response) => {
      seen.push(request.headers.authorization);
      response.end('[]');
    },
    (address) =>
      scene(
        async ({ hub, client }) => {
          hub.fault(ofHub, plainAnswer(200, { link: `<http://${address}/more>; rel="next"` }, '[]'));
          assert.equal(await client({ token: TOKEN }).tree(REPOSITORY, COMMIT), []);
          assert.equal(seen, [undefined]);
        },
        { token: TOKEN },
      ),
  );
});

// Parts

test('parts: the second slice goes to the CDN alone, until the address has run out', async () => {
  await scene(async ({ hub, client, entry, fetched, waits }) => {
    const told: number[] = [];
    const parts = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'), {
      progress: (bytes) => void told.push(bytes),
    });
    const slice = async (start: number, end: number) => {
      assert.equal(Buffer.from(await parts.slice(start, end)), LARGE.subarray(start, end), `${start} to ${end}`);
    };
    assert.is(parts.size, LARGE.length);
    await slice(LARGE.length - 8, LARGE.length);
    await slice(0, 100_000);
    await slice(77, 78);
    await slice(5, 5);
    assert.equal(
      fetched().map(({ host, range, bytes }) => (host === 'hub' ? host : [range, bytes])),
      ['hub', [`bytes=${LARGE.length - 8}-${LARGE.length - 1}`, 8], ['bytes=0-99999', 100_000], ['bytes=77-77', 1]],
    );
    assert.is(
      told.reduce((sum, bytes) => sum + bytes),
      100_009,
    );

    for (const end of [
      () => hub.expire(),
      ...[401, 403, 410].map((status) => () => hub.fault(ofCdn, plainAnswer(status))),
    ]) {
      hub.clear();
      end();
      await slice(10, 20);
      assert.equal(
        fetched().map(({ host }) => host),
        ['cdn', 'hub', 'cdn'],
      );
    }
    assert.ok(waits.every((seconds) => seconds < 1));
  });
});

test('parts: a new address that is refused as well is a refusal', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    const parts = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'));
    await parts.slice(0, 5);
    hub.clear();
    hub.fault(ofCdn, plainAnswer(403), 100);
    await refused(() => parts.slice(0, 5), 'status 403');
    assert.is(fetched('cdn').length, 2);
  });
});

test('parts: of a file that the hub itself serves, and where ranges are not understood', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    const own = client({ token: null });
    const small = own.parts(REPOSITORY, COMMIT, await entry('small.csv'));
    assert.is(Buffer.from(await small.slice(4, 7)).toString(), '1,2');
    assert.is(Buffer.from(await small.slice(0, 3)).toString(), 'a,b');
    assert.equal(
      fetched().map(({ host }) => host),
      ['hub', 'hub'],
    );
    const large = own.parts(REPOSITORY, COMMIT, await entry('data/large.bin'));
    hub.clear();
    hub.fault(ofCdn, { kind: 'ignore-range' }, 2);
    assert.equal(Buffer.from(await large.slice(100_000, 200_000)), LARGE.subarray(100_000, 200_000));
    assert.equal(Buffer.from(await large.slice(0, 7)), LARGE.subarray(0, 7));
    assert.is(fetched('cdn').length, 2);
  });
});

test('parts: many slices at once', async () => {
  const warnings: string[] = [];
  const listener = ({ message }: Error) => void warnings.push(message);
  process.on('warning', listener);
  await withProxy(({ address, tunnels }) =>
    scene(({ hub, client, entry }) =>
      withVariables({ HTTP_PROXY: `http://${address}` }, async () => {
        const { signal } = new AbortController();
        const parts = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'), { signal });
        await Promise.all(
          Array.from({ length: 40 }, async (_, i) => {
            const [start, end] = [i * 5000, i * 5000 + 100_000];
            assert.equal(Buffer.from(await parts.slice(start, end)), LARGE.subarray(start, end));
          }),
        );
        assert.ok(tunnels.filter((tunnel) => tunnel === new URL(hub.cdn).host).length <= 8);
      }),
    ),
  );
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', listener);
  assert.equal(warnings, []);
});

test('parts: a slice that breaks off goes on where it stopped', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    const parts = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'));
    hub.fault(ofCdn, { kind: 'truncate', after: 200_000 });
    hub.fault(ofCdn, { kind: 'ignore-range' });
    assert.equal(Buffer.from(await parts.slice(50_000, 350_000)), LARGE.subarray(50_000, 350_000));
    hub.clear();
    hub.fault(ofCdn, { kind: 'truncate', after: 200_000 });
    assert.equal(Buffer.from(await parts.slice(50_000, 350_000)), LARGE.subarray(50_000, 350_000));
    const [first, second] = fetched('cdn') as [SeenRequest, SeenRequest];
    assert.is(first.range, 'bytes=50000-349999');
    assert.ok(firstByte(second) > 50_000, second.range ?? 'none');
    assert.is(second.bytes, 350_000 - firstByte(second));
  });
});

test('parts: bytes of another place or another file are not taken; those outside are refused', async () => {
  await scene(async ({ hub, client, entry, fetched }) => {
    const size = LARGE.length;
    const parts = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'));
    for (const answer of [
      plainAnswer(206, { 'content-range': `bytes 6-9/${size}` }, 'four'),
      plainAnswer(206, { 'content-range': `bytes 5-8/${size + 1}` }, 'four'),
      plainAnswer(206, {}, 'four'),
      plainAnswer(200, {}, 'Please log in to this network.'),
    ]) {
      hub.clear();
      hub.fault(ofCdn, answer);
      assert.equal(Buffer.from(await parts.slice(5, 9)), LARGE.subarray(5, 9), JSON.stringify(answer));
      hub.fault(ofCdn, answer, 100);
      await refused(() => parts.slice(5, 9), 'data/large.bin of org/data: expected');
    }
    hub.clear();
    for (const [start, end] of [
      [-1, 5],
      [5, 4],
      [0, size + 1],
      [Number.NaN, 5],
    ] as const) {
      await refused(() => parts.slice(start, end), `bytes within its ${size}`);
    }
    assert.is(fetched().length, 0);
    hub.fault(ofCdn, plainAnswer(416));
    await refused(() => parts.slice(0, 5), 'status 416');
  });
});

test('ranges: what was read is kept, and what a crash cut short is read anew', async () => {
  await scene(async ({ cache, client, entry, fetched }) => {
    const { etag, size } = await entry('data/large.bin');
    const folder = join(cache, 'ranges', etag);
    const absent = () => new Error('absent');
    const source = client().parts(REPOSITORY, COMMIT, await entry('data/large.bin'));
    const first = cachedRanges(size, source, folder, absent);
    assert.is(first.missing(1000, 2000), 1000);
    assert.equal(Buffer.from(await first.slice(1000, 2000)), LARGE.subarray(1000, 2000));
    assert.is(first.missing(1000, 2000), 0);
    const again = cachedRanges(size, null, folder, absent);
    assert.equal(Buffer.from(await again.slice(1500, 1600)), LARGE.subarray(1500, 1600));
    assert.is(again.missing(1500, 2001), 501);
    assert.is(fetched('cdn').length, 1);
    try {
      await again.slice(1500, 2001);
      assert.unreachable();
    } catch (error) {
      assert.is((error as Error).message, 'absent');
    }
    truncateSync(join(folder, '1000-2000'), 10);
    assert.is(again.missing(1000, 2000), 1000);
    assert.equal(Buffer.from(await first.slice(1000, 2000)), LARGE.subarray(1000, 2000));
    assert.equal(readdirSync(folder), ['1000-2000']);
    const local = await localFile(join(folder, '1000-2000'));
    assert.is(local.size, 1000);
    assert.equal(Buffer.from(await local.slice(10, 20)), LARGE.subarray(1010, 1020));
  });
});

// Offline

test('offline: what is here is found, what is not is told, and no request is made', async () => {
  await scene(async ({ hub, client, entry }) => {
    const [large, small] = [await entry('data/large.bin'), await entry('small.csv')];
    await client().commit(REPOSITORY, 'main');
    const path = await client().download(REPOSITORY, COMMIT, small);
    hub.clear();
    const off = client({ offline: true });
    assert.is(await off.commit(REPOSITORY, 'main'), COMMIT);
    assert.is((await off.tree(REPOSITORY, COMMIT)).length, 2);
    assert.is(await off.download(REPOSITORY, COMMIT, small), path);
    for (const work of [
      () => off.commit(REPOSITORY, 'v1'),
      () => off.tree(REPOSITORY, 'e'.repeat(40)),
      () => off.download(REPOSITORY, COMMIT, large),
      () => off.parts(REPOSITORY, COMMIT, large).slice(0, 5),
    ]) {
      assert.match((await refused(work, 'HF_HUB_OFFLINE')).hint, 'fetch it once with a connection');
    }
    assert.is(hub.requests.length, 0);
  });
});

// Proxies

/** A proxy that opens tunnels; `answer` in place of one refuses it, null leaves it without an answer. */
async function withProxy(
  work: (proxy: { address: string; tunnels: string[] }) => Promise<void>,
  answer: string | null = 'HTTP/1.1 200 Connection established\r\n\r\n',
): Promise<void> {
  const tunnels: string[] = [];
  const sockets = new Set<Socket>();
  const server = createTcpServer((client) => {
    sockets.add(client.on('error', () => {}));
    client.once('data', (head) => {
      const [, host, port] = /^CONNECT ([^ ]+):(\d+) /.exec(head.toString()) ?? [];
      tunnels.push(`${host}:${port}`);
      if (answer === null) {
        return;
      }
      client.write(answer);
      if (answer.includes(' 200 ')) {
        const target = connect(Number(port), host as string);
        sockets.add(target.on('error', () => client.destroy()));
        client.pipe(target).pipe(client);
      }
    });
  });
  try {
    await work({ address: await listening(server), tunnels });
  } finally {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  }
}

async function withVariables(variables: Record<string, string>, work: () => Promise<void>): Promise<void> {
  Object.assign(process.env, variables);
  try {
    await work();
  } finally {
    for (const name of Object.keys(variables)) {
      delete process.env[name];
    }
  }
}

test('proxy: HTTP_PROXY, with and without a scheme, in either case; NO_PROXY goes past it', async () => {
  for (const name of ['HTTP_PROXY', 'http_proxy']) {
    for (const scheme of ['http://', '']) {
      await withProxy(({ address, tunnels }) =>
        scene(({ hub, client, entry }) =>
          withVariables({ [name]: scheme + address, NO_PROXY: 'localhost' }, async () => {
            const large = await entry('data/large.bin');
            assert.equal(readFileSync(await client().download(REPOSITORY, COMMIT, large)), LARGE);
            assert.equal([...new Set(tunnels)], [new URL(hub.endpoint).host]);
          }),
        ),
      );
    }
  }
});

test('proxy: connections are used again, one request after the other', async () => {
  const files = { ...FILES, 'more.bin': contentOf('more', 5000), 'most.bin': contentOf('most', 5000) };
  await withProxy(({ address, tunnels }) =>
    scene(
      ({ hub, client }) =>
        withVariables({ HTTP_PROXY: `http://${address}` }, async () => {
          const own = client();
          for (const path of Object.keys(files)) {
            await own.download(REPOSITORY, COMMIT, await own.entry(REPOSITORY, COMMIT, path));
          }
          const parts = own.parts(REPOSITORY, COMMIT, await own.entry(REPOSITORY, COMMIT, 'data/large.bin'));
          for (let at = 0; at < 10; at++) {
            await parts.slice(at * 1000, at * 1000 + 1000);
          }
          hub.fault(ofHub, plainAnswer(503, {}, 'Down for a moment'), 2);
          await own.commit(REPOSITORY, 'main');
          // A second one is opened where a request comes before the end of the last answer was dealt with.
          for (const host of [new URL(hub.endpoint).host, new URL(hub.cdn).host]) {
            const count = tunnels.filter((tunnel) => tunnel === host).length;
            assert.ok(1 <= count && count <= 2, `${count} connections to ${host}`);
          }
          assert.ok(hub.requests.length > 15);
        }),
      { files },
    ),
  );
});

test('proxy: one that refuses or is silent is told of; an address that is none is refused', async () => {
  await withProxy(
    ({ address, tunnels }) =>
      scene(({ client }) =>
        withVariables({ HTTP_PROXY: `http://${address}` }, async () => {
          const error = await refused(() => client().commit(REPOSITORY, 'main'), 'Proxy response (407)');
          assert.match(error.hint, 'the proxy');
          assert.is(tunnels.length, 5);
        }),
      ),
    'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n',
  );
  await withProxy(
    ({ address }) =>
      scene(({ client, notes }) =>
        withVariables({ HTTP_PROXY: `http://${address}` }, async () => {
          const own = client({}, { timeout: 200 });
          own.cache.rememberCommit(REPOSITORY, 'main', COMMIT);
          assert.is(await own.commit(REPOSITORY, 'main'), COMMIT);
          assert.match(notes.join(), 'Headers Timeout Error');
        }),
      ),
    null,
  );
  for (const text of ['http://', 'ftp://user:secret@proxy', '://']) {
    await scene(({ client }) =>
      withVariables({ HTTPS_PROXY: text }, async () => {
        const error = await failure(async () => client());
        assert.is(error.code, 'E_CONFIG');
        assert.match(error.message, 'HTTPS_PROXY');
        assert.not.match(`${error.message} ${error.hint}`, 'secret');
      }),
    );
  }
});

test('close: twice is as good as once, and ends what is open', async () => {
  await scene(async ({ hub, client }) => {
    await using own = client();
    hub.fault(ofHub, { kind: 'stall' }, 100);
    const open = failure(() => own.tree(REPOSITORY, COMMIT));
    while (hub.requests.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await own.close();
    assert.is((await open).code, 'E_HUB');
    await own.close();
    assert.ok(lstatSync(own.cache.root).isDirectory());
  });
});

test.run();
