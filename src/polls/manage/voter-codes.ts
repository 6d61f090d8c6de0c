/** Voter codes: made here, shown once, kept only as the voter keys of those who will bear them. */

import { csvLine } from '../../core/csv.ts';
import { InvalidInputError, PollNotOpenError, pollNotFound } from '../../core/errors.ts';
import { BOUNDS, type Poll, statusAt } from '../../core/poll.ts';
import { requireManager } from '../../identity/permissions.ts';
import type { Viewer } from '../../identity/viewer.ts';
import type { VoterKeys } from '../../identity/voter-keys.ts';
import type { Hub } from '../../live/hub.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Store } from '../../ports/store.ts';
import type { Audit } from '../audit.ts';
import { JOIN_ALPHABET, pick } from './random.ts';

export interface VoterCodes {
  /** 1 to 10 000 new codes of a CODE poll that is not closed. */
  issue(viewer: Viewer, pollId: string, count: number): Promise<string[]>;
}

/** 55 bits: at a thousand guesses a second, a poll with a million codes holds out for a year. */
const LENGTH = 12;
const GROUP = 4;
const MOST_PREFIX = 500;

export function makeVoterCodes(options: {
  readonly store: Store;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly voters: VoterKeys;
  readonly audit: Audit;
}): VoterCodes {
  const { store, hub, clock, voters, audit } = options;

  return {
    issue: (viewer, pollId, count) =>
      audit.guard('issueVoterCodes', viewer, pollId, async () => {
        const poll = (await hub.read(pollId))?.poll;
        if (poll === undefined) throw pollNotFound(pollId);
        // Ten thousand codes are work: not for everybody. Under the lock it is looked at again.
        requireIssuable(viewer, poll, count);
        const codes = newCodes(count);
        const keys = codes.map((code) => voters.keyOf(pollId, voters.ofCode(pollId, code).voter));
        const found = await store.addVoterCodes(pollId, keys, (now) => {
          requireIssuable(viewer, now, count);
          return audit.accepted('issueVoterCodes', viewer, String(count));
        });
        if (!found) throw pollNotFound(pollId);
        return codes;
      }),
  };

  function requireIssuable(viewer: Viewer, poll: Poll, count: number): void {
    requireManager(viewer, poll);
    if (count < 1 || count > BOUNDS.voterCodes) {
      throw new InvalidInputError(`count: ${count}, must be 1 to ${BOUNDS.voterCodes}.`);
    }
    if (poll.voterIdentity !== 'CODE') {
      throw new InvalidInputError('pollId: the voters of this poll are not known by a code (voterIdentity CODE).');
    }
    if (statusAt(poll, clock.now()) === 'CLOSED') throw new PollNotOpenError('This poll is closed.');
  }
}

function newCodes(count: number): string[] {
  const codes = new Set<string>();
  while (codes.size < count) {
    const groups = Array.from({ length: LENGTH / GROUP }, () => pick(JOIN_ALPHABET, GROUP));
    codes.add(groups.join('-'));
  }
  return [...codes];
}

/** A line a code, with the link that a QR code would hold. */
export function codesAsCsv(codes: readonly string[], linkPrefix: string): string {
  if (linkPrefix.length > MOST_PREFIX || !/^https?:\/\/[^\s"<>]+$/i.test(linkPrefix) || !URL.canParse(linkPrefix)) {
    throw new InvalidInputError(`linkPrefix: must be an http or https URL of at most ${MOST_PREFIX} characters.`);
  }
  return csvLine(['code', 'link']) + codes.map((code) => csvLine([code, linkPrefix + code])).join('');
}
