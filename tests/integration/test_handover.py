# build: gcc clang device
"""One whole handover: sent, trained on, brought back, judged; and what must hold of it."""
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for


class Handover(rig.Case):
    def test_whole(self):
        test = self.shared_test_images()
        for name, n, seed in (('edge', 600, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        self.fleet.start_broker()
        listener = self.fleet.listen('device/+/status', 'device/+/report', 'device/+/offer', 'device/+/in/offer',
                                     'trainer/+/in/+/ack', 'trainer/+/job/+')
        self.quick_trainer('edge-1', self.work / 'data/edge', {'data': {'test': test}})
        self.quick_agent('cam-1', self.work / 'data/cam', {'data': {'test': test}, 'train': {'round_epochs': 6},
                                                           'select': {'blends': '50'}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        ack = self.decided(listener, 'cam-1')[0]
        result = body(listener.wait('result', lambda m: m['topic'].endswith('cam-1/in/offer')
                                    and body(m)['id'] == ack['checkpoint'], WAIT))
        offer = body(listener.wait('offer', lambda m: m['topic'].endswith('cam-1/offer')
                                   and body(m)['id'] == result['parents'][0], WAIT))
        # The same images, the same checkpoint: the same score at both ends, to the image.
        for here, there in ((offer['test'], result['before']), (ack['test'], result['after'])):
            self.assertEqual((here['n'], here['correct']), (there['n'], there['correct']))
            self.assertAlmostEqual(here['loss'], there['loss'], places=5)
        self.assertEqual(result['origin'], 'edge')
        self.assertEqual(result['trainer'], 'edge-1')
        self.assertGreater(result['images_trained'], 0)
        self.all_were_tried('cam-1', result['id'])
        wait_for('the end of the round', lambda: self.status(listener).get('phase') == 'idle', WAIT)
        self.never_worse('cam-1')
        # What is active may be replaced once more meanwhile, as the next handover may come back.
        self.assertTrue(self.consistent('cam-1'))
        manifest = self.fleet.active('cam-1')[1]
        wait_for('the status to tell it', lambda: self.status(listener)['active']['checkpoint'] ==
                 self.fleet.active('cam-1')[0], WAIT)
        self.assertEqual(manifest['model'], offer['model'])
        # What an application opens.
        state = self.fleet.work / 'cam-1/state'
        self.assertTrue((state / 'active.weights').is_symlink() and (state / 'active.json').is_symlink())
        self.fleet.run_tasuki('inspect', state / 'active.weights', '--cfg', rig.TINY)
        self.reports_match('edge-1', 'cam-1')

    def status(self, listener):
        return body(listener.all(lambda m: m['topic'].endswith('cam-1/status'))[-1])

    def all_were_tried(self, device, result):
        """Each candidate was made and scored on the same images, and the decision says how it was taken."""
        reports = [r for _, r in sorted(self.device_reports(device).items()) if r['split'] == 'validation']
        # Another handover may have come back meanwhile.
        again = [i for i, r in enumerate(reports) if 'decision' not in r and r['origin'] == 'edge'][1:]
        reports = reports[:again[0]] if again else reports
        early, *late = [r for r in reports if 'decision' in r and r['origin'] != 'local']
        plain = [r for r in reports if 'decision' not in r and r['origin'] != 'local'][:3]
        self.assertEqual([r['origin'] for r in plain], ['edge', 'blend', 'tuned'])
        self.assertEqual({(r['snapshot'], r['n']) for r in plain}, {(early['snapshot'], early['n'])})
        self.assertEqual((early['checkpoint'], early['test']['contenders']), (result, 1))
        taken = early['decision'] == 'activated'
        if not late:  # nothing that was made of it is better
            self.assertTrue(taken)
        for decision in [early, *late]:
            self.assertEqual(decision['test']['name'], 'mcnemar-mid-p')
            if decision['decision'] == 'kept':
                self.assertEqual(decision['checkpoint'], result)
                continue
            self.assertIn(decision['checkpoint'], [r['checkpoint'] for r in plain])
            self.assertLessEqual(decision['test']['p'], 0.05)
            self.assertEqual(decision['correct'] - round(decision['against']['accuracy'] * decision['n']),
                             decision['test']['won'] - decision['test']['lost'])
        if late:
            self.assertEqual(late[0]['test']['contenders'], 2 if taken else 3)

    def never_worse(self, device):
        """Swap by swap, on one snapshot, the accuracy in use only rises; decisions agree with their scores."""
        in_use = None
        for _, r in sorted(self.device_reports(device).items()):
            if r.get('decision') != 'activated':
                continue
            if in_use and in_use['snapshot'] == r['snapshot']:
                self.assertGreater(r['correct'], in_use['correct'])
            in_use = r
        self.assertIsNotNone(in_use)

    def reports_match(self, trainer, device):
        def all_there():
            made = sorted(self.device_reports(device))  # more of them while another handover goes on
            self.assertEqual(made, list(range(1, len(made) + 1)))
            with self.trainer_db(trainer) as db:
                rows = [r[0] for r in db.execute('SELECT seq FROM reports WHERE device = ? ORDER BY seq', (device,))]
            return rows == made or None
        wait_for('all reports at the trainer', all_there, WAIT)


rig.main()
