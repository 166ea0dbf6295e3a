#!/usr/bin/env python3
# build: plain
"""A checkpoint for everyone in a secured site: real agents and a real trainer with certificates, at the broker of production.conf.
Nothing of it crosses in the open; what others put among its blocks is refused and counted, and holds nobody up; a device whose
certificate was revoked gets no key; keys are kept for their owner alone, and only as long as they are of use."""
import json
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'lib'))
import rig  # noqa: E402
from recorder import Recorder, hits  # noqa: E402
from rig import DIGITS, TINY, WAIT, wait_for  # noqa: E402

DEVICES = [f'cam-{i}' for i in range(4)]
RUN, NONCE = 32, 12
BLOCK = 1024


class SealedFanout(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=True)

    def publish(self, weights):
        out = self.fleet.run_tasuki('publish', weights, '--cfg', TINY, '--state', self.work / 'edge-1/state', '--json').stdout
        return json.loads(out)['checkpoint']

    def state(self, name, file='state.json'):
        """What it keeps, and who may read it."""
        path = self.work / name / 'state' / file
        if not path.exists():
            return {}, 0
        with open(path) as f:
            return json.load(f), path.stat().st_mode & 0o777

    def has(self, device, checkpoint):
        return (self.work / device / 'state/checkpoints' / checkpoint / 'weights').exists()

    def start(self):
        self.fleet.start_broker()
        edge = self.digits('edge', 100, 1)
        self.good = self.work / 'good.weights'
        self.fleet.run_tasuki('train', '--cfg', TINY, '--data', self.digits('many', 1500, 7), '--epochs', 12, '--out', self.good,
                              '--threads', 1, '--seed', 5)
        self.quick_trainer('edge-1', edge, {'fleet': {'first_percent': 100, 'rate_bytes': 2048, 'spread_s': 1},
                                            'queue': {'block_size': BLOCK}})
        self.trainer = self.fleet.start_trainer('edge-1')
        for i, name in enumerate([*DEVICES, 'stolen']):
            self.quick_agent(name, self.digits(name, 100, 20 + i), {'train': {'round_epochs': 2, 'rounds': 1},
                                                                    'handover': {'every_epochs': 0}})
        for name in [*DEVICES[:-1], 'stolen']:
            self.fleet.start_agent(name)
        for name in [*DEVICES[:-1], 'stolen']:
            wait_for(f'{name} connects', lambda n=name: ': connected' in self.fleet.programs[n].text(), WAIT)

    def forge(self, recorder, checkpoint):
        """As somebody may who reads all and is let write: blocks changed, in another's place, and in plain."""
        sent = wait_for('blocks', lambda: [(t, d) for t, d in zip(recorder.topics, recorder.data)
                                           if f'/fleet/block/{checkpoint}/' in t][-1:], WAIT)[0][1]
        self.trainer.kill(signal.SIGSTOP)  # so that nobody has all of them before
        weights = self.good.read_bytes()
        last = -(-len(weights) // BLOCK) - 1
        flipped = bytes([*sent[:-20], sent[-20] ^ 1, *sent[-19:]])
        for payload in (flipped, sent, weights[:BLOCK]):
            self.fleet.publish(f'fleet/block/{checkpoint}/{last}', payload)

    def refused(self, device, what):
        return [line for line in self.fleet.programs[device].text().splitlines() if '/fleet/block/' in line and what in line]

    def test_sealed(self):
        self.start()
        recorder = Recorder(self.fleet.port)
        self.fleet.pki.revoke('device', 'stolen')
        checkpoint = self.publish(self.good)
        key = wait_for('a key', lambda: self.state('edge-1', 'fleet.json')[0].get('key'), WAIT)
        self.assertEqual(self.state('edge-1', 'fleet.json')[1], 0o600)
        wait_for('a device has the key', lambda: self.state(DEVICES[0])[0].get('fleet', {}).get('key') == key, WAIT, every=0.01)
        self.assertEqual(self.state(DEVICES[0])[1], 0o600)
        self.forge(recorder, checkpoint)
        # A device, at its own port, may not write there: nobody hears of it.
        self.fleet.publish(f'fleet/block/{checkpoint}/0', b'by a device', role='device', name='cam-9')
        # Killed in the middle: each goes on with the key it has.
        self.trainer.kill()
        self.trainer.start()
        self.fleet.programs[DEVICES[1]].kill()
        self.fleet.programs[DEVICES[1]].start()
        for name in DEVICES[:-1]:
            wait_for(f'{name} has it', lambda n=name: self.has(n, checkpoint), WAIT)
        self.fleet.start_agent(DEVICES[-1])  # hears of it only now
        for name in DEVICES:
            wait_for(f'{name} uses it', lambda n=name: (self.fleet.active(n) or ('',))[0] == checkpoint, WAIT)
            self.assertEqual(self.consistent(name), checkpoint)
            wait_for(f'{name} forgets the key', lambda n=name: 'key' not in self.state(n)[0]['fleet'], WAIT)
        self.assertTrue(self.refused(DEVICES[0], 'block: '), self.fleet.programs[DEVICES[0]].tail(20))
        self.assertNotIn(b'by a device', recorder.data)
        self.crossed(recorder, key)
        self.revoked(checkpoint)
        self.next_key(key, checkpoint)
        recorder.stop()

    def crossed(self, recorder, key):
        """Nothing in the open but the one block that was put there; no nonce twice."""
        weights = self.good.read_bytes()
        runs = {weights[i:i + RUN] for i in range(BLOCK, len(weights) - RUN + 1)}
        runs = {r for r in runs if len(set(r)) > 4}
        self.assertGreater(len(runs), 1000)
        blocks = [d for t, d in zip(recorder.topics, recorder.data) if '/block/' in t and d != weights[:BLOCK]]
        self.assertEqual(hits([d for d in recorder.data if d != weights[:BLOCK]], runs), 0)
        self.assertFalse(any(key.encode() in d or bytes.fromhex(key) in d for d in recorder.data))
        nonces = [d[:NONCE] for d in blocks]
        self.assertLessEqual(len(nonces) - len(set(nonces)), 2, 'but for what was forged from one')
        rig.figure(f'{len(blocks)} sealed blocks to {len(DEVICES)} devices')

    def revoked(self, checkpoint):
        self.assertFalse(self.has('stolen', checkpoint))
        self.assertNotIn('key', self.state('stolen')[0]['fleet'])
        self.assertTrue(re.search(r'stolen.*revoked', self.trainer.text()), self.trainer.tail(30))

    def next_key(self, key, before):
        """The next one has another key, and nothing has the old one any more."""
        other = self.work / 'other.weights'
        self.fleet.run_tasuki('train', '--cfg', TINY, '--data', self.work / 'data/edge', '--epochs', 1, '--out', other,
                              '--threads', 1, '--seed', 6)
        self.publish(other)
        wait_for('another key', lambda: self.state('edge-1', 'fleet.json')[0].get('key', key) != key, WAIT)
        self.assertNotIn(key, (self.work / 'edge-1/state/fleet.json').read_text())


if __name__ == '__main__':
    rig.main()
