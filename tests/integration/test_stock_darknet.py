# build: plain device
"""The stock `darknet` program reads what a device has active and predicts what `tasuki classify` does."""
import re
import shutil
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

IMAGES = 40


class StockDarknet(rig.Case):
    def test_same_class(self):
        if not shutil.which('darknet'):
            rig.skip('the darknet program')
        data = self.digits('cam', 400, 5)
        self.fleet.start_broker()
        self.quick_agent('cam-1', data, {'train': {'round_epochs': 4}, 'handover': {'every_epochs': 0}})
        self.fleet.start_agent('cam-1')
        rig.wait_for('four epochs', lambda: len(self.device_reports('cam-1')) >= 4, rig.WAIT)
        # Once for both: another may become active in between.
        weights = shutil.copy(self.work / 'cam-1/state/active.weights', self.work / 'active.weights')
        pictures = self.pictures(data)
        ours = self.fleet.run_tasuki('classify', '--cfg', rig.TINY, '--weights', weights, '--json', *pictures)
        ours = [r['class'] for r in rig.json.loads(ours.stdout)['results']]
        theirs = [self.darknet(weights, p) for p in pictures]
        self.assertEqual(ours, theirs)
        self.assertGreater(len(set(ours)), 2)  # a network that always says the same proves nothing

    def pictures(self, data):
        """Images at the network's own size: whatever resizes has nothing to do."""
        images, _, rows, cols = rig.read_idx(data, 't10k')
        out = []
        for i, pixels in enumerate(images[:IMAGES]):
            pgm = self.work / f'{i}.pgm'
            pgm.write_bytes(b'P5\n%d %d\n255\n' % (cols, rows) + pixels)
            out.append(pgm)
        return out

    def darknet(self, weights, picture):
        folder = self.work / 'darknet'
        if not folder.exists():
            folder.mkdir()
            (folder / 'names').write_text(''.join(f'class-{i}\n' for i in range(10)))
            (folder / 'data').write_text(f'classes=10\nnames={folder}/names\nlabels={folder}/names\ntop=1\n')
        r = subprocess.run(['darknet', 'classifier', 'predict', folder / 'data', rig.TINY, weights, picture],
                           capture_output=True, text=True, timeout=60, cwd=folder)
        found = re.search(r'class-(\d)', r.stdout)
        self.assertTrue(found, r.stdout + r.stderr)
        return int(found.group(1))


rig.main()
