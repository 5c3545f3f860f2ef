/** report.html of a run. */
import { join, resolve } from 'node:path';
import { writeFileAtomic } from '../run/files.js';
import { page } from './page.js';
import { readRun } from './reader.js';

/** Writes RUN/report.html and returns its path. @throws VoiceGrpoError E_DATA for a folder that is no run */
export function writeReport(run: string): string {
  const path = join(resolve(run), 'report.html');
  writeFileAtomic(path, page(readRun(run)).html);
  return path;
}
