/**
 * The surface of the N-API addon: the only file that types what crosses between TypeScript and C++.
 *
 * Letters as in the whole project: B prompts in a call, G completions of one prompt, N = B·G completions,
 * L the longest completion, V vocabulary, r LoRA rank. Arrays are dense and row-major; the shape stands beside
 * each field. Completion n belongs to prompt floor(n / G). Every failure is an Error with `code` and `hint`. A typed array
 * that is passed must have memory of its own: over a shared or a resizable buffer it is E_ARGUMENT.
 */

/** Error codes the addon uses; `src/errors.ts` maps them to exit codes. */
export type NativeErrorCode =
  | 'E_ARGUMENT' // a wrong argument: a defect of the caller
  | 'E_AUDIO' // not audio, truncated, empty, or a format that is not supported
  | 'E_MODEL' // a model file that cannot be read or is not what was expected
  | 'E_LIMIT' // a request beyond the model's context or the available memory
  | 'E_MEMORY' // a GPU's memory is not enough
  | 'E_NUMERIC' // NaN or infinity where a finite number belongs; names tensor and layer
  | 'E_CLOSED' // a call on a closed handle
  | 'E_ABORTED' // the AbortSignal fired
  | 'E_INTERNAL';

export interface NativeError extends Error {
  code: NativeErrorCode;
  /** What to do next; empty when there is nothing to add. */
  hint: string;
}

export type AudioFormat = 'wav' | 'mp3' | 'flac' | 'vorbis' | 'opus';

/** What was read so far, before channels were mixed. */
export interface AudioLevel {
  frames: number; // samples a channel
  peak: number; // largest absolute sample
  squares: number; // sum of the squared samples of all channels
}

/** How the channels of an Opus stream are coded, RFC 7845, section 5.1. */
export interface OpusHead {
  channels: number;
  gain: number; // dB
  streams: number;
  coupled: number;
  mapping: number[]; // [channels]
}

/** Opus packets in their order, all of one logical stream; none at the end. */
export interface OpusPackets {
  link: number; // number of the logical stream; each needs a new decoder
  head: OpusHead;
  bytes: Uint8Array; // of all packets, one behind the other
  lengths: Uint32Array; // [packets]
  from: Uint32Array; // [packets] first sample of the decoded packet that is heard, at 48 kHz
  to: Uint32Array; // [packets] the sample behind the last one
}

/** An audio file whose structure has been checked. Calls run one after another. */
export interface NativeAudio {
  readonly info: {
    format: AudioFormat;
    sampleRate: number; // Hz; 48000 for Opus
    channels: number;
    frames: number | null; // samples a channel as the file's structure says
    peak: number | null; // where it had to be measured beforehand: float WAV
  };
  /** The next `frames` samples at the file's rate, each the mean of its channels; fewer only at the end. Not for Opus. */
  read(options: { frames: number }, signal?: AbortSignal): Promise<AudioLevel & { samples: Float32Array }>;
  /** Opus packets that decode to at least `samples` samples at 48 kHz, or the rest of their logical stream. */
  readPackets(options: { samples: number }, signal?: AbortSignal): Promise<OpusPackets>;
  close(): void;
  [Symbol.dispose](): void;
}

/** Mono at one rate to 16 kHz, piece by piece; the result does not depend on the pieces. */
export interface NativeResampler {
  /** @param samples copied when the call is made */
  push(samples: Float32Array): Promise<Float32Array>;
  /** The rest: round(input · 16000 / rate) samples have come then, at least 1 of any input. */
  finish(): Promise<Float32Array>;
  close(): void;
  [Symbol.dispose](): void;
}

/** Names and defaults are whisper.cpp's (whisper_full_params). */
export interface WhisperOptions {
  language: string; // ISO code or 'auto'
  threads: number;
  translate?: boolean;
  /** Text that the decoder sees before the first segment. */
  initialPrompt?: string;
  beamSize?: number; // 1: greedy; default 5, with a short-context model 1
  bestOf?: number; // candidates where the temperature is above 0; default 5
  temperature?: number; // of the first try; default 0
  temperatureIncrement?: number; // added after a failed try, up to 1; 0: no further try; default 0.2
  entropyThreshold?: number; // below it a try has failed: it repeats itself; default 2.4
  logProbThreshold?: number; // below it a try has failed; default -1
  noSpeechThreshold?: number; // default 0.6
  /** 'fitted': the encoder sees the clip and a margin, and the full window where the decoder shows trouble. Default 'full'. */
  window?: 'full' | 'fitted';
  wordTimestamps?: boolean; // default false
  /** Path of a Silero model in ggml's format: only what it takes for speech is heard; times are those of the whole audio. */
  vadModel?: string;
  /** Called on the JavaScript thread for each segment as soon as it is final. */
  onSegment?: (segment: WhisperSegment) => void;
}

