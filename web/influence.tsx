/** Words of transcripts, shaded by how much each changed the answer. */
import type { ClipInfluence } from '../src/report/run-data.js';
import { percent } from './format.js';

/** Shades of each side, see report.css. */
const SHADES = 3;

export function Influence({ clips }: { clips: ClipInfluence[] }) {
  if (clips.length === 0) return <p class="empty">Computed at the end of the run.</p>;
  return (
    <ul class="influence">
      {clips.map((clip) => (
        <li key={clip.id}>
          <p class="answer">
            <strong>{clip.label}</strong> {percent(clip.probability)}
          </p>
          <Words words={clip.words} />
        </li>
      ))}
    </ul>
  );
}

function Words({ words }: Pick<ClipInfluence, 'words'>) {
  const largest = Math.max(0.02, ...words.map(({ influence }) => Math.abs(influence)));
  const shade = (influence: number) =>
    influence === 0 ? '' : `${influence > 0 ? 'for' : 'against'}${Math.ceil((SHADES * Math.abs(influence)) / largest)}`;
  return (
    <p class="words">
      {words.flatMap(({ word, influence }, i) => [
        <span
          // A word may stand in a transcript twice, and its place is what it is.
          key={i}
          class={shade(influence)}
          title={`${influence >= 0 ? '+' : '−'}${(100 * Math.abs(influence)).toFixed(1)} points`}
        >
          {word}
        </span>,
        ' ',
      ])}
    </p>
  );
}
