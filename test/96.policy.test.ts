/** The policy as a library: what it answers is what the stages below it say, and what is asked wrongly is an error with a code. */
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { evaluate, openRun, Policy, train } from '../src/index.js';
import { fails } from './library.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-policy-'));
const run = join(scratch, 'run');
const threads = 2;
const policy = await Policy.open('bundled', { threads, device: 'cpu' });

test('generate: [B][G], equal for equal seeds, whatever stands beside a prompt', async () => {
  const options = { numGenerations: 3, maxCompletionLength: 8, seed: 7 };
  const both = await policy.generate(['One two three', 'The sky is', 'The sky is'], options);
  assert.equal(
    both.map(({ length }) => length),
    [3, 3, 3],
  );
  const [alone] = await policy.generate(['The sky is'], options);
  const texts = (answers: { text: string }[] | undefined) => answers?.map(({ text }) => text);
  assert.equal(texts(both[1]), texts(alone));
  assert.not.equal(texts(both[1]), texts(both[2]), 'the same prompt again is answered anew');
  assert.not.equal(texts((await policy.generate(['The sky is'], { ...options, seed: 8 }))[0]), texts(alone));
  for (const { tokens, logProbs, finish } of both.flat()) {
    assert.ok(tokens.length > 0 && tokens.length === logProbs.length && tokens.length <= 8);
    assert.ok(logProbs.every((value) => value <= 0));
    assert.ok(finish === 'stop' || tokens.length === 8);
  }
  assert.equal(await policy.generate([]), []);
});

test('generate: a chat is what the template makes of it, and its control tokens are text', async () => {
  const greedy = { temperature: 0, maxCompletionLength: 6 };
  const chat = [{ role: 'user' as const, content: 'Say <end_of_turn> please' }];
  const [asChat] = await policy.generate([chat], greedy);
  const written = '<start_of_turn>user\nSay < end_of_turn> please<end_of_turn>\n<start_of_turn>model\n';
  const [asText] = await policy.generate([written], greedy);
  assert.equal(asChat?.[0]?.tokens, asText?.[0]?.tokens);
  assert.equal(asChat?.[0]?.logProbs, asText?.[0]?.logProbs);
});

test('logProbs: of what was sampled they are those of the sampling; lists may have different lengths', async () => {
  const prompts = ['One two three', 'The sky is'];
  const answers = await policy.generate(prompts, { numGenerations: 2, maxCompletionLength: 6, seed: 3 });
  const asked = [answers[0]?.map(({ tokens }) => tokens) ?? [], [answers[1]?.[0]?.tokens as Int32Array]];
  const found = await policy.logProbs(prompts, asked);
  assert.equal(
    found.map(({ length }) => length),
    [2, 1],
  );
  for (const [b, own] of found.entries()) {
    for (const [g, { logProbs, entropies }] of own.entries()) {
      const sampled = answers[b]?.[g]?.logProbs as Float32Array;
      assert.is(logProbs.length, sampled.length);
      assert.is(entropies.length, sampled.length);
      for (const [t, value] of logProbs.entries()) {
        assert.ok(Math.abs(value - (sampled[t] as number)) < 1e-3, `${b} ${g} ${t}: ${value}, ${sampled[t]}`);
      }
    }
  }
  const [[text] = []] = await policy.logProbs(['The sky is'], [[' blue']]);
  assert.equal(text?.tokens, policy.tokenize(' blue'));
  assert.is(policy.detokenize(policy.tokenize(' blue')), ' blue');
  assert.equal(await policy.logProbs(['x'], [[]]), [[]]);
});

test('classify: a run as its evaluation has it, its adapter loaded by hand, and labels without a run', async () => {
  const settings = {
    data: { samples_per_dataset: 6, held_out_per_dataset: 2, use_text: true },
    grpo: { max_steps: 3, prompts_per_step: 3 },
    stopping: { eval_steps: 3, patience: 0 },
    optimizer: { learning_rate: 0.01 },
    threads,
  };
  await train({ config: 'tiny', settings, outputDir: run }).result;
  const { heldOut } = openRun(run).dataset;
  const texts = heldOut.map(({ transcript }) => transcript);
  const labelled = heldOut.map(({ transcript, label }) => ({ transcript, label }));
  for (const adapter of ['last', 'none'] as const) {
    const { predictions } = await evaluate(run, labelled, { adapter });
    const found = await policy.classify(run, texts, { adapter });
    assert.equal(
      found.map(({ probabilities }) => probabilities),
      predictions.map(({ probabilities }) => probabilities),
    );
    assert.equal(
      found.map(({ answer }) => answer),
      predictions.map(({ answer }) => answer),
    );
  }
  const last = await policy.classify(run, texts, { adapter: 'last' });
  using adapter = policy.loadAdapter(join(run, 'last'));
  assert.equal(await policy.classify(run, texts, { adapter }), last);
  const base = await policy.classify(run, texts, { adapter: null });
  assert.not.equal(base, last);
  assert.equal(base, await policy.classify(run, texts, { adapter: 'none' }));
  for (const { label, probability, probabilities, labelMass } of last) {
    assert.is(probability, Math.max(...Object.values(probabilities)));
    assert.is(probabilities[label], probability);
    assert.ok(Math.abs(Object.values(probabilities).reduce((sum, value) => sum + value, 0) - 1) < 1e-6);
    assert.ok(labelMass > 0 && labelMass <= 1.001);
  }
  const [free] = await policy.classify(['ifeval', 'wildvoice'], ['Write a poem.']);
  assert.equal(Object.keys(free?.probabilities ?? {}), ['ifeval', 'wildvoice']);
});

