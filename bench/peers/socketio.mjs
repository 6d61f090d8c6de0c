// Socket.IO 4 with its defaults: every watcher is in the poll's room, an update is one emit to the room.
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { answer, listen, readVote } from './listen.mjs';
import { castVote, POLL_ID, results } from './poll.mjs';

const server = createServer((request, response) => {
  readVote(request, (input) => {
    const outcome = castVote(input);
    if (outcome.receipt) io.to(POLL_ID).emit('results', results());
    answer(response, outcome);
  });
});
const io = new Server(server);
io.on('connection', (socket) => socket.join(POLL_ID));

listen(server);
