// What has come and is not yet looked into: of each topic the last message only, for each replaces the one before it. So however much
// comes, it takes no more memory than there are topics, and it is worked off in slices that block no frame.

export const MAX_TOPICS = 20000;

export function makeInbox(limit = MAX_TOPICS) {
  const waiting = new Map();
  return {
    dropped: 0,
    get size() { return waiting.size; },
    put(topic, bytes) {
      if (waiting.size >= limit && !waiting.has(topic)) this.dropped++;
      else waiting.set(topic, bytes);
    },
    /** Hands out what waits, oldest first, until `enough()` says so. */
    drain(take, enough) {
      for (const [topic, bytes] of waiting) {
        waiting.delete(topic);
        take(topic, bytes);
        if (enough()) break;
      }
    },
  };
}
