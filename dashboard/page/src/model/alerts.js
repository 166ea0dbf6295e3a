// What somebody should look at, made of what is known. Pure.

import { online } from './store.js';
import { byName } from './rows.js';

const LOW_DISK_BYTES = 1e9;
const STATUS_OLD_MS = 20 * 60e3; // one comes every 5 to 10 minutes
const NAMED = 3;

function group(list, found, one, level, text, filter = null) {
  if (!found.length) return;
  found.sort(byName);
  const named = found.slice(0, NAMED).join(', ') + (found.length > NAMED ? ` and ${found.length - NAMED} more` : '');
  list.push({ level, text: `${found.length === 1 ? one : `${found.length} ${one}s`} ${text}: ${named}`, filter, device: one === 'device' && found.length === 1 ? found[0] : null });
}

/** [{level: 'bad'|'warn', text, filter?: of rows.js, device?: id}], the worse ones first. */
export function alerts(state, now) {
  const list = [], offline = [], old = [], disk = [], away = [];
  for (const d of state.devices.values()) {
    if (online(d) === false) offline.push(d.id);
    else if (d.status && now - d.status.at > STATUS_OLD_MS) old.push(d.id);
    if (d.status && d.status.disk_free_bytes !== null && d.status.disk_free_bytes < LOW_DISK_BYTES) disk.push(d.id);
  }
  for (const t of state.trainers.values()) if (online(t) === false) away.push(t.id);
  if (state.trainers.size && away.length === state.trainers.size) list.push({ level: 'bad', text: 'No trainer is connected: nothing is handed over', filter: null, device: null });
  group(list, away, 'trainer', 'bad', 'offline');
  group(list, offline, 'device', 'bad', 'offline', 'offline');
  if (state.offer?.halted) list.push({ level: 'bad', text: `The rollout of checkpoint ${state.offer.id.slice(0, 12)} was halted: ${state.offer.reason ?? 'no reason was given'}`, filter: null, device: null });
  group(list, disk, 'device', 'warn', 'with less than 1 GB of free disk');
  for (const t of [...state.trainers.values()].sort((a, b) => byName(a.id, b.id))) {
    if (t.status?.quarantined) list.push({ level: 'warn', text: `${t.id} has ${t.status.quarantined} device${t.status.quarantined === 1 ? '' : 's'} in quarantine`, filter: null, device: null });
  }
  group(list, old, 'device', 'warn', 'of which no status has come for 20 minutes');
  if (state.left_out) list.push({ level: 'warn', text: 'There are more devices, trainers or jobs than this page shows', filter: null, device: null });
  return list;
}
