/**
 * The cache is that of Python's huggingface_hub: what either fetches, the other finds.
 *
 * Compared with the real client where VOICEGRPO_PYTHON or python3 has it, and always with what that wrote when
 * test/hub/data/python-cache.json was recorded: VOICEGRPO_RECORD=1 records it anew.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { HubCache, type Repository } from '../src/hub/cache.js';
import { Hub } from '../src/hub/client.js';
import { findPython, runPython } from './hub/python.js';
import { StandInHub } from './hub/stand-in.js';

/** A path is a link, a text, a listing in JSON, or content by its checksum. */
type Layout = Record<string, { link: string } | { text: string } | { json: unknown } | { sha256: string }>;

interface Recorded {
  huggingface_hub: string;
  layout: Layout;
}

const RECORD = fileURLToPath(new URL('hub/data/python-cache.json', import.meta.url));
const DATA: Repository = { type: 'dataset', id: 'org/voice' };
const MODEL: Repository = { type: 'model', id: 'org/tiny-model.v1' };
const OLD: Repository = { type: 'model', id: 'gpt-old' };
const FIRST = '1a'.repeat(20);
const SECOND = '2b'.repeat(20);
const LARGE = contentOf('large', 100_000);
const MORE = contentOf('more', 50_000);
const FILES: Record<string, Buffer> = {
  'README.md': Buffer.from('# Voices\n'),
  '.gitattributes': Buffer.from('*.parquet filter=lfs\n'),
  'empty.txt': Buffer.alloc(0),
  'data/train-00000-of-00001.parquet': LARGE,
  'data/deep/er/copy.parquet': LARGE,
  'data/ünï cødé.txt': Buffer.from('ä\n'),
};
const LATER: Record<string, Buffer> = {
  'README.md': Buffer.from('# More voices\n'),
  'data/train-00000-of-00001.parquet': LARGE,
  'data/test-00000-of-00001.parquet': MORE,
};
const WEIGHTS: Record<string, Buffer> = {
  'model.gguf': contentOf('weights', 70_000),
  'config.json': Buffer.from('{}'),
};
const EVERY_FILE = [...Object.values(FILES), ...Object.values(LATER), ...Object.values(WEIGHTS)];

const python = findPython();
const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-hub-cache-'));
process.on('exit', () => rmSync(scratch, { recursive: true }));
const folderFor = (name: string) => mkdtempSync(join(scratch, `${name}-`));
const recorded = () => JSON.parse(readFileSync(RECORD, 'utf8')) as Recorded;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

function contentOf(name: string, bytes: number): Buffer {
  return createHash('shake256', { outputLength: bytes }).update(name).digest();
}

async function withHub(work: (hub: StandInHub) => Promise<void>): Promise<void> {
  const hub = await StandInHub.start({ pageSize: 4 });
  hub.add({ ...DATA, commit: FIRST, files: FILES, refs: ['v1', 'refs/pr/1'] });
  hub.add({ ...DATA, commit: SECOND, files: LATER });
  hub.add({ ...MODEL, commit: FIRST, files: WEIGHTS });
  hub.add({ ...OLD, commit: FIRST, files: WEIGHTS });
  try {
    await work(hub);
  } finally {
    await hub.close();
  }
}

async function withClient<T>(
  hub: StandInHub,
  cache: string,
  offline: boolean,
  work: (client: Hub) => Promise<T>,
): Promise<T> {
  await using client = new Hub({ endpoint: hub.endpoint, cache, token: null, offline });
  return await work(client);
}

/** Runs a script with the hub's address and the cache; what it prints, as JSON. */
async function askPython(hub: StandInHub, cache: string, script: string, offline = false): Promise<unknown> {
  const { stdout, stderr, code } = await runPython(
    python as string,
    `import json, sys
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
${script}`,
    { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_HUB_OFFLINE: offline ? '1' : '0' },
  );
  assert.is(code, 0, stderr);
  return JSON.parse(stdout.trim().split('\n').at(-1) as string);
}

