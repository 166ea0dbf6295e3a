import { test } from 'node:test';
import assert from 'node:assert/strict';
import { MAX_TRAINERS, apply, deviceState, expire, jobs, makeState, online } from '../src/model/store.js';
import { decode } from '../src/model/message.js';
import { makeInbox } from '../src/model/inbox.js';
import { alerts } from '../src/model/alerts.js';
import { rows, summary } from '../src/model/rows.js';
import { HASH, NOW, bytes, history, job, offer, status, trainerStatus } from './util.js';

const KIND = { kind: 'status', device: 'cam-1' };
const see = (state, m, x, now = NOW) => apply(state, m, x === null ? null : decode(m.kind, bytes(x)), now);
const device = (state, id, more, up = true) => {
  see(state, { kind: 'presence', device: id }, { online: up, boot: 3 });
  see(state, { kind: 'status', device: id }, status(more));
};

test('a device comes, changes and goes', () => {
  const s = makeState();
  see(s, KIND, status());
  assert.equal(online(s.devices.get('cam-1')), null);
  assert.equal(deviceState(s.devices.get('cam-1')), 'training');
  const before = s.devices.get('cam-1');
  see(s, { kind: 'presence', device: 'cam-1' }, { online: false, boot: 3 });
  assert.notEqual(s.devices.get('cam-1'), before, 'replaced, not changed');
  assert.equal(deviceState(s.devices.get('cam-1')), 'offline');
  see(s, KIND, null);
  assert.equal(deviceState(s.devices.get('cam-1')), 'offline');
  see(s, { kind: 'presence', device: 'cam-1' }, null);
  assert.equal(s.devices.size, 0);
});

test('a Will of an older boot changes nothing', () => {
  const s = makeState(), p = { kind: 'presence', device: 'cam-1' };
  see(s, p, { online: true, boot: 5 });
  see(s, p, { online: false, boot: 4 });
  assert.equal(online(s.devices.get('cam-1')), true);
  see(s, p, { online: false, boot: 5 });
  assert.equal(online(s.devices.get('cam-1')), false);
});

test('what is not understood is counted, and changes nothing', () => {
  const s = makeState();
  see(s, KIND, status());
  see(s, KIND, status({ phase: '<b>' }));
  see(s, { kind: 'job', trainer: 'e', device: 'cam-2' }, job({ device: 'cam-1' }));
  assert.equal(s.refused, 2);
  assert.equal(deviceState(s.devices.get('cam-1')), 'training');
  assert.equal(s.jobs.size, 0);
});

test('there is a limit to how many are kept', () => {
  const s = makeState();
  for (let i = 0; i < MAX_TRAINERS + 5; i++) see(s, { kind: 'trainer-status', trainer: `e${i}` }, trainerStatus());
  see(s, { kind: 'trainer-status', trainer: 'e0' }, trainerStatus({ queued: 9 }));
  assert.deepEqual([s.trainers.size, s.left_out, s.trainers.get('e0').status.queued], [MAX_TRAINERS, 5, 9]);
});

test('jobs: the newest news of each, those over for a minute, silent ones for ten', () => {
  const s = makeState(), m = (d) => ({ kind: 'job', trainer: 'e', device: d });
  see(s, m('a'), job({ device: 'a' }), NOW);
  see(s, m('b'), job({ device: 'b', phase: 'done' }), NOW + 1000);
  see(s, m('a'), job({ device: 'a', progress: 0.5 }), NOW + 2000);
  assert.deepEqual(jobs(s).map((j) => [j.device, j.progress]), [['a', 0.5], ['b', 0.25]]);
  assert.deepEqual(jobs(s, 'b').map((j) => j.device), ['b']);
  assert.equal(expire(s, NOW + 60_000), false);
  assert.equal(expire(s, NOW + 61_001), true);
  assert.deepEqual(jobs(s).map((j) => j.device), ['a']);
  assert.equal(expire(s, NOW + 602_001), true);
});

