/* Generated from configs/schema.json by tools/config-type.mjs; do not edit. */

/**
 * The configuration of a run. Defaults are those of the preset 'default'.
 */
export interface Config {
  /**
   * Seed of every random number: split, sampling, order, worked examples, rollouts, LoRA's start.
   */
  seed: number;
  /**
   * CPU threads; 0: one for each core.
   */
  threads: number;
  /**
   * What computes: auto (a GPU where one can be used), cpu, cuda, cuda:N.
   */
  device: string;
  /**
   * Spoken clips and how they are divided.
   */
  data: {
    /**
     * 'bundled': the clips of this package. 'voicebench': VoiceBench from the Hugging Face hub. 'org/name': another dataset of the hub. Otherwise a folder DIR/<label>/*.wav|mp3|flac|ogg, a manifest.jsonl with audio, label and optional text, or a parquet file or a folder of them.
     */
    source: string;
    /**
     * Branch, tag or commit of a dataset on the hub; null: a fixed commit for VoiceBench, 'main' for others.
     */
    revision: string | null;
    /**
     * Split of a dataset in parquet: '<config>/<split>-00000-of-00001.parquet'; null: 'test' for VoiceBench, 'train' for others.
     */
    split: string | null;
    /**
     * Column of a parquet dataset with the audio: bytes and path, as datasets' Audio feature has them.
     */
    audio_column: string;
    /**
     * Column of a parquet dataset with what is said; null: none.
     */
    text_column: string | null;
    /**
     * Column of a parquet dataset with the label; null: the folder that a file lies in.
     */
    label_column: string | null;
    /**
     * Labels to use, in this order; empty: all that the source has (VoiceBench: ifeval, commoneval, wildvoice).
     */
    datasets: string[];
    /**
     * Training clips of each label.
     */
    samples_per_dataset: number;
    /**
     * Held-out clips of each label: never trained on, for early stopping and evaluation.
     */
    held_out_per_dataset: number;
    /**
     * Which clips of a label to take for training. Of a parquet dataset, 'random' takes rows that lie together, since they are fetched together.
     */
    sampling_method: 'random' | 'first' | 'last';
    /**
     * Longest clip, s. Longer ones are left out and counted.
     */
    max_duration: number;
    /**
     * Take the text of the manifest, or of text_column, for the transcript instead of transcribing the audio.
     */
    use_text: boolean;
    /**
     * Leave training clips out whose transcript is suspect: repetition, low log-probability, no speech, too many or too few words. Held-out clips stay.
     */
    drop_suspect: boolean;
  };
  /**
   * Speech recognition.
   */
  whisper: {
    /**
     * 'bundled', a short name of ggerganov/whisper.cpp on the hub ('base', 'tiny.en', 'small-q5_1'), 'org/name:FILE', or the path of a ggml Whisper file.
     */
    model: string;
    /**
     * Language of the speech: an ISO code, or 'auto'.
     */
    language: string;
  };
  /**
   * The language model that is trained.
   */
  policy: {
    /**
     * 'bundled', a repository of the hub ('org/name', 'org/name:FILE.gguf'), or the path of a Gemma 3 GGUF file.
     */
    model: string;
    /**
     * Storage of the frozen weights; arithmetic is float32 in each. 'auto': 16 bits where the file loses nothing by it, else f32.
     */
    base_type: 'auto' | 'f32' | 'f16' | 'bf16' | 'q8_0';
  };
  /**
   * The trainable adapter, by PEFT's names.
   */
  lora: {
    /**
     * Rank of the adapter.
     */
    r: number;
    /**
     * The adapter's output is scaled by lora_alpha / r.
     */
    lora_alpha: number;
    /**
     * Linear layers that get an adapter.
     *
     * @minItems 1
     */
    target_modules: [
      'q_proj' | 'k_proj' | 'v_proj' | 'o_proj' | 'gate_proj' | 'up_proj' | 'down_proj',
      ...('q_proj' | 'k_proj' | 'v_proj' | 'o_proj' | 'gate_proj' | 'up_proj' | 'down_proj')[]
    ];
  };
  /**
   * What the policy reads. {labels} (a line each), {names} ('a, b or c'), {transcript} and {label} are filled in.
   */
  prompt: {
    /**
     * 'chat': the model's chat template. 'completion': worked examples and an open line, for base models. 'auto': chat where the model has a template.
     */
    mode: 'auto' | 'chat' | 'completion';
    /**
     * Instruction in front; {labels} becomes one line a label: its name and description.
     */
    system: string;
    /**
     * The question; {transcript} becomes what Whisper heard.
     */
    user: string;
    /**
     * Label → its one-line description in the prompt.
     */
    labels: {
      [k: string]: string;
    };
    /**
     * Completion mode: text in front of the worked examples; {labels} or {names} name the labels. Naming them decides how often a base model answers with one at all.
     */
    completion_system: string;
    /**
     * Completion mode: one worked example, and, cut before {label}, the open question.
     */
    completion_example: string;
    /**
     * Completion mode: worked examples of each label, drawn from the training clips anew for each prompt and shuffled.
     */
    examples_per_label: number;
    /**
     * Completion mode: longest transcript of a worked example, tokens.
     */
    max_example_length: number;
    /**
     * Longest prompt P, tokens. A longer one loses the end of its transcript, never its instruction.
     */
    max_prompt_length: number;
  };
  /**
   * Group relative policy optimization, by TRL's names.
   */
  grpo: {
    /**
     * Optimizer updates at most.
     */
    max_steps: number;
    /**
     * B: prompts sampled at one generation; a multiple of the micro-batches they are divided into (steps_per_generation).
     */
    prompts_per_step: number;
    /**
     * G: answers to each prompt.
     */
    num_generations: number;
    /**
     * Longest answer, tokens.
     */
    max_completion_length: number;
    /**
     * Temperature of the rollouts.
     */
    temperature: number;
    /**
     * Temperature after temperature_steps; null: constant.
     */
    temperature_end: number | null;
    /**
     * Steps over which the temperature goes linearly from temperature to temperature_end.
     */
    temperature_steps: number;
    /**
     * In this many first steps every group tries each label once, beside the num_generations that are sampled. Helps where the policy prefers one label and would never try the others. 0: never.
     */
    label_exploration: number;
    /**
     * Sample among the likeliest tokens that hold this probability; 1: all.
     */
    top_p: number;
    /**
     * Sample among this many likeliest tokens; 0: all.
     */
    top_k: number;
    /**
     * Weight of the KL term against the base model (the adapter switched off); 0: none, and no reference pass.
     */
    beta: number;
    /**
     * The probability ratio is clipped below at 1 − epsilon.
     */
    epsilon: number;
    /**
     * The probability ratio is clipped above at 1 + epsilon_high; null: epsilon.
     */
    epsilon_high: number | null;
    /**
     * How the losses of tokens are averaged.
     */
    loss_type: 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo';
    /**
     * What a group's centred rewards are divided by: the standard deviation of the group, of the batch, or nothing.
     */
    scale_rewards: 'group' | 'batch' | 'none';
    /**
     * μ: how often each batch of answers is used.
     */
    num_iterations: number;
    /**
     * Micro-batches whose gradients make one optimizer update.
     */
    gradient_accumulation_steps: number;
    /**
     * Micro-batches that one generation is divided into; null: gradient_accumulation_steps.
     */
    steps_per_generation: number | null;
    /**
     * Leave answers without a stop out of the loss.
     */
    mask_truncated_completions: boolean;
    /**
     * Draw the prompts of a step from all labels alike.
     */
    balanced_batches: boolean;
  };
  /**
   * AdamW and its schedule, by transformers' names.
   */
  optimizer: {
    /**
     * Highest learning rate.
     */
    learning_rate: number;
    /**
     * Course of the learning rate after warm-up.
     */
    lr_scheduler_type: 'cosine' | 'linear' | 'constant';
    /**
     * Share of max_steps over which the learning rate grows linearly from 0.
     */
    warmup_ratio: number;
    /**
     * Decay of the first moment.
     */
    adam_beta1: number;
    /**
     * Decay of the second moment.
     */
    adam_beta2: number;
    /**
     * Added to the root of the second moment.
     */
    adam_epsilon: number;
    /**
     * Decoupled weight decay.
     */
    weight_decay: number;
    /**
     * Longest gradient; 0: not clipped.
     */
    max_grad_norm: number;
  };
  /**
   * Weights of the rewards; each value is multiplied by its weight once.
   */
  rewards: {
    /**
     * 1 for the target, 0.5 for a longer answer that names the target and no other label, else 0. Range of the value: [-1, 1].
     */
    exact_match: {
      /**
       * Factor of this reward in the sum, applied once. 0 switches it off.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0; 0: full weight at once. A late start keeps a reward that pays for any label from deciding which one.
       */
      ramp_steps: number;
    };
    /**
     * 1 for one word that is a label, 0.5 for a label among other words, -0.25 past ten words without one, else 0. Range of the value: [-1, 1].
     */
    format_compliance: {
      /**
       * Factor of this reward in the sum, applied once. 0 switches it off.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0; 0: full weight at once. A late start keeps a reward that pays for any label from deciding which one.
       */
      ramp_steps: number;
    };
    /**
     * 1 - 0.5 for each hedging phrase, at least 0; 0 for an empty answer. Range of the value: [-1, 1].
     */
    confidence: {
      /**
       * Factor of this reward in the sum, applied once. 0 switches it off.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0; 0: full weight at once. A late start keeps a reward that pays for any label from deciding which one.
       */
      ramp_steps: number;
    };
    /**
     * (q - s)/q: q the predicted label's share among the clips, s its share among the recent predictions. Range of the value: [-1, 1].
     */
    dataset_balance: {
      /**
       * Factor of this reward in the sum, applied once. 0 switches it off.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0; 0: full weight at once. A late start keeps a reward that pays for any label from deciding which one.
       */
      ramp_steps: number;
    };
    /**
     * 1 for one word, 0.8 up to three, 0.5 up to ten, else 0. Range of the value: [-1, 1].
     */
    length_penalty: {
      /**
       * Factor of this reward in the sum, applied once. 0 switches it off.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0; 0: full weight at once. A late start keeps a reward that pays for any label from deciding which one.
       */
      ramp_steps: number;
    };
    /**
     * Rewards of your own: modules whose default export is a function of one answer that returns a number or a promise of one.
     */
    modules: {
      /**
       * Path of the module, relative to the working folder.
       */
      module: string;
      /**
       * Name in metrics.jsonl; the file's name where absent.
       */
      name?: string;
      /**
       * Factor of this reward in the sum.
       */
      weight: number;
      /**
       * Optimizer steps over which the weight grows linearly from 0.
       */
      ramp_steps?: number;
    }[];
  };
  /**
   * Early stopping on the held-out reward.
   */
  stopping: {
    /**
     * Optimizer steps from one held-out evaluation to the next.
     */
    eval_steps: number;
    /**
     * Evaluations without an improvement after which the run stops; 0: never.
     */
    patience: number;
    /**
     * Smallest gain of the held-out reward that counts as an improvement.
     */
    min_delta: number;
    /**
     * Stop as soon as the held-out accuracy reaches this; null: go on.
     */
    target_accuracy: number | null;
  };
  /**
   * Evaluation on held-out clips.
   */
  evaluation: {
    /**
     * Prompts in one call.
     */
    batch_size: number;
  };
  /**
   * The run folder.
   */
  output: {
    /**
     * Folder of the run; null: runs/<preset>-<date>-<time>.
     */
    dir: string | null;
    /**
     * Optimizer steps from one checkpoint to the next.
     */
    save_steps: number;
    /**
     * Checkpoints kept, the newest ones.
     */
    save_total_limit: number;
    /**
     * Write every answer with its rewards to completions.jsonl.
     */
    log_completions: boolean;
  };
}
