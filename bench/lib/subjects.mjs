// Everything that can be measured, by name: how it is started and how its watchers speak to it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CHOICES, POLL_ID } from '../peers/poll.mjs';
import { ENTRY, startPollcast } from './pollcast.mjs';
import { startServer } from './processes.mjs';

const peerScript = (file) => fileURLToPath(new URL(`../peers/${file}.mjs`, import.meta.url));
const PEER_POLL = { id: POLL_ID, choices: CHOICES.map((choice) => choice.id) };

const peer = (label, file, dialect) => ({
  label,
  dialect,
  isThere: () => existsSync(peerScript(file)),
  async start({ name, profile }) {
    const server = await startServer({ name, script: peerScript(file), profile });
    return { ...server, polls: [PEER_POLL] };
  },
});

/** `store`: 'postgres' or 'pglite'; without one the driver's `--store` decides. `polls`: inputs of createPoll, one a poll. */
const pollcast = (label, dialect, fixed = {}) => ({
  label,
  dialect,
  isThere: () => existsSync(fixed.entry ?? ENTRY),
  async start({ name, profile, store, database, interval, polls = [{}], env }) {
    const databaseUrl = (fixed.store ?? store) === 'postgres' ? await database() : undefined;
    const server = await startPollcast({
      name,
      entry: fixed.entry,
      databaseUrl,
      interval: interval ?? 100,
      profile,
      env: { ...fixed.env, ...env },
    });
    const made = [];
    for (const input of polls) made.push(await server.createPoll(input));
    return { ...server, polls: made };
  },
});

export const subjects = {
  ws: peer('bare `ws`, one shared buffer', 'ws-bare', 'ws'),
  'socket.io': peer('Socket.IO 4 room', 'socketio', 'socket.io'),
  mercurius: peer('mercurius 16, jit', 'mercurius', 'graphql-ws'),
  yoga: peer('graphql-yoga 5 + graphql-ws 6', 'yoga', 'graphql-ws'),
  'yoga-sse': peer('graphql-yoga 5 over SSE', 'yoga', 'graphql-sse'),
  http: peer('bare node:http, fixed answer', 'http-bare'),
  pollcast: pollcast('**Pollcast**', 'graphql-ws'),
  'pollcast-sse': pollcast('**Pollcast**, GraphQL over SSE', 'graphql-sse'),
  'pollcast-stream': pollcast('**Pollcast**, plain event stream', 'stream'),
  'pollcast-pglite': pollcast('**Pollcast**, embedded PGlite', 'graphql-ws', { store: 'pglite' }),
  // The same server with a store that makes one INSERT a vote. Whoever measures it says where it starts.
  'one-insert': pollcast('Pollcast with one `INSERT` a vote', 'graphql-ws', {
    store: 'postgres',
    entry: process.env.ONE_INSERT_ENTRY ?? fileURLToPath(new URL('../peers/one-insert.mjs', import.meta.url)),
  }),
};
