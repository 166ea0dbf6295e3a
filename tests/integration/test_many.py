# build: plain
"""Many agents: 20 on one trainer; 20 on two of which one is killed in the middle; two agents with one id."""
import signal
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, wait_for

N = 20


class Many(rig.Case):
    def agents(self, extra=None):
        names = [f'cam-{i:02d}' for i in range(1, N + 1)]
        data = [self.digits(f'cam-{i}', 60, 10 + i) for i in range(4)]
        for i, name in enumerate(names):
            self.quick_agent(name, data[i % 4], {
                'train': {'seed': i + 1, 'round_epochs': 2, 'rounds': 1},
                'handover': {'every_epochs': 2, 'lease_s': 10}, **(extra or {})})
            self.fleet.start_agent(name)
        return names

    def returned(self, names):
        """The devices that have judged a return, by their own reports: a trainer that was killed may not know."""
        return {d for d in names if self.judgements(d)}

    def test_one_trainer(self):
        self.fleet.start_broker()
        self.digits('edge', 200, 1)
        self.quick_trainer('edge-1', self.work / 'data/edge', {'train': {'epochs': 1}, 'queue': {'capacity': 6, 'lease_s': 10}})
        self.fleet.start_trainer('edge-1')
        began = time.monotonic()
        names = self.agents()
        wait_for('a return for every device', lambda: self.returned(names) == set(names), 300)
        runs = self.never_at_once('edge-1')
        rig.figure(f'{N} agents, one trainer: every device has its return after {time.monotonic() - began:.0f} s ({runs} runs)')

    def test_two_trainers_one_killed(self):
        self.fleet.start_broker()
        self.digits('edge', 600, 1)
        for t in ('edge-1', 'edge-2'):
            self.quick_trainer(t, self.work / 'data/edge', {'train': {'epochs': 2}, 'queue': {'capacity': 6, 'lease_s': 10}})
            self.fleet.start_trainer(t)
        began = time.monotonic()
        names = self.agents()
        wait_for('some returns', lambda: len(self.returned(names)) >= 5, 300)
        self.fleet.programs['edge-1'].kill(signal.SIGKILL)
        wait_for('a return for every device', lambda: self.returned(names) == set(names), 300)
        runs = self.never_at_once('edge-1', 'edge-2')
        rig.figure(f'{N} agents, two trainers, one killed: every device has its return after '
                   f'{time.monotonic() - began:.0f} s ({runs} runs, none of one checkpoint at once)')

    def test_one_id(self):
        self.fleet.start_broker()
        data = self.digits('cam', 60, 2)
        self.quick_agent('cam-1', data)
        first = self.fleet.start_agent('cam-1')
        wait_for('the first', lambda: self.fleet.active('cam-1'), WAIT)
        # The same state folder: refused at once, the first is not disturbed.
        second = rig.subprocess.run([self.fleet.agent_program, self.work / 'cam-1/agent.conf'], capture_output=True, text=True, timeout=60)
        self.assertEqual(second.returncode, 1)
        self.assertIn(str(first.pid), second.stderr)
        self.assertIn('lock', second.stderr)
        self.assertTrue(first.running())
        # Another folder, the same id: exactly one goes on, the other says why.
        self.quick_agent('twin', data, {'device': {'id': 'cam-1'}})
        twin = self.fleet.start_agent('twin')
        wait_for('one of the two to end', lambda: not (first.running() and twin.running()), WAIT)
        time.sleep(3)
        self.assertEqual([first.running(), twin.running()].count(True), 1)
        loser = first if not first.running() else twin
        self.assertEqual(loser.process.returncode, 3)
        self.assertIn('taken over', loser.text())
        self.fleet.programs.pop(loser.name)


rig.main()
