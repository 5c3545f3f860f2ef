/** What is wrong with rewards, told from measured groups and from answers made up for each prompt. Pure. */
import type { Trick } from '../rewards/canned.js';
import type { GroupMeasures } from './measures.js';

/** 'error': training would learn the wrong thing, or nothing. 'warning': look at it. 'note': worth knowing. */
export type Severity = 'error' | 'warning' | 'note';

/** What can be found. */
export type FindingKind =
  | 'constant' // never another value
  | 'cancels' // the same value for all answers to a prompt: the group's mean takes it away
  | 'silent' // varied among made-up answers, not among the sampled ones
  | 'inverted' // pays the wrong labels more than the right one
  | 'against' // in the samples the right answers got less
  | 'gameable' // an answer that chooses nothing earns more than an honest guess
  | 'dominates' // most of the advantage is this reward's
  | 'redundant' // two rewards say the same
  | 'range' // values outside [-1, 1]
  | 'impure' // another value for the same answer
  | 'dead_groups'
  | 'never_right';

/** One thing to know, in words. */
export interface Finding {
  severity: Severity;
  kind: FindingKind;
  /** The reward it is about; null: their weighted sum, or the samples. */
  reward: string | null;
  text: string;
  /** What to do. */
  next: string;
}

/** What one reward, or the weighted sum, pays for made-up answers to one prompt. */
export interface ProbedPrompt {
  /** The right label. */
  right: number;
  /** Each other label. */
  wrong: number[];
  tricks: Record<Trick, number>;
  /** Its sampled answers. */
  sampled: number[];
}

/** Values of one reward over all prompts, each times its weight. */
export interface Probe {
  /** Null: the weighted sum of all. */
  name: string | null;
  prompts: ProbedPrompt[];
  /** Further made-up answers to the first prompt (hedged, quoted, …): after the predictions of the samples, and after one label alone. */
  further: number[][];
  /** True if a second call gave another value for an answer. */
  impure: boolean;
}

/** Share of the advantage above which the other rewards hardly count. */
const DOMINANT = 0.8;
/** Correlation above which two rewards are one. */
const REDUNDANT = 0.98;
/** Correlation with being right below which a reward works against it. */
const AGAINST = -0.3;
/** Correlation with being right above which a reward is a measure of that. */
const IS_CORRECTNESS = 0.8;
/** Share of the prompts in which the wrong labels must be paid more. */
const INVERTED = 0.9;
/** Share of dead groups above which most of the sampling is for nothing. */
const MOSTLY_DEAD = 0.75;
const ZERO = 1e-9;

/**
 * @param measures of the groups as training begins with them
 * @param sampledDead dead groups among the sampled answers alone, if labels are tried besides; else null
 */
export function findFaults(measures: GroupMeasures, probes: readonly Probe[], sampledDead: number | null): Finding[] {
  const parts = probes.filter(({ name }) => name !== null);
  const found = [
    ...probes.flatMap(inverted),
    ...probes.flatMap((probe) => gameable(probe)),
    ...parts.flatMap(constant),
    ...parts.filter(({ impure }) => impure).map(impureReward),
    ...measures.rewards.flatMap(outOfRange),
    ...measures.rewards.flatMap((reward) => against(reward, isProbedInverted(probes, reward.name))),
    ...dominating(measures),
    ...redundant(measures),
    ...deadGroups(measures, sampledDead),
    ...neverRight(measures),
  ];
  const order: Severity[] = ['error', 'warning', 'note'];
  return order.flatMap((severity) => found.filter((finding) => finding.severity === severity));
}

function isProbedInverted(probes: readonly Probe[], name: string): boolean {
  const probe = probes.find((each) => each.name === name);
  return probe !== undefined && isInverted(probe);
}

function isInverted({ prompts }: Probe): boolean {
  const worse = prompts.filter(({ right, wrong }) => right < mean(wrong) - ZERO).length;
  return prompts.length > 0 && worse >= INVERTED * prompts.length;
}