export interface WhisperToken {
  id: number;
  text: string; // '' for part of a character that a later token completes
  probability: number;
  logProb: number;
}

export interface WhisperWord {
  text: string; // with its leading space and punctuation
  start: number; // s
  end: number; // s
  probability: number; // mean of its tokens
}

export interface WhisperSegment {
  start: number; // s
  end: number; // s
  text: string;
  avgLogProb: number;
  noSpeechProb: number;
  temperature: number; // of the try that was kept
  tokens: WhisperToken[]; // text tokens only
  words: WhisperWord[] | null; // null unless wordTimestamps
}

/** A try that was thrown away. */
export interface WhisperFallback {
  start: number; // s, of the window
  temperature: number; // of the try
  /** 'timestamps': its times ran backwards, or its text ended without one. 'window': the fitted window did not do. */
  reason: 'repetition' | 'timestamps' | 'log_prob' | 'window';
}

export interface WhisperResult {
  text: string;
  language: string;
  languageProbability: number; // 1 where the language was given
  segments: WhisperSegment[];
  fallbacks: WhisperFallback[];
  audioContext: number; // encoder positions of 20 ms that the last window used
}

export interface NativeWhisper {
  readonly info: {
    multilingual: boolean;
    vocab: number;
    audioContext: number; // encoder positions of 20 ms: the window
    textContext: number; // tokens
    mels: number;
    type: string;
    languages: string[]; // ISO codes
  };
  /** @param samples 16 kHz mono in [-1, 1]; copied when the call is made */
  transcribe(samples: Float32Array, options: WhisperOptions, signal?: AbortSignal): Promise<WhisperResult>;
  close(): void;
  [Symbol.dispose](): void;
}

/** Storage type of the frozen base weights; arithmetic is float32 in each. 'auto': 16 bits where the file loses nothing by it, else f32. */
export type BaseType = 'auto' | 'f32' | 'f16' | 'bf16' | 'q8_0';

export interface PolicyInfo {
  architecture: string; // 'gemma3'
  name: string;
  layers: number;
  width: number; // D
  vocab: number; // V
  contextLength: number; // tokens
  slidingWindow: number; // tokens, 0 without
  parameters: number;
  linearParameters: number; // of the seven matrices of all layers
  baseType: string;
  chatTemplate: string | null; // Jinja source
  bosToken: { id: number; text: string } | null;
  eosToken: { id: number; text: string } | null;
  /** Every token that ends a turn: eos, and <end_of_turn> where the vocabulary has it. */
  stopTokens: number[];
  addBos: boolean;
}

export interface AdapterOptions {
  rank: number; // r
  alpha: number;
  /** PEFT names: q_proj k_proj v_proj o_proj gate_proj up_proj down_proj. */
  targetModules: string[];
  /** A is uniform in ±1/sqrt(in) from Philox(seed), B is zero, as PEFT does it. */
  seed: number;
}

/** One LoRA matrix. All arrays are views over native memory: writing to them writes the adapter. */
export interface AdapterTensor {
  name: string; // PEFT's: 'model.layers.0.self_attn.q_proj.lora_A.weight'
  shape: [number, number]; // lora_A [r, in], lora_B [out, r]
  data: Float32Array;
  gradient: Float32Array;
  expAvg: Float32Array; // AdamW first moment
  expAvgSq: Float32Array; // AdamW second moment
}

export interface AdamWOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  maxGradNorm: number; // 0 switches clipping off
}

