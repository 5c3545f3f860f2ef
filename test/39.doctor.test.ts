/** doctor: severities and fixes, limits of a cgroup, and that it works where the addon does not load. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Check, checkDisk, checkMemory, checkNode, checkThreads, checkTool } from '../src/doctor/checks.js';
import { cpuLimit } from '../src/doctor/cpu-limit.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-doctor-'));
const env = { VOICEGRPO_CACHE: join(scratch, 'cache'), HF_HUB_CACHE: join(scratch, 'hub'), HF_HUB_OFFLINE: '1' };

test('the limit of a cgroup: the smallest of the group and those above, v2 and v1', () => {
  const of = (files: Record<string, string>) => cpuLimit((path) => files[path] ?? null);
  assert.is(of({}), null);
  assert.is(of({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }), null);
  assert.is(
    of({
      '/proc/self/cgroup': '0::/a/b\n',
      '/sys/fs/cgroup/a/b/cpu.max': '400000 100000\n',
      '/sys/fs/cgroup/a/cpu.max': '150000 100000\n',
    }),
    1.5,
  );
  const v1 = { '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' };
  assert.is(of({ ...v1, '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n' }), 2);
  assert.is(of({ ...v1, '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n' }), null);
});

test('severities: Node, threads, memory, disk, tools', async () => {
  const severities = ['20.18.0', '20.18.1', '20.19.0', '21.0.0', '22.8.0', '22.9.0', '24.0.0'].map(
    (version) => checkNode(version).severity,
  );
  assert.equal(severities, ['warning', 'ok', 'ok', 'warning', 'warning', 'ok', 'ok']);
  assert.is(checkThreads(8, null).severity, 'ok');
  assert.is(checkThreads(2, 2).severity, 'ok');
  assert.match(checkThreads(8, 2.5).fix ?? '', '--threads 2:');
  assert.match(checkThreads(8, 0.5).fix ?? '', '--threads 1:');
  assert.is(checkMemory(8e9, 1e9).severity, 'warning');
  assert.is(checkMemory(8e9, 4e9).severity, 'ok');
  const missing = () => join(scratch, 'not', 'yet');
  assert.is((await checkDisk('x', missing, 1)).severity, 'ok');
  assert.is((await checkDisk('x', missing, Number.POSITIVE_INFINITY)).severity, 'warning');
  assert.is(checkTool('node', [process.execPath], false).severity, 'ok');
  assert.is(checkTool('cmake', ['no-such-program'], true).severity, 'warning');
  assert.is(checkTool('cmake', ['no-such-program'], false).severity, 'failure');
});

test('doctor: every check, in text and as JSON, and exit code 0', async () => {
  const { code, stdout, stderr } = await runCli(['doctor', '--json'], env);
  const checks = JSON.parse(stdout) as Check[];
  assert.is(code, 0, stderr);
  assert.equal(
    checks.map(({ name }) => name),
    [
      'platform',
      'node',
      'compiler',
      'cmake',
      'addon',
      'device',
      'threads',
      'memory',
      'own cache',
      'hub cache',
      'runs',
    ].concat(['models', 'hub']),
  );
  assert.ok(checks.every(({ severity, fix }) => (severity === 'ok') === (fix === null)));
  assert.match(checks.find(({ name }) => name === 'addon')?.found ?? '', /kernel \w+/);
});

test('doctor: an addon that does not load is a failure with its fix, and the rest is still told', async () => {
  const { code, stdout } = await runCli(['doctor'], { ...env, VOICEGRPO_ADDON: join(scratch, 'none.node') });
  assert.is(code, 1);
  assert.match(stdout, /^FAIL addon .*none\.node: no such file/m);
  assert.match(stdout, /unset VOICEGRPO_ADDON/);
  assert.match(stdout, /^(ok {2}|WARN) threads/m);
  assert.match(stdout, /^ok {3}models/m);
});

test.run();
