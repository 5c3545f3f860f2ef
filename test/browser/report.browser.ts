// The pages of a run that is really trained.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { watchRun } from '../../src/watch/server.js';
import { ask, browser, inkedCharts, open, picture, root, until, withoutLostConnections } from './browser.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const work = mkdtempSync(join(tmpdir(), 'voicegrpo-browser-'));
const run = join(work, 'tiny');

function train(): ReturnType<typeof spawn> {
  return spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      'src/cli.ts',
      'train',
      '--config',
      'tiny',
      '--max-steps',
      '12',
      '--threads',
      '1',
      '--output-dir',
      run,
    ],
    { cwd: root, stdio: 'inherit' },
  );
}

test('a page that is watched fills while the run goes on, and lives through a restart of the server', async () => {
  const first = await watchRun({ run, port: 0, interval: 200 });
  const { page, faults } = await open(first.url);
  assert.match(await page.$eval('main', (main) => main.textContent ?? ''), /has not begun/);
  const training = train();
  const ended = once(training, 'exit');
  await until(page, "document.querySelector('.plot canvas') !== null");
  await first.stop();
  await until(page, "document.getElementById('link').textContent.includes('lost')");
  await using second = await watchRun({ run, port: first.port, interval: 200 });
  assert.is((await ended)[0], 0);
  await until(page, "document.querySelector('.state').textContent.includes('finished')");
  assert.ok((await inkedCharts(page)) >= 10);
  assert.equal(withoutLostConnections(faults), []);
  assert.match(await (await fetch(`${second.url}metrics`)).text(), /^voicegrpo_step\{run="tiny"\} 12$/m);
  await page.close();
});

for (const [name, options] of Object.entries({
  'light-wide': { width: 1280 },
  'dark-wide': { width: 1280, dark: true },
  'light-phone': { width: 390 },
  'dark-phone': { width: 390, dark: true },
})) {
  test(`report.html, ${name}: charts, no request, no error, accessible, no horizontal scroll`, async () => {
    const { page, faults, requests } = await open(pathToFileURL(join(run, 'report.html')).href, options);
    assert.ok((await inkedCharts(page)) >= 10);
    assert.equal(faults, []);
    assert.equal(requests.length, 1);
    assert.ok(await ask(page, 'document.documentElement.scrollWidth <= innerWidth'));
    const violations = await ask<string[]>(
      page,
      `${axe}; axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.slice(0, 2).map((n) => n.html.slice(0, 200)).join(' | ')))`,
    );
    await picture(page, name);
    assert.equal(violations, []);
    await page.close();
  });
}

test('the table of completions is filtered and sorted by keyboard alone', async () => {
  const { page, faults } = await open(pathToFileURL(join(run, 'report.html')).href);
  const count = () => page.$eval('#completions-table .count', (node) => Number.parseInt(node.textContent ?? '', 10));
  const all = await count();
  await page.focus('#completions-table-search');
  await page.keyboard.type('wildvoice');
  const some = await count();
  assert.ok(some > 0 && some < all, `${some} of ${all}`);
  await page.keyboard.type('-no-such-text');
  assert.is(await count(), 0);
  await page.focus('#completions-table th button');
  await page.keyboard.press('Enter');
  assert.is.not(await page.$eval('#completions-table th', (node) => node.getAttribute('aria-sort')), 'none');
  assert.equal(faults, []);
  await page.close();
});

test.after(async () => {
  await browser.close();
  rmSync(work, { recursive: true, force: true });
});

test.run();
