/** A folder that only this user can look into, for uploads; gone when the server or the process ends. */
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class PrivateFolder {
  #count = 0;

  private constructor(
    private readonly path: string,
    private readonly atExit: () => void,
  ) {}

  static async create(): Promise<PrivateFolder> {
    const path = await mkdtemp(join(tmpdir(), 'voicegrpo-serve-')); // mode 0700
    const atExit = () => rmSync(path, { recursive: true, force: true }); // a second signal ends the process at once
    process.once('exit', atExit);
    return new PrivateFolder(path, atExit);
  }

  /** A path for a new file. Nothing of what a client says is part of it. */
  newPath(): string {
    return join(this.path, String(++this.#count));
  }

  async remove(): Promise<void> {
    process.off('exit', this.atExit);
    await rm(this.path, { recursive: true, force: true });
  }
}
