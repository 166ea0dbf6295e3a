import { test } from 'node:test';
import assert from 'node:assert/strict';
import { ago, bytes, className, movedShare, percent, tickTimes } from '../src/model/format.js';
import { columns, confusionRows, mixUps } from '../src/model/learning.js';

test('bytes', () => {
  for (const [n, wanted] of [[0, '0 B'], [999, '999 B'], [1000, '1 kB'], [1234, '1.23 kB'], [999_499, '999 kB'], [999_500, '1 MB'], [16_400_000, '16.4 MB'], [5e12, '5 TB'],
    [100_000, '100 kB'], [null, '–']]) assert.equal(bytes(n), wanted);
});

test('percent, ago, classes, share of what was moved', () => {
  assert.deepEqual([percent(0.9123), percent(1, 0), percent(null)], ['91.2 %', '100 %', '–']);
  for (const [s, wanted] of [[-5, '0 s'], [59, '59 s'], [60, '1 min'], [7200, '2 h'], [200_000, '2 d']]) assert.equal(ago(0, s * 1000), wanted);
  assert.equal(ago(null, 5), '–');
  assert.deepEqual([className(['cat'], 0), className(['cat'], 1)], ['cat', 'class 1']);
  for (const [m, d, wanted] of [[1, 10, '10 % of the images'], [5, 1000, '0.5 % of the images'], [100, 1, '100 times the images'], [null, 5, '–'], [5, 0, '–'], [0, 5, '0.0 % of the images']]) {
    assert.equal(movedShare(m, d), wanted);
  }
});

test('ticks of a chart', () => {
  const at = new Date(2026, 10, 26, 9, 18, 20) / 1000;
  assert.deepEqual(tickTimes([at, at + 10], 10), ['09:18:20\n2026-11-26', '09:18:30']);
  assert.deepEqual(tickTimes([at, at + 60, at + 86400], 60), ['09:18\n2026-11-26', '09:19', '09:18\n2026-11-27']);
  assert.deepEqual(tickTimes([at], 86400), ['11-26']);
});

test('history as columns', () => {
  const p = (at, origin, correct, swap) => ({ at, origin, n: 10, correct, swap, epoch: 1, checkpoint: 'x' });
  const c = columns([p(3000, 'edge', 9, true), p(1000, 'local', 5, true), p(2000, 'local', 6, false)]);
  assert.deepEqual(c.origins, ['local', 'edge']);
  assert.deepEqual(c.xs, [1, 2, 3]);
  assert.deepEqual(c.ys, [[0.5, 0.6, null], [null, null, 0.9]]);
  assert.deepEqual(c.swaps, [0, 2]);
  assert.deepEqual(c.in_use, [0.5, 0.5, 0.9]);
  assert.deepEqual(columns([]).origins, []);
});

test('confusion', () => {
  const c = { classes: 3, counts: [8, 2, 0, 1, 9, 0, 0, 0, 0] };
  const r = confusionRows(c);
  assert.deepEqual([r.n, r.correct, r.rows[0].share[1], r.rows[2].share[2]], [20, 17, 0.2, 0]);
  assert.deepEqual(mixUps(c, 1), [{ truth: 0, answer: 1, count: 2, share: 0.2 }]);
});
