# build: plain
"""kill -9 of agent, trainer, worker and broker at random moments of handovers: every handover ends, the active pair
always belongs together, no report is lost or counted twice. 10 kills of each, 50 with --slow."""
import os
import random
import signal
import sys
import threading
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, wait_for

KILLS = 50 if rig.SLOW else 10
DEVICES = ('cam-1', 'cam-2')


class Kill(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet.start_broker()
        self.digits('edge', 400, 1)
        self.quick_trainer('edge-1', self.work / 'data/edge', {'train': {'epochs': 2}, 'queue': {'lease_s': 15, 'device_per_hour': 3600}})
        for seed, d in enumerate(DEVICES, 2):
            self.digits(d, 150, seed)
            self.quick_agent(d, self.work / 'data' / d, {
                'train': {'rounds': 0, 'round_epochs': 4, 'seed': seed},
                'handover': {'every_epochs': 2, 'lease_s': 15}})
        self.fleet.start_trainer('edge-1')
        for d in DEVICES:
            self.fleet.start_agent(d)
        self.done, self.checks, self.torn = False, 0, []
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

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

    def test_campaign(self):
        seed = int(os.environ.get('TASUKI_SEED', time.time_ns() % 1000000))
        random.seed(seed)
        wait_for('a first handover', lambda: len(self.finished()) == len(DEVICES), WAIT)
        began, before = time.monotonic(), sum(self.finished().values())
        order = [k for k in ('agent', 'trainer', 'worker', 'broker') for _ in range(KILLS)]
        random.shuffle(order)
        for kind in order:
            wait_for(f'somebody to kill: {kind}', lambda: self.kill_one(kind), WAIT)
            time.sleep(random.expovariate(1 / 0.7))
            for p in self.fleet.programs.values():
                self.assertTrue(p.running(), f'{p.name} ended by itself:\n{p.tail()}')
        killed = time.monotonic() - began
        # Left alone, every device finishes further handovers, and none is left hanging.
        at_end = self.finished()
        wait_for('handovers after the kills', lambda: all(self.finished().get(d, 0) > at_end.get(d, 0) for d in DEVICES), WAIT)
        for d in DEVICES:
            self.fleet.command(d, 'pause', timeout=60)
        wait_for('all handovers to end', self.all_ended, WAIT)
        self.reports_are_whole()
        self.never_at_once('edge-1')
        self.done = True
        self.watcher.join(10)
        self.assertEqual(self.torn, [])
        self.assertGreater(self.checks, 100)
        rig.figure(f'{len(order)} kills in {killed:.0f} s (seed {seed}), {sum(self.finished().values()) - before} handovers ended '
                   f'with a decision since; the active pair was opened {self.checks} times, never torn')

    def all_ended(self):
        """Every job is done, by a decision or because its device has moved on to a later fence."""
        with self.trainer_db('edge-1') as db:
            open_jobs = db.execute('SELECT device, fence, state FROM jobs WHERE state <> "done"').fetchall()
            latest = dict(db.execute('SELECT device, MAX(fence) FROM jobs GROUP BY device').fetchall())
        return not [j for j in open_jobs if j[1] == latest[j[0]] or j[2] in ('training', 'offering')] or None

    def reports_are_whole(self):
        for d in DEVICES:
            def same():
                made = self.device_reports(d)
                with self.trainer_db('edge-1') as db:
                    rows = db.execute('SELECT seq, checkpoint, correct FROM reports WHERE device = ? ORDER BY seq', (d,)).fetchall()
                return ([r[0] for r in rows] == list(range(1, len(made) + 1))
                        and all((made[s]['checkpoint'], made[s]['correct']) == (c, n) for s, c, n in rows)) or None
            wait_for(f'all reports of {d}', same, WAIT)


rig.main()
