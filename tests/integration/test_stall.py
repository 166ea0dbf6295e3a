# build: plain
"""Programs that stand still for longer than a lease, and go on as if nothing had been: agent, trainer, broker. By the
fences and by the clock, no checkpoint is trained twice at once, and every handover ends."""
import os
import pathlib
import random
import signal
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, wait_for

LEASE = 5
STALLS = 12 if rig.SLOW else 5


def cpu_ticks(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Stall(rig.Case):
    def start(self, edge_images, edge, agent):
        self.fleet.start_broker()
        self.digits('edge', edge_images, 1)
        self.digits('cam', 150, 2)
        for t, conf in zip(('edge-1', 'edge-2'), edge):
            self.quick_trainer(t, self.work / 'data/edge', {'queue': {'lease_s': LEASE, 'device_per_hour': 3600}, **conf})
        self.quick_agent('cam-1', self.work / 'data/cam', {
            'handover': {'every_epochs': 2, 'lease_s': LEASE}, **agent})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')

    def runs(self, trainer):
        if not (self.work / trainer / 'state/trainer.db').exists():
            return []
        with self.trainer_db(trainer) as db:
            if not db.execute('SELECT 1 FROM sqlite_master WHERE name = "runs"').fetchone():
                return []
            return db.execute('SELECT checkpoint, fence, until_mono_ms, ended_mono_ms, why FROM runs ORDER BY id').fetchall()

    def test_trainer_stops_in_training(self):
        """The trainer alone: its worker, which goes on, ends at the lease's deadline by itself."""
        # The first one's epoch is longer than the lease by far; the second one's is short.
        self.start(8000, [{'train': {'epochs': 1}, 'augment': {'fold': fold, 'blur': 2}} for fold in (100, 1)], {})
        began = wait_for('training at the first', lambda: [r for r in self.runs('edge-1') if r[3] is None], WAIT)[0]
        edge = self.fleet.programs['edge-1']
        worker = rig.children(edge.pid)[0]
        os.kill(edge.pid, signal.SIGSTOP)
        self.fleet.start_trainer('edge-2')
        again = wait_for('training at the second', lambda: [r for r in self.runs('edge-2') if r[0] == began[0]], WAIT)[0]
        self.assertGreater(again[1], began[1])
        at = cpu_ticks(worker)
        time.sleep(1)
        self.assertLessEqual(cpu_ticks(worker) - at, 2, 'the worker of the trainer that stands still trains on')
        os.kill(edge.pid, signal.SIGCONT)
        first = wait_for('the first to note its end', lambda: [r for r in self.runs('edge-1') if r[1] == began[1] and r[3]], WAIT)[0]
        self.assertLessEqual(first[3], first[2])
        wait_for('a return', lambda: self.judgements('cam-1'), WAIT)
        self.never_at_once('edge-1', 'edge-2')

    def test_stalls(self):
        """Whoever it is, at any moment, in many handovers; and the device's lease is changed in the middle."""
        seed = int(os.environ.get('TASUKI_SEED', time.time_ns() % 1000000))
        random.seed(seed)
        self.start(4000, [{'train': {'epochs': 8}, 'augment': {'fold': 100}}] * 2,
                   {'train': {'rounds': 0, 'round_epochs': 4, 'round_pause_s': 1}})
        self.fleet.start_trainer('edge-2')

        def training():
            return [t for t in ('edge-1', 'edge-2') if any(r[3] is None for r in self.runs(t))]
        for i in range(STALLS):
            at_work = wait_for('training', training, WAIT)[0]
            time.sleep(random.random() * 2)
            if i % 2:
                self.fleet.command('cam-1', 'set', key='lease_s', value=str(random.choice((5, 20))), timeout=60)
            p = self.fleet.programs[('cam-1', 'broker', at_work)[i % 3]]
            os.kill(p.pid, signal.SIGSTOP)
            time.sleep(LEASE + 1 + random.random() * 3)
            os.kill(p.pid, signal.SIGCONT)
            for q in self.fleet.programs.values():
                self.assertTrue(q.running(), f'{q.name} ended by itself:\n{q.tail()}')

        def decided():
            return len({r['checkpoint'] for r in self.judgements('cam-1') if r['origin'] == 'edge'})
        at_end = decided()
        # A whole training, and before it three offers, as both trainers have let leases lapse.
        wait_for('a handover after the stalls', lambda: decided() > at_end, 3 * WAIT)
        runs = self.never_at_once('edge-1', 'edge-2')
        for t in ('edge-1', 'edge-2'):
            for r in self.runs(t):
                self.assertLessEqual(r[3] or 0, r[2], f'{t}: {r} went on after its deadline')
        lapsed = [r for t in ('edge-1', 'edge-2') for r in self.runs(t) if r[4] == 'lease over']
        self.assertTrue(lapsed, 'no stall hit a training')
        rig.figure(f'{STALLS} stalls longer than a lease (seed {seed}): {runs} runs, {len(lapsed)} ended by their lease, '
                   'none of one checkpoint at once')


rig.main()
