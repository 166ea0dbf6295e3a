# build: plain
"""kill -9 of agent, trainer, worker and broker at random moments of handovers: every handover ends, the active pair
always belongs together, no report is lost or counted twice. 10 kills of each, 50 with --slow."""
import os
import random
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from campaign import DEVICES, TRAINER, Campaign
from rig import WAIT, wait_for

KILLS = 50 if rig.SLOW else 10


class Kill(Campaign):
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
        self.pause()
        wait_for('all handovers to end', self.all_ended, WAIT)
        self.reports_are_whole()
        self.never_at_once(TRAINER)
        self.never_torn()
        lines = self.audit_is_whole()
        rig.figure(f'{len(order)} kills in {killed:.0f} s (seed {seed}), {sum(self.finished().values()) - before} handovers ended '
                   f'with a decision since; the active pair was opened {self.checks} times, never torn; '
                   f'{lines} lines in the trainer\'s audit log')


rig.main()
