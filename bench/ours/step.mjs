/** Whole GRPO steps, one for each line on stdin. Arguments: the options of `voicegrpo bench step` as one JSON object. */
import { openStepBench } from '../../dist/bench/step.js';
import { serve } from '../worker.mjs';

const bench = await openStepBench({ seed: 42, ...JSON.parse(process.argv[2]) });
await serve({ base_type: bench.baseType }, async () => {
  const { total } = await bench.step();
  return { seconds: total };
});
