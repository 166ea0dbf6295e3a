# build: plain
"""Workers that were taken over: what they try is refused and reported, by real agents and a real trainer; the daemons
go on, and what is in use stays what it was. The same deeds succeed with `sandbox = off`, so that the refusals are the cage's."""
import contextlib
import ctypes
import os
import re
import shutil
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, merge, wait_for

ROGUE = rig.BUILD / 'common/engine/rogue-worker'
STALL = 5
DEADLINE = STALL + 5
CALL, FILE = 'forbidden system call: ', 'rogue: refused: '
# deed -> what the daemon's log says of it
REFUSED = {
    'socket': CALL + 'socket', 'sigsys': CALL + 'rt_sigaction', 'fork': CALL + 'clone', 'spawn': 'killed by SIGSYS',
    'exec': CALL + 'execve', 'signal': CALL + 'kill', 'tgkill': CALL + 'tgkill', 'ptrace': CALL + 'ptrace',
    'passwd': FILE + 'passwd: Permission denied', 'outside': FILE + 'outside: Permission denied',
    'active': FILE + 'active: Permission denied', 'secret': FILE + 'secret: Permission denied',
    'link': CALL + 'symlink', 'parent': FILE + 'parent: Permission denied', 'limit': FILE + 'limit: Operation not permitted',
}
# Contained by limits that do not depend on the kernel's new parts.
LIMITED = {'memory': FILE + 'memory: Cannot allocate memory', 'hang': f'no step finished within {STALL}.0 s, killed'}
WITHOUT_CAGE = {d: f'rogue: done: {d}' for d in REFUSED}
WITHOUT_CAGE.update({'signal': 'stopping: Terminated', 'tgkill': 'stopping: Terminated', 'memory': 'rogue: done: memory'})
CAPABILITIES = int(re.search(r'CapEff:\s*(\w+)', open('/proc/self/status').read())[1], 16)
for d, number in (('limit', 24), ('parent', 19), ('ptrace', 19)):  # CAP_SYS_RESOURCE, CAP_SYS_PTRACE: not to be done without
    if not CAPABILITIES >> number & 1:
        del WITHOUT_CAGE[d]


