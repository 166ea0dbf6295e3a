# build: gcc
"""A loss that turns non-finite in the middle: training stops, the last good epoch stays, and who watches is told."""
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

REASON = 'the loss is not finite'


class Diverge(rig.Case):
    def wild(self, name, steps):
        """tiny.cfg whose learning rate explodes after so many steps."""
        path = self.work / f'{name}.cfg'
        path.write_text(rig.TINY.read_text().replace('policy=constant', f'policy=steps\nsteps={steps}\nscales=1e12'))
        return path

    def last(self, listener, end):
        found = listener.all(lambda m: m['topic'].endswith(end))
        return body(found[-1]) if found else {}

    def test_device(self):
        # 54 training images, 4 steps an epoch: the third one fails, however often it is tried.
        cfg = self.wild('device', 9)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_agent('cam-1', self.digits('cam', 100, 2), {
            'model': {'cfg': cfg}, 'train': {'rounds': 0, 'round_epochs': 9}, 'handover': {'every_epochs': 0}})
        agent = self.fleet.start_agent('cam-1')
        status = wait_for('the reason in its status', lambda: REASON in self.last(listener, 'cam-1/status').get('reason', '')
                          and self.last(listener, 'cam-1/status'), WAIT)
        self.assertEqual(status['epoch'], 2)
        active = self.consistent('cam-1')
        self.assertEqual(active, status['active']['checkpoint'])
        self.assertNotIn(str(self.work), status['reason'])
        # The local lineage is where it was, whatever is tried meanwhile; and it is not tried all the time.
        begun = agent.text().count('training: ')
        time.sleep(8)
        self.assertTrue(agent.running())
        self.assertLessEqual(agent.text().count('training: ') - begun, 4)
        self.assertEqual(self.consistent('cam-1'), active)
        self.assertEqual(self.last(listener, 'cam-1/status')['epoch'], 2)
        self.assertFalse(list((self.work / 'cam-1/state').rglob('epoch-*')), 'what is not good stays nowhere')
        # With a sane rate it goes on from there.
        agent.stop()
        cfg.write_text(rig.TINY.read_text())
        agent = self.fleet.start_agent('cam-1')
        wait_for('further epochs', lambda: self.last(listener, 'cam-1/status').get('epoch', 0) >= 4, WAIT)

    def handover(self, steps):
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        # 100 training images, 7 steps an epoch.
        self.quick_trainer('edge-1', self.digits('edge', 100, 1), {'model': {'cfg': self.wild('edge', steps)}, 'train': {'epochs': 4}})
        trainer = self.fleet.start_trainer('edge-1')
        wait_for('its database', lambda: 'started' in trainer.text(), WAIT)
        self.quick_agent('cam-1', self.digits('cam', 100, 2))
        self.fleet.start_agent('cam-1')
        return listener

    def test_trainer_later(self):
        listener = self.handover(10)
        ack = self.decided(listener, 'cam-1')[0]
        result = body(listener.all(lambda m: m['topic'].endswith('cam-1/in/offer'))[0])
        self.assertEqual(result['id'], ack['checkpoint'])
        # What the one good epoch made, scored as any result is.
        self.assertEqual(result['images_trained'], 112)
        self.assertGreater(result['after']['n'], 0)
        self.assertIn(REASON, self.fleet.programs['edge-1'].text())

    def test_trainer_at_once(self):
        listener = self.handover(2)

        def dropped():
            with self.trainer_db('edge-1') as db:
                return db.execute("SELECT reason FROM jobs WHERE outcome = 'dropped'").fetchone()
        self.assertEqual(wait_for('the end of the job', dropped, WAIT)[0], REASON)
        # The device is told, and need not wait for the lease to run out.
        claim = body(listener.wait('the giving back', lambda m: m['topic'].endswith('cam-1/in/claim') and body(m).get('busy')
                                   and body(m)['fence'] > 0, WAIT))
        self.assertEqual(claim['reason'], REASON)
        wait_for('the reason in the log of the device', lambda: f'is not taken: {REASON}' in self.fleet.programs['cam-1'].text(), WAIT)
        wait_for('the end of the lease', lambda: self.last(listener, 'cam-1/status').get('handover') != 'granted', WAIT)
        self.assertTrue(self.consistent('cam-1'))
        self.assertFalse(listener.all(lambda m: m['topic'].endswith('cam-1/in/offer')), 'there was no result')
        # The same checkpoint is not taken a second time.
        time.sleep(3)
        with self.trainer_db('edge-1') as db:
            self.assertEqual(db.execute('SELECT COUNT(*), COUNT(DISTINCT checkpoint) FROM jobs').fetchone()[:1],
                             db.execute('SELECT COUNT(DISTINCT checkpoint) FROM jobs').fetchone())


if __name__ == '__main__':
    rig.main()
