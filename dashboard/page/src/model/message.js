// Messages as docs/protocol.md has them, as far as the page shows them: bytes in, a checked object or `undefined` out.

import { bool, count, hash, id, int, list, number, object, oneOf, optional, orNull, seconds, share, shortHash, text, time, word } from './check.js';

const KIB = 1024;
export const ORIGINS = ['local', 'edge', 'blend', 'tuned', 'fleet'];
export const MAX_POINTS = 256;
export const MAX_CONFUSION_CLASSES = 64;
const MAX_ANSWERS = 10000;
const MAX_REASON = 512, MAX_NAME = 64;

const origin = oneOf(...ORIGINS);
const reason = text(MAX_REASON);
const loss = optional(number(0, 1e9));
const speed = optional(number(0, 1e9));
const score = object({ n: count, correct: count, accuracy: share });

const status = object({
  boot: count, agent: text(MAX_NAME), phase: word, reason, epoch: count, at: time,
  active: orNull(object({ checkpoint: hash, origin, accuracy: orNull(share), pinned: bool })),
  progress: optional(share), loss, images_per_second: speed, handover: optional(text(MAX_NAME)), trainer: optional(id),
  skipped_images: optional(count), moved_bytes: optional(count), data_bytes: optional(count), disk_free_bytes: optional(count),
});

const trainerStatus = object({
  boot: count, version: text(MAX_NAME), queued: count, active: count, capacity: count, devices: count, handovers: count, load: number(0, 1e6),
  reason, at: time, strategy: optional(word), refused: optional(count), refused_messages: optional(count), members: optional(count),
  window: optional(list(id, 32)), quarantined: optional(count),
  quarantine: optional(list(object({ device: id, until: time, why: reason }), 4)),
});

const job = object({
  device: id, checkpoint: hash, fence: count, phase: word, progress: share, epoch: count, epochs: count, window: optional(count), loss,
  images_per_second: speed, before: optional(score), after: optional(score), at: time,
});

const fleetOffer = object({
  id: hash, device: id, trainer: id, sequence: count, share: int(1, 100), created: time, size: count, halted: optional(bool),
  reason: optional(reason), test: optional(score),
});

function point(x) {
  if (!Array.isArray(x) || x.length < 7) return undefined;
  const [at, epoch, from, n, correct, swap, checkpoint] = [seconds(x[0]), count(x[1]), origin(x[2]), count(x[3]), count(x[4]), int(0, 1)(x[5]), shortHash(x[6])];
  if ([at, epoch, from, n, correct, swap, checkpoint].includes(undefined) || correct > n || n === 0) return undefined;
  return { at, epoch, origin: from, n, correct, swap: swap === 1, checkpoint };
}

function confusion(x) {
  const c = object({ checkpoint: hash, classes: int(1, MAX_CONFUSION_CLASSES), counts: list(count, MAX_CONFUSION_CLASSES ** 2) })(x);
  return c && c.counts.length === c.classes ** 2 ? c : undefined;
}

const history = object({ at: time, points: list(point, MAX_POINTS), confusion: optional(confusion) });
const presence = object({ online: bool, boot: count });

// kind -> [check, limit of bytes]
const KINDS = {
  presence: [presence, 4 * KIB], status: [status, 4 * KIB], history: [history, 64 * KIB], job: [job, 4 * KIB],
  'trainer-presence': [presence, 4 * KIB], 'trainer-status': [trainerStatus, 4 * KIB], 'fleet-offer': [fleetOffer, 64 * KIB],
};

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The message, `null` where it is empty (a retained one was taken back), `undefined` where it is not one that docs/protocol.md allows. */
export function decode(kind, bytes) {
  const [check, limit] = KINDS[kind];
  if (bytes.length === 0) return null;
  if (bytes.length > limit) return undefined;
  try {
    return check(JSON.parse(utf8.decode(bytes)));
  } catch {
    return undefined;
  }
}

const LONGEST_ANSWER = 20; // members of one that are shown

/** One answer to a command: {device, ok, error, members: [[name, text]]}; `undefined` where it is none. */
export function answer(x) {
  const a = object({ device: optional(id), ok: bool, error: optional(reason) })(x);
  if (!a) return undefined;
  const shown = Object.entries(x).filter(([k, v]) => !['id', 'ok', 'device', 'error'].includes(k) && /^[a-z0-9_]{1,32}$/.test(k) && v !== null);
  const members = shown.slice(0, LONGEST_ANSWER).map(([k, v]) => [k, text(MAX_REASON)(typeof v === 'string' ? v : JSON.stringify(v))]);
  return { ...a, members: members.filter(([, v]) => v !== undefined) };
}

/** Those of a list that are understood: what one device says hides nothing of what others say. `undefined` where none is. */
export function answers(x) {
  if (!Array.isArray(x)) return undefined;
  const known = x.slice(0, MAX_ANSWERS).map(answer).filter((a) => a !== undefined);
  return known.length || !x.length ? known : undefined;
}

/** What the gateway says of itself and its site. */
export const site = object({ site: id, classes: list(text(255), 65536), operator: bool, version: text(MAX_NAME) });
