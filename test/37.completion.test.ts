/** completion: the scripts, run by the shells themselves. A shell that is not installed is named on stdout. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CONFIG_FLAGS } from '../src/config/flags.js';
import { PRESETS } from '../src/config/load.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-completion-'));
const installed = (shell: string) => spawnSync(shell, ['-c', 'exit 0']).status === 0;

/** What each shell offers after these words; the last one is being typed. */
const ASK: Record<string, (script: string, words: readonly string[]) => string> = {
  bash: (script, words) =>
    `source ${script}; COMP_WORDS=(voicegrpo ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _voicegrpo; printf '%s\\n' "\${COMPREPLY[@]}"`,
  // compadd works only while a line is edited: here it prints the words that begin as the last one does, as the shell would choose.
  zsh: (script, words) =>
    `source ${script}; words=(voicegrpo ${words.map((word) => `'${word}'`).join(' ')}); CURRENT=${words.length + 1}; _files() { :; }; compadd() { shift; print -l -- \${(M)@:#\${words[CURRENT]}*}; }; _voicegrpo; true`,
  fish: (script, words) => `source ${script}; complete -C 'voicegrpo ${words.join(' ')}'`,
};

for (const [shell, ask] of Object.entries(ASK)) {
  if (!installed(shell)) {
    console.log(`${shell} is not installed: its completion is not tested`);
    continue;
  }
  test(`completion ${shell}: commands, flags and presets`, async () => {
    const { code, stdout, stderr } = await runCli(['completion', shell]);
    assert.is(code, 0, stderr);
    const script = join(scratch, `voicegrpo.${shell}`);
    writeFileSync(script, stdout);
    const offers = (...words: string[]) => {
      const options = shell === 'fish' ? ['--no-config', '-c'] : shell === 'zsh' ? ['-f', '-c'] : ['--norc', '-c'];
      const result = spawnSync(shell, [...options, ask(script, words)], {
        encoding: 'utf8',
        cwd: scratch,
        env: { ...process.env, HOME: scratch, XDG_DATA_HOME: scratch, XDG_CONFIG_HOME: scratch },
      });
      assert.is(result.stderr, '');
      return result.stdout
        .split('\n')
        .map((line) => line.split('\t')[0] as string)
        .filter((word) => word !== '');
    };
    assert.equal(offers('tra').sort(), ['train', 'transcribe']);
    assert.equal(offers('config', '').sort(), ['print', 'schema']);
    const flags = offers('train', '--');
    for (const { flag } of CONFIG_FLAGS) assert.ok(flags.includes(flag), flag);
    assert.not.ok(offers('doctor', '--').includes('--seed'));
    assert.equal(offers('train', '--seed', '7', '--max-st'), ['--max-steps'], 'after a flag with its value');
    const presets = offers('train', '--config', '');
    for (const preset of PRESETS) assert.ok(presets.includes(preset), preset);
    assert.not.ok(offers('train', '--seed', '').includes('--max-steps'), 'a value stands there');
  });
}

test('completion of a shell that is not known', async () => {
  const { code, stderr } = await runCli(['completion', 'tcsh']);
  assert.is(code, 2);
  assert.match(stderr, /bash, zsh, fish/);
});

test.run();