/** What each client fetches: all of a branch, a tag, a pull request and a commit, and some of two models. */
const FETCHED: [repository: Repository, revision: string, only?: string][] = [
  [DATA, 'main'],
  [DATA, 'v1'],
  [DATA, 'refs/pr/1'],
  [DATA, FIRST],
  [MODEL, 'main', 'model.gguf'],
  [OLD, FIRST, 'config.json'],
];

async function fetchByUs(hub: StandInHub, cache: string): Promise<void> {
  await withClient(hub, cache, false, async (client) => {
    for (const [repository, revision, only] of FETCHED) {
      const commit = await client.commit(repository, revision);
      for (const entry of await client.tree(repository, commit)) {
        if (only === undefined || entry.path === only) {
          await client.download(repository, commit, entry);
        }
      }
    }
  });
}

async function fetchByPython(hub: StandInHub, cache: string): Promise<string> {
  const calls = FETCHED.map(
    ([{ type, id }, revision, only]) =>
      `snapshot_download('${id}', repo_type='${type}', revision='${revision}'${only ? `, allow_patterns=['${only}']` : ''})`,
  );
  return (await askPython(
    hub,
    cache,
    `${calls.join('\n')}\nimport huggingface_hub\nprint(json.dumps(huggingface_hub.__version__))`,
  )) as string;
}

/** Everything in a cache but Python's locks. A folder counts by what is in it. */
function layoutOf(root: string): Layout {
  const layout: Layout = {};
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  for (const path of paths.filter((name) => !name.startsWith('.locks'))) {
    const full = join(root, path);
    const stats = lstatSync(full);
    if (stats.isSymbolicLink()) {
      layout[path] = { link: readlinkSync(full) };
    } else if (stats.isFile()) {
      const bytes = readFileSync(full);
      layout[path] = path.includes('/trees/')
        ? { json: JSON.parse(bytes.toString()) }
        : path.includes('/blobs/')
          ? { sha256: sha256(bytes) }
          : { text: bytes.toString() };
    }
  }
  return layout;
}

/** A cache as it was recorded. */
function restore(layout: Layout, root: string): void {
  const contents = new Map(EVERY_FILE.map((bytes) => [sha256(bytes), bytes]));
  for (const [path, entry] of Object.entries(layout)) {
    const full = join(root, path);
    mkdirSync(dirname(full), { recursive: true });
    if ('link' in entry) {
      symlinkSync(entry.link, full);
    } else {
      writeFileSync(
        full,
        'text' in entry
          ? entry.text
          : 'json' in entry
            ? JSON.stringify(entry.json)
            : (contents.get(entry.sha256) as Buffer),
      );
    }
  }
}

function same(ours: Layout, theirs: Layout): void {
  assert.equal(Object.keys(ours), Object.keys(theirs));
  for (const [path, entry] of Object.entries(theirs)) {
    assert.equal(ours[path], entry, path);
  }
}

/** Every file of every revision, in a cache of Python's, without a request. */
async function findAll(hub: StandInHub, cache: string): Promise<void> {
  hub.clear();
  await withClient(hub, cache, true, async (client) => {
    for (const [repository, revision, only] of FETCHED) {
      const commit = await client.commit(repository, revision);
      const of = repository === DATA && revision === 'main' ? SECOND : FIRST;
      assert.is(commit, of);
      const files = repository === DATA ? (of === FIRST ? FILES : LATER) : WEIGHTS;
      const tree = await client.tree(repository, commit);
      assert.equal(tree.map(({ path }) => path).sort(), Object.keys(files).sort());
      for (const entry of tree.filter(({ path }) => only === undefined || path === only)) {
        assert.is(entry.size, files[entry.path]?.length);
        const path = await client.download(repository, commit, entry);
        assert.equal(readFileSync(path), files[entry.path], entry.path);
      }
    }
  });
  assert.is(hub.requests.length, 0);
}

