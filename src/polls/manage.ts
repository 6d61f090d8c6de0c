/** What organizers do with a poll, each decided under the poll's lock. */
import { randomInt } from 'node:crypto';
import {
  isOrganizer,
  managesPoll,
  newOrganizerKey,
  requireManager,
  requireSession,
  type Viewer,
} from '../access/viewer.ts';
import { InvalidInputError, NotAllowedError, PollNotOpenError, pollNotFound } from '../core/errors.ts';
import {
  changedSettings,
  isPollId,
  newSettings,
  type Poll,
  type PollInput,
  type PollSettings,
  type PollStatus,
} from '../core/poll.ts';
import type { Clock, PollFilter, PollPatch, PollState, Store } from '../core/ports.ts';
import type { Hub, PollView } from '../live/hub.ts';

export interface Manage {
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
  list(viewer: Viewer, page: Omit<PollFilter, 'organizerKeyHash'>): Promise<readonly Poll[]>;
}

// No vowels and none of 0 O 1 I L 5 S 2 Z: nothing to mistake and no word by accident.
const JOIN_ALPHABET = 'BCDFGHJKMNPQRTVWXY346789';
const ID_ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

export interface ManageOptions {
  readonly store: Store;
  readonly hub: Hub;
  readonly clock: Clock;
  /** Whether this server knows accounts. */
  readonly accounts: boolean;
  /** Who may create polls. */
  readonly creation: 'open' | 'organizers';
}

export function makeManage(options: ManageOptions): Manage {
  const { store, hub, clock } = options;

  return {
    async create(viewer, input) {
      requireSession(viewer);
      if (options.creation === 'organizers' && !isOrganizer(viewer)) {
        throw new NotAllowedError('Creating polls here takes an account with the role "organizer" or "admin".');
      }
      const settings = built(newSettings(input), options.accounts);
      const status = input.status ?? 'OPEN';
      if (status === 'CLOSED') throw new InvalidInputError('status: a new poll is DRAFT or OPEN.');
      const { key, hash } = newOrganizerKey();
      const state = await insert(settings, status, hash);
      return { view: hub.changed(state), organizerKey: key };
    },

    update: (viewer, pollId, input) =>
      change(viewer, pollId, (poll) => {
        const settings = built(changedSettings(poll, input), options.accounts);
        return { settings, raiseVersion: poll.status === 'DRAFT' };
      }),

    open: (viewer, pollId) =>
      change(viewer, pollId, (poll) => {
        if (poll.status === 'OPEN') return null;
        if (poll.status === 'CLOSED') {
          throw new PollNotOpenError('A closed poll stays closed: its results are final. Create a new one.');
        }
        return { status: 'OPEN', raiseVersion: true };
      }),

    close: (viewer, pollId) =>
      change(viewer, pollId, (poll) => {
        if (poll.status === 'CLOSED') return null;
        if (poll.status === 'DRAFT') throw new PollNotOpenError('A DRAFT cannot be closed; open or delete it.');
        return { status: 'CLOSED', closedAt: new Date(clock.now()), raiseVersion: true };
      }),

    reset: (viewer, pollId) =>
      change(viewer, pollId, (poll) => {
        if (poll.status === 'CLOSED') {
          throw new PollNotOpenError('The results of a closed poll are final; create a new one.');
        }
        return { dropBallots: true, raiseVersion: true };
      }),

    async delete(viewer, pollId) {
      const view = await hub.read(pollId);
      if (view === null) throw pollNotFound(pollId);
      requireManager(viewer, view.poll);
      if (!(await store.deletePoll(pollId))) throw pollNotFound(pollId);
      hub.removed(pollId);
      return pollId;
    },

    async find({ id, joinCode }) {
      if ((id == null) === (joinCode == null)) throw new InvalidInputError('Give either id or joinCode.');
      const found = id ?? (await findPollId((joinCode ?? '').trim().toUpperCase()));
      return found === null ? null : hub.read(found);
    },

    async list(viewer, page) {
      const all = viewer.account?.role === 'admin';
      if (!all && viewer.organizerKeyHash === null) return [];
      const polls = await store.listPolls({ ...page, organizerKeyHash: viewer.organizerKeyHash });
      return polls.filter((poll) => managesPoll(viewer, poll));
    },
  };

  async function findPollId(joinCode: string): Promise<string | null> {
    return /^[A-Z0-9]{1,16}$/.test(joinCode) ? store.findPollId(joinCode) : null;
  }

  async function change(viewer: Viewer, pollId: string, decide: (poll: Poll) => PollPatch | null): Promise<PollView> {
    if (!isPollId(pollId)) throw pollNotFound(pollId);
    const state = await store.changePoll(pollId, clock.now(), (poll) => {
      requireManager(viewer, poll);
      return decide(poll);
    });
    if (state === null) throw pollNotFound(pollId);
    return hub.changed(state);
  }

  async function insert(settings: PollSettings, status: PollStatus, organizerKeyHash: string): Promise<PollState> {
    const id = pick(ID_ALPHABET, 16);
    for (let attempt = 0; attempt < 10; attempt++) {
      const joinCode = pick(JOIN_ALPHABET, 6);
      if ((await store.findPollId(joinCode)) !== null) continue;
      return store.insertPoll({
        ...settings,
        id,
        joinCode,
        status,
        organizerKeyHash,
        createdAt: new Date(clock.now()),
      });
    }
    throw new Error('No free join code was found in ten tries.');
  }
}

function pick(alphabet: string, length: number): string {
  let text = '';
  for (let index = 0; index < length; index++) text += alphabet[randomInt(alphabet.length)];
  return text;
}

/** What the contract has a place for and this version does not do yet is refused, never silently done differently. */
function built(settings: PollSettings, accounts: boolean): PollSettings {
  if (settings.voterIdentity === 'ACCOUNT' && !accounts) {
    throw new InvalidInputError(
      'voterIdentity: ACCOUNT needs accounts; this server runs without JWT_SECRET or JWKS_URL.',
    );
  }
  const missing: string[] = [];
  if (settings.voterIdentity === 'CODE') missing.push(`voterIdentity ${settings.voterIdentity}`);
  if (settings.resultsVisibility !== 'ALWAYS') missing.push(`resultsVisibility ${settings.resultsVisibility}`);
  if (settings.opensAt !== null) missing.push('opensAt');
  if (settings.closesAt !== null) missing.push('closesAt');
  if (missing.length > 0) throw new InvalidInputError(`Not supported yet: ${missing.join(', ')}.`);
  return settings;
}
