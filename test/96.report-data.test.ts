/** What a page shows of a run's folder: read again and again, with what changed, without the machine's paths. */
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compareRuns } from '../src/report/compare.js';
import { LineFile } from '../src/report/line-file.js';
import { withoutMachinePaths } from '../src/report/paths.js';
import { MAX_COMPLETIONS, RunReader, readRun, waitingRun } from '../src/report/reader.js';
import type { RunData } from '../src/report/run-data.js';
import { writeReport } from '../src/report/write.js';
import { writeFileAtomic } from '../src/run/files.js';
import { truncateLines } from '../src/run/folder.js';
import { deltaOf, withDelta } from '../src/watch/delta.js';
import { addEvaluation, addStep, finish, makeRun } from './run-folder.js';

const work = mkdtempSync(join(tmpdir(), 'voicegrpo-report-'));
let made = 0;
const newPath = () => join(work, `run-${made++}`);

test('a file of lines: what is new, whole lines alone, from the start again when it was cut or replaced', () => {
  const path = join(work, 'lines.jsonl');
  const file = new LineFile<{ n: number; text?: string }>(path, 3);
  assert.equal(file.read(), []);
  writeFileSync(path, '{"n":1}\n{"n":2,"te');
  const [first] = file.read();
  assert.equal(first, { n: 1 });
  assert.is(file.read()[0], first);
  appendFileSync(path, 'xt":"ä"}\n');
  assert.equal(file.read(), [{ n: 1 }, { n: 2, text: 'ä' }]);
  assert.is(file.read()[0], first, 'what was read stays as it is');
  appendFileSync(path, '{"n":3}\n{"n":4}\n');
  assert.equal(
    file.read().map(({ n }) => n),
    [2, 3, 4],
  );
  assert.is(file.count, 4);
  writeFileAtomic(path, '');
  assert.equal([file.read().length, file.count], [0, 0]);
  writeFileSync(path, '{"n":7}\n{"n":8}\n');
  assert.is(file.read().length, 2);
  writeFileSync(path, '{"n":9}\n{"n":8}\n{"n":7}\n'); // in place: the same file, longer, but not what was read
  assert.equal(
    file.read().map(({ n }) => n),
    [9, 8, 7],
  );
  appendFileSync(path, 'no JSON\n{"n":6}\n');
  assert.is(file.count, 3);
  file.read();
  assert.is(file.count, 3, 'after a line that is none nothing is read');
});

test('each change is small, and the state before with it is the state after', () => {
  const path = newPath();
  let shown: RunData = waitingRun(path);
  const reader = new RunReader(path);
  const follow = () => {
    const now = reader.read();
    const delta = deltaOf(shown, now);
    const next = delta === null ? shown : withDelta(shown, JSON.parse(JSON.stringify(delta)));
    assert.equal(next, JSON.parse(JSON.stringify(readRun(path))), 'as who comes new sees it');
    shown = next;
    return delta;
  };
  makeRun(path);
  follow();
  assert.is(follow(), null);
  const steps = MAX_COMPLETIONS / 4 + 5;
  for (let step = 1; step <= steps; step++) addStep(path, step);
  follow();
  assert.is(shown.completions.length, MAX_COMPLETIONS);

  const [kept] = shown.completions.slice(-1);
  addStep(path, steps + 1);
  const one = follow();
  assert.equal(one?.lists.metrics?.add.length, 1);
  assert.equal(one?.lists.completions, { from: 4, keep: MAX_COMPLETIONS - 4, add: shown.completions.slice(-4) });
  assert.equal(Object.keys(one?.set ?? {}).sort(), ['completionsTotal', 'steps']);
  assert.ok(JSON.stringify(one).length < 2000, String(JSON.stringify(one).length));
  assert.is(shown.completions.at(-5), kept, 'the same object');

  addEvaluation(path, steps + 1, 'held-out', 0.8);
  const evaluated = follow();
  assert.equal(Object.keys(evaluated?.set ?? {}).sort(), ['after', 'clips']);
  assert.is(shown.after?.accuracy, 0.8);

  // The run was killed, and is resumed from step 20: other answers follow.
  for (const name of ['metrics', 'completions', 'evaluations']) truncateLines(join(path, `${name}.jsonl`), 20);
  addStep(path, 21, 99);
  const resumed = follow();
  assert.equal(resumed?.lists.metrics, { from: 0, keep: 21, add: [shown.metrics.at(-1)] });
  assert.equal([shown.steps, shown.metrics.at(-1)?.reward, shown.after], [21, 99, null]);

  finish(path, 0.5, 1);
  follow();
  assert.equal([shown.state, shown.after?.accuracy], ['finished', 1]);
});

