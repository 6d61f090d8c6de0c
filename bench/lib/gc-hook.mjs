// Preloaded into every server under test: a collection when the driver asks for one, so that memory is compared after it.
process.on('message', (message) => {
  if (message !== 'gc') return;
  globalThis.gc();
  globalThis.gc();
  process.send('collected');
});
// A driver that died leaves no server behind.
process.on('disconnect', () => process.exit(0));
// The channel MUST NOT keep a server alive that wants to end.
process.channel?.unref();
