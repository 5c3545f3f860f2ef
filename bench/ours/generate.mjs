/** G sampled completions of a fixed length for each of B prompts, once for each line on stdin. Arguments: one JSON object. */
import { loadNative } from '../../dist/index.js';
import { serve } from '../worker.mjs';

const {
  model,
  type,
  threads,
  prompts: B,
  generations,
  promptTokens: P,
  completionTokens,
} = JSON.parse(process.argv[2]);
const policy = await loadNative().openPolicy(model, { type, threads });
let round = 0;
await serve({ base_type: policy.info.baseType }, async () => {
  round++;
  await policy.rollout({
    adapter: null,
    // New prompts each time, so that nothing can be kept from the last round.
    promptTokens: Int32Array.from({ length: B * P }, (_, i) => 1000 + ((i * 7919 + round * 104729) % 50000)),
    promptLengths: new Int32Array(B).fill(P),
    numGenerations: generations,
    maxCompletionLength: completionTokens,
    temperature: 1,
    topK: 0,
    topP: 1,
    stopTokens: new Int32Array(0),
    stopStrings: [],
    seed: round,
    step: 0,
    promptKeys: Uint32Array.from({ length: B }, (_, b) => b),
    forceLength: true,
  });
});
