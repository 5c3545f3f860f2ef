/** What is new in a run that is watched, as server-sent events. */
import type { RunData } from '../src/report/run-data.js';
import { type Change, withDelta } from '../src/watch/delta.js';

export interface Listener {
  changed(run: RunData): void;
  /** 'live', or what is wrong. */
  said(link: string): void;
}

/** @param tag of the state that the page has */
export function listen(run: RunData, tag: string, listener: Listener): void {
  const source = new EventSource(`events?after=${tag}`);
  let state = { run, tag };
  const take = (next: typeof state) => {
    state = next;
    listener.changed(state.run);
  };
  source.addEventListener('state', ({ data, lastEventId }) => take({ run: JSON.parse(data), tag: lastEventId }));
  source.addEventListener('change', ({ data, lastEventId }) => {
    const change: Change = JSON.parse(data);
    if (change.after === state.tag) {
      take({ run: withDelta(state.run, change), tag: lastEventId });
    } else {
      source.close(); // not what follows: begin again from what is known
      listen(state.run, state.tag, listener);
    }
  });
  source.addEventListener('open', () => listener.said('live'));
  source.addEventListener('error', () => {
    listener.said('connection lost, trying again');
    if (source.readyState !== EventSource.CLOSED) return;
    // The server refused, so the browser gives up; it may be there again or have room later.
    setTimeout(() => listen(state.run, state.tag, listener), 5000);
  });
}
