// `npm run test:browser`: the pages in a real headless Chromium. VOICEGRPO_CHROMIUM names another one; SCREENSHOTS a folder for pictures.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import puppeteer, { type Page } from 'puppeteer-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { watchRun } from '../../src/watch/server.js';

const root = new URL('../../', import.meta.url).pathname;
const chromium = [
  process.env.VOICEGRPO_CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => path !== undefined && existsSync(path));
if (chromium === undefined) {
  console.error('No Chromium was found: apt-get install chromium, or name one in VOICEGRPO_CHROMIUM.');
  process.exit(1);
}
execFileSync(process.execPath, ['tools/web.mjs'], { cwd: root, stdio: 'inherit' }); // the sources as they are
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const work = mkdtempSync(join(tmpdir(), 'voicegrpo-browser-'));
const run = join(work, 'tiny');
const pictures = process.env.SCREENSHOTS;
if (pictures) mkdirSync(pictures, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

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

async function open(
  url: string,
  { width = 1600, dark = false } = {},
): Promise<{ page: Page; faults: string[]; requests: string[] }> {
  const page = await browser.newPage();
  const faults: string[] = [];
  const requests: string[] = [];
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) requests.push(request.url());
  });
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]);
  await page.goto(url);
  return { page, faults, requests };
}

const picture = async (page: Page, name: string) => {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) as `${string}.png`, fullPage: true });
};
const inkedCharts = (page: Page) =>
  page.$$eval(
    '.plot canvas',
    (canvases) =>
      (
        canvases as unknown as {
          width: number;
          height: number;
          getContext(kind: '2d'): { getImageData(...at: number[]): { data: Uint8ClampedArray } };
        }[]
      ).filter((canvas) =>
        canvas
          .getContext('2d')
          .getImageData(0, 0, canvas.width, canvas.height)
          .data.some((value) => value > 0),
      ).length,
  );

test('a page that is watched fills while the run goes on, and lives through a restart of the server', async () => {
  const first = await watchRun({ run, port: 0, interval: 200 });
  const { page, faults } = await open(first.url);
  assert.match(await page.$eval('main', (main) => main.textContent ?? ''), /has not begun/);
  const training = train();
  const ended = once(training, 'exit');
  await page.waitForSelector('.plot canvas', { timeout: 300_000 });
  await first.stop();
  await page.waitForFunction("document.getElementById('link').textContent.includes('lost')", { timeout: 60_000 });
  await using second = await watchRun({ run, port: first.port, interval: 200 });
  assert.is((await ended)[0], 0);
  await page.waitForFunction("document.querySelector('.state').textContent.includes('finished')", { timeout: 300_000 });
  assert.ok((await inkedCharts(page)) >= 10);
  assert.equal(
    faults.filter((fault) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(fault)),
    [],
  );
  assert.match(await (await fetch(`${second.url}metrics`)).text(), /^voicegrpo_step\{run="tiny"\} 12$/m);
  await page.close();
});

for (const [name, options] of Object.entries({
  'light-wide': { width: 1600 },
  'dark-wide': { width: 1600, dark: true },
  'light-phone': { width: 375 },
  'dark-phone': { width: 375, dark: true },
})) {
  test(`report.html, ${name}: charts, no request, no error, accessible, no horizontal scroll`, async () => {
    const { page, faults, requests } = await open(pathToFileURL(join(run, 'report.html')).href, options);
    assert.ok((await inkedCharts(page)) >= 10);
    assert.equal(faults, []);
    assert.equal(requests.length, 1);
    assert.ok(await page.evaluate<[], () => boolean>('document.documentElement.scrollWidth <= innerWidth' as never));
    const violations = await page.evaluate<[], () => string[]>(
      `${axe}; axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.slice(0, 2).map((n) => n.html.slice(0, 200)).join(' | ')))` as never,
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
