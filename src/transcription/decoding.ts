/** How Whisper is asked: one record of every setting that changes what it writes. */
import { problem } from '../errors.js';
import type { WhisperOptions } from '../native/addon.js';

/** Settings of a transcription with nothing left open; names as in WhisperOptions. */
export type Decoding = Required<
  Pick<
    WhisperOptions,
    | 'language'
    | 'translate'
    | 'initialPrompt'
    | 'beamSize'
    | 'bestOf'
    | 'temperature'
    | 'temperatureIncrement'
    | 'entropyThreshold'
    | 'logProbThreshold'
    | 'noSpeechThreshold'
    | 'window'
    | 'wordTimestamps'
  >
>;

/** Encoder positions of Whisper's 30 s. A model of fewer is not good enough for its scores to rank beams, and has no window worth fitting. */
const FULL_CONTEXT = 1500;

/** What was asked for, and the engine's defaults for the rest. @param audioContext positions of the model's encoder */
export function decodingOf(asked: Partial<Decoding>, audioContext: number): Decoding {
  const whole = audioContext >= FULL_CONTEXT;
  return {
    language: 'auto',
    translate: false,
    initialPrompt: '',
    beamSize: whole ? 5 : 1,
    bestOf: 5,
    temperature: 0,
    temperatureIncrement: 0.2,
    entropyThreshold: 2.4,
    logProbThreshold: -1,
    noSpeechThreshold: 0.6,
    window: whole ? 'fitted' : 'full',
    wordTimestamps: false,
    ...Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined)),
  };
}

/**
 * @param languages ISO codes that the model understands: one, if it is English-only
 * @throws VoiceGrpoError E_CONFIG for a language or a task that it does not
 */
export function checkDecoding(
  { language, translate }: Pick<Decoding, 'language' | 'translate'>,
  languages: readonly string[],
): void {
  const englishOnly = languages.length === 1;
  if (language !== 'auto' && !languages.includes(language)) {
    throw problem({
      code: 'E_CONFIG',
      where: 'language',
      expected: englishOnly
        ? `'auto' or '${languages[0]}' (the model is English-only)`
        : `'auto' or one of ${languages.length} ISO codes that the model knows, such as 'en' or 'de'`,
      got: `'${language}'`,
      next: englishOnly ? 'choose a multilingual model, or leave the language out' : 'correct the language',
    });
  }
  if (translate && englishOnly) {
    throw problem({
      code: 'E_CONFIG',
      where: 'translate',
      expected: 'a multilingual model',
      got: 'one that is English-only',
      next: 'choose a multilingual model, or transcribe without translating',
    });
  }
}

/** As JSON: openai-whisper's names where it has one. */
export function decodingJson(decoding: Decoding): Record<string, unknown> {
  return {
    language: decoding.language,
    task: decoding.translate ? 'translate' : 'transcribe',
    initial_prompt: decoding.initialPrompt === '' ? null : decoding.initialPrompt,
    beam_size: decoding.beamSize,
    best_of: decoding.bestOf,
    temperature: decoding.temperature,
    temperature_increment_on_fallback: decoding.temperatureIncrement,
    entropy_threshold: decoding.entropyThreshold,
    logprob_threshold: decoding.logProbThreshold,
    no_speech_threshold: decoding.noSpeechThreshold,
    window: decoding.window,
    word_timestamps: decoding.wordTimestamps,
  };
}