console.log(
  python === null
    ? `compared with the recorded cache of huggingface_hub ${recorded().huggingface_hub}: no Python here has a recent one`
    : `compared with huggingface_hub in ${python}, and with its recorded cache`,
);

test('what we fetch lies as Python lays it: paths, links, content, refs, listings', async () => {
  await withHub(async (hub) => {
    const ours = folderFor('ours');
    await fetchByUs(hub, ours);
    if (python !== null) {
      const theirs = folderFor('theirs');
      const version = await fetchByPython(hub, theirs);
      const layout = layoutOf(theirs);
      same(layoutOf(ours), layout);
      for (const path of Object.keys(layout).filter((path) => path.includes('/blobs/'))) {
        assert.is(lstatSync(join(ours, path)).mode, lstatSync(join(theirs, path)).mode, path);
      }
      if (process.env.VOICEGRPO_RECORD === '1') {
        writeFileSync(RECORD, `${JSON.stringify({ huggingface_hub: version, layout }, null, 2)}\n`);
      }
    }
    same(layoutOf(ours), recorded().layout);
    assert.is(readFileSync(join(ours, 'datasets--org--voice', 'refs', 'main'), 'utf8'), SECOND); // no newline
  });
});

test('what Python fetched we find, offline and without a request', async () => {
  await withHub(async (hub) => {
    const restored = folderFor('restored');
    restore(recorded().layout, restored);
    await findAll(hub, restored);
    same(layoutOf(restored), recorded().layout); // nothing was written
    if (python !== null) {
      const theirs = folderFor('theirs');
      await fetchByPython(hub, theirs);
      const before = layoutOf(theirs);
      await findAll(hub, theirs);
      same(layoutOf(theirs), before);
    }
  });
});

test('what Python fetched without a listing we find as well, and fetch nothing of it again', async () => {
  await withHub(async (hub) => {
    const cache = folderFor('single');
    if (python !== null) {
      await askPython(
        hub,
        cache,
        `hf_hub_download('org/voice', 'data/train-00000-of-00001.parquet', repo_type='dataset', revision='v1')
print(json.dumps(hf_hub_download('org/voice', 'README.md', repo_type='dataset', revision='v1')))`,
      );
    } else {
      const { layout } = recorded();
      restore(Object.fromEntries(Object.entries(layout).filter(([path]) => !path.includes('/trees/'))), cache);
    }
    hub.clear();
    const notes: string[] = [];
    await using offline = new Hub(
      { endpoint: hub.endpoint, cache, token: null, offline: true },
      { note: (text) => void notes.push(text) },
    );
    const names = ['README.md', 'data/train-00000-of-00001.parquet'];
    assert.is(await offline.commit(DATA, 'v1'), FIRST);
    const tree = await offline.tree(DATA, FIRST);
    assert.equal(notes, [`Of org/voice only what is here is known: ${tree.length} files.`]);
    assert.equal(
      names.filter((name) => tree.some(({ path }) => path === name)),
      names,
    );
    for (const entry of tree) {
      assert.equal(readFileSync(await offline.download(DATA, FIRST, entry)), FILES[entry.path], entry.path);
    }
    assert.is(hub.requests.length, 0);
    hub.clear();
    await withClient(hub, cache, false, async (client) => {
      const entry = await client.entry(DATA, FIRST, 'data/train-00000-of-00001.parquet');
      assert.equal(readFileSync(await client.download(DATA, FIRST, entry)), LARGE);
    });
    assert.ok(hub.requests.every(({ path }) => path.includes('/tree/')));
  });
});

