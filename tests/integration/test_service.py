# build: gcc
"""Agent and trainer as services: what they tell their manager, over a real socket, and what SIGHUP brings into force."""
import configparser
import os
import re
import signal
import socket
import sys
import threading
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

WATCHDOG_US = 1_500_000


OTHERS = {'rate_bytes': 12345678, 'bytes_a_day': 12345678, 'history_days': 1234, 'hours': 'mon-sun 0:00-24:00', 'power': 'mains',
          'metered_interfaces': 'wwan*', 'metered_link': 'all'}


def documented(file):
    """The keys that can change at run time, by section, each with another value than anywhere here."""
    row = re.search(rf'^\| `{file}` \| (`\[.*) \|$', (rig.ROOT / 'docs/operations.md').read_text(), re.M)[1]
    keys, section = {}, None
    for word in re.findall(r'`(\[?[a-z_]+\]?)`', row.split('. If one')[0]):
        if word[0] == '[':
            section = keys.setdefault(word[1:-1], {})
        else:
            section[word] = OTHERS.get(word, 61 if word[-2:] == '_s' else 7)
    return keys


class Manager:
    """What a service manager hears at NOTIFY_SOCKET: a list of (when, {name: value})."""

    def __init__(self, path):
        self.path, self.heard = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            text = self.socket.recv(4096).decode()
            if text == 'END':
                return
            self.heard.append((time.monotonic(), dict(line.split('=', 1) for line in text.split('\n'))))

    def stop(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b'END', str(self.path))
        self.thread.join()
        self.socket.close()

    def settle(self):
        """All that was sent before has been heard after this."""
        n = len(self.said('SETTLED'))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b'SETTLED=1', str(self.path))
        wait_for('what was said', lambda: len(self.said('SETTLED')) > n, WAIT)

    def said(self, name, value=None):
        return [at for at, what in list(self.heard) if name in what and value in (None, what[name])]

    def env(self):
        return {'NOTIFY_SOCKET': str(self.path), 'WATCHDOG_USEC': str(WATCHDOG_US)}


# exec keeps the shell's pid: the one that a manager means.
AS_MAIN = ['sh', '-c', 'WATCHDOG_PID=$$ exec "$@"', 'sh']
NOT_MAIN = ['sh', '-c', 'WATCHDOG_PID=1 exec "$@"', 'sh']


