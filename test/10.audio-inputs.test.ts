/** What the arguments of a command stand for: files, folders, patterns, stdin. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { expandInputs } from '../src/audio/inputs.js';
import { presentError, type VoiceGrpoError } from '../src/errors.js';
import { fixture, pcm16, sine, wav } from './audio/make.js';

const root = mkdtempSync(join(tmpdir(), 'voicegrpo-inputs-'));
const at = (...parts: string[]) => join(root, ...parts);
const tone = wav(pcm16(sine(440, 16000, 0.1)));

test.before(() => {
  mkdirSync(at('talks', 'deep', 'deeper'), { recursive: true });
  mkdirSync(at('talks', '.hidden'));
  mkdirSync(at('empty'));
  mkdirSync(at('texts'));
  for (const name of ['b.wav', 'a.MP3', 'deep/z.opus', 'deep/deeper/y.flac', '.hidden/x.wav', '.dot.wav']) {
    writeFileSync(at('talks', name), tone);
  }
  // Known by content: a name without extension, and wrong ones.
  copyFileSync(join('test', 'audio', 'sweep.mp3'), at('talks', 'recording'));
  writeFileSync(at('talks', 'speech.dat'), fixture('opus-speech.opus'));
  writeFileSync(at('talks', 'notes.txt'), 'no audio in here');
  writeFileSync(at('talks', 'empty.bin'), '');
  writeFileSync(at('texts', 'notes.txt'), 'no audio in here either');
  writeFileSync(at('[odd] name.wav'), tone);
  symlinkSync(at('talks', 'b.wav'), at('talks', 'linked.wav'));
  symlinkSync(at('talks'), at('talks', 'deep', 'loop'));
});
test.after(() => rmSync(root, { recursive: true, force: true }));

const TALKS = ['a.MP3', 'b.wav', 'deep/deeper/y.flac', 'deep/z.opus', 'recording', 'speech.dat'].map((name) =>
  at('talks', name),
);

const expanded = async (args: string[]): Promise<string[]> => {
  const { inputs, failures } = await expandInputs(args);
  assert.equal(failures, []);
  return inputs;
};

const refusal = async (...args: string[]) => {
  const { failures } = await expandInputs(args);
  assert.is(failures.length, 1, `${args}`);
  const error = failures[0] as VoiceGrpoError;
  assert.equal([error.code, error.exitCode], ['E_AUDIO', 3]);
  return presentError(error).text;
};

test('a folder gives its audio, by name or by content, sorted, and that of folders below', async () => {
  assert.equal(await expanded([at('talks')]), TALKS);
  assert.equal(await expanded([`${at('talks')}/`]), TALKS);
});

test('patterns give what matches, folders among it included', async () => {
  assert.equal(await expanded([at('talks', '*.wav')]), [at('talks', 'b.wav')]);
  assert.equal(await expanded([at('talks', 'linked*')]), [at('talks', 'linked.wav')]);
  assert.equal(await expanded([at('talks', '**', '*.{opus,flac}')]), [
    at('talks', 'deep/deeper/y.flac'),
    at('talks', 'deep/z.opus'),
  ]);
  assert.equal(await expanded([at('ta*')]), TALKS);
});

test('patterns may be relative', async () => {
  assert.equal(await expanded(['test/audio/sweep.*']), [
    'test/audio/sweep.flac',
    'test/audio/sweep.mp3',
    'test/audio/sweep.ogg',
  ]);
});

test('a file whose name looks like a pattern is that file', async () => {
  assert.equal(await expanded([at('[odd] name.wav')]), [at('[odd] name.wav')]);
});

test('each file once, in the order of the arguments; - is stdin', async () => {
  const wanted = [at('talks', 'deep', 'z.opus'), '-', at('talks', 'b.wav')];
  const rest = TALKS.filter((file) => !wanted.includes(file));
  assert.equal(await expanded([...wanted, `${root}/talks/../talks/b.wav`, '-', at('talks')]), [...wanted, ...rest]);
});

test('a plain path that does not exist stays, for its own error', async () => {
  assert.equal(await expanded([at('missing.wav'), at('talks', 'b.wav')]), [at('missing.wav'), at('talks', 'b.wav')]);
  assert.equal(await expanded([]), []);
});

test('a folder without audio and a pattern without match are errors that name them', async () => {
  assert.is(
    await refusal(at('talks', 'b.wav'), at('texts')),
    `${at('texts')}: expected a folder with audio files, got a folder without any.\nGive audio files, folders of them, or - for stdin.`,
  );
  assert.match(await refusal(at('empty')), 'without any');
  const some = await expandInputs([at('empty'), at('talks', 'b.wav'), at('*.xyz')]);
  assert.equal([some.inputs, some.failures.length], [[at('talks', 'b.wav')], 2], 'the others are there all the same');
  assert.match(
    await refusal(at('*.xyz')),
    `${at('*.xyz')}: expected a pattern that matches audio files, got no match.`,
  );
});

test.run();
