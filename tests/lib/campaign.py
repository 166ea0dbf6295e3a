"""What the campaigns share: a trainer and two devices that hand over all the time, an application that opens the active
pair all the time, programs that are killed, and what must hold when they are left alone."""
import json
import os
import random
import signal
import threading
import time

import rig
from rig import WAIT, wait_for

TRAINER, DEVICES = 'edge-1', ('cam-1', 'cam-2')


class Campaign(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet.start_broker()
        self.digits('edge', 400, 1)
        self.quick_trainer(TRAINER, self.work / 'data/edge', rig.merge({
            'train': {'epochs': 2}, 'queue': {'lease_s': 15, 'device_per_hour': 3600}}, self.connection(TRAINER)))
        for seed, d in enumerate(DEVICES, 2):
            self.digits(d, 150, seed)
            self.quick_agent(d, self.work / 'data' / d, rig.merge({
                'train': {'rounds': 0, 'round_epochs': 4, 'seed': seed},
                'handover': {'every_epochs': 2, 'lease_s': 15}}, self.connection(d)))
        self.fleet.start_trainer(TRAINER)
        for d in DEVICES:
            self.fleet.start_agent(d)
        self.done, self.checks, self.torn = False, 0, []
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def connection(self, name):
        """What this program's configuration says of the broker, beside the fleet's own."""
        return {}

    def watch(self):
        """An application that opens the pair all the time."""
        while not self.done:
            for d in DEVICES:
                try:
                    if self.consistent(d):
                        self.checks += 1
                except (AssertionError, OSError, ValueError) as e:
                    self.torn.append(f'{d}: {e}')
            time.sleep(0.01)

    def never_torn(self):
        self.done = True
        self.watcher.join(10)
        self.assertEqual(self.torn, [])
        self.assertGreater(self.checks, 100)

    def finished(self, device=None):
        if not (self.work / 'edge-1/state/trainer.db').exists():
            return {}
        with self.trainer_db('edge-1') as db:
            if not db.execute('SELECT 1 FROM sqlite_master WHERE name = "jobs"').fetchone():
                return {}
            where = 'WHERE result IS NOT NULL AND state = "done" AND outcome IN ("activated", "kept")'
            return dict(db.execute(f'SELECT device, COUNT(*) FROM jobs {where} GROUP BY device').fetchall())

    def victims(self, kind):
        if kind == 'worker':
            owner = random.choice(['edge-1', *DEVICES])
            return [(owner, pid) for pid in rig.children(self.fleet.programs[owner].pid)]
        name = {'agent': random.choice(DEVICES), 'trainer': 'edge-1', 'broker': 'broker'}[kind]
        return [(name, self.fleet.programs[name].pid)]

    def kill_one(self, kind):
        victims = self.victims(kind)
        if not victims:
            return False
        name, pid = random.choice(victims)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if kind != 'worker':
            program = self.fleet.programs[name]
            program.process.wait()
            time.sleep(random.random() * 0.3)
            program.start()
            if kind == 'broker':
                self.fleet.await_broker(program)
        return True

    def all_ended(self):
        """Every job is done, by a decision or because its device has moved on to a later fence."""
        with self.trainer_db('edge-1') as db:
            open_jobs = db.execute('SELECT device, fence, state FROM jobs WHERE state <> "done"').fetchall()
            latest = dict(db.execute('SELECT device, MAX(fence) FROM jobs GROUP BY device').fetchall())
        return not [j for j in open_jobs if j[1] == latest[j[0]] or j[2] in ('training', 'offering')] or None

    def pause(self):
        for d in DEVICES:
            self.fleet.command(d, 'pause', timeout=60)

    def audit_lines(self, name):
        folder = self.work / name / 'state'
        files = [*sorted(folder.glob('audit.log.0*')), folder / 'audit.log']
        return [json.loads(line) for f in files for line in f.read_text().splitlines()]

    def audit_is_whole(self):
        """Both ends' logs are as they were written, say the same, and lack no activation."""
        edge = self.audit_lines(TRAINER)
        self.fleet.run_tasuki('audit', 'verify', self.work / TRAINER / 'state')
        for d in DEVICES:
            told = json.loads(self.fleet.run_tasuki('audit', 'verify', self.work / d / 'state', '--device', d,
                                                    '--against', self.work / TRAINER / 'state', '--json').stdout)
            self.assertGreater(told['heads'], 0)
            device = self.audit_lines(d)
            for event, keys in (('granted', ('checkpoint', 'fence')), ('decided', ('checkpoint', 'fence', 'decision'))):
                here, there = ({tuple(line[k] for k in keys) for line in lines if line['event'] == event} for lines in
                               (device, [line for line in edge if line.get('peer') == d]))
                self.assertGreater(len(there), 0, event)
                self.assertEqual(there - here, set(), f'{d}: {event}')
            activated = [line['checkpoint'] for line in device if line['event'] == 'activated']
            self.assertEqual((self.work / d / 'state/active').resolve().name, activated[-1])
        return len(edge)

    def reports_are_whole(self):
        for d in DEVICES:
            def same():
                made = self.device_reports(d)
                with self.trainer_db('edge-1') as db:
                    rows = db.execute('SELECT seq, checkpoint, correct FROM reports WHERE device = ? ORDER BY seq', (d,)).fetchall()
                return ([r[0] for r in rows] == list(range(1, len(made) + 1))
                        and all((made[s]['checkpoint'], made[s]['correct']) == (c, n) for s, c, n in rows)) or None
            wait_for(f'all reports of {d}', same, WAIT)
