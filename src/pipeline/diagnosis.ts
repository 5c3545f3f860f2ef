/** What is going wrong, in words. Pure: the same numbers give the same sentences. */

export interface StepSummary {
  /** Share of groups whose rewards are all equal. */
  deadShare: number;
  /** Mean of exact_match; null where that reward is off. */
  exactMatch: number | null;
  /** Label → its share among the answers of the step; answers without a label are missing. */
  predictedShares: Record<string, number>;
}

/** Steps a sign must last before it is told. */
const PATIENCE = 3;
/** Share of one label above which the policy says only that. */
const COLLAPSED = 0.95;

/** @param recent the latest steps, oldest first */
export function diagnose(recent: readonly StepSummary[], labels: readonly string[]): string[] {
  const last = recent.slice(-PATIENCE);
  if (last.length < PATIENCE) {
    return [];
  }
  const found: string[] = [];
  const solved = last.every(({ exactMatch }) => exactMatch !== null && exactMatch > 0.95);
  const collapsed = labels.find((label) =>
    last.every(({ predictedShares }) => (predictedShares[label] ?? 0) > COLLAPSED),
  );
  if (collapsed !== undefined && !solved) {
    found.push(
      `collapsed to one label: ${PATIENCE} steps in a row nearly every answer was '${collapsed}'. Try a larger --num-generations, a higher --temperature, a lower --learning-rate or a larger --dataset-balance-weight.`,
    );
  }
  if (last.every(({ deadShare }) => deadShare === 1)) {
    found.push(
      solved
        ? `all groups are dead because every answer is right: nothing is left to learn from these clips.`
        : `all groups are dead: in ${PATIENCE} steps no prompt had answers of different reward, so the gradient is zero. Try a larger --num-generations or a higher --temperature.`,
    );
  }
  return found;
}
