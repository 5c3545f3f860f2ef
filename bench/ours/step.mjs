/** Whole GRPO steps, one for each line on stdin. Arguments: the options of `voicegrpo bench step` as one JSON object. */
import { openStepBench } from '../../dist/bench/step.js';
import { useDevice, usedDevice } from '../../dist/native/load.js';
import { serve } from '../worker.mjs';

const { device = 'cpu', ...work } = JSON.parse(process.argv[2]);
useDevice(device, ['policy']);
const bench = await openStepBench({ seed: 42, ...work });
await serve(
  { base_type: bench.baseType, flops: bench.flops, parameters: bench.parameters, device: usedDevice() },
  async () => {
    const { total, ...breakdown } = await bench.step();
    return { seconds: total, breakdown };
  },
);
