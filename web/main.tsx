/** Draws the page from its data. Text reaches the page as text alone. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Comparison, RunData } from '../src/report/run-data.js';
import { ComparisonPage } from './comparison-page.js';
import { listen } from './live.js';
import { RunPage } from './run-page.js';

function LivePage({ first, tag }: { first: RunData; tag: string }) {
  const [run, changed] = useState(first);
  const [link, said] = useState('live');
  useEffect(() => listen(first, tag, { changed, said }), [first, tag]);
  return <RunPage run={run} link={link} />;
}

const app = document.getElementById('app') as HTMLElement;
const data: RunData | Comparison = JSON.parse(document.getElementById('data')?.textContent ?? '');
const { live } = document.documentElement.dataset;
app.textContent = '';
if (data.kind === 'comparison') render(<ComparisonPage comparison={data} />, app);
else if (live === undefined) render(<RunPage run={data} link={null} />, app);
else render(<LivePage first={data} tag={live} />, app);
