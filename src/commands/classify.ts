/** voicegrpo classify RUN FILE...: the label of new audio or of a text, with its probability. */
import { existsSync } from 'node:fs';
import { Command, Option } from 'clipanion';
import { problem } from '../errors.js';
import { hashFile } from '../pipeline/data.js';
import { answerClips } from '../pipeline/evaluate.js';
import { transcribeEach } from '../pipeline/transcripts.js';
import { sha256 } from '../run/files.js';
import { openTrainedRun } from '../run/trained.js';
import type { TranscribedClip } from '../types.js';
import { ConfigCommand } from './config-command.js';
import { adapterChoice } from './eval.js';

interface Classified {
  file?: string;
  text?: string;
  label?: string;
  probability?: number;
  probabilities?: Record<string, number>;
  answer?: string;
  error?: string;
}

export class ClassifyCommand extends ConfigCommand {
  static override paths = [['classify']];
  static override usage = Command.Usage({
    description: 'Tell which label new audio, or a text, belongs to.',
    examples: [
      ['Audio', 'voicegrpo classify runs/tiny question.wav'],
      ['A text', 'voicegrpo classify runs/tiny --text "Write a poem in exactly two lines."'],
    ],
  });

  directory = Option.String({ required: true, name: 'RUN' });
  files = Option.Rest({ name: 'FILE' });
  texts = Option.Array('--text', [], { description: 'A text instead of audio; may be given several times.' });
  adapter = Option.String('--adapter', 'best', { description: "'best', 'last', or 'none' for the base model." });

  constructor() {
    super(['policy.model', 'whisper.model', 'whisper.language', 'threads', 'device', 'evaluation.batch_size']);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    if (this.files.length === 0 && this.texts.length === 0) {
      throw problem({
        code: 'E_USAGE',
        expected: 'audio files or --text',
        where: 'voicegrpo classify',
        got: 'neither',
        next: 'voicegrpo classify RUN FILE..., or voicegrpo classify RUN --text "…"',
      });
    }
    const progress = this.progress();
    await using hub = this.hub(progress);
    const context = { hub, progress, signal };
    using run = await openTrainedRun(this.directory, adapterChoice(this.adapter), this.settings(), context);
    const results: Classified[] = [];
    const clips: TranscribedClip[] = [];
    const add = (entry: Classified, clip: Omit<TranscribedClip, 'label'> | null) => {
      results.push(entry);
      if (clip !== null) {
        clips.push({ ...clip, label: '' });
      }
    };
    const heard = await transcribeEach(
      this.files,
      run.config,
      this.files.length > 0 ? await run.whisper() : null,
      run.threads,
      progress,
      signal,
    );
    for (const [i, file] of this.files.entries()) {
      const { transcript, error } = heard[i] as (typeof heard)[number];
      if (transcript === undefined || transcript === '') {
        add({ file, error: error ?? `${file}: no speech was heard in it.` }, null);
      } else {
        add({ file, text: transcript }, { id: existsSync(file) ? await hashFile(file) : file, file, transcript });
      }
    }
    for (const text of this.texts) {
      add(
        text.trim() === '' ? { text, error: 'A text given with --text is empty.' } : { text },
        text.trim() === '' ? null : { id: sha256(text), file: '', transcript: text },
      );
    }
    const answers = await answerClips(run.evaluation, run.adapter, clips, signal);
    for (const [i, entry] of results.filter(({ error }) => error === undefined).entries()) {
      const { answer, probabilities } = answers[i] as (typeof answers)[number];
      const [label, probability] = Object.entries(probabilities).reduce((best, other) =>
        other[1] > best[1] ? other : best,
      );
      Object.assign(entry, { label, probability, probabilities, answer });
    }
    progress.end();
    if (this.json) {
      this.print(JSON.stringify(results));
    } else {
      for (const { file, text, label, probability, error } of results) {
        if (error === undefined) {
          this.print(`${label}\t${probability?.toFixed(3)}\t${file ?? text}`);
        } else {
          this.note(error);
        }
      }
    }
    return results.some(({ error }) => error !== undefined) ? 1 : 0;
  }
}