test('what we fetch Python finds offline, and its scan has nothing to say against it', async () => {
  await withHub(async (hub) => {
    const cache = folderFor('ours');
    await fetchByUs(hub, cache);
    // An interrupted download leaves its part beside the blobs.
    writeFileSync(join(cache, 'datasets--org--voice', 'blobs', `${'a'.repeat(64)}.0-1-0.incomplete`), 'part');
    hub.clear();
    if (python === null) {
      // What Python would do: the revision's commit, the file below its snapshot, and each ref has a snapshot.
      for (const [{ type, id }, revision, only] of FETCHED) {
        const folder = join(cache, `${type}s--${id.replace('/', '--')}`);
        const commit = revision === FIRST ? FIRST : readFileSync(join(folder, 'refs', revision), 'utf8');
        const files = id === DATA.id ? (commit === FIRST ? FILES : LATER) : WEIGHTS;
        for (const [path, content] of Object.entries(files).filter(([path]) => only === undefined || path === only)) {
          assert.equal(readFileSync(join(folder, 'snapshots', commit, path)), content, path);
        }
      }
      return;
    }
    const found = (await askPython(
      hub,
      cache,
      `found = {}
for type, id, revision, paths in json.loads(${JSON.stringify(
        JSON.stringify(
          FETCHED.map(([repository, revision, only]) => {
            const files = repository === DATA ? (revision === 'main' ? LATER : FILES) : WEIGHTS;
            return [repository.type, repository.id, revision, only === undefined ? Object.keys(files) : [only]];
          }),
        ),
      )}):
    folder = snapshot_download(id, repo_type=type, revision=revision, allow_patterns=paths)
    for path in paths:
        file = hf_hub_download(id, path, repo_type=type, revision=revision)
        assert file == folder + '/' + path, (file, folder)
        found[file] = len(open(file, 'rb').read())
scan = scan_cache_dir()
print(json.dumps({
    'found': found,
    'warnings': [str(warning) for warning in scan.warnings],
    'repositories': sorted(
        (repo.repo_type, repo.repo_id, sorted([revision.commit_hash, sorted(revision.refs), revision.nb_files] for revision in repo.revisions))
        for repo in scan.repos),
}))`,
      true,
    )) as { found: Record<string, number>; warnings: string[]; repositories: unknown };
    for (const [path, bytes] of Object.entries(found.found)) {
      assert.is(statSync(path).size, bytes, path);
    }
    assert.is(Object.keys(found.found).length, Object.keys(FILES).length + Object.keys(LATER).length + 2);
    assert.equal(found.warnings, []);
    assert.equal(found.repositories, [
      [
        'dataset',
        'org/voice',
        [
          [FIRST, ['refs/pr/1', 'v1'], 6],
          [SECOND, ['main'], 3],
        ],
      ],
      ['model', 'gpt-old', [[FIRST, [], 1]]],
      ['model', 'org/tiny-model.v1', [[FIRST, ['main'], 1]]],
    ]);
    assert.is(hub.requests.length, 0);
  });
});

test('a listing alone is no damaged cache to Python, and no whole snapshot either', async () => {
  await withHub(async (hub) => {
    const cache = folderFor('listed');
    await withClient(hub, cache, false, async (client) => {
      const commit = await client.commit(DATA, 'main');
      const entry = await client.entry(DATA, commit, 'data/train-00000-of-00001.parquet');
      assert.equal(Buffer.from(await client.parts(DATA, commit, entry).slice(10, 20)), LARGE.subarray(10, 20));
    });
    assert.equal(readdirSync(join(cache, 'datasets--org--voice', 'snapshots', SECOND)), []);
    if (python !== null) {
      const told = (await askPython(
        hub,
        cache,
        `try:
    refused = snapshot_download('org/voice', repo_type='dataset')
except Exception as error:
    refused = str(error)
scan = scan_cache_dir()
print(json.dumps([refused, [str(warning) for warning in scan.warnings], [repo.repo_id for repo in scan.repos]]))`,
        true,
      )) as [string, string[], string[]];
      assert.match(told[0], 'incomplete');
      assert.equal(told.slice(1), [[], ['org/voice']]);
    }
  });
});