function inverted(probe: Probe): Finding[] {
  if (!isInverted(probe)) {
    return [];
  }
  const right = mean(probe.prompts.map((prompt) => prompt.right));
  const wrong = mean(probe.prompts.map((prompt) => mean(prompt.wrong)));
  return [
    {
      severity: 'error',
      kind: 'inverted',
      reward: probe.name,
      text: `${subject(probe)} pays a wrong label more than the right one: ${figure(wrong)} against ${figure(right)}.`,
      next: probe.name === null ? 'Correct the rewards that are inverted.' : 'Turn its sign, or that of its weight.',
    },
  ];
}

function gameable(probe: Probe): Finding[] {
  const { prompts, name } = probe;
  if (prompts.length === 0) {
    return [];
  }
  const honest = mean(prompts.map(({ right, wrong }) => mean([right, ...wrong])));
  const right = mean(prompts.map((prompt) => prompt.right));
  const values = prompts.flatMap((prompt) => [prompt.right, ...prompt.wrong, ...Object.values(prompt.tricks)]);
  const tolerance = ZERO + 0.02 * (Math.max(...values) - Math.min(...values));
  const tricks = Object.keys(prompts[0]?.tricks ?? {}) as Trick[];
  return tricks.flatMap((trick): Finding[] => {
    const paid = mean(prompts.map((prompt) => prompt.tricks[trick]));
    if (paid <= honest + tolerance) {
      return [];
    }
    return [
      {
        severity: name === null ? 'error' : 'warning',
        kind: 'gameable',
        reward: name,
        text: `${subject(probe)} can be gamed by ${trick}: that pays ${figure(paid)}, an honest guess ${figure(honest)} and the right label ${figure(right)}.`,
        next:
          name === null
            ? 'Give the right answer more weight than what any answer earns.'
            : 'Pay only for an answer that chooses one label.',
      },
    ];
  });
}

function constant(probe: Probe): Finding[] {
  const { name, prompts, further } = probe;
  const groups = prompts.map(({ right, wrong, tricks, sampled }) => [
    right,
    ...wrong,
    ...Object.values(tricks),
    ...sampled,
  ]);
  const all = [...groups.flat(), ...further.flat()];
  if (all.length === 0) {
    return [];
  }
  if (equal(all)) {
    return [
      {
        severity: 'warning',
        kind: 'constant',
        reward: name,
        text: `${subject(probe)} gives every answer the same value: ${all.length} sampled and made-up answers got ${figure(all[0] as number)}. It teaches nothing.`,
        next: 'Correct it, or give it the weight 0.',
      },
    ];
  }
  if (groups.every(equal) && further.every(equal)) {
    return [
      {
        severity: 'warning',
        kind: 'cancels',
        reward: name,
        text: `${subject(probe)} differs between prompts and not between the answers to one: the mean of the group takes it away. It teaches nothing.`,
        next: 'Let it depend on the answer, not only on the prompt or on what was predicted before.',
      },
    ];
  }
  return prompts.every(({ sampled }) => equal(sampled))
    ? [
        {
          severity: 'note',
          kind: 'silent',
          reward: name,
          text: `${subject(probe)} is the same for all sampled answers to a prompt: it says nothing at the beginning.`,
          next: 'Nothing, if it is there for answers that may come later.',
        },
      ]
    : [];
}

function impureReward(probe: Probe): Finding {
  return {
    severity: 'warning',
    kind: 'impure',
    reward: probe.name,
    text: `${subject(probe)} gives the same answer another value when it is asked again: a run cannot be resumed or replayed exactly.`,
    next: 'Make it a function of what it is told: no clock, no random number, no state.',
  };
}

function outOfRange({ name, min, max }: GroupMeasures['rewards'][number]): Finding[] {
  return min >= -1 - ZERO && max <= 1 + ZERO
    ? []
    : [
        {
          severity: 'warning',
          kind: 'range',
          reward: name,
          text: `'${name}' has values from ${figure(min)} to ${figure(max)}: weights are meant for values in [-1, 1].`,
          next: 'Scale it, so that its weight says how much it counts.',
        },
      ];
}