test('history and offer', () => {
  const s = makeState();
  see(s, { kind: 'history', device: 'cam-1' }, history());
  assert.equal(s.history.device, 'cam-1');
  see(s, { kind: 'fleet-offer' }, offer({ halted: true, reason: 'worse' }));
  assert.equal(s.offer.halted, true);
  see(s, { kind: 'fleet-offer' }, null);
  assert.equal(s.offer, null);
});

test('rows: searched, filtered, sorted, absent values last', () => {
  const s = makeState();
  device(s, 'cam-10', { epoch: 1 });
  device(s, 'cam-2', { epoch: 3, active: null, handover: 'granted', phase: 'waiting' });
  device(s, 'door', { epoch: 3, active: { checkpoint: HASH, origin: 'local', accuracy: 0.5, pinned: true } }, false);
  const ids = (view) => rows(s.devices, { search: '', filter: 'all', column: 'device', up: true, ...view }).map((d) => d.id).join(' ');
  const table = [
    [{}, 'cam-2 cam-10 door'], [{ up: false }, 'cam-2 cam-10 door'.split(' ').reverse().join(' ')], [{ search: ' CAM ' }, 'cam-2 cam-10'], [{ search: 'x' }, ''],
    [{ column: 'epoch' }, 'cam-10 cam-2 door'], [{ column: 'epoch', up: false }, 'cam-2 door cam-10'], [{ column: 'accuracy' }, 'door cam-10 cam-2'],
    [{ column: 'accuracy', up: false }, 'cam-10 door cam-2'], [{ filter: 'offline' }, 'door'], [{ filter: 'online' }, 'cam-2 cam-10'], [{ filter: 'waiting' }, 'cam-2'],
    [{ filter: 'handover' }, 'cam-2'], [{ filter: 'pinned' }, 'door'],
  ];
  for (const [view, wanted] of table) assert.equal(ids(view), wanted, JSON.stringify(view));
  const t = summary(s.devices);
  assert.deepEqual([t.devices, t.online, t.offline, t.training, t.waiting, t.handing_over, t.accuracy], [3, 2, 1, 1, 1, 1, 0.91]);
});

test('alerts', () => {
  const s = makeState(), texts = (now = NOW) => alerts(s, now).map((a) => a.text).join('\n');
  device(s, 'cam-1');
  assert.equal(texts(), '');
  assert.match(texts(NOW + 3600e3), /^1? ?device of which no status has come for 20 minutes: cam-1$/);
  for (const i of [12, 11, 10, 9]) device(s, `cam-${i}`, {}, false);
  assert.match(texts(), /4 devices offline: cam-9, cam-10, cam-11 and 1 more/);
  assert.equal(alerts(s, NOW)[0].filter, 'offline');
  device(s, 'cam-1', { disk_free_bytes: 5 });
  assert.match(texts(), /device with less than 1 GB of free disk: cam-1/);
  see(s, { kind: 'trainer-presence', trainer: 'e' }, { online: false, boot: 1 });
  see(s, { kind: 'trainer-status', trainer: 'e' }, trainerStatus({ quarantined: 1 }));
  assert.match(texts(), /No trainer is connected/);
  assert.match(texts(), /e has 1 device in quarantine/);
  see(s, { kind: 'fleet-offer' }, offer({ halted: true, reason: 'worse' }));
  assert.match(texts(), /rollout of checkpoint abababababab was halted: worse/);
});

test('the inbox keeps the last of each topic, within its limit', () => {
  const box = makeInbox(2), got = [];
  for (const [t, b] of [['a', 1], ['b', 2], ['a', 3], ['c', 4]]) box.put(t, b);
  assert.deepEqual([box.size, box.dropped], [2, 1]);
  box.drain((...x) => got.push(x), () => true);
  assert.deepEqual([got, box.size], [[['a', 3]], 1]);
  box.drain((...x) => got.push(x), () => false);
  assert.deepEqual([got, box.size], [[['a', 3], ['b', 2]], 0]);
});
