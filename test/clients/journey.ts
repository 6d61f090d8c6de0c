/** The steps that each client library is tested with: create a poll, watch, vote, close. */
import { expect } from 'vitest';
import { RESULTS, type ResultsAnswer } from '../support/api.ts';
import { type Event, Inbox } from '../support/peers.ts';

export const CREATE = `mutation Create($input: CreatePollInput!) {
  createPoll(input: $input) {
    __typename
    ... on CreatePollSuccess { organizerKey poll { id question choices { id label } } }
    ... on Error { message }
  }
}`;
export const VOTE = `mutation Vote($input: CastVoteInput!) {
  castVote(input: $input) {
    __typename
    ... on CastVoteSuccess {
      voterToken
      receipt { id outcome version }
      poll { id viewerBallot { choiceIds } results { ${RESULTS} } }
    }
    ... on Error { message }
  }
}`;
export const CLOSE = `mutation Close($input: PollIdInput!) {
  closePoll(input: $input) { __typename ... on ClosePollSuccess { poll { id status } } ... on Error { message } }
}`;
export const POLL = `query Poll($id: ID!) {
  poll(id: $id) { id question status choices { id label } results { ${RESULTS} } }
}`;

interface Refusal {
  readonly __typename: `${string}Error`;
  readonly message: string;
}
export interface Created {
  readonly createPoll:
    | Refusal
    | { readonly __typename: 'CreatePollSuccess'; readonly organizerKey: string; readonly poll: CreatedPoll };
}
export interface CreatedPoll {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly { readonly id: string; readonly label: string }[];
}
export interface Voted {
  readonly castVote:
    | Refusal
    | {
        readonly __typename: 'CastVoteSuccess';
        readonly voterToken: string | null;
        readonly receipt: { readonly id: string; readonly outcome: string; readonly version: number };
        readonly poll: {
          readonly id: string;
          readonly viewerBallot: { readonly choiceIds: readonly string[] } | null;
          readonly results: ResultsAnswer;
        };
      };
}
export interface Closed {
  readonly closePoll:
    | Refusal
    | { readonly __typename: 'ClosePollSuccess'; readonly poll: { readonly id: string; readonly status: string } };
}
export interface Asked {
  readonly poll: (CreatedPoll & { readonly status: string; readonly results: ResultsAnswer }) | null;
}

/** A client at work. `run` rejects on GraphQL errors. */
export interface Client extends AsyncDisposable {
  run<Data>(query: string, variables: Record<string, unknown>): Promise<Data>;
  watch(pollId: string): Feed;
}

/** Starts a client with this `Authorization`, or without one. */
export type Open = (authorization?: string) => Client;

/** The events of a subscription, in order. */
export class Feed {
  private readonly inbox = new Inbox<Event>();
  readonly versions: number[] = [];
  /** Stops watching. */
  stop: () => void = () => {};

  results(data: { readonly pollResults: ResultsAnswer } | null | undefined): void {
    if (data == null) throw new Error('An update has neither data nor errors.');
    this.versions.push(data.pollResults.version);
    this.inbox.push({ type: 'next', results: data.pollResults });
  }

  errors(
    errors: readonly { readonly message: string; readonly extensions?: Readonly<Record<string, unknown>> }[],
  ): void {
    this.inbox.push({
      type: 'errors',
      errors: errors.map(({ message, extensions }) => ({ message, extensions: { code: String(extensions?.code) } })),
    });
  }

  complete(): void {
    this.inbox.push({ type: 'complete' });
  }

  closed(code: number): void {
    this.inbox.push({ type: 'closed', code });
  }

  event(): Promise<Event> {
    return this.inbox.next();
  }

  async next(): Promise<ResultsAnswer> {
    const event = await this.event();
    if (event.type !== 'next') throw new Error(`Not results: ${JSON.stringify(event)}`);
    return event.results;
  }
}

/** L1, L2, L6: the current results, then each vote, then the final results and the end. */
export async function createVoteAndWatch(open: Open): Promise<void> {
  await using visitor = open();
  const { createPoll } = await visitor.run<Created>(CREATE, {
    input: { question: 'Tea or coffee?', choices: ['Tea', 'Coffee'] },
  });
  if (createPoll.__typename !== 'CreatePollSuccess') throw new Error(createPoll.message);
  const { organizerKey, poll } = createPoll;
  expect(poll).toMatchObject({ question: 'Tea or coffee?', choices: [{ label: 'Tea' }, { label: 'Coffee' }] });
  const [tea, coffee] = poll.choices.map(({ id }) => id);

  const feed = visitor.watch(poll.id);
  const first = await feed.next();
  expect(first).toMatchObject({ pollId: poll.id, status: 'OPEN', isFinal: false, ballotCount: 0 });

  const { castVote } = await visitor.run<Voted>(VOTE, { input: { pollId: poll.id, choiceIds: [coffee] } });
  if (castVote.__typename !== 'CastVoteSuccess') throw new Error(castVote.message);
  expect(castVote.receipt).toMatchObject({ outcome: 'RECORDED', version: first.version + 1 });
  expect(await feed.next()).toMatchObject({
    version: castVote.receipt.version,
    ballotCount: 1,
    tallies: [
      { choiceId: tea, label: 'Tea', votes: 0, share: 0 },
      { choiceId: coffee, label: 'Coffee', votes: 1, share: 1 },
    ],
  });

  // The same vote again with the token of the receipt: nothing changes, so nothing is sent.
  const input = { pollId: poll.id, choiceIds: [coffee], voterToken: castVote.voterToken };
  const again = await visitor.run<Voted>(VOTE, { input });
  expect(again.castVote).toMatchObject({ receipt: { ...castVote.receipt, outcome: 'UNCHANGED' } });
  const other = await visitor.run<Voted>(VOTE, { input: { ...input, choiceIds: [tea] } });
  expect(other.castVote.__typename).toBe('AlreadyVotedError');

  const refused = await visitor.run<Closed>(CLOSE, { input: { pollId: poll.id } });
  expect(refused.closePoll.__typename).toBe('NotAllowedError');
  await using organizer = open(`Bearer ${organizerKey}`);
  const { closePoll } = await organizer.run<Closed>(CLOSE, { input: { pollId: poll.id } });
  expect(closePoll).toMatchObject({ __typename: 'ClosePollSuccess', poll: { id: poll.id, status: 'CLOSED' } });
  expect(await feed.next()).toMatchObject({ status: 'CLOSED', isFinal: true, ballotCount: 1 });
  expect((await feed.event()).type).toBe('complete');
  expect(feed.versions).toEqual([first.version, first.version + 1, first.version + 2]);

  const asked = await visitor.run<Asked>(POLL, { id: poll.id });
  expect(asked.poll).toMatchObject({ ...poll, status: 'CLOSED', results: { isFinal: true, ballotCount: 1 } });
}

/** L7: the subscription fails when it starts. */
export async function watchNothing(open: Open): Promise<void> {
  await using visitor = open();
  const feed = visitor.watch('nothing');
  expect(await feed.event()).toMatchObject({ type: 'errors', errors: [{ extensions: { code: 'NOT_FOUND' } }] });
}