export interface NativeAdapter {
  readonly rank: number;
  readonly alpha: number;
  readonly tensors: AdapterTensor[];
  /** Count of AdamW updates so far (bias correction); settable for resume. */
  updates: number;
  zeroGradient(): void;
  /** Clips the gradient by its global norm, applies AdamW (decoupled weight decay) and returns the norm before clipping. */
  step(options: AdamWOptions): { gradNorm: number };
  close(): void;
  [Symbol.dispose](): void;
}

export interface RolloutRequest {
  adapter: NativeAdapter | null; // null: the base model
  promptTokens: Int32Array; // [sum of P], the prompts one after another
  promptLengths: Int32Array; // [B]
  numGenerations: number; // sampled completions of each prompt
  /** Completions that every prompt gets besides, as if it had sampled them: in the result G is numGenerations + A. */
  answers?: Int32Array; // [sum of lengths], one after another
  answerLengths?: Int32Array; // [A], each 1 to L
  maxCompletionLength: number; // L
  temperature: number; // 0: greedy
  topK: number; // 0: all
  topP: number; // 1: all
  stopTokens: Int32Array;
  stopStrings: string[];
  /** Random numbers are Philox(seed; step, promptKeys[b], g, t): they do not depend on the layout of the batch. */
  seed: number;
  step: number;
  promptKeys: Uint32Array; // [B]
  /** Ignore stops and sample exactly L tokens (benchmarks). */
  forceLength?: boolean;
  /**
   * Keep the activations: accumulateGradient on these prompts and completions then spares its forward pass, as long as the
   * adapter's values and the temperature are the same. A rollout that would take more than 2 GiB is not kept. The next kept
   * rollout, and a gradient that needs a forward pass, take their place. Needs an adapter and a temperature above 0.
   */
  keep?: boolean;
}

/** Where the time of the graph passes goes, as one thread sees it: the products with the frozen matrices, LoRA, attention. */
export interface WorkSeconds {
  linear: number;
  lora: number;
  attention: number;
}

export const FINISH_LENGTH = 0;
export const FINISH_STOP_TOKEN = 1;
export const FINISH_STOP_STRING = 2;

export interface RolloutResult {
  tokens: Int32Array; // [N, L], unused places 0
  lengths: Int32Array; // [N], stop included
  logProbs: Float32Array; // [N, L], log softmax(logits / temperature)[token]; temperature 0 counts as 1
  finish: Uint8Array; // [N], FINISH_*; FINISH_LENGTH for given answers
  texts: string[]; // [N], without the stop; '' for given answers
  seconds: { prefill: number; decode: number; head: number; sample: number };
  work: WorkSeconds;
}

/** [prompt | completion 1 | … | completion G] for each of B prompts. */
export interface PackedRequest {
  adapter: NativeAdapter | null;
  promptTokens: Int32Array; // [sum of P]
  promptLengths: Int32Array; // [B]
  numGenerations: number; // G
  tokens: Int32Array; // [N, L]
  lengths: Int32Array; // [N], 0 leaves a completion out
  maxCompletionLength: number; // L, the row length of `tokens`
  temperature: number; // divides the logits
}

export interface LogProbResult {
  logProbs: Float32Array; // [N, L]
  entropies: Float32Array; // [N, L], of the full softmax at that position
}

export interface GradientRequest extends PackedRequest {
  adapter: NativeAdapter;
  advantages: Float32Array; // [N]
  /** Weight of each token of a completion in the loss; 0 leaves it out. From `loss_type`, see pipeline/loss-weights. */
  weights: Float32Array; // [N]
  /** Log-probabilities at rollout; null: the policy has not changed since, the ratio is 1. */
  oldLogProbs: Float32Array | null; // [N, L]
  /** Log-probabilities with the adapter off; needed when beta > 0. */
  refLogProbs: Float32Array | null; // [N, L]
  epsilon: number;
  epsilonHigh: number;
  beta: number;
}

export interface GradientResult extends LogProbResult {
  loss: number; // Σ weight · per-token loss
  keptPrompts: number; // of B: those whose forward pass was the rollout's
  kl: number; // mean k3 over active tokens, 0 without beta
  clipLow: number; // share of active tokens clipped at 1 − epsilon
  clipHigh: number; // share clipped at 1 + epsilonHigh
  ratioMean: number;
  ratioMax: number;
  seconds: { forward: number; head: number; backward: number };
  work: WorkSeconds;
}

