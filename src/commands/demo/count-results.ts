/** The results as the subscription sends them, read with care: `--url` may point to anything. */
import { Failure } from './failure.ts';

export interface Tally {
  readonly label: string;
  readonly votes: number;
  /** Of all ballots, 0 to 1. */
  readonly share: number;
}

export interface Round {
  readonly number: number;
  readonly tallies: readonly Tally[];
  readonly eliminated: readonly string[];
  readonly exhausted: number;
}

export interface Results {
  readonly version: number;
  readonly isFinal: boolean;
  readonly ballotCount: number;
  /** First preferences, in the poll's order. */
  readonly tallies: readonly Tally[];
  readonly rounds: readonly Round[];
  readonly winner: string | null;
}

export const RESULTS = `version isFinal ballotCount tallies { label votes share }
  runoff { rounds { number tallies { label votes share } eliminated { label } exhausted } winner { label } }`;

export function readResults(value: unknown): Results {
  const { version, isFinal, ballotCount, tallies, runoff } = readObject(value);
  const { rounds, winner } = readObject(runoff);
  return {
    version: readNumber(version),
    isFinal: isFinal === true,
    ballotCount: readNumber(ballotCount),
    tallies: readList(tallies, readTally),
    rounds: readList(rounds, readRound),
    winner: winner === null ? null : readText(readObject(winner).label),
  };
}

function readRound(value: unknown): Round {
  const { number, tallies, eliminated, exhausted } = readObject(value);
  return {
    number: readNumber(number),
    tallies: readList(tallies, readTally),
    eliminated: readList(eliminated, (choice) => readText(readObject(choice).label)),
    exhausted: readNumber(exhausted),
  };
}

function readTally(value: unknown): Tally {
  const { label, votes, share } = readObject(value);
  return { label: readText(label), votes: readNumber(votes), share: readNumber(share) };
}

export function readObject(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw unlike('an object', value);
  return { ...value };
}

export function readList<T>(value: unknown, read: (item: unknown) => T): T[] {
  if (!Array.isArray(value)) throw unlike('a list', value);
  return value.map(read);
}

export function readText(value: unknown): string {
  if (typeof value !== 'string') throw unlike('a text', value);
  return value;
}

export function readNumber(value: unknown): number {
  if (typeof value !== 'number') throw unlike('a number', value);
  return value;
}

function unlike(what: string, value: unknown): Failure {
  const got = (JSON.stringify(value) ?? 'nothing').slice(0, 60);
  return new Failure(`The server does not answer like Pollcast: ${what} was expected where it sent ${got}.`);
}
