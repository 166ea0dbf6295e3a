// What the tests share: messages as programs send them.

export const HASH = 'ab'.repeat(32);
export const NOW = Date.UTC(2026, 10, 26, 12);
export const bytes = (x) => new TextEncoder().encode(typeof x === 'string' ? x : JSON.stringify(x));

export const status = (more = {}) => ({
  boot: 3, agent: '0.1.0', model: HASH, phase: 'training', reason: '', epoch: 7, report_seq: 9,
  active: { checkpoint: HASH, origin: 'edge', accuracy: 0.91, pinned: false }, at: '2026-11-26T11:59:30Z', ...more,
});
export const trainerStatus = (more = {}) => ({
  boot: 1, version: '0.1.0', model: HASH, queued: 2, active: 1, capacity: 4, devices: 6, handovers: 11, load: 0.5, reason: '', at: '2026-11-26T11:59:30Z', ...more,
});
export const job = (more = {}) => ({
  device: 'cam-1', checkpoint: HASH, fence: 4, phase: 'training', progress: 0.25, epoch: 1, epochs: 4, at: '2026-11-26T11:59:30Z', ...more,
});
export const offer = (more = {}) => ({
  id: HASH, model: HASH, origin: 'fleet', device: 'edge-1', trainer: 'edge-1', parents: [], epoch: 3, images_seen: 10, classes: 10, size: 100, block_size: 1024,
  created: '2026-11-26T11:00:00Z', sequence: 5, encoding: 'raw', share: 10, spread_ms: 1000, ...more,
});
export const points = [
  [1795000000, 2, 'local', 100, 80, 1, 'aaaaaaaaaaaa'], [1795000060, 4, 'edge', 100, 90, 1, 'bbbbbbbbbbbb'], [1795000120, 6, 'local', 100, 85, 0, 'cccccccccccc'],
];
export const history = (more = {}) => ({ at: '2026-11-26T11:59:30Z', points, confusion: { checkpoint: HASH, classes: 2, counts: [8, 2, 1, 9] }, ...more });