export interface NativePolicy {
  readonly info: PolicyInfo;
  tokenize(text: string, options: { addBos: boolean; parseSpecial: boolean }): Int32Array;
  detokenize(tokens: Int32Array, options: { special: boolean }): string;
  createAdapter(options: AdapterOptions): NativeAdapter;
  rollout(request: RolloutRequest, signal?: AbortSignal): Promise<RolloutResult>;
  logProbs(request: PackedRequest, signal?: AbortSignal): Promise<LogProbResult>;
  /** Adds d loss / d LoRA to the adapter's gradients. Splitting a batch over several calls gives the same sum. */
  accumulateGradient(request: GradientRequest, signal?: AbortSignal): Promise<GradientResult>;
  close(): void;
  [Symbol.dispose](): void;
}

/** A metadata value of a GGUF file: the number of its kind in the format, and the bytes behind that. */
export interface GgufEntry {
  key: string;
  kind: number;
  bytes: Uint8Array;
}

export interface GgufTensorInfo {
  name: string;
  shape: number[]; // the slowest dimension first: [out, in]
  type: string; // ggml's name: 'f32', 'q4_K', …
}

/** A GGUF file that has been checked as a whole. */
export interface NativeGguf {
  readonly entries: GgufEntry[]; // sorted by key
  readonly tensors: GgufTensorInfo[]; // in the order of the file
  /** Rows [row, row + rows) of a tensor as float32, whatever its type. */
  readRows(name: string, row: number, rows: number): Float32Array; // [rows, shape.at(-1)]
  close(): void;
  [Symbol.dispose](): void;
}

/** One product as the engine computes it: X [m, k] by a stored matrix W. */
export interface ProductShape {
  type: Exclude<BaseType, 'auto'>; // W's storage
  /** forward: X Wᵀ with W [n, k]. backward: X W with W [k, n]. */
  direction: 'forward' | 'backward';
  m: number;
  n: number;
  k: number;
  threads: number;
  seconds: number; // how long to repeat it
}

export interface ProductRate {
  gflops: number; // median of the repetitions
  best: number; // GFLOP/s of the fastest
  repetitions: number;
}

/** What the CUDA runtime says; no device is touched for it. */
export interface CudaProbe {
  runtime: number; // version of the build: 1000 · major + 10 · minor
  driver: number; // newest version that the driver serves; 0: no driver
  error: string; // name of the CUDA error; '' for none
  message: string;
  devices: CudaDevice[];
  architectures: string; // that kernels were compiled for, '80 90'
  computes: { whisper: boolean; policy: boolean }; // what this build does on the GPU
}

export interface CudaDevice {
  index: number;
  name: string;
  computeCapability: string; // '9.0'
  totalMemory: number; // bytes
}

export interface CudaOpened {
  error: string; // name of the CUDA error; '': the device can be used
  message: string;
  freeMemory: number; // bytes, beside the context
}

export interface Native {
  /** In the CUDA addon alone, like `openDevice`. */
  devices?(): CudaProbe;
  /** Makes a context on a device; what is opened from then on is on it. */
  openDevice?(options: { index: number }): CudaOpened;
  version(): { addon: string; ggml: string; whisper: string; cpu: string };
  /** Opens WAV, MP3, FLAC, Ogg Vorbis or Opus, recognised by content: the descriptor of a regular file, or its bytes, which are copied. */
  openAudio(source: number | Uint8Array, signal?: AbortSignal): Promise<NativeAudio>;
  /** Whether a file that begins like this is one for openAudio. */
  isAudio(beginning: Uint8Array): boolean;
  openResampler(options: { rate: number }): NativeResampler;
  openWhisper(path: string): Promise<NativeWhisper>;
  measureProduct(shape: ProductShape, signal?: AbortSignal): Promise<ProductRate>;
  openGguf(path: string): Promise<NativeGguf>;
  /**
   * Rows in a quantized type of ggml, as its reference code rounds them.
   *
   * @param type ggml's name, 'q4_K'
   * @param values [rows, rowLength], finite; rowLength is a multiple of the type's block
   */
  quantizeRows(type: string, values: Float32Array, rowLength: number): Uint8Array;
  openPolicy(path: string, options: { type: BaseType; threads: number }): Promise<NativePolicy>;
}
