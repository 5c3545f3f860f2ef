// @ts-check
// Trains the bundled policy from a script: node examples/train.mjs [FOLDER]
import { train } from 'voicegrpo';

const training = train({
  config: 'tiny',
  outputDir: process.argv[2] ?? 'runs/example',
  resume: true, // started again after an interruption, it goes on
  settings: {
    data: { samples_per_dataset: 12, held_out_per_dataset: 4, use_text: true },
    grpo: { max_steps: 4, prompts_per_step: 6 },
    stopping: { eval_steps: 2, patience: 0 },
  },
  // A reward is a function of one answer; this one is paid besides those of the preset.
  rewards: [{ name: 'lower_case', weight: 0.5, reward: ({ completion }) => (/[A-Z]/.test(completion) ? 0 : 1) }],
});

for await (const event of training) {
  if (event.type === 'step') {
    console.log(`step ${event.step} of ${event.maxSteps}: reward ${event.stats.reward?.toFixed(2)}`);
  } else if (event.type === 'evaluation') {
    console.log(`${event.name}: accuracy ${event.evaluation.accuracy.toFixed(2)}`);
  }
}

const { run, steps } = await training.result;
console.log(`${steps} steps in ${run}`);
