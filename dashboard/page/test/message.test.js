import { test } from 'node:test';
import assert from 'node:assert/strict';
import { MAX_POINTS, answer, answers, decode, site } from '../src/model/message.js';
import { HASH, bytes, history, job, offer, points, status, trainerStatus } from './util.js';

const good = { presence: { online: true, boot: 1 }, status: status(), 'trainer-status': trainerStatus(), job: job(), 'fleet-offer': offer(), history: history() };

test('what programs send is understood', () => {
  for (const [kind, m] of Object.entries(good)) assert.ok(decode(kind, bytes(m)), kind);
  const s = decode('status', bytes(status({ moved_bytes: 5, data_bytes: 9, progress: 0.5, unknown: [1] })));
  assert.deepEqual([s.moved_bytes, s.data_bytes, s.progress, s.disk_free_bytes, s.unknown], [5, 9, 0.5, null, undefined]);
  assert.equal(s.at, Date.UTC(2026, 10, 26, 11, 59, 30));
  assert.equal(decode('status', bytes(status({ active: null }))).active, null);
  assert.deepEqual(decode('history', bytes(history())).points[1],
    { at: 1795000060000, epoch: 4, origin: 'edge', n: 100, correct: 90, swap: true, checkpoint: 'bbbbbbbbbbbb' });
});

test('an empty message takes a retained one back', () => {
  assert.equal(decode('status', new Uint8Array()), null);
});

test('every required member of every message is required', () => {
  const ignored = { status: ['model', 'report_seq'], 'trainer-status': ['model'],
    'fleet-offer': ['model', 'origin', 'parents', 'epoch', 'images_seen', 'classes', 'block_size', 'encoding', 'spread_ms'], history: ['confusion'] };
  for (const [kind, m] of Object.entries(good)) {
    for (const name of Object.keys(m)) {
      const { [name]: _, ...less } = m;
      assert.equal(decode(kind, bytes(less)) === undefined, !(ignored[kind] ?? []).includes(name), `${kind} without ${name}`);
    }
  }
});

test('hostile members', () => {
  const table = [
    ['status', { phase: '<img src=x>' }], ['status', { phase: 7 }], ['status', { reason: 'a\nb' }], ['status', { reason: 'x'.repeat(513) }], ['status', { reason: null }],
    ['status', { epoch: -1 }], ['status', { epoch: 1.5 }], ['status', { epoch: 1e300 }], ['status', { epoch: '7' }], ['status', { at: 'yesterday' }],
    ['status', { at: '2026-11-26T12:00:00+01:00' }], ['status', { at: '0001-01-01T00:00:00Z' }], ['status', { at: '9999-12-31T23:59:59Z' }],
    ['status', { progress: 1.01 }], ['status', { progress: -0.1 }], ['status', { moved_bytes: -1 }], ['status', { trainer: '../x' }], ['status', { active: [] }],
    ['status', { active: { checkpoint: HASH, origin: 'moon', accuracy: 1, pinned: false } }], ['status', { active: { checkpoint: 'AB', origin: 'edge', accuracy: 1, pinned: false } }],
    ['status', { active: { checkpoint: HASH, origin: 'edge', accuracy: 2, pinned: false } }],
    ['trainer-status', { window: Array(33).fill('a') }], ['trainer-status', { window: ['a', '<b>'] }], ['trainer-status', { load: 'x' }],
    ['trainer-status', { quarantine: [{ device: 'a', until: 1, why: '' }] }],
    ['job', { device: '<script>' }], ['job', { progress: 7 }], ['fleet-offer', { share: 0 }], ['fleet-offer', { share: 101 }], ['fleet-offer', { trainer: '' }],
    ['history', { points: {} }], ['history', { points: Array(MAX_POINTS + 1).fill(points[0]) }], ['history', { points: [[]] }],
    ['history', { points: [[1795000000, 2, 'local', 100, 101, 1, 'aaaaaaaaaaaa']] }], ['history', { points: [[1795000000, 2, 'local', 0, 0, 1, 'aaaaaaaaaaaa']] }],
    ['history', { points: [[1795000000, 2, 'local', 100, 80, 2, 'aaaaaaaaaaaa']] }], ['history', { points: [[9e15, 2, 'local', 100, 80, 1, 'aaaaaaaaaaaa']] }],
    ['history', { confusion: { checkpoint: HASH, classes: 2, counts: [1, 2, 3] } }], ['history', { confusion: { checkpoint: HASH, classes: 65, counts: [] } }],
    ['history', { confusion: { checkpoint: HASH, classes: 1, counts: [-1] } }], ['history', { confusion: null }],
  ];
  for (const [kind, more] of table) assert.equal(decode(kind, bytes({ ...good[kind], ...more })), undefined, `${kind} ${JSON.stringify(more).slice(0, 100)}`);
});

test('hostile bytes', () => {
  const table = ['{', '[]', 'null', '7', '"x"', '{"online":true,"boot":1', new Uint8Array([0xff, 0xfe]), '['.repeat(4000), '{"__proto__":{"online":true,"boot":1}}'];
  for (const x of table) assert.equal(decode('presence', typeof x === 'string' ? bytes(x) : x), undefined, String(x).slice(0, 40));
  assert.equal(decode('presence', bytes({ online: true, boot: 1, x: ' '.repeat(4096) })), undefined, 'more than 4 KiB');
  assert.equal(decode('history', bytes({ ...history(), x: ' '.repeat(65536) })), undefined, 'more than 64 KiB');
});

test('marks that turn the order of text are taken out', () => {
  assert.equal(decode('status', bytes(status({ reason: 'a\u202eb\u2066c' }))).reason, 'abc');
});

test('answers to a command', () => {
  const a = answer({ id: 'x', ok: true, device: 'cam-1', boot: 4, checkpoint: HASH, active: { pinned: true }, 'bad name': 1, nothing: null });
  assert.deepEqual(a, { device: 'cam-1', ok: true, error: null, members: [['boot', '4'], ['checkpoint', HASH], ['active', '{"pinned":true}']] });
  assert.equal(answer({ ok: 'yes', device: 'cam-1' }), undefined);
  assert.equal(answer({ ok: true, device: '<b>' }), undefined);
  assert.equal(answer(null), undefined);
  // One that says nonsense, and one that says nothing wrong.
  assert.deepEqual(answers([{ ok: false, device: 'cam-1', error: 'x'.repeat(600) }, { ok: true, device: 'cam-2' }]).map((x) => x.device), ['cam-2']);
  assert.deepEqual([answers([]), answers([{}]), answers('x'), answers(undefined)], [[], undefined, undefined, undefined]);
  assert.ok(answer({ ok: true, device: 'a', ...Object.fromEntries(Array.from({ length: 99 }, (_, i) => [`m${i}`, i])) }).members.length <= 20);
});

test('the site', () => {
  assert.ok(site({ site: 'home', classes: ['0', 'zwölf'], operator: false, version: '0.1.0' }));
  for (const bad of [{ site: 'a/b' }, { classes: ['a\nb'] }, { classes: 'x' }, { operator: 1 }]) {
    assert.equal(site({ site: 'home', classes: [], operator: false, version: '1', ...bad }), undefined, JSON.stringify(bad));
  }
});
