// The yardstick: `ws` alone. One buffer an update, encoded once, sent to every client.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { answer, listen, readVote } from './listen.mjs';
import { castVote, results } from './poll.mjs';

const server = createServer((request, response) => {
  readVote(request, (input) => {
    const outcome = castVote(input);
    if (outcome.receipt) broadcast();
    answer(response, outcome);
  });
});
const sockets = new WebSocketServer({ server, clientTracking: true, perMessageDeflate: false });

function broadcast() {
  const buffer = Buffer.from(JSON.stringify({ id: '1', type: 'next', payload: { data: { pollResults: results() } } }));
  for (const socket of sockets.clients) {
    if (socket.readyState === socket.OPEN) socket.send(buffer, { binary: false });
  }
}

listen(server);