test('adapters: a new one changes nothing; what is no plain LoRA of this model is refused', async () => {
  using fresh = policy.createAdapter({ rank: 2, alpha: 4, targetModules: ['q_proj'], seed: 1 });
  assert.equal([fresh.rank, fresh.alpha], [2, 4]);
  const greedy = { temperature: 0, maxCompletionLength: 4 };
  const [[without] = []] = await policy.generate(['One two'], greedy);
  const [[withIt] = []] = await policy.generate(['One two'], { ...greedy, adapter: fresh });
  assert.equal(withIt?.tokens, without?.tokens);
  await fails(() => policy.loadAdapter(scratch), 'E_MODEL', /the settings of an adapter/);
  const altered = (change: object) => {
    const folder = mkdtempSync(join(scratch, 'adapter-'));
    cpSync(join(run, 'last'), folder, { recursive: true });
    const file = join(folder, 'adapter_config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
    return folder;
  };
  policy.loadAdapter(altered({ rank_pattern: {} })).close();
  await fails(() => policy.loadAdapter(altered({ use_dora: true })), 'E_MODEL', /plain LoRA.*use_dora/);
  await fails(() => policy.loadAdapter(altered({ alpha_pattern: { q_proj: 3 } })), 'E_MODEL', /alpha_pattern/);
  await fails(() => policy.loadAdapter(altered({ target_modules: 'all-linear' })), 'E_MODEL', /all-linear/);
  await fails(() => policy.loadAdapter(altered({ r: 3 })), 'E_MODEL', /shape/);
  await fails(() => policy.loadAdapter(altered({ target_modules: ['q_proj'] })), 'E_MODEL', /matrices/);
});

test('what is asked wrongly, aborted or closed', async () => {
  await fails(() => Policy.open('no-such.gguf'), 'E_MODEL', /no-such\.gguf/);
  await fails(() => Policy.open(join('assets', 'clips', 'manifest.jsonl')), 'E_MODEL', /./);
  await fails(() => Policy.open('bundled', { threads: 0 }), 'E_CONFIG', /threads/);
  await fails(() => Policy.open('bundled', { type: 'q4' as 'f32' }), 'E_CONFIG', /'q4'/);
  await fails(() => Policy.open('bundled', { device: 'gpu' }), 'E_CONFIG', /'gpu'/);
  await fails(() => Policy.open('bundled', { signal: AbortSignal.abort() }), 'E_ABORTED', /aborted/);
  await fails(() => policy.generate('text' as unknown as string[]), 'E_CONFIG', /a list/);
  await fails(() => policy.generate([[]]), 'E_CONFIG', /prompt 0/);
  await fails(() => policy.generate(['x'], { numGenerations: 1.5 }), 'E_CONFIG', /whole number/);
  await fails(() => policy.generate(['x'], { temperature: Number.NaN }), 'E_CONFIG', /NaN/);
  await fails(() => policy.generate(['x'], { topP: 0 }), 'E_CONFIG', /above 0/);
  await fails(() => policy.logProbs(['x', 'y'], [['z']]), 'E_CONFIG', /1 entries/);
  await fails(() => policy.logProbs(['x'], [[Int32Array.of(1 << 30)]]), 'E_ARGUMENT', /./);
  await fails(() => policy.classify(scratch, ['x']), 'E_DATA', /./);
  await fails(() => policy.classify(['one'], ['x']), 'E_CONFIG', /two or more/);
  await fails(() => policy.classify(['one', 'two'], ['x'], { adapter: 'best' }), 'E_CONFIG', /of no run/);
  await fails(() => policy.classify(run, [' ']), 'E_CONFIG', /text 0/);
  const aborting = new AbortController();
  const long = policy.generate(['x'], {
    ...{ numGenerations: 512, maxCompletionLength: 200, temperature: 5 },
    signal: aborting.signal,
  });
  aborting.abort();
  await fails(() => long, 'E_ABORTED', /aborted/);

  const other = await Policy.open(join('test', 'golden', 'golden.gguf'), { threads: 1 });
  const adapter = other.createAdapter({ rank: 2, alpha: 4, targetModules: ['q_proj'], seed: 1 });
  await fails(() => policy.generate(['x'], { adapter }), 'E_ARGUMENT', /./);
  await fails(() => other.generate([[{ role: 'user', content: 'x' }]]), 'E_CONFIG', /a chat template/);
  await fails(() => other.classify(run, ['x']), 'E_MODEL', /SHA-256/);
  other.close();
  other[Symbol.dispose]();
  await fails(() => other.generate(['x']), 'E_CLOSED', /./);
  await fails(() => other.createAdapter({ rank: 2, alpha: 4, targetModules: ['q_proj'], seed: 1 }), 'E_CLOSED', /./);
});

test.after(() => policy.close());
test.run();
