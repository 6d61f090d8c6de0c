/** Serves `calls` to the driver over the process channel: { id, call, args } in, { id, value | error } out. */
export function serve(calls) {
  process.on('message', async ({ id, call, args }) => {
    try {
      process.send({ id, value: await calls[call](args) });
    } catch (error) {
      process.send({ id, error: error.stack });
    }
  });
  process.on('disconnect', () => process.exit(0));
}
