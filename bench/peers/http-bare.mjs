// What node:http alone costs: the request is read and a castVote answer of the usual size goes back. Nothing is counted.
import { createServer } from 'node:http';
import { listen } from './listen.mjs';
import { CHOICES, castVote, POLL_ID } from './poll.mjs';

const body = Buffer.from(
  JSON.stringify({ data: { castVote: castVote({ pollId: POLL_ID, choiceIds: [CHOICES[0].id] }) } }),
);
const head = { 'content-type': 'application/json; charset=utf-8', 'content-length': body.length };

listen(
  createServer((request, response) => {
    request.on('data', () => {});
    request.on('end', () => {
      response.writeHead(200, head);
      response.end(body);
    });
  }),
);
