/** Closes the connection that was on its way to a worker when the worker died. */
import type { Worker } from 'node:cluster';

/**
 * The primary hands a connection to a worker and closes its own copy when the worker confirms. If the worker dies
 * before that, Node forgets the connection: it stays open and its client waits for ever. Only the last one sent can
 * be unconfirmed.
 */
export function closeOrphanOnExit(worker: Worker): void {
  const { process: child } = worker;
  let last: unknown = null;
  child.send = new Proxy(child.send, {
    apply(send, self, args: unknown[]) {
      const [, handle] = args;
      if (handle != null) last = handle;
      return Reflect.apply(send, self, args);
    },
  });
  // Closing a closed handle does nothing.
  worker.once('exit', () => {
    if (typeof last === 'object' && last !== null && 'close' in last && typeof last.close === 'function') last.close();
  });
}
