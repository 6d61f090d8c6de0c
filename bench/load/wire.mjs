import net from 'node:net';

// One buffer for every socket of the process: a read is handled before the next one begins, so nothing is allocated a read.
const shared = Buffer.allocUnsafe(64 * 1024);

/**
 * A raw connection. `walk(buf, start, end)` gets what arrived and returns how far it understood; the rest is kept and
 * put in front of what comes next. MUST NOT keep `buf`: it is overwritten by the next read of any socket.
 */
export function connect(port, { opened, walk, closed }) {
  let rest = null;
  const wire = {
    bytesIn: 0,
    socket: net.connect({
      port,
      host: '127.0.0.1',
      noDelay: true,
      onread: {
        buffer: shared,
        callback(count, buf) {
          wire.bytesIn += count;
          let whole = buf;
          let end = count;
          if (rest !== null) {
            whole = Buffer.concat([rest, buf.subarray(0, count)]);
            end = whole.length;
            rest = null;
          }
          const used = walk(whole, 0, end);
          if (used < end) rest = Buffer.from(whole.subarray(used, end));
          return true;
        },
      },
    }),
    write: (bytes) => wire.socket.write(bytes),
    close: () => wire.socket.destroy(),
  };
  wire.socket.on('connect', () => opened?.(wire));
  wire.socket.on('error', () => {});
  wire.socket.on('close', () => closed?.(wire));
  return wire;
}
