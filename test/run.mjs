// Runs every test: `npm test [-- FILTER]`. FILTER is part of a file's name. `npm run test:browser [-- FILTER]` runs those in a browser.
//
// uvu alone can exit 0 when a hook threw, when .run() is missing or when a suite never ran. So each file runs in a process of
// its own and must close with uvu's totals; passed + skipped must be the total; each skip must name its reason on a line
// `skipped: …` (native tests: `skip    NAME # …`); and all together must be at least test/minimum.json, so that tests cannot vanish unseen.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { findChromium, HOW_TO_RUN } from './browser/chromium.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const LIMIT_MS = 15 * 60 * 1000;

/** @returns {Promise<{ code: number | null, signal: string | null, output: string }>} */
function execute(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, FORCE_COLOR: '0', NO_COLOR: '1' },
    });
    let output = '';
    const timer = setTimeout(() => {
      output += `\nstopped after ${LIMIT_MS / 60000} minutes\n`;
      child.kill('SIGKILL');
    }, LIMIT_MS);
    const collect = (chunk) => {
      output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) => collect(`${error.message}\n`));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output });
    });
  });
}

const number = (output, pattern) => {
  const all = [...output.matchAll(pattern)];
  return all.length === 0 ? null : all.reduce((sum, match) => sum + Number(match[1]), 0);
};

/** uvu's closing lines; every suite of a file prints its own. */
function uvuTotals({ output }) {
  const total = number(output, /^ {2}Total: +(\d+)$/gm);
  const passed = number(output, /^ {2}Passed: +(\d+)$/gm);
  const skipped = number(output, /^ {2}Skipped: +(\d+)$/gm);
  return total === null || passed === null || skipped === null ? null : { total, passed, skipped };
}

/** The closing line of native/tests/main.cpp. */
function nativeTotals({ output }) {
  const match = /^(\d+) passed, (\d+) failed, (\d+) skipped$/m.exec(output);
  if (!match) return null;
  const [passed, failed, skipped] = match.slice(1).map(Number);
  return { total: passed + failed + skipped, passed, skipped };
}

const inBrowser = process.argv.includes('--browser');
const filter = process.argv.slice(2).find((word) => word !== '--browser') ?? '';
if (inBrowser && !findChromium()) {
  console.error(`No Chromium was found: ${HOW_TO_RUN}`);
  process.exit(1);
}
const nativeTests = {
  name: 'native-tests',
  command: path.join(root, 'build', 'Release', process.platform === 'win32' ? 'native-tests.exe' : 'native-tests'),
  args: [],
  totals: nativeTotals,
};
const jobs = [
  ...(inBrowser ? [] : [nativeTests]),
  ...readdirSync(path.join(root, 'test'), { recursive: true })
    .map(String)
    .filter((file) => file.endsWith(inBrowser ? '.browser.ts' : '.test.ts'))
    .sort()
    .map((file) => ({
      name: `test/${file}`,
      command: process.execPath,
      args: ['--import', 'tsx', path.join('test', file)],
      totals: uvuTotals,
    })),
].filter((job) => job.name.includes(filter));

let passed = 0;
let failed = 0;
let skipped = 0;
const complaints = [];
for (const job of jobs) {
  const started = Date.now();
  const result = await execute(job.command, job.args);
  const totals = job.totals(result);
  const reasons = result.output.match(/^(?:\W*skipped: .+|skip {4}.+ # .+)$/gm) ?? [];
  const wrong = [];
  if (result.signal) wrong.push(`ended by ${result.signal}`);
  else if (result.code !== 0) wrong.push(`exit code ${result.code}`);
  if (!totals) wrong.push('printed no totals: it crashed, or .run() is missing');
  else if (totals.total === 0) wrong.push('ran no test');
  else if (totals.passed + totals.skipped !== totals.total)
    wrong.push(`${totals.total - totals.passed - totals.skipped} of ${totals.total} failed`);
  if (totals && totals.skipped > reasons.length)
    wrong.push(`${totals.skipped} skipped, but ${reasons.length} reasons (lines "skipped: …")`);

  passed += totals?.passed ?? 0;
  skipped += totals?.skipped ?? 0;
  failed += Math.max(totals ? totals.total - totals.passed - totals.skipped : 0, wrong.length > 0 ? 1 : 0);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${wrong.length === 0 ? 'ok  ' : 'FAIL'} ${job.name}: ${totals?.passed ?? 0} passed, ${seconds} s`);
  for (const reason of reasons) console.log(`     ${reason.trim()}`);
  if (wrong.length > 0) {
    complaints.push(`${job.name}: ${wrong.join('; ')}`);
    console.log(result.output.replace(/^/gm, '     | '));
  }
}

if (jobs.length === 0) {
  complaints.push(`no test file has '${filter}' in its name`);
  failed += 1;
}
if (filter === '' && !inBrowser) {
  const { minimum } = JSON.parse(readFileSync(path.join(root, 'test', 'minimum.json'), 'utf8'));
  if (passed + skipped < minimum) {
    complaints.push(`${passed + skipped} tests ran, at least ${minimum} are expected (test/minimum.json)`);
    failed += 1;
  }
}
for (const complaint of complaints) console.log(`FAIL ${complaint}`);
if (!inBrowser) {
  const how = findChromium() ? 'npm run test:browser' : `no Chromium was found; ${HOW_TO_RUN}`;
  console.log(`skipped: the tests in a browser: ${how}`);
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
