/** The pages: what docs/rewards.md tells to do works when it is done as told, and links within the project lead somewhere. */

import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LEAVES } from '../src/config/schema.js';
import { StandInHub } from './hub/stand-in.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-docs-'));

/** Fenced blocks of one language. */
const blocks = (page: string, language: string) =>
  [...readFileSync(page, 'utf8').matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(
    ([, text]) => text as string,
  );

/** The anchor that a heading gets on the usual forges. */
const anchor = (heading: string) =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/ /g, '-');

test('docs/rewards.md: the module, the configuration and the commands', () => {
  const [module] = blocks('docs/rewards.md', 'js');
  const [config] = blocks('docs/rewards.md', 'json');
  const commands = blocks('docs/rewards.md', 'sh');
  assert.ok(module !== undefined && config !== undefined && commands.length === 2);
  writeFileSync(join(scratch, 'my-reward.mjs'), module);
  writeFileSync(join(scratch, 'my.json'), config);
  symlinkSync(resolve('node_modules'), join(scratch, 'node_modules'));
  for (const command of commands) {
    const args = command.trim().split(' ').slice(1);
    const cli = ['--import', 'tsx', resolve('src/cli.ts'), ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, cli, {
      cwd: scratch,
      encoding: 'utf8',
      env: { ...process.env, VOICEGRPO_CACHE: join(scratch, 'cache') },
    });
    assert.is(status, 0, `${command}${stdout}${stderr}`);
    assert.match(stdout, 'my-reward');
  }
});

test('docs/datasets.md: a folder, a manifest, parquet, the hub, and a training', async () => {
  const home = mkdtempSync(join(scratch, 'datasets-'));
  const [manifest] = blocks('docs/datasets.md', 'jsonl');
  const [config] = blocks('docs/datasets.md', 'json');
  const commands = blocks('docs/datasets.md', 'sh').flatMap((block) => block.trim().split('\n'));
  assert.ok(manifest !== undefined && config !== undefined);
  writeFileSync(join(home, 'manifest.jsonl'), manifest);
  writeFileSync(join(home, 'calls.json'), config);
  const lines = manifest
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { audio: string; label: string; text: string });
  const sounds = lines.map((_, i) => readFileSync(join('assets/clips/ifeval', `00${i}.ogg`)));
  for (const [i, { audio }] of lines.entries()) {
    mkdirSync(dirname(join(home, audio)), { recursive: true });
    writeFileSync(join(home, audio), sounds[i] as Buffer);
  }
  const optional = { repetition_type: 'OPTIONAL' as const };
  const text = { type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, ...optional };
  const parquet = new Uint8Array(
    parquetWriteBuffer({
      codec: 'UNCOMPRESSED',
      schema: [
        { name: 'root', num_children: 3 },
        { name: 'audio', ...optional, num_children: 2 },
        { name: 'bytes', type: 'BYTE_ARRAY', ...optional },
        { name: 'path', ...text },
        { name: 'sentence', ...text },
        { name: 'intent', ...text },
      ],
      columnData: [
        { name: 'audio', data: lines.map(({ audio }, i) => ({ bytes: new Uint8Array(sounds[i] ?? []), path: audio })) },
        { name: 'sentence', data: lines.map((line) => line.text) },
        { name: 'intent', data: lines.map(({ label }) => label) },
      ],
    }),
  );
  writeFileSync(join(home, 'calls.parquet'), parquet);
  const hub = await StandInHub.start();
  try {
    const files = { 'data/train-00000-of-00001.parquet': parquet };
    hub.add({ type: 'dataset', id: 'org/calls', commit: '1'.repeat(40), files });
    let trained = false;
    for (const command of commands) {
      const args = command.split(' ').slice(1);
      const { stdout, stderr } = await promisify(execFile)(
        process.execPath,
        ['--import', import.meta.resolve('tsx'), resolve('src/cli.ts'), ...args],
        {
          cwd: home,
          env: {
            ...process.env,
            VOICEGRPO_CACHE: join(home, 'cache'),
            HF_HOME: join(home, 'hf'),
            HF_ENDPOINT: hub.endpoint,
          },
        },
      );
      if (args[0] === 'train') {
        trained = existsSync(join(home, 'trial', 'best', 'adapter_model.safetensors'));
        assert.match(stderr, 'training and 2 held-out clips of complaint, greeting');
      } else {
        for (const { label } of lines) assert.match(stdout, label, command);
        assert.match(stdout, args[1] === 'list' ? /greeting +\d +2 +50\.0%/ : 'hello there', command);
      }
    }
    assert.is(commands.length, 6);
    assert.ok(trained);
  } finally {
    await hub.close();
  }
});

test('docs/algorithm.md: the settings and files that the symbols stand for are there, every loss type is told', () => {
  const page = readFileSync('docs/algorithm.md', 'utf8');
  const rows =
    page
      .split('## Symbols')[1]
      ?.split('## ')[0]
      ?.match(/^\| (?!symbol|---).*$/gm) ?? [];
  assert.ok(rows.length > 10);
  for (const row of rows) {
    const [settings, file] = row.split('|').slice(2, 4) as [string, string];
    for (const [, setting] of settings.matchAll(/`([^`]+)`/g)) {
      const wanted = new RegExp(`^${(setting as string).replaceAll('.', '\\.').replace('*', '[a-z_]+')}$`);
      assert.ok(
        [...LEAVES.keys()].some((path) => wanted.test(path)),
        `${setting}`,
      );
    }
    assert.ok(existsSync(file.replaceAll(/[` ]/g, '')), file);
  }
  for (const type of LEAVES.get('grpo.loss_type')?.enum ?? []) {
    assert.match(page, `| \`${type}\` `);
  }
});

test('links within the project lead to files and headings that are there', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'native/README.md', 'assets/README.md'].concat(
    readdirSync('docs')
      .filter((name) => name.endsWith('.md'))
      .map((name) => join('docs', name)),
  );
  let links = 0;
  for (const page of pages) {
    for (const [, target] of readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path, fragment] = (target as string).split('#') as [string, string | undefined];
      const file = path === '' ? page : join(dirname(page), path);
      assert.ok(existsSync(file), `${page}: ${target}`);
      if (fragment !== undefined) {
        const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, text]) =>
          anchor(text as string),
        );
        assert.ok(headings.includes(fragment), `${page}: ${target}`);
      }
      links++;
    }
  }
  assert.ok(links > 0);
});

test.run();
