// A run that is watched: what the person has in hand stays while the page changes.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'puppeteer-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { truncateLines } from '../../src/run/folder.js';
import { watchRun } from '../../src/watch/server.js';
import { addEvaluation, addStep, finish, makeRun } from '../run-folder.js';
import { ask, browser, open, picture, root, until, withoutLostConnections } from './browser.js';

const work = mkdtempSync(join(tmpdir(), 'voicegrpo-watched-'));
const clips = join(root, 'assets', 'clips', 'ifeval');
const sounds = readdirSync(clips)
  .filter((name) => name.endsWith('.ogg'))
  .slice(0, 3)
  .map((name) => join(clips, name));

function watchedRun(name: string): string {
  const path = join(work, name);
  makeRun(path, {}, { data: { source: 'bundled' } }, sounds);
  for (let step = 1; step <= 10; step++) addStep(path, step);
  return path;
}

const tile = (title: string) =>
  `[...document.querySelectorAll('.tile')].find((tile) => tile.textContent.startsWith('${title}')).querySelector('.value').textContent`;
const stepsShown = (page: Page, steps: number) => until(page, `${tile('Steps')} === '${steps}'`);
/** All that a person can read, but for what a pointer or a sound changes by itself. */
const readable = (page: Page) =>
  ask<string>(page, "[...document.querySelectorAll('main > *')].map((part) => part.innerText).join('\\n')");

test('a filter, its focus, the place on the page, a tip and a sound stay while steps and evaluations come', async () => {
  const path = watchedRun('kept');
  await using server = await watchRun({ run: path, port: 0, interval: 50 });
  const { page, faults } = await open(server.url);
  await ask(
    page,
    `(async () => {
      const sound = document.querySelector('audio');
      sound.loop = true;
      await sound.play();
      window.sound = sound;
      window.nodes = ['#completions-table-search', '.plot canvas', '#clips-table tbody tr'].map((one) => document.querySelector(one));
    })()`,
  );
  await page.select('#clips-table select', 'a');
  await page.focus('#completions-table-search');
  await page.keyboard.type('answer 1');
  // A tip at the third step, as a reader with a keyboard has it.
  await page.focus('.plot');
  for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowRight');
  const tip = () => ask<string>(page, "document.querySelector('.tip:not([hidden])')?.textContent ?? 'no tip'");
  assert.match(await tip(), /^step 3\nreward 3/);
  await page.focus('#completions-table-search');
  // What is above may grow by a line: the browser scrolls along, so that what is looked at stays where it is.
  const place = 'Math.round(document.activeElement.getBoundingClientRect().top)';
  const before = await ask<number>(page, place);
  assert.ok((await ask<number>(page, 'scrollY')) > 500);
  const heard = await ask<number>(page, 'sound.currentTime');

  for (let step = 11; step <= 13; step++) {
    addStep(path, step);
    if (step === 12) addEvaluation(path, step, 'held-out', 0.9);
    await stepsShown(page, step);
    await page.keyboard.type('x'); // typing goes on in the middle of it
    await page.keyboard.press('Backspace');
  }
  await until(page, `${tile('Accuracy')} === '90.0%'`);
  assert.match(await tip(), /^step 3\nreward 3/, 'the tip stays at its step');
  assert.equal(
    await ask(
      page,
      `[document.activeElement.id, document.activeElement.value, document.querySelector('#clips-table select').value]`,
    ),
    ['completions-table-search', 'answer 1', 'a'],
  );
  assert.is(await ask(page, place), before);
  assert.is(await ask(page, 'nodes.every((node) => node.isConnected)'), true);
  assert.match(
    await ask<string>(page, "document.querySelector('#completions-table .count').textContent"),
    /^13 of 52 rows/,
  );
  const [connected, paused, time] = await ask<[boolean, boolean, number]>(
    page,
    '[sound.isConnected, sound.paused, sound.currentTime]',
  );
  assert.equal([connected, paused], [true, false], 'the sound plays on');
  assert.is.not(time, heard);
  assert.equal(faults, []);
  await picture(page, 'watched');
  await page.close();
});

