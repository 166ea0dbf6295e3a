// The fleet as rows of a table: searched, filtered, sorted. Pure; sorting 2,000 takes a few milliseconds.

import { deviceState, online } from './store.js';

const names = new Intl.Collator('en', { numeric: true });
export const byName = (a, b) => names.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

const active = (d, key) => d.status?.active?.[key] ?? null;

/** What a column sorts by; absent values (null) come last, whichever way. */
export const COLUMNS = {
  device: (d) => d.id,
  state: deviceState,
  accuracy: (d) => active(d, 'accuracy'),
  origin: (d) => active(d, 'origin'),
  epoch: (d) => d.status?.epoch ?? null,
  handover: (d) => d.status?.handover || null,
  moved: (d) => d.status?.moved_bytes ?? null,
  heard: (d) => d.status?.at ?? null,
};

// What is only on offer is with nobody yet.
const IN_FLIGHT = ['granted', 'pulling', 'judging'];
const busyWithEdge = (d) => online(d) !== false && IN_FLIGHT.includes(d.status?.handover);

/** Filters by name; the first takes all. */
export const FILTERS = {
  all: () => true,
  online: (d) => online(d) === true,
  offline: (d) => online(d) === false,
  training: (d) => deviceState(d) === 'training',
  waiting: (d) => deviceState(d) === 'waiting',
  paused: (d) => deviceState(d) === 'paused',
  handover: busyWithEdge,
  pinned: (d) => active(d, 'pinned') === true,
};

function compare(a, b, up) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return (typeof a === 'string' ? byName(a, b) : a - b) * up;
}

/** Devices in order. `view`: {search, filter, column, up}; devices that are equal in the column are in the order of their names. */
export function rows(devices, view) {
  const search = view.search.trim().toLowerCase(), take = FILTERS[view.filter] ?? FILTERS.all, value = COLUMNS[view.column] ?? COLUMNS.device;
  const found = [];
  for (const d of devices.values()) {
    if (take(d) && (search === '' || d.id.toLowerCase().includes(search))) found.push([value(d), d]);
  }
  const up = view.up ? 1 : -1;
  return found.sort(([a, d], [b, e]) => compare(a, b, up) || byName(d.id, e.id)).map(([, d]) => d);
}

/** The fleet in figures. */
export function summary(devices) {
  const s = { devices: devices.size, online: 0, offline: 0, training: 0, waiting: 0, handing_over: 0, moved_bytes: 0, data_bytes: 0, accuracy: null };
  const accuracies = [];
  for (const d of devices.values()) {
    const on = online(d), state = deviceState(d);
    s.online += on === true;
    s.offline += on === false;
    s.training += state === 'training';
    s.waiting += state === 'waiting';
    s.handing_over += busyWithEdge(d);
    s.moved_bytes += d.status?.moved_bytes ?? 0;
    s.data_bytes += d.status?.data_bytes ?? 0;
    if (active(d, 'accuracy') !== null) accuracies.push(active(d, 'accuracy'));
  }
  if (accuracies.length) s.accuracy = accuracies.sort((a, b) => a - b)[accuracies.length >> 1];
  return s;
}
