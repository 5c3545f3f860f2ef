/** README.md of an export: a model card as the hub reads it (https://huggingface.co/docs/hub/model-cards). */
import type { Config } from '../config/load.js';
import type { Evaluation } from '../types.js';
import { PLACEHOLDER } from './modelfile.js';
import { TAG } from './place.js';
import type { Agreement } from './verify.js';

export interface CardContents {
  title: string;
  format: 'peft' | 'gguf-lora' | 'merged' | 'gguf';
  type: string;
  /** The base model's name on the hub, where it is known. */
  baseModel: string | null;
  /** What the run trained on. */
  base: { name: string; file: string; sha256: string; stored: string; license: string | null };
  config: Config;
  data: {
    source: string;
    labels: readonly string[];
    train: number; // clips
    heldOut: number;
    /** Whether the texts of the data were taken, and not what Whisper heard. */
    usedText: boolean;
    whisper: string;
  };
  rewardModules: readonly { name: string; weight: number }[];
  adapter: { choice: string; step: number | null };
  evaluation: { before: Evaluation | null; after: Evaluation | null };
  agreement: Agreement;
  prompt: string;
  /** Whether the prompt has worked examples, which are texts of the training clips. */
  workedExamples: boolean;
  stops: readonly string[];
  versions: Record<string, string>;
}

export function modelCard(card: CardContents): string {
  return [
    frontMatter(card),
    `# ${card.title}`,
    summary(card),
    '## Use',
    usage(card),
    'The prompt, with the transcript in its place; the answer ends at ' +
      `${card.stops.map((stop) => `\`${JSON.stringify(stop)}\``).join(' or ')}:`,
    fenced(card.prompt.replaceAll(PLACEHOLDER, '{transcript}'), 'text'),
    '## Results',
    results(card),
    '## Training',
    training(card),
    '## Is this what was trained?',
    agreement(card.agreement),
    '## Licence',
    licence(card),
    '',
  ].join('\n\n');
}

/** A scalar that YAML reads as a text. */
const yaml = (text: string): string => JSON.stringify(text);

/** A text that stays within its cell of a table. */
const cell = (text: string): string => text.replace(/\s+/g, ' ').replaceAll('|', '\\|');

function frontMatter({ baseModel, base, format }: CardContents): string {
  const lines = [
    ...(baseModel === null ? [] : [`base_model: ${yaml(baseModel)}`]),
    ...(baseModel === null
      ? []
      : [`base_model_relation: ${format === 'peft' || format === 'gguf-lora' ? 'adapter' : 'finetune'}`]),
    ...(base.license === null ? [] : [`license: ${yaml(base.license.toLowerCase())}`]),
    `library_name: ${{ peft: 'peft', merged: 'transformers', gguf: 'gguf', 'gguf-lora': 'gguf' }[format]}`,
    'pipeline_tag: text-generation',
    `tags:\n- grpo\n- lora\n- ${TAG}`,
  ];
  return `---\n${lines.join('\n')}\n---`;
}

function summary({ format, type, base, data, versions }: CardContents): string {
  const what = {
    peft: 'A LoRA adapter for PEFT.',
    'gguf-lora': 'A LoRA adapter for llama.cpp.',
    merged: `A whole model for transformers, in ${type}, with the LoRA adapter merged in.`,
    gguf: `A whole model for llama.cpp and Ollama, in ${type}, with the LoRA adapter merged in.`,
  }[format];
  const labels = data.labels.map((label) => `\`${label}\``).join(', ');
  return (
    `${what} It answers the transcript of a spoken prompt with one name: ${labels}. ` +
    `Trained from ${base.name} by GRPO with voicegrpo ${versions.addon}.`
  );
}

function usage({ format, baseModel, base }: CardContents): string {
  const from = baseModel ?? 'BASE';
  const generate = [
    'ids = tokenizer(prompt, return_tensors="pt")',
    'answer = model.generate(**ids, max_new_tokens=16, do_sample=False)',
    'print(tokenizer.decode(answer[0, ids.input_ids.shape[1]:]))',
  ];
  switch (format) {
    case 'peft':
      return fenced(
        [
          'from peft import PeftModel',
          'from transformers import AutoModelForCausalLM, AutoTokenizer',
          '',
          `base = AutoModelForCausalLM.from_pretrained(${yaml(from)}, dtype="float32")`,
          `tokenizer = AutoTokenizer.from_pretrained(${yaml(from)})`,
          'model = PeftModel.from_pretrained(base, "DIR")',
          ...generate,
        ].join('\n'),
        'python',
      );
    case 'merged':
      return fenced(
        [
          'from transformers import AutoModelForCausalLM, AutoTokenizer',
          '',
          'model = AutoModelForCausalLM.from_pretrained("DIR")',
          'tokenizer = AutoTokenizer.from_pretrained("DIR")',
          ...generate,
        ].join('\n'),
        'python',
      );
    case 'gguf-lora':
      return fenced(
        `llama-completion -m BASE.gguf --lora adapter.gguf --temp 0 -n 16 -no-cnv -p "$PROMPT"`,
        'sh',
      ).concat(`\n\nBASE.gguf is ${base.name}, as \`${base.file}\` was.`);
    case 'gguf':
      return fenced(
        [
          'llama-completion -m model.gguf --temp 0 -n 16 -no-cnv -p "$PROMPT"',
          '',
          'ollama create my-model -f Modelfile    # the Modelfile has the prompt: give it the transcript alone',
          'ollama run my-model "Write a poem in exactly two lines."',
        ].join('\n'),
        'sh',
      );
  }
}