test('a chart that is looked at closer stays so; the tip follows the pointer; a double click shows all again', async () => {
  const path = watchedRun('zoomed');
  await using server = await watchRun({ run: path, port: 0, interval: 50 });
  const { page, faults } = await open(server.url);
  const over = await page.$('.plot .u-over');
  const box = await over?.boundingBox();
  assert.ok(box);
  const at = (share: number) => [box.x + share * box.width, box.y + box.height / 2] as const;
  await page.mouse.move(...at(0.5));
  await page.mouse.down();
  await page.mouse.move(...at(0.8), { steps: 5 });
  await page.mouse.up();
  // The values under the pointer say which part is shown: of 10 steps from 1 on, 50% to 80% are steps 5.5 to 8.2.
  const stepAt = async (share: number) => {
    await page.mouse.move(...at(share));
    return ask<string>(page, "document.querySelector('.plot .tip').textContent.split('\\n')[0]");
  };
  assert.equal([await stepAt(0.02), await stepAt(0.98)], ['step 6', 'step 8']);
  addStep(path, 11);
  await stepsShown(page, 11);
  assert.is(await ask(page, "document.querySelector('.plot .tip').hidden"), false, 'the pointer has not moved');
  assert.equal([await stepAt(0.02), await stepAt(0.98)], ['step 6', 'step 8']);
  await page.mouse.click(...at(0.5), { count: 2 });
  assert.equal([await stepAt(0.02), await stepAt(0.98)], ['step 1', 'step 11']);
  addStep(path, 12);
  await stepsShown(page, 12);
  assert.equal([await stepAt(0.02), await stepAt(0.98)], ['step 1', 'step 12']);
  assert.equal(faults, []);
  await page.close();
});

test('two viewers see the same, and so does who comes later: through a resume and a restart of the server', async () => {
  const path = watchedRun('shared');
  const first = await watchRun({ run: path, port: 0, interval: 50 });
  const viewers = [await open(first.url), await open(first.url)] as const;
  const [one, two] = viewers.map(({ page }) => page) as [Page, Page];
  const alike = async (url: string, steps: number) => {
    for (const page of [one, two]) await stepsShown(page, steps);
    const { page: fresh } = await open(url);
    const expected = await readable(fresh);
    await fresh.close();
    for (const page of [one, two]) assert.is(await readable(page), expected);
    return expected;
  };
  addStep(path, 11);
  addEvaluation(path, 11, 'held-out', 0.8);
  for (const page of [one, two]) await until(page, `${tile('Accuracy')} === '80.0%'`);
  await alike(first.url, 11);

  // The run was killed: it goes on after step 5.
  for (const name of ['metrics', 'completions', 'evaluations']) truncateLines(join(path, `${name}.jsonl`), 5);
  addStep(path, 6, 66);
  const text = await alike(first.url, 6);
  assert.match(text, /24 of 24 rows/);
  assert.match(text, /66/);
  assert.not.match(text, /asked 7/, 'what was cut is gone');

  // The server dies; while it is away the run goes on.
  const typed = '#completions-table-search';
  await one.focus(typed);
  await one.keyboard.type('asked');
  await first.stop();
  for (const page of [one, two]) {
    await until(page, "document.getElementById('link').textContent.includes('lost')");
  }
  addStep(path, 7);
  addStep(path, 8);
  addEvaluation(path, 8, 'after', 1);
  finish(path, 0.5, 1);
  await using second = await watchRun({ run: path, port: first.port, interval: 50 });
  await stepsShown(one, 8);
  assert.is(await ask(one, `document.querySelector('${typed}').value`), 'asked');
  assert.is(await ask(one, 'document.activeElement.id'), typed.slice(1));
  await one.focus(typed);
  for (let i = 0; i < 5; i++) await one.keyboard.press('Backspace');
  assert.match(await alike(second.url, 8), /After training, best adapter/);
  await until(one, "document.getElementById('link').textContent === ' · live'");
  assert.equal(
    viewers.flatMap(({ faults }) => withoutLostConnections(faults)),
    [],
  );
  for (const page of [one, two]) await page.close();
});

test.after(async () => {
  await browser.close();
  rmSync(work, { recursive: true, force: true });
});

test.run();