function against({ name, weight, correctness }: GroupMeasures['rewards'][number], isInvertedToo: boolean): Finding[] {
  const direction = correctness === null ? 0 : Math.sign(weight) * correctness;
  return direction > AGAINST || isInvertedToo
    ? []
    : [
        {
          severity: 'warning',
          kind: 'against',
          reward: name,
          text: `'${name}' goes against being right in the samples: their correlation within groups is ${figure(direction)}.`,
          next: 'Look at the answers that it pays: voicegrpo rewards test -v.',
        },
      ];
}

function dominating({ rewards }: GroupMeasures): Finding[] {
  if (rewards.length < 2) {
    return [];
  }
  return rewards
    .filter(({ advantageShare }) => advantageShare !== null && advantageShare > DOMINANT)
    .map(({ name, advantageShare, correctness }) => {
      const isGoal = correctness !== null && correctness >= IS_CORRECTNESS;
      return {
        severity: isGoal ? 'note' : 'warning',
        kind: 'dominates',
        reward: name,
        text: `'${name}' is ${percent(advantageShare as number)} of the advantage: the other rewards hardly count.${isGoal ? ' It measures whether the answer is right.' : ''}`,
        next: isGoal ? 'Nothing, if that is what is meant.' : 'Lower its weight, or raise the others.',
      } as const;
    });
}

function redundant({ rewards }: GroupMeasures): Finding[] {
  return rewards.flatMap(({ name, correlations }, i) =>
    rewards.slice(i + 1).flatMap((other): Finding[] => {
      const value = correlations[other.name] ?? 0;
      return value < REDUNDANT
        ? []
        : [
            {
              severity: 'note',
              kind: 'redundant',
              reward: name,
              text: `'${name}' and '${other.name}' say the same in the samples: their correlation within groups is ${figure(value)}.`,
              next: 'Nothing, if they differ for answers that may come later.',
            },
          ];
    }),
  );
}

function deadGroups({ groups, dead }: GroupMeasures, sampledDead: number | null): Finding[] {
  const found: Finding[] = [];
  const next = 'Try a larger --num-generations or a higher --temperature, or --label-exploration.';
  if (groups > 0 && dead === groups) {
    found.push({
      severity: 'error',
      kind: 'dead_groups',
      reward: null,
      text: `All ${groups} groups are dead: the answers to a prompt have the same reward, so the gradient is zero.`,
      next,
    });
  } else if (dead > MOSTLY_DEAD * groups) {
    found.push({
      severity: 'warning',
      kind: 'dead_groups',
      reward: null,
      text: `${dead} of ${groups} groups are dead: most of the sampling is for nothing.`,
      next,
    });
  }
  if (sampledDead !== null && groups > 0 && sampledDead > MOSTLY_DEAD * groups && dead <= MOSTLY_DEAD * groups) {
    found.push({
      severity: 'note',
      kind: 'dead_groups',
      reward: null,
      text: `Without the labels that are tried besides, ${sampledDead} of ${groups} groups would be dead.`,
      next: 'Nothing: that is what label exploration is for. Do not end it before the policy says other labels by itself.',
    });
  }
  return found;
}

function neverRight({ groups, accuracy }: GroupMeasures): Finding[] {
  return groups > 0 && accuracy === 0
    ? [
        {
          severity: 'warning',
          kind: 'never_right',
          reward: null,
          text: 'No answer is right: a reward for being right cannot be found by sampling.',
          next: 'Try --label-exploration, or worked examples (--examples-per-label), or a model that knows the form of an answer.',
        },
      ]
    : [];
}

function subject({ name }: Probe): string {
  return name === null ? 'The weighted sum' : `'${name}'`;
}

function equal(values: readonly number[]): boolean {
  return values.every((value) => Math.abs(value - (values[0] as number)) <= ZERO);
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((total, value) => total + value, 0) / values.length;
}

function figure(value: number): string {
  return Number(value.toFixed(3)).toString();
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}
