/** voicegrpo as a library: the loop and its stages. `voicegrpo/rewards` has the rewards alone, without the addon. */
export { type Config, type FlagSetting, type LoadedConfig, loadConfig, PRESETS } from './config/load.js';
export { VoiceGrpoError } from './errors.js';
export { type Generated, type TrainObserver, type TrainResult, type TrainSetup, train as trainLoop } from './grpo.js';
export { Hub } from './hub/client.js';
export { type HubEnvironment, hubEnvironment } from './hub/environment.js';
export { type EvaluateOptions, evaluate, type LabelledText } from './library/evaluate.js';
export {
  type ChatMessage,
  type Classification,
  type ClassifyOptions,
  type Completion,
  type CompletionLogProbs,
  type GenerateOptions,
  type LogProbsOptions,
  Policy,
  type PolicyOpenOptions,
  type PolicyPrompt,
} from './library/policy.js';
export {
  type GivenReward,
  type Settings,
  type TrainAnswer,
  type TrainEvent,
  type TrainedResult,
  Training,
  type TrainOptions,
  train,
} from './library/train.js';
export { type Finding, type FindingKind, findFaults, type Severity } from './lint/findings.js';
export { type LintReport, lintRewards, type SampledGroup } from './lint/lint.js';
export { type GroupMeasures, measureGroups, type RewardMeasures } from './lint/measures.js';
export type * from './native/addon.js';
export { loadNative } from './native/load.js';
export { advantagesOf } from './pipeline/advantages.js';
export { type Dataset, listClips, loadDataset } from './pipeline/data.js';
export { answerClips, evaluate as evaluateClips } from './pipeline/evaluate.js';
export { lossWeights } from './pipeline/loss-weights.js';
export { createPromptBuilder, type PromptBuilder } from './pipeline/prompt.js';
export { openDataset, type SourcedDataset, VOICEBENCH } from './pipeline/sources.js';
export { loadRewards, type WeightedReward } from './rewards/weighted.js';
export { createRun, openRun, runFolder } from './run/folder.js';
export { Progress } from './run/progress.js';
export { type Replay, replayGroup } from './run/replay.js';
export { openTrainedRun, type TrainedRun } from './run/trained.js';
export { type RunningServer, type ServerLimits, type ServerOptions, serveTranscription } from './server/server.js';
export type { HeardSegment } from './transcription/hearing.js';
export type * from './types.js';
export {
  type AudioInput,
  type TranscribeOptions,
  Whisper,
  type WhisperModelInfo,
  type WhisperOpenOptions,
  type WhisperTranscription,
} from './whisper.js';
