// Preloaded into every server under test: a collection when the driver asks for one, so that memory is compared after it.
// Answers with the bytes that V8's young generation holds, empty as it is then.
import { getHeapSpaceStatistics } from 'node:v8';

process.on('message', (message) => {
  if (message !== 'gc') return;
  globalThis.gc();
  globalThis.gc();
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
  process.send(young?.physical_space_size ?? 0);
});
// A driver that died leaves no server behind.
process.on('disconnect', () => process.exit(0));
// The channel MUST NOT keep a server alive that wants to end.
process.channel?.unref();
