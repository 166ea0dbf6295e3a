# build: gcc
"""A device steps aside within a batch when its charger is unplugged (a file in a folder that stands for /), says why, and goes
on in the midst of the same epoch when it is back."""
import signal
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

STEP_MS = 100
PROGRESS_S = 0.4  # between two lines of the worker's, WORKER_PROGRESS_MS


class When(rig.Case):
    def put(self, name, **files):
        folder = self.work / 'root/sys/class/power_supply' / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, text in files.items():
            (self.work / 'written').write_text(f'{text}\n')
            (self.work / 'written').rename(folder / key)  # the agent may look at any time

    def status(self):
        return self.fleet.command('cam-1', 'status')

    def standing(self):
        """What it says of itself, once the batch in hand is done and the worker has said so; false while it goes on."""
        before = self.status()
        rig.time.sleep(2 * PROGRESS_S)
        now = self.status()
        return now['progress'] == before['progress'] and now

    def worker_s(self):
        """Seconds of the processor that the worker has had."""
        worker, = rig.children(self.fleet.programs['cam-1'].pid)
        fields = rig.pathlib.Path(f'/proc/{worker}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / rig.os.sysconf('SC_CLK_TCK')

    def test_unplugged(self):
        self.put('AC', type='Mains', online=1)
        self.put('BAT0', type='Battery', status='Discharging', capacity=31)
        self.digits('cam', 3000, 2, test=False)
        self.fleet.start_broker()
        listener = self.fleet.listen('device/cam-1/status')
        self.quick_agent('cam-1', self.work / 'data/cam', {
            'train': {'rounds': 0, 'step_ms': STEP_MS}, 'handover': {'every_epochs': 0},
            'when': {'power': 'mains', 'root': self.work / 'root'}})
        self.fleet.start_agent('cam-1')
        before = wait_for('training under way', lambda: (s := self.status())['phase'] == 'training' and
                          s.get('progress', 0) > 0.02 and s, WAIT)
        self.put('AC', online=0)
        waiting = body(listener.wait('why it waits', lambda m: body(m)['phase'] == 'waiting' and
                                     'battery' in body(m)['reason'], WAIT))
        self.assertEqual(waiting['reason'], 'battery at 31 %, mains wanted')
        stands = wait_for('it to stand still', self.standing, WAIT)
        self.assertLess(stands['progress'] - waiting['progress'], 0.2)  # not at the end of the epoch
        spent = self.worker_s()
        rig.time.sleep(1.5)
        self.assertEqual(self.status()['progress'], stands['progress'])
        self.assertLess(self.worker_s() - spent, 0.2)
        self.assertEqual(stands['epoch'], before['epoch'])
        self.put('AC', online=1)
        goes_on = wait_for('training again', lambda: (s := self.status())['phase'] == 'training' and
                           s.get('progress', 0) > stands['progress'] and s, WAIT)
        self.assertEqual((goes_on['epoch'], goes_on['reason']), (before['epoch'], ''))
        log = self.fleet.programs['cam-1'].text()
        self.assertIn('training waits: battery at 31 %, mains wanted', log)
        self.assertIn('training may go on', log)
        # Other conditions, read again: in force at once.
        self.put('AC', online=0)
        wait_for('waiting again', lambda: self.status()['phase'] == 'waiting', WAIT)
        path = self.work / 'cam-1/agent.conf'
        path.write_text(path.read_text().replace('power = mains', 'power = any'))
        self.fleet.programs['cam-1'].kill(signal.SIGHUP)
        wait_for('training by the new conditions', lambda: self.status()['phase'] == 'training', WAIT)
        self.assertIn('[when] power: changed', self.fleet.programs['cam-1'].text())


rig.main()
