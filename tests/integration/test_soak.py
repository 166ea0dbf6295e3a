# slow
# build: plain
"""Fifty seeds of random faults on the real broker: programs killed, connections reset, stalled, slowed and half-closed by
the fault proxy, the broker restarted with its queues lost. After each seed's faults all is left alone: every handover
ends, exactly once, no report is lost or counted twice, and what is active was never torn. The other 950 seeds of the soak
are those of tests/sim/soak.c, in virtual time. TASUKI_SEED is the first seed, TASUKI_SEEDS how many."""
import json
import os
import random
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from campaign import DEVICES, TRAINER, Campaign
from fault_proxy import FaultProxy
from rig import WAIT, wait_for

FIRST = int(os.environ.get('TASUKI_SEED', 1))
SEEDS = int(os.environ.get('TASUKI_SEEDS', 50))
FAULTS_S = 8


class Soak(Campaign):
    def connection(self, name):
        proxy = FaultProxy(self.fleet.port)
        self.proxies = {**getattr(self, 'proxies', {}), name: proxy}
        self.addCleanup(proxy.stop)
        return {'broker': {'port': proxy.port}}

    def slow(self, proxy):
        for direction in (proxy.up, proxy.down):
            direction.delay = random.choice([0, 0.05, 0.5])
            direction.jitter = direction.delay / 2
            direction.rate = random.choice([None, 20_000, 200_000])
            direction.reset_every = random.choice([None, None, 30_000])

    def calm(self):
        for proxy in self.proxies.values():
            proxy.refusing = False
            for direction in (proxy.up, proxy.down):
                direction.delay = direction.jitter = 0
                direction.rate = direction.reset_every = None
                direction.go_on()

    def fault(self):
        name, proxy = random.choice(list(self.proxies.items()))
        way = random.choice([proxy.up, proxy.down])
        what, act = random.choice([
            ('kills', lambda: self.kill_one(random.choice(['agent', 'trainer', 'worker', 'broker']))),
            ('resets', proxy.reset), ('half-closes', lambda: proxy.half_close(way)),
            ('holds', lambda: way.hold(random.uniform(0.2, 4))), ('slows', lambda: self.slow(proxy)),
            ('refuses', lambda: setattr(proxy, 'refusing', random.random() < 0.5))])
        act()
        return f'{what} {name}'

    def each_once(self):
        """A fence has one job; what a device decided of a result its trainer knows."""
        with self.trainer_db(TRAINER) as db:
            self.assertEqual(db.execute('SELECT device, fence FROM jobs WHERE fence > 0 GROUP BY device, fence '
                                        'HAVING COUNT(*) > 1').fetchall(), [])
            told = set(db.execute('SELECT device, result FROM jobs WHERE state = "done" AND outcome IN ("activated", "kept")'))
        for d in DEVICES:
            # Of a result whose candidates take time there are two reports; active it becomes once.
            decided = [(r['checkpoint'], r['decision']) for r in self.device_reports(d).values()
                       if r.get('decision') and r['origin'] == 'edge']
            active = [c for c, decision in decided if decision == 'activated']
            self.assertEqual(len(active), len(set(active)), f'{d}: a result was activated twice')
            for checkpoint, _ in decided:
                self.assertIn((d, checkpoint), told)

    def run_seed(self, seed):
        random.seed(seed)
        history, until = [], time.monotonic() + FAULTS_S
        while time.monotonic() < until:
            history.append(self.fault())
            time.sleep(random.expovariate(2))
        self.calm()
        try:
            for p in self.fleet.programs.values():
                self.assertTrue(p.running(), f'{p.name} ended by itself:\n{p.tail()}')
            self.pause()
            wait_for('all handovers to end', self.all_ended, WAIT)
            self.reports_are_whole()
            self.each_once()
            for d in DEVICES:
                self.fleet.command(d, 'resume', timeout=60)
        except BaseException:
            print(f'seed {seed} failed; its history: {json.dumps(history)}', flush=True)
            raise
        return len(history)

    def test_seeds(self):
        wait_for('a first handover', lambda: len(self.finished()) == len(DEVICES), WAIT)
        before, began = sum(self.finished().values()), time.monotonic()
        faults = sum(self.run_seed(seed) for seed in range(FIRST, FIRST + SEEDS))
        self.never_at_once(TRAINER)
        self.never_torn()
        rig.figure(f'{SEEDS} seeds, {faults} faults in {time.monotonic() - began:.0f} s, '
                   f'{sum(self.finished().values()) - before} handovers ended with a decision; the active pair was opened '
                   f'{self.checks} times, never torn')

class VirtualTime(rig.Case):
    """What has no broker but a simulated one: the other seeds, and a fleet larger than this machine could run."""

    def run_simulation(self, name, *args):
        r = subprocess.run([str(rig.BUILD / 'tests/sim' / name), *map(str, args)], capture_output=True, text=True, timeout=5400)
        self.assertEqual(r.returncode, 0, r.stdout[-20000:])
        rig.figure(f'{name}: ' + '; '.join(r.stdout.splitlines()))

    def test_seeds(self):
        self.run_simulation('soak', '--seeds', 950)

    def test_thousands(self):
        self.run_simulation('thousands', '--devices', 50000, '--minutes', 4)


rig.main()