function results({ evaluation: { before, after }, adapter, data }: CardContents): string {
  if (before === null || after === null) return 'The run has not been evaluated to its end.';
  const row = (name: string, { accuracy, macro_f1, reward }: Evaluation): string =>
    `| ${name} | ${accuracy.toFixed(3)} | ${macro_f1.toFixed(3)} | ${reward.toFixed(3)} |`;
  const step = adapter.step === null ? '' : ` of step ${adapter.step}`;
  return [
    `Greedy answers to ${after.n} held-out clips. They chose the best step, so the figure flatters a little.`,
    [
      '| | accuracy | macro-F1 | reward |',
      '|---|---|---|---|',
      row('before training', before),
      row(adapter.choice === 'best' ? `the best adapter${step}` : 'the best adapter (this is the last one)', after),
    ].join('\n'),
    `Confusion, rows are what was right:`,
    [
      `| | ${[...data.labels, 'other'].map(cell).join(' | ')} |`,
      `|---${'|---'.repeat(data.labels.length + 1)}|`,
      ...after.confusion.map((counts, i) => `| ${cell(after.labels[i] ?? '')} | ${counts.join(' | ')} |`),
    ].join('\n'),
  ].join('\n\n');
}

function training({ config, data, rewardModules, base, versions }: CardContents): string {
  const { lora, grpo, optimizer, rewards } = config;
  const heard = data.usedText ? 'the texts of the data' : `transcripts by Whisper (\`${data.whisper}\`)`;
  const { modules: _, ...builtIn } = rewards;
  const weights = Object.entries(builtIn).map(([name, { weight }]) => `${name} ${weight.toFixed(1)}`);
  const modules = rewardModules.map(({ name, weight }) => `${name} ${weight.toFixed(1)}`);
  const rows: [string, string][] = [
    ['base model', `${base.name}, \`${base.file}\` (${base.stored}, SHA-256 ${base.sha256})`],
    ['data', `${data.source}: ${data.train} training and ${data.heldOut} held-out clips, ${heard}`],
    ['rewards and weights', [...weights, ...modules].join(', ')],
    ['LoRA', `r ${lora.r}, alpha ${lora.lora_alpha}, ${lora.target_modules.join(', ')}`],
    [
      'GRPO',
      `${grpo.prompts_per_step} prompts × ${grpo.num_generations} completions a step, at most ${grpo.max_steps} steps, loss ${grpo.loss_type}, beta ${grpo.beta}, temperature ${grpo.temperature}`,
    ],
    [
      'optimizer',
      `AdamW ${optimizer.adam_beta1}/${optimizer.adam_beta2}, learning rate ${optimizer.learning_rate}, ${optimizer.lr_scheduler_type}, weight decay ${optimizer.weight_decay}, gradient norm ${optimizer.max_grad_norm}`,
    ],
    ['seed', `${config.seed}`],
    [
      'software',
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ],
  ];
  return ['| | |', '|---|---|', ...rows.map(([name, value]) => `| ${name} | ${cell(value)} |`)].join('\n');
}

function agreement({ prompts, tokens, maxDifference, tolerance, change, share }: Agreement): string {
  return (
    `The files were read back. On ${prompts} held-out prompts (${tokens} tokens of answers) their log-probabilities differ from the ` +
    `trained policy's by at most ${maxDifference.toExponential(1)} (allowed: ${tolerance}). Training had changed them by up to ` +
    `${change.toPrecision(3)}; ${(100 * share).toFixed(1)}% of that change is in these files.`
  );
}

function licence({ base, workedExamples }: CardContents): string {
  const of =
    base.license === null
      ? 'No licence is named in the base model; ask its publisher.'
      : `The base model's licence is ${base.license}.`;
  const gemma =
    base.license === 'gemma' || /gemma/i.test(base.name)
      ? ' Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms; they also bind a model that was made from it, ' +
        'whoever passes it on has to pass them on, and has to say that the files were modified: they were, as told above.'
      : '';
  const examples = workedExamples ? ' The prompt above has texts of the training data in it.' : '';
  return `${of}${gemma}${examples}`;
}

function fenced(text: string, language: string): string {
  const fence = '`'.repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${fence}${language}\n${text}\n${fence}`;
}
