# build: plain
"""The README's first command, shortened: it ends with the table and leaves nothing behind; interrupted, neither."""
import os
import signal
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

DEMO = rig.ROOT / 'deploy/lib/demo.py'
SHORT = ('--epochs', '2', '--edge-epochs', '1', '--after', '1')


class Demo(rig.Case):
    def argv(self, *extra):
        return [sys.executable, DEMO, '--build', rig.BUILD, '--work', self.work / 'demo', *SHORT, *extra]

    def left(self):
        """Programs that still run in the demo's folder."""
        found = []
        for p in rig.pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if str(self.work / 'demo').encode() in p.read_bytes():
                    found.append(p.read_bytes())
            except OSError:
                pass
        return found

    def test_embedded(self):
        self.embedded()

    def test_secure(self):
        self.embedded('--secure')
        conf = (self.work / 'demo/broker/mosquitto.conf').read_text()
        self.assertEqual(conf.count('\nlistener '), conf.count('\nrequire_certificate true\n'))
        self.assertNotIn('allow_anonymous true', conf)
        for log in ('cam-1/cam-1.log', 'cam-2/cam-2.log', 'edge-1/edge-1.log'):
            self.assertNotIn('refused', (self.work / 'demo' / log).read_text())

    def embedded(self, *how):
        r = subprocess.run(self.argv(*how), capture_output=True, text=True, timeout=300)
        self.assertEqual(r.returncode, 0, r.stdout[-2000:] + r.stderr)
        self.assertEqual('the loopback only' in r.stdout, not how)
        self.assertEqual(r.stdout.count('the same at both ends, to the image'), 2)
        self.assertEqual(r.stdout.count('never worse than before'), 2)
        self.assertRegex(r.stdout, r'cam-1: its checkpoint, \d+ kB, crossed the broker as \d+ kB of delta, and came back as \d+ kB of \w+')
        for name in ('pictures/cam-1.png', 'pictures/cam-2.png', 'images-cam-1.png'):
            self.assertEqual((self.work / 'demo' / name).read_bytes()[:4], b'\x89PNG')
        self.assertEqual(self.left(), [])

    def test_own_images(self):
        images, labels, rows, cols = rig.read_idx(self.digits('d', 600, 3), 'train')
        photos = self.work / 'photos'
        for i, (pixels, label) in enumerate(zip(images, labels)):
            (photos / f'class-{label}').mkdir(parents=True, exist_ok=True)
            (photos / f'class-{label}' / f'{i}.pgm').write_bytes(b'P5\n%d %d\n255\n' % (cols, rows) + pixels)
        (photos / 'class-0/.hidden').write_text('no image')
        r = subprocess.run(self.argv('--data', photos, '--cfg', rig.TINY, '--center-crop', '0'), capture_output=True,
                           text=True, timeout=300)
        self.assertEqual(r.returncode, 0, r.stdout[-2000:] + r.stderr)
        self.assertEqual(len(list((photos / 'class-0').iterdir())), labels.count(0) + 1)
        # It never empties a folder that it has not made, nor works inside the data.
        for work in (photos, photos / 'class-0', self.work):
            r = subprocess.run([*self.argv('--data', photos), '--work', work], capture_output=True, text=True, timeout=60)
            self.assertEqual(r.returncode, 1)
            self.assertIn('--work', r.stderr)
        self.assertEqual(sum(1 for _ in photos.glob('class-*/*.pgm')), 600)

    def test_interrupted(self):
        for signals in ((signal.SIGINT, signal.SIGINT), (signal.SIGHUP,), (signal.SIGKILL,)):
            p = subprocess.Popen(self.argv(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            rig.wait_for('the fleet', lambda: len(self.left()) > 5, rig.WAIT)
            for s in signals:
                p.send_signal(s)
                time.sleep(0.1)
            code = p.wait(2 * rig.WAIT)
            self.assertEqual(code, -signal.SIGKILL if signals[0] == signal.SIGKILL else 130)
            rig.wait_for('nothing to be left', lambda: not self.left(), rig.WAIT)

    def test_bad_usage(self):
        for extra in (('--nonsense',), ('--epochs', '0'), ('--data', '/no/such/folder'), ('--cfg', '/no/such.cfg')):
            r = subprocess.run(self.argv(*extra), capture_output=True, text=True, timeout=60)
            self.assertEqual(r.returncode, 2, extra)
            self.assertIn(extra[0], r.stderr)
        self.assertFalse(os.path.exists(self.work / 'demo'))


rig.main()
