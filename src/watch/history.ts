/** The newest state of a run's page, and the way to it from those of a while ago, as events that a viewer is sent. */
import { embeddedJson } from '../report/page.js';
import type { RunData } from '../report/run-data.js';
import { type Change, deltaOf } from './delta.js';

/** Of changes beyond these nobody is reminded: who missed more gets the state. */
const MAX_CHANGES = 500;
const MAX_CHARACTERS = 8e6;

export class StateHistory {
  #tag: string;
  #data: RunData;
  /** Oldest first; each begins where the one before it ended. */
  readonly #changes: { after: string; event: string }[] = [];
  #characters = 0;

  constructor(tag: string, data: RunData) {
    this.#tag = tag;
    this.#data = data;
  }

  get tag(): string {
    return this.#tag;
  }

  get data(): RunData {
    return this.#data;
  }

  /** @returns the event for viewers that have the state before */
  advance(tag: string, data: RunData): string {
    const change: Change = { after: this.#tag, ...(deltaOf(this.#data, data) ?? { set: {}, lists: {} }) };
    const event = `id: ${tag}\nevent: change\ndata: ${embeddedJson(change)}\n\n`;
    this.#changes.push({ after: this.#tag, event });
    this.#characters += event.length;
    while (this.#changes.length > MAX_CHANGES || this.#characters > MAX_CHARACTERS) {
      this.#characters -= this.#changes.shift()?.event.length ?? 0;
    }
    this.#tag = tag;
    this.#data = data;
    return event;
  }

  /** Events for a viewer that has the state with this tag: what it missed, or else the state. */
  since(tag: string | undefined): string {
    if (tag === this.#tag) return '';
    const at = this.#changes.findIndex(({ after }) => after === tag);
    const missed = at < 0 ? [] : this.#changes.slice(at).map(({ event }) => event);
    const state = `id: ${this.#tag}\nevent: state\ndata: ${embeddedJson(this.#data)}\n\n`;
    const events = missed.join('');
    return missed.length === 0 || events.length > state.length ? state : events;
  }
}
