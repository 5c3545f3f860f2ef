/** Configuration: presets, origins, and a sentence for every mistake. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CONFIG_FLAGS, flagValue } from '../src/config/flags.js';
import { checkStoredConfig, loadConfig, PRESETS } from '../src/config/load.js';
import { LEAVES } from '../src/config/schema.js';
import { editDistance, nearest } from '../src/config/sentences.js';
import { VoiceGrpoError } from '../src/errors.js';

function problemsOf(values: object): string {
  const file = join(mkdtempSync(join(tmpdir(), 'voicegrpo-')), 'my.json');
  writeFileSync(file, JSON.stringify(values));
  try {
    loadConfig(file);
  } catch (error) {
    assert.instance(error, VoiceGrpoError);
    assert.is((error as VoiceGrpoError).exitCode, 2);
    return (error as Error).message;
  }
  throw new Error('the configuration was accepted');
}

test('every preset is valid, and the four are there', () => {
  assert.equal(PRESETS, ['default', 'large', 'small', 'tiny']);
  for (const preset of PRESETS) {
    assert.is(loadConfig(preset).name, preset);
  }
});

test('every value has a default, a description and a flag of its own', () => {
  for (const [path, node] of LEAVES) {
    assert.ok('default' in node, `${path} has no default`);
    assert.ok((node.description ?? '').length > 5, `${path} has no description`);
  }
  const flags = CONFIG_FLAGS.map(({ flag }) => flag);
  assert.is(new Set(flags).size, flags.length, 'two values have one flag');
  for (const flag of [
    '--samples-per-dataset',
    '--max-steps',
    '--learning-rate',
    '--datasets',
    '--sampling-method',
    '--num-generations',
  ]) {
    assert.ok(flags.includes(flag), flag);
  }
  for (const flag of [
    '--model',
    '--whisper',
    '--data',
    '--patience',
    '--min-delta',
    '--seed',
    '--threads',
    '--output-dir',
  ]) {
    assert.ok(flags.includes(flag), flag);
  }
});

test('a value comes from the default, the preset, the file or the flag, in this order, and says so', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'voicegrpo-')), 'mine.json');
  writeFileSync(file, JSON.stringify({ extends: 'tiny', grpo: { max_steps: 7, beta: 0.1 } }));
  const { config, origins, name } = loadConfig(file, [{ flag: '--max-steps', path: 'grpo.max_steps', value: 9 }]);
  assert.is(name, 'mine');
  assert.is(config.grpo.max_steps, 9);
  assert.is(origins['grpo.max_steps'], 'flag --max-steps');
  assert.is(config.grpo.beta, 0.1);
  assert.is(origins['grpo.beta'], `file ${file}`);
  assert.is(config.data.source, 'bundled');
  assert.is(origins['data.source'], 'preset tiny');
  assert.is(config.seed, 42);
  assert.is(origins.seed, 'default');
});

test('all problems are told at once, each with key, bound and what came', () => {
  const text = problemsOf({
    grpo: { num_generation: 8, temperature: 0, loss_type: 'dappo', max_steps: 1.5 },
    learning_rate: 1e-3,
    seed: -1,
    lora: { target_modules: [] },
  });
  assert.match(text, "unknown key 'grpo.num_generation': did you mean 'grpo.num_generations'?");
  assert.match(text, "'grpo.temperature' must be above 0 and at most 10, got 0.");
  assert.match(text, "'grpo.loss_type' must be one of grpo, bnpo, dr_grpo, dapo, got \"dappo\": did you mean 'dapo'?");
  assert.match(text, "'grpo.max_steps' must be a whole number (at least 1 and at most 10000000), got 1.5.");
  assert.match(text, "unknown key 'learning_rate': did you mean 'optimizer.learning_rate'?");
  assert.match(text, "'seed' must be at least 0 and at most 4294967295, got -1.");
  assert.match(text, "'lora.target_modules' must not be empty, got [].");
  assert.match(text, '7 problems');
});

test('values that contradict each other', () => {
  assert.match(problemsOf({ grpo: { prompts_per_step: 5, gradient_accumulation_steps: 2 } }), 'must be a multiple of');
  assert.match(problemsOf({ grpo: { temperature_end: 0.5 } }), "'grpo.temperature_end' needs 'grpo.temperature_steps'");
  assert.match(
    problemsOf({
      rewards: {
        modules: [
          { module: './a/mine.mjs', weight: 1 },
          { module: './b/mine.mjs', weight: 1 },
        ],
      },
    }),
    "two rewards the name 'mine'",
  );
  assert.match(problemsOf({ prompt: { user: 'no place for the words' } }), "'prompt.user' must match");
});

test('a wrong preset, a broken file, a list instead of an object', () => {
  assert.throws(() => loadConfig('tinny'), /did you mean|neither/);
  const file = join(mkdtempSync(join(tmpdir(), 'voicegrpo-')), 'broken.json');
  writeFileSync(file, '{"seed": 1,');
  assert.throws(() => loadConfig(file), /expected a JSON file/);
  writeFileSync(file, '[1]');
  assert.throws(() => loadConfig(file), /got a list/);
  writeFileSync(file, '{"extends": "huge"}');
  assert.throws(() => loadConfig(file), /'extends' must be one of default, large, small, tiny/);
});

test('keys named like members of Object are unknown keys, nothing else', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'voicegrpo-')), 'proto.json');
  writeFileSync(file, '{"__proto__": {"seed": 1}, "constructor": 2}');
  assert.throws(() => loadConfig(file), /unknown key/);
  assert.is(({} as { seed?: number }).seed, undefined);
});

test('the text of a flag becomes a number, a list, null; what is none stays text for the check', () => {
  assert.is(flagValue('number', '1e-4'), 1e-4);
  assert.is(flagValue('number', 'many'), 'many');
  assert.is(flagValue('number', ''), '');
  assert.is(flagValue('string', 'null'), null);
  assert.equal(flagValue('list', 'a,b'), ['a', 'b']);
  assert.throws(
    () => loadConfig('tiny', [{ flag: '--seed', path: 'seed', value: 'many' }]),
    /'seed' must be a whole number.*got "many" \(from --seed\)/,
  );
});

test('edit distance and the nearest word', () => {
  assert.is(editDistance('kitten', 'sitting'), 3);
  assert.is(editDistance('ab', 'ba'), 1);
  assert.is(nearest('num-generatons', ['num_generations', 'max_steps']), 'num_generations');
  assert.is(nearest('zzz', ['num_generations', 'max_steps']), null);
});

test('the TypeScript type is the one made from the schema', async () => {
  const tool: string = '../tools/config-type.mjs';
  const { configType } = (await import(tool)) as { configType: () => Promise<string> };
  const committed = readFileSync(new URL('../src/config/config.generated.ts', import.meta.url), 'utf8');
  assert.is(committed, await configType(), 'run `npm run config:type`');
});

test('a stored configuration that lacks a newer setting has its default; one that is damaged is refused', () => {
  const { config } = loadConfig('tiny');
  const { split: _, ...data } = config.data;
  assert.equal(checkStoredConfig({ ...config, data }, 'config.json'), config);
  const { drop_suspect: __, ...older } = config.data;
  assert.is(config.data.drop_suspect, true);
  const before = checkStoredConfig({ ...config, data: older }, 'config.json');
  assert.is(before.data.drop_suspect, false, 'a run from before suspect transcripts were looked for kept them');
  assert.throws(() => checkStoredConfig(undefined, 'config.json'), /config.json.*'config' is missing/);
  assert.throws(() => checkStoredConfig({ ...config, seed: -1 }, 'config.json'), /seed/);
});

test.run();
