/**
 * In a poll that shows its tallies after the vote, a subscriber who is known and has not voted yet is served with the others, and
 * changes its group in the moment of its vote: the version that its ballot makes reaches it once, and whole (L2, L8).
 */
import { NotFoundError, UnavailableError } from '../core/errors.ts';
import type { Stop } from '../ports/clock.ts';
import type { Log } from '../ports/log.ts';
import type { Store } from '../ports/store.ts';
import type { Subscriber } from './subscriber.ts';
import type { Subscription, VoterClaim } from './subscription.ts';

export interface VoterGroups {
  join(subscription: Subscription, subscriber: Subscriber): Promise<Stop>;
  /** See `Watched.hold`. */
  pause(voterKey: string): (voted: boolean | null) => void;
  /** Before an update goes out: who has a ballot by now, of a vote elsewhere, or has none any more, at this revision of the poll? */
  recheck(revision: number): Promise<void>;
}

/** One subscription. `leave`: out of its group; null while it is in none. */
interface Member {
  readonly subscription: Subscription;
  readonly claim: VoterClaim;
  readonly subscriber: Subscriber;
  voted: boolean;
  leave: Stop | null;
  over: boolean;
}

export function makeVoterGroups(options: {
  readonly store: Store;
  readonly pollId: string;
  readonly log: Log;
  /** Null: `fits` said no when it was about to be let in, and it has received nothing. */
  readonly enter: (subscription: Subscription, subscriber: Subscriber, fits: () => boolean) => Promise<Stop | null>;
}): VoterGroups {
  const { store, pollId, log, enter } = options;
  const seats = new Map<string, Set<Member>>();
  /** Voters whose vote is on its way, and who waits for its end. */
  const held = new Map<string, { count: number; readonly waiting: (() => void)[] }>();
  /** What was true at this revision; 0: it has to be asked. Where nobody else writes, only a change of the poll takes ballots away unseen. */
  let settled = 0;

  return {
    async join(subscription, subscriber) {
      const { claim } = subscription;
      if (claim == null) throw new Error('A claim is joined with a claim.');
      const { voterKey } = claim;
      const seat: Member = { subscription, claim, subscriber, voted: false, leave: null, over: false };
      let all = seats.get(voterKey);
      if (all === undefined) seats.set(voterKey, (all = new Set()));
      all.add(seat);
      const stop = (): void => {
        seat.over = true;
        seat.leave?.();
        all.delete(seat);
        if (all.size === 0 && seats.get(voterKey) === all) seats.delete(voterKey);
      };
      try {
        settled = 0;
        seat.voted = (await store.votersAmong(pollId, [voterKey])).has(voterKey) || seat.voted;
        await joinGroup(seat);
        return stop;
      } catch (error) {
        stop();
        throw error;
      }
    },

    pause(voterKey) {
      const hold = held.get(voterKey) ?? { count: 0, waiting: [] };
      hold.count++;
      held.set(voterKey, hold);
      const stood = [...(seats.get(voterKey) ?? [])].filter((seat) => seat.leave !== null);
      for (const seat of stood) leaveGroup(seat);
      return (voted) => {
        for (const seat of seats.get(voterKey) ?? []) if (voted !== null) seat.voted = voted;
        if (voted === null) settled = 0;
        if (--hold.count === 0) {
          held.delete(voterKey);
          for (const resolve of hold.waiting) resolve();
        }
        for (const seat of stood) void released(voterKey).then(() => rejoinGroup(seat));
      };
    },

    async recheck(revision) {
      if (seats.size === 0 || (store.exclusive && settled === revision)) return;
      const asked = [...seats.keys()].filter((voterKey) => !held.has(voterKey));
      const voters = await store.votersAmong(pollId, asked);
      settled = revision;
      for (const voterKey of asked) {
        // A vote that came on its way meanwhile says itself how it ends.
        if (held.has(voterKey)) continue;
        for (const seat of seats.get(voterKey) ?? []) {
          if (seat.voted === voters.has(voterKey)) continue;
          // One that is about to sit sees it by itself.
          const sat = seat.leave !== null;
          leaveGroup(seat);
          seat.voted = voters.has(voterKey);
          if (sat) void rejoinGroup(seat);
        }
      }
    },
  };

  function released(voterKey: string): Promise<void> {
    const hold = held.get(voterKey);
    return hold === undefined ? Promise.resolve() : new Promise((resolve) => hold.waiting.push(resolve));
  }

  function leaveGroup(seat: Member): void {
    seat.leave?.();
    seat.leave = null;
  }

  /** A vote that comes on its way meanwhile, or a settlement, must find it in no group that it does not belong to any more. */
  async function joinGroup(seat: Member): Promise<void> {
    const { subscription, claim, subscriber } = seat;
    while (!seat.over) {
      await released(claim.voterKey);
      const { voted } = seat;
      const fits = (): boolean => !seat.over && seat.voted === voted && !held.has(claim.voterKey);
      const after = subscriber.cursor >= 0 ? subscriber.cursor : subscription.after;
      const leave = await enter({ ...subscription, ...(voted ? claim.asVoter : {}), after }, subscriber, fits);
      if (leave === null) continue;
      if (fits()) {
        seat.leave = leave;
        return;
      }
      leave();
    }
  }

  async function rejoinGroup(seat: Member): Promise<void> {
    if (seat.over || seat.leave !== null) return;
    try {
      await joinGroup(seat);
    } catch (error) {
      if (error instanceof NotFoundError) {
        seat.subscriber.fail(error);
        return;
      }
      log.warn({ err: error, pollId }, 'a subscriber could not be served on after a vote');
      seat.subscriber.fail(new UnavailableError('The results cannot be read at the moment; subscribe again.'));
    }
  }
}
