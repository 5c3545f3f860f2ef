/** What `npm test` says where there is no browser. */
import { spawnSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

function runTests(args: string[], chromium: string) {
  return spawnSync(process.execPath, ['test/run.mjs', ...args], {
    encoding: 'utf8',
    env: { ...process.env, VOICEGRPO_CHROMIUM: chromium },
  });
}

test('without a browser npm test says that its tests are skipped, and how to run them', () => {
  const { status, stdout } = runTests(['60.advantage'], '/none/chromium');
  assert.is(status, 0, stdout);
  const [line = ''] = stdout.match(/^skipped: the tests in a browser.*$/m) ?? [];
  assert.match(line, /no Chromium was found.*VOICEGRPO_CHROMIUM.*npm run test:browser$/);
  const found = runTests(['60.advantage'], process.execPath); // any file that is there
  assert.match(found.stdout, /^skipped: the tests in a browser: npm run test:browser$/m);
});

test('npm run test:browser without a browser fails and says what is missing', () => {
  const { status, stderr } = runTests(['--browser'], '/none/chromium');
  assert.is(status, 1);
  assert.match(stderr, /^No Chromium was found: install Chromium/);
});

test.run();