test('a store that repositories share is read through its links, and left as it is', async () => {
  await withHub(async (hub) => {
    const cache = folderFor('shared');
    const name = 'cd'.repeat(32);
    const store = join(cache, 'blobs');
    mkdirSync(join(store, 'cd'), { recursive: true });
    writeFileSync(join(store, '.huggingface-shared-blobs'), '1\n');
    writeFileSync(join(store, 'cd', name), LARGE);
    const blobs = join(cache, 'datasets--org--voice', 'blobs');
    mkdirSync(blobs, { recursive: true });
    const [large, more] = [join(blobs, sha256(LARGE)), join(blobs, sha256(MORE))];
    symlinkSync(`../../blobs/cd/${name}`, large);
    symlinkSync(`../../blobs/ef/${'ef'.repeat(32)}`, more); // the store lost it
    const before = { ...layoutOf(store), dates: statSync(join(store, 'cd', name)).mtimeMs };

    await withClient(hub, cache, false, async (client) => {
      const [train, test] = [
        await client.entry(DATA, SECOND, 'data/train-00000-of-00001.parquet'),
        await client.entry(DATA, SECOND, 'data/test-00000-of-00001.parquet'),
      ];
      hub.clear();
      const shared = await client.download(DATA, SECOND, train);
      assert.is(hub.requests.length, 0);
      assert.equal(readFileSync(shared), LARGE);
      assert.is(readlinkSync(shared), `../../../blobs/${sha256(LARGE)}`);
      assert.is(readlinkSync(large), `../../blobs/cd/${name}`);

      assert.is(client.local(DATA, SECOND, test), null);
      const own = await client.download(DATA, SECOND, test);
      assert.equal(readFileSync(own), MORE);
      assert.ok(lstatSync(more).isFile(), 'the blob is still a link');
      assert.is(readlinkSync(own), `../../../blobs/${sha256(MORE)}`);
    });
    assert.not.ok(existsSync(join(store, 'ef')));
    assert.equal({ ...layoutOf(store), dates: statSync(join(store, 'cd', name)).mtimeMs }, before);

    if (python !== null) {
      await withClient(hub, cache, false, (client) => client.commit(DATA, 'main'));
      hub.clear();
      const told = await askPython(
        hub,
        cache,
        `path = hf_hub_download('org/voice', 'data/train-00000-of-00001.parquet', repo_type='dataset')
print(json.dumps([len(open(path, 'rb').read()), [str(warning) for warning in scan_cache_dir().warnings]]))`,
        true,
      );
      assert.equal(told, [LARGE.length, []]);
    }
  });
});

test('a snapshot whose blob is gone is fetched again, and its link serves as before', async () => {
  await withHub(async (hub) => {
    const cache = folderFor('gone');
    restore(recorded().layout, cache);
    const blob = join(cache, 'datasets--org--voice', 'blobs', sha256(LARGE));
    rmSync(blob);
    await withClient(hub, cache, false, async (client) => {
      const entry = await client.entry(DATA, FIRST, 'data/deep/er/copy.parquet');
      assert.is(client.local(DATA, FIRST, entry), null);
      assert.equal(readFileSync(await client.download(DATA, FIRST, entry)), LARGE);
    });
    same(layoutOf(cache), recorded().layout);
  });
});

test('files of the cache: repositories, commits, revisions, sizes; links to nothing are none', async () => {
  const cache = folderFor('files');
  restore(recorded().layout, cache);
  rmSync(join(cache, 'datasets--org--voice', 'blobs', sha256(MORE)));
  const models = new HubCache(cache).files('model');
  assert.equal(
    models.map(({ repository, commit, revisions, file, bytes }) => [repository.id, commit, revisions, file, bytes]),
    [
      ['gpt-old', FIRST, [], 'config.json', 2],
      ['org/tiny-model.v1', FIRST, ['main'], 'model.gguf', 70_000],
    ],
  );
  const data = new HubCache(cache).files('dataset');
  assert.is(data.length, Object.keys(FILES).length + Object.keys(LATER).length - 1);
  assert.ok(data.every(({ path, bytes }) => statSync(path).size === bytes));
  assert.equal(data.find(({ commit }) => commit === FIRST)?.revisions, ['refs/pr/1', 'v1']);
});

test.run();
