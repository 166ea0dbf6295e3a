import { test } from 'node:test';
import assert from 'node:assert/strict';
import { fleetFilters, historyTopic, isId, parseTopic } from '../src/model/topic.js';

const BEFORE = 'tasuki/v1/home/';

test('topics that the page knows', () => {
  const table = [
    ['device/cam-1/presence', { kind: 'presence', device: 'cam-1' }],
    ['device/cam-1/status', { kind: 'status', device: 'cam-1' }],
    ['device/cam-1/history', { kind: 'history', device: 'cam-1' }],
    ['trainer/e.1/presence', { kind: 'trainer-presence', trainer: 'e.1' }],
    ['trainer/e.1/status', { kind: 'trainer-status', trainer: 'e.1' }],
    ['trainer/e.1/job/cam_2', { kind: 'job', trainer: 'e.1', device: 'cam_2' }],
    ['fleet/offer', { kind: 'fleet-offer' }],
  ];
  for (const [topic, wanted] of table) assert.deepEqual(parseTopic('home', BEFORE + topic), wanted, topic);
});

test('all others', () => {
  const table = ['', 'device', 'device/', 'device//status', 'device/../status', 'device/a b/status', 'device/cam-1', 'device/cam-1/report', 'device/cam-1/status/x',
    'device/cam-1/constructor', 'device/cam-1/job/x', 'trainer/e/history', 'trainer/e/job', 'trainer/e/job/', 'trainer/e/job/a/b', 'trainer/<i>/status', 'fleet/offer/x',
    'fleet/cmd', 'reply/x', `device/${'x'.repeat(65)}/status`, 'device/caf\u00e9/status', 'device/cam-1/__proto__'];
  for (const topic of table) assert.equal(parseTopic('home', BEFORE + topic), null, topic);
  assert.equal(parseTopic('home', 'tasuki/v1/homely/device/cam-1/status'), null);
  assert.equal(parseTopic('home', 'tasuki/v2/home/device/cam-1/status'), null);
});

test('ids', () => {
  for (const ok of ['a', 'A-1_.x', 'x'.repeat(64), '...']) assert.ok(isId(ok), ok);
  for (const bad of ['', '.', '..', 'a/b', 'a+', '#', 'a\n', null, 7, 'x'.repeat(65)]) assert.ok(!isId(bad), String(bad));
});

test('each filter and the history topic lead to kinds that are known', () => {
  for (const f of [...fleetFilters('home'), historyTopic('home', 'cam-1')]) assert.ok(parseTopic('home', f.replaceAll('+', 'x')), f);
});
