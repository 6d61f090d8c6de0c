import { clientFrame } from './frames.mjs';
import { votePayload } from './operations.mjs';

// Ids rotate through so many slots that a server has long forgotten an id when it comes again.
export const SLOTS = 512;
export const slotId = (slot) => `v${String(slot).padStart(4, '0')}`;

/** All the ballots to cast, in turn: a choice each, or the orders of preference that the poll brings along. */
const ballotsOf = (poll) => poll.orders ?? poll.choices.map((choice) => [choice]);

/** `next()` gives the bytes of the next HTTP request. Encoded beforehand: polls and ballots rotate, voters are new by having no name. */
export function httpBallots(polls) {
  const requests = interleave(
    polls.map((poll) => ballotsOf(poll).map((ids) => httpRequest(votePayload(poll.id, ids)))),
  );
  let turn = 0;
  return () => requests[turn++ % requests.length];
}

/** `next(slot)` gives the bytes of a graphql-ws `subscribe` with that slot's id. */
export function socketBallots(polls) {
  const payloads = interleave(polls.map((poll) => ballotsOf(poll).map((ids) => votePayload(poll.id, ids))));
  const bySlot = Array.from({ length: SLOTS }, () => []);
  let turn = 0;
  return (slot) => {
    const which = turn++ % Math.min(payloads.length, 8);
    const made = bySlot[slot];
    made[which] ??= clientFrame(JSON.stringify({ id: slotId(slot), type: 'subscribe', payload: payloads[which] }));
    return made[which];
  };
}

function httpRequest(payload) {
  const body = JSON.stringify(payload);
  return Buffer.from(
    'POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n' +
      'Accept: application/graphql-response+json, application/json\r\n' +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** a1 b1 c1 a2 b2 c2 …: neighbours in time are different polls. */
function interleave(lists) {
  const longest = Math.max(...lists.map((list) => list.length));
  const mixed = [];
  for (let i = 0; i < longest; i += 1) for (const list of lists) if (i < list.length) mixed.push(list[i]);
  return mixed;
}