class Service(rig.Case):
    def setUp(self):
        super().setUp()
        self.managers = {}
        for name in ('cam-1', 'edge-1', 'edge-2'):
            self.managers[name] = Manager(self.work / f'{name}.notify')

    def tearDown(self):
        for m in self.managers.values():
            m.stop()
        super().tearDown()

    def rewrite(self, name, file, **sections):
        """Changes keys of a configuration; None takes one out."""
        path = self.work / name / file
        conf = configparser.ConfigParser(interpolation=None)
        conf.read(path)
        for section, keys in sections.items():
            if not conf.has_section(section):
                conf.add_section(section)
            for key, value in keys.items():
                if value is None:
                    conf.remove_option(section, key)
                else:
                    conf.set(section, key, str(value))
        with open(path, 'w') as f:
            conf.write(f)
        return path

    def reload(self, name):
        """The lines that its log gets by SIGHUP."""
        program, manager = self.fleet.programs[name], self.managers[name]
        before, ready = len(program.text()), len(manager.said('READY', '1'))
        program.kill(signal.SIGHUP)
        wait_for(f'{name} read it again', lambda: len(manager.said('READY', '1')) > ready, WAIT)
        self.assertEqual(len(manager.said('RELOADING', '1')), ready)  # the first READY is the start's
        self.assertTrue(all(int(what['MONOTONIC_USEC']) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                            for _, what in manager.heard if 'RELOADING' in what))
        return program.text()[before:]

    def last(self, listener, end):
        found = listener.all(lambda m: m['topic'].endswith(end))
        return body(found[-1]) if found else {}

    def test_life(self):
        cam, edge, other = (self.managers[x] for x in ('cam-1', 'edge-1', 'edge-2'))
        self.quick_trainer('edge-1', self.digits('edge', 100, 1), {'train': {'epochs': 1}})
        self.quick_trainer('edge-2', self.work / 'data/edge')
        self.quick_agent('cam-1', self.digits('cam', 60, 2), {'train': {'round_epochs': 2}})
        agent = self.fleet.start_agent('cam-1', wrap=AS_MAIN, env=cam.env())
        # Up without a broker, and says what it waits for.
        wait_for('READY=1', lambda: cam.said('READY', '1'), WAIT)
        wait_for('STATUS= without a broker', lambda: cam.said('STATUS'), WAIT)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        trainer = self.fleet.start_trainer('edge-1', wrap=AS_MAIN, env=edge.env())
        silent = self.fleet.start_trainer('edge-2', wrap=NOT_MAIN, env=other.env())
        wait_for('READY=1', lambda: edge.said('READY', '1') and other.said('READY', '1'), WAIT)
        self.decided(listener, 'cam-1')
        silent.stop()
        for m in (cam, edge):
            wait_for('STATUS= of the connection', lambda: [w for _, w in m.heard if 'connected' in w.get('STATUS', '')], WAIT)
            pings = wait_for('six pings', lambda: m.said('WATCHDOG', '1')[5:] and m.said('WATCHDOG', '1'), WAIT)
            rig.figure(f'{len(pings)} pings, at most {max(b - a for a, b in zip(pings, pings[1:])):.2f} s apart, '
                       f'of {WATCHDOG_US / 1e6} s')
        self.assertFalse(other.said('WATCHDOG'), 'pings of one that was not asked')
        # One that stands still is silent: what the manager kills it for.
        os.kill(agent.pid, signal.SIGSTOP)
        wait_for('it to stand still', lambda: rig.pathlib.Path(f'/proc/{agent.pid}/stat').read_text().rpartition(')')[2].split()[0] == 'T', WAIT)
        cam.settle()
        n = len(cam.said('WATCHDOG'))
        time.sleep(WATCHDOG_US / 1e6)
        cam.settle()
        self.assertEqual(len(cam.said('WATCHDOG')), n)
        os.kill(agent.pid, signal.SIGCONT)
        wait_for('pings again', lambda: len(cam.said('WATCHDOG')) > n, WAIT)
        for p, m in ((agent, cam), (trainer, edge)):
            self.assertFalse(m.said('STOPPING'))
            self.assertEqual(p.stop(), 0)
            wait_for('STOPPING=1', lambda: m.said('STOPPING', '1'), WAIT)
            self.assertEqual(len(m.said('READY')), 1)

    def test_reload(self):
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_trainer('edge-1', self.digits('edge', 100, 1), {'train': {'epochs': 1}})
        self.quick_agent('cam-1', self.digits('cam', 60, 2), {'train': {'round_epochs': 2}})
        trainer = self.fleet.start_trainer('edge-1', env=self.managers['edge-1'].env())
        agent = self.fleet.start_agent('cam-1', env=self.managers['cam-1'].env())
        self.decided(listener, 'cam-1')
        rested = wait_for('rest', lambda: self.last(listener, 'cam-1/status').get('phase') == 'idle' and
                          self.last(listener, 'cam-1/status')['epoch'], WAIT)
        # Nothing has changed; then, a file that will not do, whole or in one key.
        for name in ('cam-1', 'edge-1'):
            self.assertIn('read again, 0 changed', self.reload(name))
        path = self.rewrite('cam-1', 'agent.conf', train={'rounds': 2, 'threads': -1})
        text = self.reload('cam-1')
        self.assertIn('nothing is changed: ', text)
        self.assertRegex(text, rf'{path}:\d+: \[train\] threads: found \'-1\'')
        path = self.rewrite('edge-1', 'trainer.conf', train={'epochs': 3}, queue={'lease': 9})
        text = self.reload('edge-1')
        self.assertRegex(text, rf'nothing is changed: {path}:\d+: \[queue\] lease: found an unknown key')
        self.rewrite('edge-1', 'trainer.conf', queue={'lease': None}, model={'cfg': '/nowhere/x.cfg'})
        self.assertIn('nothing is changed: /nowhere/x.cfg', self.reload('edge-1'))
        time.sleep(0.5)
        self.assertEqual(self.last(listener, 'cam-1/status')['epoch'], rested)
        # What can be, is in force at once: another round, another handover, which gets three epochs.
        self.rewrite('edge-1', 'trainer.conf', model={'cfg': rig.TINY})
        self.assertRegex(self.reload('edge-1'), r'(?s)\[train\] epochs: changed\n.*read again, 1 changed')
        self.rewrite('cam-1', 'agent.conf', train={'threads': 1})
        self.assertRegex(self.reload('cam-1'), r'(?s)\[train\] rounds: changed\n.*read again, 1 changed')
        self.decided(listener, 'cam-1', count=2)
        with self.trainer_db('edge-1') as db:
            self.assertEqual([n for n, in db.execute('SELECT epochs FROM jobs ORDER BY id')], [1, 3])
        # What cannot be is named, at each reload until it is as at the start again.
        for first in (True, False):
            self.rewrite('cam-1', 'agent.conf', train={'seed': 5, 'threads': None}, handover={'lease_s': 21})
            text = self.reload('cam-1')
            self.assertIn('[train] seed: written otherwise, in force after a restart', text)
            self.assertIn('[train] threads: written otherwise, in force after a restart', text)
            self.assertEqual('[handover] lease_s: changed' in text, first)
        classes = self.work / 'classes.txt'
        classes.write_text(rig.DIGITS.read_text().replace('0', 'zero'))
        self.rewrite('edge-1', 'trainer.conf', model={'classes': classes})
        text = self.reload('edge-1')
        self.assertIn('[model] classes: written otherwise', text)
        self.assertIn('cfg or classes are others', text)
        self.rewrite('edge-1', 'trainer.conf', model={'classes': rig.DIGITS})
        self.assertNotIn('restart', self.reload('edge-1'))
        # All of those that docs/operations.md names.
        for name, file in (('cam-1', 'agent.conf'), ('edge-1', 'trainer.conf')):
            keys = documented(file)
            self.assertGreater(sum(map(len, keys.values())), 10)
            self.rewrite(name, file, **keys)
            text = self.reload(name)
            self.assertEqual([], [f'[{s}] {k}' for s in keys for k in keys[s] if f'[{s}] {k}: changed' not in text], text)
        self.assertTrue(agent.running() and trainer.running())


if __name__ == '__main__':
    rig.main()
