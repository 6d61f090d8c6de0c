/** How many subscribers and connections there are, over all instances. */
import type { Stop } from './clock.ts';

/** How many watch a poll, over all instances. */
export interface Presence {
  /** How many watch it here. MUST be cheap: it is called with everyone who comes and goes. */
  report(pollId: string, watching: number): void;
  /** As far as is known; never below what was reported here. MUST be cheap. The others' numbers are known only of polls that are followed. */
  total(pollId: string): number;
  /** Keeps up with the others' numbers of a poll until stopped. Not twice for one poll at a time. */
  follow(pollId: string): Stop;
  /** Called with the poll when another instance's number has changed. MUST NOT call back for `report`. */
  listen(onChange: (pollId: string) => void): Stop;
  /** Takes back what was reported. */
  close(): Promise<void>;
}

/** How much an address has open, over all instances, by a name for both; see `Presence`. Only of instances that can be heard now. */
export type SharedCounts = Pick<Presence, 'report' | 'total' | 'follow' | 'close'>;
