// What a topic says, and which ones the page asks for. Topics are those of docs/protocol.md.

const ID = /^[A-Za-z0-9._-]{1,64}$/;

/** Whether it may be the id of a site, device or trainer. */
export const isId = (x) => typeof x === 'string' && ID.test(x) && x !== '.' && x !== '..';

const prefix = (site) => `tasuki/v1/${site}/`;

/** The filters of all that the page shows of a whole fleet. */
export const fleetFilters = (site) =>
  ['device/+/presence', 'device/+/status', 'trainer/+/presence', 'trainer/+/status', 'trainer/+/job/+', 'fleet/offer'].map((t) => prefix(site) + t);

/** The topic of what one device has learnt, 64 KiB at most, which is why only one is asked for at a time. */
export const historyTopic = (site, device) => `${prefix(site)}device/${device}/history`;

const ABOUT = { presence: 'presence', status: 'status', history: 'history' };

/** {kind, device?, trainer?} of a topic of this site that the page knows, else null. */
export function parseTopic(site, topic) {
  if (!topic.startsWith(prefix(site))) return null;
  const [who, id, what, device, more] = topic.slice(prefix(site).length).split('/');
  if (who === 'fleet') return id === 'offer' && what === undefined ? { kind: 'fleet-offer' } : null;
  if (more !== undefined || !isId(id) || !Object.hasOwn(ABOUT, what ?? '')) {
    return who === 'trainer' && what === 'job' && more === undefined && isId(id) && isId(device) ? { kind: 'job', trainer: id, device } : null;
  }
  if (device !== undefined) return null;
  if (who === 'device') return { kind: what, device: id };
  if (who === 'trainer' && what !== 'history') return { kind: `trainer-${what}`, trainer: id };
  return null;
}
