# build: plain
"""Merging a fleet of which one device hands over what would harm the others: they fare as they do without it."""
import contextlib
import sqlite3
import stat
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, merge, wait_for

DEMO = rig.ROOT / 'deploy/models/demo.cfg'
HONEST = ['cam-1', 'cam-2', 'cam-3', 'cam-4']
NOISE = 0.02  # of accuracy, on 1,000 images; the same fleet twice: sums in another order


class Poison(rig.Case):
    def start(self, devices, strategy='merge', conf=None):
        self.test = self.shared_test_images(1000)
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        edge = self.digits('edge', 300, 1, test=False)
        self.fleet.trainer_conf('edge-1', DEMO, rig.DIGITS, edge, merge({
            'data': {'test': self.test}, 'train': {'epochs': 2, 'strategy': strategy},
            'merge': {'window_s': 600, 'devices': devices}, 'queue': {'lease_s': 20}}, conf))
        trainer = self.fleet.start_trainer('edge-1')
        wait_for('the trainer', lambda: 'started' in trainer.text(), WAIT)

    def agent(self, name, data, conf=None):
        self.fleet.agent_conf(name, DEMO, rig.DIGITS, data, merge({
            'data': {'validation_share': 0.3, 'test': self.test, 'rescan_s': 0},
            'train': {'round_epochs': 4, 'rounds': 1}, 'handover': {'every_epochs': 4, 'lease_s': 20}}, conf))
        self.fleet.start_agent(name)

    def honest(self):
        """Each has five of the ten classes mostly."""
        for i, name in enumerate(HONEST):
            mix = ','.join('1' if (k + 2 * i) % 10 < 5 else '0.1' for k in range(10))
            self.agent(name, self.digits(name, 300, 10 + i, mix=mix, test=False))

    def refused(self):
        return [{}, *map(body, self.listener.all(lambda m: m['topic'].endswith('trainer/edge-1/status')))][-1].get('refused', 0)

    def outcome(self):
        """The accuracy of the result, and of what each honest device has in use, on the same images."""
        acks = {name: self.decided(self.listener, name, timeout=3 * WAIT)[0] for name in HONEST}
        self.assertEqual(len({a['checkpoint'] for a in acks.values()}), 1, 'one result for all of them')
        for name in HONEST:
            self.settled(name)
        in_use = {name: self.in_use(name) for name in HONEST}
        return acks[HONEST[0]]['test']['accuracy'], in_use

    def settled(self, name):
        """What it answered last is followed by that it is idle: what it has in use stays."""
        def idle():
            told = self.listener.all(lambda m: m['topic'].endswith((f'trainer/edge-1/in/{name}/ack', f'device/{name}/status')))
            return told and body(told[-1]).get('phase') == 'idle'
        wait_for(f'{name} idle', idle, WAIT)

    def in_use(self, name):
        weights = self.work / name / 'state/active.weights'
        r = self.fleet.run_tasuki('evaluate', '--cfg', DEMO, '--weights', weights, '--data', self.test, '--split', 'test', '--json')
        return rig.json.loads(r.stdout)['accuracy']

    def clean(self):
        """What there is without it."""
        self.start(len(HONEST))
        self.honest()
        result, in_use = self.outcome()
        self.fleet.stop()
        self.fleet = rig.Fleet(self.work / 'poisoned', rig.BUILD, site=self.site)
        self.work = self.fleet.work
        return result, in_use

    def compare(self, how, clean, reason):
        wait_for('the one that is left out', lambda: self.refused() == 1, WAIT)
        result, in_use = self.outcome()
        rig.figure(f'{how}: result {result:.3f}, without it {clean[0]:.3f}; in use, worst: {min(in_use.values()):.3f}, '
                   f'{min(clean[1].values()):.3f}')
        self.assertGreater(clean[0], 0.5, 'there is something to lose')
        self.assertGreaterEqual(result, clean[0] - NOISE)
        for name in HONEST:
            self.assertGreaterEqual(in_use[name], clean[1][name] - NOISE, name)
        with self.trainer_db('edge-1') as db:
            rows = dict(db.execute("SELECT device, outcome FROM jobs WHERE device <> ''"))
        self.assertEqual(rows.pop('bad'), 'screened')
        self.assertEqual(sorted(rows), HONEST)
        busy = [body(m) for m in self.listener.all(lambda m: m['topic'].endswith('device/bad/in/claim'))]
        self.assertEqual({b['reason'] for b in busy if b.get('busy') and b['fence'] > 0}, {reason})

    def poisoned_worker(self, how):
        """The agent's own worker, behind one that poisons."""
        folder = self.work / 'poison'
        folder.mkdir()
        script = folder / 'worker'
        script.write_text(f'#!/bin/sh\nexec python3 "{rig.ROOT}/tests/lib/poison_worker.py" "{folder}" "{how}" '
                          f'"{rig.BUILD}/common/engine/tasuki-worker"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return {'worker': {'program': script, 'readable': folder}}  # what the worker went on from lies there

    def with_poisoned(self, conf=None, flip=False, alone=True):
        """alone: it is found by itself, before there is a window."""
        self.start(len(HONEST) + (not alone))
        # Of more images than the others': as large a share as a member can have.
        data = self.digits('bad', 900, 20, test=False)
        if flip:
            labels = data / 'train-labels-idx1-ubyte'
            raw = labels.read_bytes()
            labels.write_bytes(raw[:8] + bytes(9 - b for b in raw[8:]))
        self.agent('bad', data, conf() if conf else None)
        self.honest()

    def test_labels_flipped(self):
        clean = self.clean()
        self.with_poisoned(flip=True)
        self.compare('labels flipped', clean, 'screened out: labels exchanged')

    def test_times_ten(self):
        clean = self.clean()
        self.with_poisoned(lambda: self.poisoned_worker('times10'))
        self.compare('weights times 10', clean, 'screened out: norm out of line')

    def test_random(self):
        clean = self.clean()
        # First weights of another seed: a training that moves nothing.
        cfg, data, out = self.work / 'still.cfg', self.digits('still', 300, 30), self.work / 'random.weights'
        cfg.write_text(DEMO.read_text().replace('learning_rate=0.02', 'learning_rate=1e-12'))
        self.fleet.run_tasuki('train', '--cfg', cfg, '--data', data, '--epochs', 1, '--seed', 77, '--out', out)
        self.with_poisoned(lambda: self.poisoned_worker(out), alone=False)
        self.compare('random weights', clean, 'screened out: accuracy collapsed')

    def honest_result(self, bad):
        self.start(1, strategy='resume')
        if bad:
            bad()
        self.agent('cam-1', self.digits('cam-1', 300, 10, test=False))
        ack = self.decided(self.listener, 'cam-1')[0]
        self.settled('cam-1')
        return ack['checkpoint'], (self.work / 'cam-1/state/active').resolve().name

    def join(self):
        """One that was refused twice before: its third is the last for a while."""
        self.fleet.programs['edge-1'].stop()
        with contextlib.closing(sqlite3.connect(self.work / 'edge-1/state/trainer.db')) as db:
            db.execute('INSERT INTO standing VALUES(?, -1, 2, ?, 0, 0, 0, "")', ('bad', time.time_ns() // 1000000))
            db.commit()
        self.fleet.programs['edge-1'].start()
        self.agent('bad', self.digits('bad', 300, 20, test=False), self.poisoned_worker('times10'))
        wait_for('quarantine', lambda: self.trainer_status().get('quarantined') == 1, WAIT)

    def trainer_status(self):
        return rig.json.loads(self.fleet.run_tasuki('devices', '--json').stdout)['trainers'][0].get('status', {})

    def test_no_influence(self):
        """Under resume: what another device gets is the same, to the bit, whether or not there is a poisoner."""
        without = self.honest_result(None)
        self.fleet.stop()
        self.fleet = rig.Fleet(self.work / 'poisoned', rig.BUILD, site=self.site)
        self.work = self.fleet.work
        self.assertEqual(self.honest_result(self.join), without)
        reasons = {body(m).get('reason', '') for m in self.listener.all(lambda m: m['topic'].endswith('device/bad/in/claim'))}
        self.assertIn('screened out: norm out of line', reasons)
        one = self.trainer_status()['quarantine'][0]
        self.assertEqual((one['device'], one['why']), ('bad', 'norm out of line'))
        self.assertIn('IN QUARANTINE at edge-1: 1', self.fleet.run_tasuki('devices').stdout)
        edge = self.work / 'edge-1/state'
        self.fleet.run_tasuki('devices', '--release', 'bad', '--state', edge)
        wait_for('release', lambda: 'quarantined' not in self.trainer_status(), WAIT)
        self.assertEqual(self.fleet.run_tasuki('devices', '--release', 'bad', '--state', self.work, check=False).returncode, 1)
        events = [rig.json.loads(line) for line in (edge / 'audit.log').read_text().splitlines()]
        self.assertEqual([e['event'] for e in events if e.get('peer') == 'bad' and e['event'] in ('refused', 'quarantined', 'released')],
                         ['quarantined', 'refused', 'released'])
        self.evidence(edge)

    def evidence(self, edge):
        """A log made anew by whoever has the disk is found by what the trainer heard of it."""
        log = self.work / 'cam-1/state/audit.log'
        self.fleet.programs['cam-1'].stop()
        against = ('--device', 'cam-1', '--against', edge)
        good = rig.json.loads(self.fleet.run_tasuki('audit', 'verify', log.parent, *against, '--json').stdout)
        self.assertGreater(good['heads'], 0)
        head = f'{good["last"]}:{good["hash"]}'
        self.fleet.run_tasuki('audit', 'verify', log, '--head', head)
        lines = log.read_text().splitlines()
        anew, prev = [], '0' * 64
        for line in lines:
            line = line.replace('"decision":"activated"', '"decision":"kept"').replace(rig.json.loads(line)['prev'], prev)
            line = line.replace('"event":"started"', '"event":"stopped"')
            anew.append(line)
            prev = rig.hashlib.sha256(line.encode()).hexdigest()
        log.write_text('\n'.join(anew) + '\n')
        self.fleet.run_tasuki('audit', 'verify', log.parent)
        for args in (against, ('--head', head)):
            r = self.fleet.run_tasuki('audit', 'verify', log.parent, *args, check=False)
            self.assertEqual(r.returncode, 1, r.stdout)
            self.assertIn('told before was', r.stderr)
        log.write_text('\n'.join(lines[:-1]) + '\n')
        self.assertEqual(self.fleet.run_tasuki('audit', 'verify', log, '--head', head, check=False).returncode, 1)
        log.write_text('\n'.join(lines[:1] + lines[2:]) + '\n')
        r = self.fleet.run_tasuki('audit', 'verify', log, check=False)
        self.assertIn('line 2: seq: found 3, expected 2', r.stderr)
        self.assertEqual(self.fleet.run_tasuki('audit', 'verify', check=False).returncode, 2)
        self.assertEqual(self.fleet.run_tasuki('audit', 'verify', log, '--head', '1:x', check=False).returncode, 2)


rig.main()
