/** What organizers do with a poll, each decided under the poll's lock. */

import { InvalidInputError, NotAllowedError, PollNotOpenError, pollNotFound } from '../../core/errors.ts';
import {
  changedSettings,
  differences,
  hasPassed,
  isPollId,
  newSettings,
  type Poll,
  type PollInput,
  type PollSettings,
  type PollStatus,
} from '../../core/poll.ts';
import { plainCode } from '../../core/text.ts';
import { isOrganizer, managesPoll, requireManager } from '../../identity/permissions.ts';
import { requireSession } from '../../identity/session.ts';
import { newOrganizerKey, type Viewer } from '../../identity/viewer.ts';
import type { Hub, PollView } from '../../live/hub.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Log } from '../../ports/log.ts';
import type { AuditNote, PollFilter, PollPatch, PollState, Store } from '../../ports/store.ts';
import type { Audit } from '../audit.ts';
import { JOIN_ALPHABET, pick } from './random.ts';
import { timedChange } from './schedule.ts';

export interface PollManager {
  create(
    viewer: Viewer,
    input: PollInput & { readonly status?: PollStatus | null | undefined },
  ): Promise<{ view: PollView; organizerKey: string }>;
  update(viewer: Viewer, pollId: string, input: PollInput): Promise<PollView>;
  open(viewer: Viewer, pollId: string): Promise<PollView>;
  close(viewer: Viewer, pollId: string): Promise<PollView>;
  /** Drops the ballots of a poll that is not closed; the version goes on. */
  reset(viewer: Viewer, pollId: string): Promise<PollView>;
  delete(viewer: Viewer, pollId: string): Promise<string>;
  find(by: {
    readonly id?: string | null | undefined;
    readonly joinCode?: string | null | undefined;
  }): Promise<PollView | null>;
  /** Those that the viewer manages, newest first. */
  list(viewer: Viewer, page: Omit<PollFilter, 'organizerKeyHash' | 'owner'>): Promise<readonly Poll[]>;
}

const ID_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

export interface ManageOptions {
  readonly store: Store;
  readonly hub: Hub;
  readonly clock: Clock;
  readonly audit: Audit;
  readonly log: Log;
  /** Told of each poll that was created or changed here: it may be due at another time now. */
  readonly onChanged: (poll: Poll) => void;
  /** Told of each DRAFT that was opened here. */
  readonly onOpened?: (pollId: string) => void;
  /** Whether this server knows accounts. */
  readonly accounts: boolean;
  /** Who may create polls. */
  readonly creation: 'open' | 'organizers';
}

