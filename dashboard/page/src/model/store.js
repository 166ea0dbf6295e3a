// What the page knows of the fleet: step by step, from checked messages. No I/O and no clock in here: `now` is given (ms since 1970).
// Objects of devices and trainers are replaced, never changed, so whoever shows one can tell by identity whether it is new.

export const MAX_DEVICES = 10000;
export const MAX_TRAINERS = 256;
export const MAX_JOBS = 2000;
const ENDED_JOB_SHOWN_MS = 60e3;
const SILENT_JOB_SHOWN_MS = 10 * 60e3; // a trainer says where it is far more often
export const ENDED_PHASES = ['done', 'lapsed'];

export const makeState = () => ({
  devices: new Map(), trainers: new Map(), jobs: new Map(), offer: null, history: null,
  refused: 0, // messages that were not understood
  left_out: 0, // messages of devices, trainers and jobs beyond the limits
});

const jobKey = (m) => `${m.trainer}/${m.device}`;

function put(state, map, key, most, value) {
  if (!map.has(key) && map.size >= most) state.left_out++;
  else map.set(key, value);
}

/** One with a presence or status; both gone: it is gone. */
function member(state, map, key, most, part, value) {
  const old = map.get(key) ?? { id: key, presence: null, status: null };
  // A Will carries the boot it was made in: one of an older boot is about a connection that has been replaced.
  if (part === 'presence' && value && old.presence && value.boot < old.presence.boot) return;
  const next = { ...old, [part]: value };
  if (next.presence || next.status) put(state, map, key, most, next);
  else map.delete(key);
}

/** A message of the topic `m` (parseTopic); `value` as decode() returns it. */
export function apply(state, m, value, now) {
  if (value === undefined) {
    state.refused++;
    return;
  }
  switch (m.kind) {
    case 'presence': case 'status':
      return member(state, state.devices, m.device, MAX_DEVICES, m.kind, value);
    case 'trainer-presence': case 'trainer-status':
      return member(state, state.trainers, m.trainer, MAX_TRAINERS, m.kind.slice('trainer-'.length), value);
    case 'job':
      if (value && value.device !== m.device) state.refused++;
      else if (value) put(state, state.jobs, jobKey(m), MAX_JOBS, { ...value, trainer: m.trainer, heard: now });
      return undefined;
    case 'fleet-offer':
      state.offer = value;
      return undefined;
    case 'history':
      state.history = value && { ...value, device: m.device };
      return undefined;
    default:
      throw new Error(`no such kind: ${m.kind}`);
  }
}

/** Time has passed: jobs that are over, or of which nothing is heard, go. True if any went. */
export function expire(state, now) {
  const before = state.jobs.size;
  for (const [key, job] of state.jobs) {
    if (now - job.heard > (ENDED_PHASES.includes(job.phase) ? ENDED_JOB_SHOWN_MS : SILENT_JOB_SHOWN_MS)) state.jobs.delete(key);
  }
  return state.jobs.size !== before;
}

/** Whether it is at the broker: true, false, or null where nobody has said. */
export const online = (x) => (x.presence ? x.presence.online : null);

/** One word for what it does. */
export function deviceState(d) {
  if (online(d) === false) return 'offline';
  return d.status ? d.status.phase : 'unknown';
}

/** Jobs in flight and just ended, the newest news first. */
export const jobs = (state, device = null) =>
  [...state.jobs.values()].filter((j) => device === null || j.device === device).sort((a, b) => b.heard - a.heard || (a.device < b.device ? -1 : 1));
