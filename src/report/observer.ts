/** Keeps report.html up to date during training. A report that fails is told, and fails nothing else. */
import type { TrainObserver } from '../grpo.js';
import type { RunFolder, StoredDataset } from '../run/folder.js';
import { writeInfluence } from '../run/influence.js';
import { writeReport } from './write.js';

export function reportObserver(
  folder: RunFolder,
  dataset: Pick<StoredDataset, 'heldOut'>,
  note: (text: string) => void,
): Required<Pick<TrainObserver, 'saved' | 'finished'>> {
  const write = () => {
    try {
      writeReport(folder.path);
    } catch (error) {
      note(`The report could not be written: ${(error as Error).message}`);
    }
  };
  return {
    saved: write,
    async finished(context, adapter, before, after) {
      try {
        await writeInfluence(folder, context, adapter, dataset.heldOut, { before, after });
      } catch (error) {
        note(`The influence of words could not be computed: ${(error as Error).message}`);
      }
      write();
    },
  };
}