test('a finished run whose evaluations.jsonl is missing or cut shows those of evaluation.json', () => {
  const path = newPath();
  makeRun(path);
  addStep(path, 1);
  addEvaluation(path, 1, 'held-out', 0.6);
  addEvaluation(path, 1, 'after', 0.7);
  finish(path, 0.5, 0.7);
  const whole = readRun(path);
  assert.is(whole.evaluations.length, 3);
  const file = join(path, 'evaluations.jsonl');
  const lines = readFileSync(file, 'utf8');
  writeFileSync(file, lines.slice(0, -30));
  assert.equal(readRun(path).after, whole.after);
  assert.equal(readRun(path).evaluations, whole.evaluations);
  rmSync(file);
  const { before, after, clips, evaluations } = readRun(path);
  assert.equal([before, after, clips], [whole.before, whole.after, whole.clips]);
  assert.equal(
    evaluations.map(({ name, accuracy }) => [name, accuracy]),
    [
      ['before', 0.5],
      ['after', 0.7],
    ],
  );
  writeFileSync(join(path, 'evaluation.json'), '{"before":');
  assert.is(readRun(path).after, null, 'one that is cut itself is none');
});

test('no path of this machine is in a report', () => {
  const path = newPath();
  const model = join(work, 'private', 'models', 'secret.gguf');
  const files = { policy: model, whisper: join(process.cwd(), 'assets', 'w.bin') };
  makeRun(
    path,
    {
      'data.source': join(work, 'private', 'clips'),
      'policy.model': model,
      'prompt.system': '/think about {labels} /',
    },
    { files, sha256: {}, models: {} },
  );
  addStep(path, 1);
  finish(path, 0.5, 1);
  const html = readFileSync(writeReport(path), 'utf8');
  for (const hidden of [work, process.cwd(), `${tmpdir()}/`, 'private']) {
    assert.not.ok(html.includes(hidden), `${hidden} is in the report`);
  }
  const { settings, environment } = readRun(path);
  const setting = (name: string) => settings.find((one) => one.setting === name)?.value;
  assert.equal([setting('policy.model'), setting('data.source'), setting('output.dir')], ['secret.gguf', 'clips', '.']);
  assert.is(setting('prompt.system'), '/think about {labels} /', 'a text is no path');
  assert.is(environment.find(({ name }) => name === 'files.whisper')?.value, join('assets', 'w.bin'));

  const shown = withoutMachinePaths(
    {
      a: [{ module: '/home/x/rewards/mine.mjs' }, '/no_think', 'org/name', './here.gguf'],
      b: 'file /home/x/conf.json',
    },
    path,
    '/home/x/rewards',
  );
  assert.equal(shown, { a: [{ module: 'mine.mjs' }, '/no_think', 'org/name', './here.gguf'], b: 'file conf.json' });
  assert.is(withoutMachinePaths('/home/x', '/run', '/'), 'x', 'the root is no working folder');
});

test('a comparison tells files of one name in two folders apart, without the folders', () => {
  const paths = [newPath(), newPath()];
  for (const path of paths) makeRun(path, { 'policy.model': join(path, '..', 'models', path.slice(-1), 'm.gguf') });
  mkdirSync(join(work, 'models'));
  const { differing } = compareRuns(paths);
  assert.equal(differing, [{ setting: 'policy.model', values: ['m.gguf', 'm.gguf'] }]);
});

test.after(() => rmSync(work, { recursive: true, force: true }));

test.run();
