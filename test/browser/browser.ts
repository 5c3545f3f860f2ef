/** A real headless Chromium. SCREENSHOTS names a folder for pictures. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import puppeteer, { type Page } from 'puppeteer-core';

export const root = new URL('../../', import.meta.url).pathname;
const { findChromium, HOW_TO_RUN } = await import(new URL('chromium.mjs', import.meta.url).href);
const chromium: string | undefined = findChromium();
if (chromium === undefined) {
  console.error(`No Chromium was found: ${HOW_TO_RUN}`);
  process.exit(1);
}
execFileSync(process.execPath, ['tools/web.mjs'], { cwd: root, stdio: 'inherit' }); // the page as its sources are
export const browser = await puppeteer.launch({
  executablePath: chromium,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--autoplay-policy=no-user-gesture-required',
    '--mute-audio',
  ],
});

export interface OpenPage {
  page: Page;
  /** Errors of the console and of scripts. */
  faults: string[];
  requests: string[];
}

export async function open(url: string, { width = 1600, dark = false } = {}): Promise<OpenPage> {
  const page = await browser.newPage();
  const faults: string[] = [];
  const requests: string[] = [];
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) requests.push(request.url());
  });
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([
    { name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' },
    { name: 'prefers-reduced-motion', value: 'reduce' }, // scrolls at once
  ]);
  await page.goto(url);
  return { page, faults, requests };
}

/** What a script in the page says. */
export const ask = <T>(page: Page, expression: string): Promise<T> => page.evaluate<[], () => T>(expression as never);

/** Waits until an expression is true in the page, whether or not that page is in front of others. */
export async function until(page: Page, expression: string): Promise<void> {
  await page.waitForFunction(expression, { polling: 100, timeout: 300_000 });
}

/** Faults that are not a connection that was lost. */
export const withoutLostConnections = (faults: readonly string[]): string[] =>
  faults.filter((fault) => !/ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(fault));

export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) as `${string}.png`, fullPage: true });
}

/** Charts on which something is drawn. */
export function inkedCharts(page: Page): Promise<number> {
  return ask(
    page,
    `[...document.querySelectorAll('.plot canvas')].filter((canvas) =>
      canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0)).length`,
  );
}
