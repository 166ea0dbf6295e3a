import { test } from 'node:test';
import assert from 'node:assert/strict';
import { COMMANDS, makeCommand } from '../src/model/commands.js';
import { HASH } from './util.js';

test('commands and what is missing in them', () => {
  const table = [
    ['ping', {}, { device: 'cam-1', cmd: 'ping' }], ['train', {}, { device: 'cam-1', cmd: 'train' }], ['train', { epochs: ' 3 ' }, { device: 'cam-1', cmd: 'train', epochs: 3 }],
    ['train', { epochs: '0' }, 'epochs'], ['train', { epochs: '1e9' }, 'epochs'], ['train', { epochs: '-3' }, 'epochs'], ['pin', {}, 'checkpoint'], ['pin', { checkpoint: 'abc' }, 'checkpoint'],
    ['pin', { checkpoint: HASH }, { device: 'cam-1', cmd: 'pin', checkpoint: HASH }], ['evaluate', { split: 'test' }, { device: 'cam-1', cmd: 'evaluate', split: 'test' }],
    ['set', { key: 'train.threads' }, 'value'], ['set', { key: 'k', value: 'x'.repeat(201) }, 'value'], ['set', { key: 'k', value: 'v', other: 'x' }, { device: 'cam-1', cmd: 'set', key: 'k', value: 'v' }],
  ];
  for (const [cmd, values, wanted] of table) {
    const made = makeCommand('cam-1', cmd, values);
    if (typeof wanted === 'string') assert.equal(made.field, wanted, JSON.stringify([cmd, values]));
    else assert.deepEqual(made.command, wanted);
  }
  for (const c of Object.values(COMMANDS)) assert.ok(c.text);
});
