/** config print, config schema: what they say is what loadConfig, a run folder and the schema have. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../src/config/load.js';
import { LEAVES } from '../src/config/schema.js';
import { createRun, runFolder } from '../src/run/folder.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-config-'));
const file = join(scratch, 'my.json');
writeFileSync(file, JSON.stringify({ extends: 'tiny', grpo: { beta: 0.25 } }));

const print = async (...args: string[]) => {
  const { code, stdout, stderr } = await runCli(['config', 'print', ...args]);
  assert.is(code, 0, stderr);
  return stdout;
};

test('config print: each value with its origin, of preset, file, flag and default', async () => {
  const all = JSON.parse(await print('--config', file, '--seed', '7', '--json'));
  assert.equal(Object.keys(all), [...LEAVES.keys()]);
  assert.equal(all.seed, { value: 7, origin: 'flag --seed' });
  assert.equal(all['grpo.beta'], { value: 0.25, origin: `file ${file}` });
  const { config, origins } = loadConfig('tiny');
  assert.equal(all['grpo.max_steps'], { value: config.grpo.max_steps, origin: 'preset tiny' });
  const untouched = [...LEAVES].find(([path]) => path !== 'seed' && origins[path] === 'default');
  assert.ok(untouched !== undefined);
  assert.equal(all[untouched[0]], { value: untouched[1].default, origin: 'default' });
});

test('config print: a line a value, and the words after --datasets are of that list', async () => {
  const lines = (await print('--config', 'tiny', '--datasets', 'commonvoice', 'wmt')).trimEnd().split('\n');
  assert.is(lines.length, LEAVES.size);
  const cells = lines.map((line) => line.split(/ {2,}/));
  assert.equal(
    cells.find(([path]) => path === 'data.datasets'),
    ['data.datasets', '["commonvoice","wmt"]', 'flag --datasets'],
  );
});

test('config print RUN: what the run was made with; a setting that is newer than the run is marked', async () => {
  const loaded = loadConfig(file, [{ flag: '--max-steps', path: 'grpo.max_steps', value: 3 }]);
  const { seed: _, ...origins } = loaded.origins;
  const path = join(scratch, 'run');
  createRun(runFolder(path), {
    loaded: { ...loaded, origins },
    manifest: {},
    dataset: { labels: ['a'], train: [], heldOut: [], unheard: [] },
  });
  const all = JSON.parse(await print(path, '--json'));
  assert.equal(all['grpo.max_steps'], { value: 3, origin: 'flag --max-steps' });
  assert.equal(all['grpo.beta'], { value: 0.25, origin: `file ${file}` });
  assert.equal(all.seed, { value: loaded.config.seed, origin: 'not stored' });

  const mixed = await runCli(['config', 'print', path, '--seed', '7']);
  assert.is(mixed.code, 2);
  assert.match(mixed.stderr, '--seed');
  const missing = await runCli(['config', 'print', join(scratch, 'none')]);
  assert.is(missing.code, 3);
  assert.match(missing.stderr, 'expected a run folder');
});

test('config schema: the file of the package, and a schema that accepts what loadConfig gives', async () => {
  const { code, stdout } = await runCli(['config', 'schema']);
  assert.is(code, 0);
  const schema = JSON.parse(stdout);
  assert.equal(schema, JSON.parse(readFileSync(new URL('../configs/schema.json', import.meta.url), 'utf8')));
  const valid = new Ajv({ allowUnionTypes: true }).compile(schema);
  assert.ok(valid(loadConfig('tiny').config));
  assert.not.ok(valid({ ...loadConfig('tiny').config, seed: 'x' }));
});

test.run();