export function makePollManager(options: ManageOptions): PollManager {
  const { store, hub, clock, audit, log } = options;

  return {
    async create(viewer, input) {
      requireSession(viewer);
      if (options.creation === 'organizers' && !isOrganizer(viewer)) {
        throw new NotAllowedError('Creating polls here takes an account with the role "organizer" or "admin".');
      }
      const settings = possible(newSettings(input, clock.now()), options.accounts);
      const status = firstStatus(settings, input.status ?? 'OPEN', clock.now());
      const { key, hash } = newOrganizerKey();
      const state = await insert(
        settings,
        status,
        { organizerKeyHash: hash, owner: ownerOf(viewer) },
        audit.accepted('createPoll', viewer, status),
      );
      options.onChanged(state.poll);
      return { view: hub.changed(state), organizerKey: key };
    },

    update: (viewer, pollId, input) =>
      change('updatePoll', viewer, pollId, (poll) => {
        const settings = possible(changedSettings(poll, input, clock.now()), options.accounts);
        const changed = differences(poll, settings);
        const opens = poll.status === 'DRAFT' && hasPassed(settings.opensAt, clock.now());
        if (opens) requireTimeLeft(settings, clock.now());
        if (changed.length === 0 && !opens) return null;
        return {
          settings,
          ...(opens ? { status: 'OPEN' } : {}),
          raiseVersion: poll.status === 'DRAFT' || changed.includes('resultsVisibility'),
          audit: audit.accepted('updatePoll', viewer, changed.join(', ')),
        };
      }),

    open: (viewer, pollId) =>
      change('openPoll', viewer, pollId, (poll) => {
        if (poll.status === 'OPEN') return null;
        if (poll.status === 'CLOSED') {
          throw new PollNotOpenError('A closed poll stays closed: its results are final. Create a new one.');
        }
        requireTimeLeft(poll, clock.now());
        return { status: 'OPEN', raiseVersion: true, audit: audit.accepted('openPoll', viewer) };
      }),

    close: (viewer, pollId) =>
      change('closePoll', viewer, pollId, (poll) => {
        if (poll.status === 'CLOSED') return null;
        if (poll.status === 'DRAFT') throw new PollNotOpenError('A DRAFT cannot be closed; open or delete it.');
        return {
          status: 'CLOSED',
          closedAt: new Date(clock.now()),
          raiseVersion: true,
          audit: audit.accepted('closePoll', viewer),
        };
      }),

    reset: (viewer, pollId) =>
      change('resetPoll', viewer, pollId, (poll) => {
        if (poll.status === 'CLOSED') {
          throw new PollNotOpenError('The results of a closed poll are final; create a new one.');
        }
        return { dropBallots: true, raiseVersion: true, audit: audit.accepted('resetPoll', viewer) };
      }),

    delete: (viewer, pollId) =>
      audit.guard('deletePoll', viewer, pollId, async () => {
        const view = await hub.read(pollId);
        if (view === null) throw pollNotFound(pollId);
        requireManager(viewer, view.poll);
        const note = audit.accepted('deletePoll', viewer);
        if (!(await store.deletePoll(pollId, note))) throw pollNotFound(pollId);
        // Whoever managed it cannot ask for its audit any more: an operator finds here what became of it.
        log.info({ pollId, actor: note.actor }, 'a poll was deleted');
        hub.removed(pollId);
        return pollId;
      }),

    async find({ id, joinCode }) {
      if ((id == null) === (joinCode == null)) throw new InvalidInputError('Give either id or joinCode.');
      const found = id ?? (await findPollId(plainCode(joinCode ?? '')));
      return found === null ? null : hub.read(found);
    },

    async list(viewer, page) {
      const { account, organizerKeyHash } = viewer;
      if (account !== null && account.role === null) return [];
      if (account === null && organizerKeyHash === null) return [];
      const owner = account?.role === 'organizer' ? account.sub : null;
      const polls = await store.listPolls({ ...page, organizerKeyHash, owner });
      return polls.filter((poll) => managesPoll(viewer, poll));
    },
  };

  async function findPollId(joinCode: string): Promise<string | null> {
    return /^[A-Z0-9]{1,16}$/.test(joinCode) ? store.findPollId(joinCode) : null;
  }

  async function change(
    action: string,
    viewer: Viewer,
    pollId: string,
    decide: (poll: Poll) => PollPatch | null,
  ): Promise<PollView> {
    if (!isPollId(pollId)) throw pollNotFound(pollId);
    return audit.guard(action, viewer, pollId, async () => {
      for (;;) {
        let overdue = false;
        let opens = false;
        const state = await store.changePoll(pollId, clock.now(), (poll) => {
          requireManager(viewer, poll);
          // What time has decided comes first, though its timer is late; then look again.
          const timed = timedChange(poll, clock.now());
          overdue = timed !== null;
          const patch = timed ?? decide(poll);
          opens = patch?.status === 'OPEN';
          return patch;
        });
        if (state === null) throw pollNotFound(pollId);
        if (opens) options.onOpened?.(pollId);
        options.onChanged(state.poll);
        const view = hub.changed(state);
        if (!overdue) return view;
      }
    });
  }

  async function insert(
    settings: PollSettings,
    status: PollStatus,
    made: { readonly organizerKeyHash: string; readonly owner: string | null },
    note: AuditNote,
  ): Promise<PollState> {
    const id = pick(ID_ALPHABET, 16);
    for (let attempt = 0; attempt < 10; attempt++) {
      const joinCode = pick(JOIN_ALPHABET, 6);
      if ((await store.findPollId(joinCode)) !== null) continue;
      const createdAt = new Date(clock.now());
      return store.insertPoll({ ...settings, ...made, id, joinCode, status, createdAt }, note);
    }
    throw new Error('No free join code was found in ten tries.');
  }
}

/** The account that creates a poll owns it, if it has a role. */
function ownerOf({ account }: Viewer): string | null {
  return account === null || account.role === null ? null : account.sub;
}

/** A poll with an opening time waits for it as a DRAFT, or is open if it has come. */
function firstStatus(settings: PollSettings, asked: PollStatus, nowMs: number): PollStatus {
  if (asked === 'CLOSED') throw new InvalidInputError('status: a new poll is DRAFT or OPEN.');
  if (settings.opensAt === null) return asked;
  return hasPassed(settings.opensAt, nowMs) ? 'OPEN' : 'DRAFT';
}

function requireTimeLeft({ closesAt }: PollSettings, nowMs: number): void {
  if (!hasPassed(closesAt, nowMs)) return;
  throw new InvalidInputError('closesAt: has passed; set another time, or null, before the poll is opened.');
}

/** A poll of accounts takes a server that knows them. */
function possible(settings: PollSettings, accounts: boolean): PollSettings {
  if (settings.voterIdentity === 'ACCOUNT' && !accounts) {
    throw new InvalidInputError(
      'voterIdentity: ACCOUNT needs accounts; this server runs without JWT_SECRET or JWKS_URL.',
    );
  }
  return settings;
}
