# build: plain
"""A device whose disk rots: what is active is what it says it is, or something else is active that is, and
reports and status say so; a trainer that wants what cannot be read gets something good instead."""
import os
import random
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

KILLS = 40 if rig.SLOW else 8


def flip(path):
    with open(path, 'r+b') as f:
        f.seek(-4, os.SEEK_END)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 1]))


class Damage(rig.Case):
    def start(self, conf=None):
        self.data = self.digits('cam', 200, 2)
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        self.quick_agent('cam-1', self.data, conf)
        self.agent = self.fleet.start_agent('cam-1')
        self.state = self.fleet.work / 'cam-1/state'

    def last(self, end):
        found = self.listener.all(lambda m: m['topic'].endswith(end))
        return body(found[-1]) if found else {}

    def activated(self):
        return [r['checkpoint'] for _, r in sorted(self.device_reports('cam-1').items()) if r.get('decision') == 'activated']

    def weights(self, ident):
        return self.state / 'checkpoints' / ident / 'weights'

    def test_active(self):
        """Damaged while the agent was away: the one before it is active at its next start, before anything else."""
        # Few epochs until it pauses: of too many the scores push out that of the one before.
        self.start({'train': {'rounds': 0, 'round_epochs': 2, 'step_ms': 50}, 'handover': {'every_epochs': 0}})
        wait_for('two activations', lambda: len(self.activated()) >= 2, WAIT)
        self.fleet.command('cam-1', 'pause')
        self.agent.stop()
        active = self.consistent('cam-1')
        previous = os.path.basename(os.readlink(self.state / 'previous'))
        flip(self.weights(active))
        self.agent.start()
        wait_for('the one before it', lambda: os.path.basename(os.readlink(self.state / 'active')) == previous, WAIT)
        self.assertEqual(self.consistent('cam-1'), previous)
        wait_for('the damaged one aside', (self.state / 'damaged' / active).is_dir, WAIT)
        report = body(self.listener.wait('a report of it', lambda m: m['topic'].endswith('cam-1/report') and 'reason' in body(m), WAIT))
        self.assertEqual((report['checkpoint'], report['decision'], report['against']['checkpoint']), (previous, 'activated', active))
        self.listener.wait('the status to say it', lambda m: m['topic'].endswith('cam-1/status')
                           and 'damaged' in body(m)['reason'] and body(m)['active']['checkpoint'] == previous, WAIT)
        self.assertIn(f'checkpoint={active[:12]} is damaged', self.agent.text())
        # And on it goes.
        made = len(self.device_reports('cam-1'))
        self.fleet.command('cam-1', 'resume')
        wait_for('further reports', lambda: len(self.device_reports('cam-1')) > made + 2, WAIT)
        self.assertTrue(self.consistent('cam-1'))

    def test_killed_while_mending(self):
        """kill -9 at any moment of the start that finds the damage: the next start ends it, the pair is whole then."""
        self.start({'train': {'rounds': 0, 'round_epochs': 2}, 'handover': {'every_epochs': 0}})
        seed = int(os.environ.get('TASUKI_SEED', time.time_ns() % 1000000))
        random.seed(seed)
        for _ in range(KILLS):
            wait_for('an active one', lambda: self.consistent('cam-1'), WAIT)
            self.agent.kill()
            active = os.path.basename(os.readlink(self.state / 'active'))
            what = random.choice(('flip', 'weights', 'manifest.json'))
            if what == 'flip':
                flip(self.weights(active))
            else:
                (self.state / 'checkpoints' / active / what).unlink()
            for _ in range(3):
                self.agent.start()
                time.sleep(random.random() * 0.05)
                self.agent.kill()
            found = self.agent.text().count(' started')
            self.agent.start()
            wait_for('its start', lambda: self.agent.text().count(' started') > found, WAIT)
            # Started means looked through: nothing damaged is active from here on. It may be the same one, made again.
            if os.path.lexists(self.state / 'active'):
                self.assertTrue(self.consistent('cam-1'), f'seed {seed}')
        wait_for('training goes on', lambda: self.consistent('cam-1'), WAIT)
        self.assertLessEqual(len(list((self.state / 'damaged').iterdir())), 2)
        rig.figure(f'active checkpoint damaged {KILLS} times, agent killed {4 * KILLS} times while it mended that (seed {seed})')

    def test_on_offer(self):
        """Deleted under the hands of the agent that has offered it: another one is handed over, and comes back."""
        self.digits('edge', 200, 1)
        self.quick_trainer('edge-1', self.work / 'data/edge')
        self.start({'train': {'rounds': 0, 'round_epochs': 2}, 'handover': {'every_epochs': 2, 'lease_s': 300}})
        offer = body(self.listener.wait('an offer', lambda m: m['topic'].endswith('cam-1/offer'), WAIT))
        # Granted to somebody who takes his time, so that it is gone when he wants it.
        ident = offer['id']

        def granted():
            self.fleet.publish('device/cam-1/in/claim', {'trainer': 'late', 'checkpoint': self.last('cam-1/offer')['id'], 'fence': 0, 'claim': 1})
            found = self.listener.all(lambda m: m['topic'].endswith('trainer/late/in/cam-1/grant') and body(m)['granted'])
            return found and body(found[-1])
        ident = wait_for('the grant', granted, WAIT)['checkpoint']
        offers = self.listener.all(lambda m: m['topic'].endswith('cam-1/offer'))
        payload = next(body(m).get('payload') or ident for m in offers if body(m)['id'] == ident)
        flip(self.weights(ident))
        self.fleet.publish('device/cam-1/in/want', {'trainer': 'late', 'checkpoint': payload, 'blocks': [0]})
        wait_for('the damage to be found', lambda: 'is damaged' in self.agent.text(), WAIT)
        # It may be the same one, made again from what it was made from.
        self.listener.wait('another offer', lambda m: m['topic'].endswith('cam-1/offer') and m['at'] > offers[-1]['at'], WAIT)
        self.assertFalse(self.listener.all(lambda m: '/late/in/cam-1/block/' in m['topic']))
        self.fleet.start_trainer('edge-1')
        ack = self.decided(self.listener, 'cam-1')[0]
        self.assertIn(ack['decision'], ('activated', 'kept'))
        self.assertTrue(self.consistent('cam-1'))


rig.main()
