/** In place of the addon's Whisper: the test says when each call goes on and sees what it was asked. */
import type { NativeWhisper, WhisperOptions, WhisperResult, WhisperSegment } from '../../src/native/addon.js';
import { loadNative } from '../../src/native/load.js';

export interface SeenCall {
  samples: Float32Array;
  options: WhisperOptions;
  signal: AbortSignal | undefined;
}

export interface StandInWhisper {
  calls: SeenCall[];
  /** Opens the gate for one call that waits or will come. */
  pass(): void;
  /** Has the call fail that waits longest. */
  fail(error: Error): void;
}

export function segmentOf(text: string, start = 0, end = start + 1): WhisperSegment {
  const tokens = [{ id: 11, text, probability: 0.9, logProb: -0.1 }];
  const words = text.split(/(?= )/).map((word, i, all) => ({
    text: word,
    start: start + ((end - start) * i) / all.length,
    end: start + ((end - start) * (i + 1)) / all.length,
    probability: 0.9,
  }));
  return { start, end, text, avgLogProb: -0.1, noSpeechProb: 0.01, temperature: 0, tokens, words };
}

export function resultOf(segments: WhisperSegment[], language = 'en'): WhisperResult {
  const text = segments.map((segment) => segment.text).join('');
  return { text, language, languageProbability: 0.8, segments, fallbacks: [], audioContext: 1500 };
}

/**
 * While `run` runs, `openWhisper` gives a model of these languages whose every call tells one segment at once and the other after the gate
 * has let it pass. An abort ends a call.
 */
export async function withStandIn<T>(
  { languages = ['en', 'de'], gated = true }: { languages?: string[]; gated?: boolean },
  run: (standIn: StandInWhisper) => Promise<T>,
): Promise<T> {
  const native = loadNative();
  const { openWhisper } = native;
  const calls: SeenCall[] = [];
  const gate = { open: 0, waiting: [] as { pass: () => void; fail: (error: Error) => void }[] };
  const model: NativeWhisper = {
    info: {
      multilingual: languages.length > 1,
      vocab: 51865,
      audioContext: 1500,
      textContext: 448,
      mels: 80,
      type: 'f16',
      languages,
    },
    async transcribe(samples, options, signal) {
      calls.push({ samples, options, signal });
      const words = options.wordTimestamps === true;
      const parts = [segmentOf(' one', 0, 1), segmentOf(' two,', 1, 2)].map((part) =>
        words ? part : { ...part, words: null },
      );
      options.onSegment?.(parts[0]!);
      if (gated && gate.open === 0) {
        await new Promise<void>((resolve, reject) => {
          const waiter = { pass: resolve, fail: reject };
          gate.waiting.push(waiter);
          signal?.addEventListener('abort', () => {
            gate.waiting = gate.waiting.filter((other) => other !== waiter);
            reject(Object.assign(new Error('aborted'), { code: 'E_ABORTED', hint: '' }));
          });
        });
      } else if (gated) {
        gate.open--;
      }
      return resultOf(parts, options.language === 'auto' ? languages[0] : options.language);
    },
    close() {},
    [Symbol.dispose]() {},
  };
  native.openWhisper = () => Promise.resolve(model);
  try {
    return await run({
      calls,
      pass() {
        const next = gate.waiting.shift();
        if (next) next.pass();
        else gate.open++;
      },
      fail: (error) => gate.waiting.shift()?.fail(error),
    });
  } finally {
    native.openWhisper = openWhisper;
  }
}

/** Waits until something is so. @throws after ten seconds */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await condition()); tries++) {
    if (tries > 1000) throw new Error(`${what}: not after ten seconds`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
