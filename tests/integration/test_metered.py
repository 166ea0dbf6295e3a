# build: gcc
"""A device on a metered link: blocks keep to the rate, both ways; a checkpoint for which the day has not enough left is
not offered, also after a restart, and everything small goes on."""
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

RATE = 20000  # bytes a second, and as many at once
BLOCK = 4096


class Metered(rig.Case):
    def test_handover(self):
        left = 86400 - rig.time.time() % 86400
        if left < 300:  # the day must not end in the midst of it
            rig.time.sleep(left + 1)
        for name, n, seed in (('edge', 300, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        cfg = self.work / 'model.cfg'
        cfg.write_text(rig.TINY.read_text().replace('filters=4', 'filters=32'))
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        self.quick_trainer('edge-1', self.work / 'data/edge', {'model': {'cfg': cfg}, 'queue': {'block_size': BLOCK},
                                                               'transfer': {'encoding': 'raw'}})
        self.size = self.weights(cfg)
        self.quick_agent('cam-1', self.work / 'data/cam', {
            'model': {'cfg': cfg}, 'train': {'rounds': 0}, 'select': {'tune_steps': 0}, 'handover': {'block_size': BLOCK},
            'transfer': {'encoding': 'raw'}, 'link': {'rate_bytes': RATE, 'bytes_a_day': 4 * self.size - 1}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        self.decided(self.listener, 'cam-1')
        for way in ('trainer/edge-1/in/cam-1/block/', 'device/cam-1/in/block/'):
            self.kept_to_the_rate(way)
        boot = self.not_offered()
        used = self.crossed()
        self.fleet.programs['cam-1'].kill()
        self.fleet.start_agent('cam-1')
        self.not_offered(boot)
        self.assertEqual(self.crossed(), used)
        log = self.fleet.programs['cam-1'].text()
        self.assertEqual(log.count('used today (UTC)'), 2)  # once each run
        self.assertTrue(self.fleet.command('cam-1', 'ping')['ok'])

    def weights(self, cfg):
        out = self.work / 'x.weights'
        self.fleet.run_tasuki('train', '--cfg', cfg, '--data', self.work / 'data/cam', '--steps', 1, '--out', out)
        return out.stat().st_size

    def kept_to_the_rate(self, way):
        at = [m['at'] for m in self.listener.all(lambda m: way in m['topic'])]
        self.assertGreaterEqual(len(at), self.size // BLOCK)
        least = (self.size - RATE - 2 * BLOCK) / RATE  # the listener's clock begins with the first one
        self.assertGreater(max(at) - min(at), 0.9 * least, way)

    def crossed(self):
        return sum(1 for m in self.listener.all(lambda m: '/block/' in m['topic']))

    def not_offered(self, after_boot=0):
        """Until the day is over; training goes on. Which boot it was that said so."""
        since = len(self.listener.all())
        status = body(self.listener.wait('the reason', lambda m: m['topic'].endswith('cam-1/status') and
                                         "do not cover a checkpoint" in body(m)['reason'] and body(m)['boot'] > after_boot and m in self.listener.all()[since:], WAIT))
        wait_for('two more epochs', lambda: body(self.listener.all(
            lambda m: m['topic'].endswith('cam-1/status'))[-1])['epoch'] >= status['epoch'] + 2, WAIT)
        self.assertFalse([m for m in self.listener.all()[since:] if m['topic'].endswith('cam-1/offer')])
        return status['boot']


rig.main()