class Cage(rig.Case):
    def setUp(self):
        super().setUp()
        self.data = self.digits('own', 100, 1, test=False)
        self.fleet.start_broker()

    def rogue(self, deed):
        path = self.work / f'rogue-{deed}'
        if not path.exists():
            shutil.copy2(ROGUE, path)
        return path

    def agent(self, deed, sandbox, conf=None):
        name = f'{deed}-{sandbox}'
        self.quick_agent(name, self.data, merge({
            'worker': {'program': self.rogue(deed), 'sandbox': sandbox},
            'train': {'rounds': 0, 'stall_s': STALL, 'threads': 1}, 'handover': {'every_epochs': 0}}, conf))
        return self.fleet.start_agent(name)

    def reported(self, agent, what):
        """The seconds from the line before it in the log to the report."""
        pattern = re.compile(re.escape(what))
        wait_for(f'{agent.name}: {what}', lambda: pattern.search(agent.text()), WAIT)
        lines = agent.text().splitlines()
        at = next(i for i, line in enumerate(lines) if pattern.search(line))

        def when(line):
            return float(line.split('T')[1].split('Z')[0].replace(':', ' ').split()[2]) + 60 * int(line.split('T')[1][3:5])
        return (when(lines[at]) - when(lines[at - 1])) % 3600

    def together(self, expected, sandbox, conf=None):
        agents = {d: self.agent(d, sandbox, conf) for d in expected}
        return {d: (a, self.reported(a, expected[d])) for d, a in agents.items()}

    def in_use(self, deed, agent):
        """The agent lives on, and has something in use, which is whole: once its first epoch is scored, which a deed in the second may put off."""
        wait_for(f'{deed}: something in use', lambda: self.consistent(agent.name), WAIT)
        self.assertTrue(agent.running(), deed)

    def goes_on(self, deed, agent):
        """It took no harm: it has something in use, which is whole, and its next worker trains."""
        self.in_use(deed, agent)
        self.assertNotIn('rogue: done', agent.text())
        trained = agent.text().count('trained')
        wait_for(f'{deed}: the next training', lambda: agent.text().count('trained') > trained, WAIT)
        self.assertTrue(self.consistent(agent.name), deed)

    def test_refused(self):
        slowest = 0
        for deed, (agent, seconds) in self.together(REFUSED, 'require').items():
            self.assertLess(seconds, DEADLINE, deed)
            slowest = max(slowest, seconds)
            if 'Permission' not in REFUSED[deed] and 'limit' not in deed:
                self.goes_on(deed, agent)
            else:  # the worker lives on, refused; so does the agent
                self.in_use(deed, agent)
            self.assertNotIn('rogue: done', agent.text())
        self.assertFalse(list(self.work.glob('*/state/rogue')))
        rig.figure(f'{len(REFUSED)} deeds of a worker refused and reported, the slowest after {slowest:.1f} s')

    def test_limits(self):
        conf = {'train': {'memory_max_mb': 400}}
        for deed, (agent, seconds) in self.together(LIMITED, 'require', conf).items():
            self.assertLess(seconds, DEADLINE, deed)
            self.in_use(deed, agent)
            rig.figure(f'{deed}: reported after {seconds:.1f} s (deadline {STALL} s)')

    def test_without(self):
        """Each of them can be done where there is no cage."""
        for deed, (agent, _) in self.together(WITHOUT_CAGE, 'off').items():
            self.assertIn('not confined by: sandbox = off', agent.text())

    def test_what_is_in_use(self):
        """It goes on writing into what it handed over. That is no matter of the cage: the store takes copies."""
        agent = self.agent('tamper', 'require')
        wait_for('rounds', lambda: agent.text().count('trained') > 4, WAIT)
        self.assertTrue(self.consistent(agent.name))
        looked_at = 0
        for path in self.work.glob('tamper-*/state/checkpoints/*/weights'):
            with contextlib.suppress(FileNotFoundError):  # it trains on, and what is not needed any more goes
                self.assertEqual(rig.hashlib.sha256(path.read_bytes()).hexdigest(), path.parent.name)
                looked_at += 1
        self.assertGreater(looked_at, 0)
        self.assertNotIn('damaged', agent.text())

    def test_trainer(self):
        """Its worker sends the second epoch of a handover elsewhere: the trainer says so, and hands over with the next one."""
        self.quick_trainer('edge-1', self.digits('edge', 100, 2), {
            'worker': {'program': self.rogue('socket'), 'sandbox': 'require'}, 'train': {'epochs': 2}})
        trainer = self.fleet.start_trainer('edge-1')
        wait_for('the trainer', lambda: 'worker ready' in trainer.text(), WAIT)
        self.quick_agent('cam-1', self.data)
        self.fleet.start_agent('cam-1')
        self.reported(trainer, CALL + 'socket')
        self.assertTrue(trainer.running())
        self.assertTrue(self.consistent('cam-1'))
        self.assertIn('seccomp', trainer.text())

    def test_data_replaced(self):
        """A folder of images that gives way to another is read all the same: by a worker that is let in there."""
        self.quick_agent('cam-1', self.data, {'train': {'rounds': 0}, 'handover': {'every_epochs': 0}})
        agent = self.fleet.start_agent('cam-1')
        wait_for('a training', lambda: 'trained' in agent.text(), WAIT)
        other = self.digits('other', 150, 3, test=False)
        os.rename(self.data, self.work / 'before')
        os.rename(other, self.data)
        wait_for('the other images', lambda: 'was replaced by another' in agent.text() and
                 agent.text().count('worker ready') > 1, WAIT)
        trained = agent.text().count('trained')
        wait_for('a training on them', lambda: agent.text().count('trained') > trained, WAIT)

    def test_cli(self):
        """The same cage around what `tasuki` starts; nothing is written, or read, that its arguments do not name."""
        out = self.work / 'out'
        out.mkdir()
        r = self.fleet.run_tasuki('train', '--cfg', rig.TINY, '--data', self.data, '--steps', 2, '--out', out / 'a.weights', '--sandbox', 'require')
        self.assertEqual(r.stderr, '')
        linked = self.work / 'linked'
        linked.mkdir()
        for f in self.data.iterdir():
            (linked / f.name).symlink_to(f)
        args = ('evaluate', '--cfg', rig.TINY, '--data', linked, '--weights', out / 'a.weights', '--split', 'train')
        r = self.fleet.run_tasuki(*args, check=False)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn('Permission denied', r.stderr)
        self.fleet.run_tasuki(*args, '--readable', self.data)
        r = self.fleet.run_tasuki(*args, '--sandbox', 'off')
        self.assertEqual(r.stderr, '')


if ctypes.CDLL(None).syscall(444, None, 0, 1) < 1:  # landlock_create_ruleset(): its version
    rig.skip('this kernel has no Landlock')
rig.main()
