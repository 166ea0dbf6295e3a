# build: gcc
"""Windows: what several devices hand over becomes one result for all of them, also when the trainer is killed on the way."""
import json
import signal
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

NAMES = ['cam-1', 'cam-2', 'cam-3']


class Merge(rig.Case):
    def start(self, conf):
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        self.quick_trainer('edge-1', self.digits('edge', 300, 1), conf)
        trainer = self.fleet.start_trainer('edge-1')
        wait_for('the trainer', lambda: 'started' in trainer.text(), WAIT)
        return trainer

    def agent(self, name, seed, conf=None):
        self.quick_agent(name, self.digits(name, 100, seed), conf)
        self.fleet.start_agent(name)

    def results(self, device):
        return [body(m) for m in self.listener.all(lambda m: m['topic'].endswith(f'device/{device}/in/offer'))]

    def windows(self):
        with self.trainer_db('edge-1') as db:
            return db.execute("SELECT fence, outcome, state FROM jobs WHERE device = '' ORDER BY id").fetchall()

    def test_killed_and_late(self):
        trainer = self.start({'train': {'strategy': 'merge', 'epochs': 4}, 'merge': {'window_s': 300, 'devices': 3}})
        for i, name in enumerate(NAMES):
            self.agent(name, 10 + i)
        wait_for('training', lambda: trainer.text().count('trained job=') >= 1, WAIT)
        trainer.kill(signal.SIGKILL)
        trainer.start()
        acks = {name: self.decided(self.listener, name)[0] for name in NAMES}
        self.assertEqual(len({a['checkpoint'] for a in acks.values()}), 1)
        self.assertEqual([w[0] for w in self.windows()], [1])
        base = set()
        for name in NAMES:
            result = self.results(name)[0]
            self.assertEqual(result['device'], name)
            offers = [body(m)['id'] for m in self.listener.all(lambda m, n=name: m['topic'].endswith(f'device/{n}/offer'))]
            self.assertIn(result['parents'][0], offers)
            base.add(result['parents'][1])
            self.consistent(name)
        self.assertEqual(len(base), 1)
        # A late one is merged with what came of that.
        with open(self.work / 'edge-1/trainer.conf') as f:
            text = f.read()
        (self.work / 'edge-1/trainer.conf').write_text(text.replace('devices = 3', 'devices = 1'))
        self.fleet.restart('edge-1')
        self.agent('cam-4', 20)
        self.decided(self.listener, 'cam-4')
        wait_for('the second window', lambda: self.windows() == [(1, 'merged', 'done'), (2, 'merged', 'done')], WAIT)
        result = self.results('cam-4')[0]
        manifest = json.loads((self.work / 'edge-1/state/store/checkpoints' / result['id'] / 'manifest.json').read_text())
        self.assertEqual(manifest['device'], 'edge-1')
        self.assertEqual(manifest['epoch'], 8)  # of the trainer's own lineage: four, and four more

    def test_agnostic(self):
        self.start({'train': {'strategy': 'agnostic', 'epochs': 1},
                    'merge': {'window_s': 300, 'devices': 3, 'final_percent': 30}})
        for i, name in enumerate(NAMES):
            self.agent(name, 10 + i, {'train': {'round_epochs': 1, 'rounds': 1}, 'handover': {'every_epochs': 1}})
        acks = {name: self.decided(self.listener, name)[0] for name in NAMES}
        for name in NAMES:
            self.fleet.command(name, 'train', epochs=1)
        for name in NAMES:
            self.decided(self.listener, name, 2)

        def weights():
            with self.trainer_db('edge-1') as db:
                return dict(db.execute('SELECT id, weight FROM devices WHERE weight > 0'))
        found = wait_for('weights', lambda: len(weights()) == 3 and weights(), WAIT)
        errors = {name: 1 - a['validation']['accuracy'] for name, a in acks.items()}
        ranked = sorted(NAMES, key=lambda n: errors[n])
        self.assertEqual(ranked, sorted(NAMES, key=lambda n: (found[n], errors[n])))
        if errors[ranked[0]] < errors[ranked[-1]]:
            self.assertLess(found[ranked[0]], found[ranked[-1]], 'the weights have moved')
        self.assertAlmostEqual(sum(found.values()), 3, places=3)
        r = self.fleet.run_tasuki('devices', '--json')
        status = json.loads(r.stdout)['trainers'][0]['status']
        self.assertEqual(status['strategy'], 'agnostic')
        self.assertIn('agnostic', self.fleet.run_tasuki('devices').stdout)


rig.main()
