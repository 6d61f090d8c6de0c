// What every peer does at its two ends. The driver reads the printed line.
export function announce(port) {
  console.log(`listening ${port}`);
  // A plain exit lets --cpu-prof write its file.
  process.on('SIGTERM', () => process.exit(0));
}

export function listen(server) {
  server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => announce(server.address().port));
}

/** For the peers without GraphQL: the same request bytes, of which only the variables matter. */
export function readVote(request, then) {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => then(JSON.parse(Buffer.concat(parts).toString()).variables.input));
}

export function answer(response, castVote) {
  const body = JSON.stringify({ data: { castVote } });
  response.writeHead(200, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  });
  response.end(body);
}
