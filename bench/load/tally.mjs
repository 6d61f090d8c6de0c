/** What a crowd counts, whatever its transport. A fault is a watcher that was lost or answered with an error. */
export function newTally() {
  return {
    deliveries: 0,
    payloadBytes: 0,
    bytesOut: 0,
    requests: 0,
    backwards: 0,
    faults: {},
    closing: false,
    /** Replaced by whoever measures: called with the watcher, the version it had before and the one it has now. */
    onSeen: () => {},

    deliver(watcher, version, bytes) {
      this.deliveries += 1;
      this.payloadBytes += bytes;
      const before = watcher.seen;
      if (version <= before) {
        // Peers send the state once more now and then; a measured server must never (rule L2).
        this.backwards += 1;
        return;
      }
      watcher.seen = version;
      this.onSeen(watcher, before, version);
    },

    fault(reason) {
      this.faults[reason] = (this.faults[reason] ?? 0) + 1;
    },

    bytesIn() {
      let sum = 0;
      for (const watcher of this.watchers) sum += watcher.wire?.bytesIn ?? 0;
      return sum;
    },
  };
}
