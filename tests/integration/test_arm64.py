# build: arm64
# beside: device
# slow
"""Devices with 64-bit ARM (qemu-user runs their programs) beside machines like this one: the same data to the bit, the same
training to rounding, and a handover between the two."""
import array
import itertools
import json
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body

SYSROOT = rig.ROOT / '.cache/arm64/root'
HERE = rig.BUILD.parent / 'build-device'
STEPS = 3
# Of a weight, as a share of the largest; of a loss. Sums come in another order, and products are fused into them.
TOLERANCE = 1e-5
LONG = 4 * WAIT  # qemu takes its time
AARCH64 = b'\xb7\0'  # e_machine


def emulated(work, program):
    """A script that runs a program of the build for arm64, and what that starts (tests/lib/qemu_exec.c)."""
    path = work / 'emulated' / program.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexport QEMU_LD_PREFIX="{SYSROOT}" QEMU_SET_ENV="LD_PRELOAD={rig.BUILD}/tests/qemu_exec.so"\n'
                    f'exec qemu-aarch64 "{program}" "$@"\n')
    path.chmod(0o755)
    return path


class Arm64(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet.agent_program = emulated(self.work, rig.BUILD / 'device-agent/tasuki-agent')
        self.fleet.trainer_program = HERE / 'edge-trainer/tasuki-trainer'
        self.fleet.tasuki = HERE / 'cli/tasuki'
        self.programs = {'arm64': emulated(self.work, rig.BUILD / 'cli/tasuki'), 'here': self.fleet.tasuki}

    def tasuki(self, which, *args):
        r = subprocess.run([self.programs[which], *map(str, args)], capture_output=True, text=True, timeout=LONG)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout) if '--json' in args else None

    def both(self, *args):
        return self.tasuki('arm64', *args), self.tasuki('here', *args)

    def trained(self, which, data, *options):
        out = self.work / f'{which}.weights'
        result = self.tasuki(which, 'train', '--cfg', rig.TINY, '--data', data, '--engine', 'darknet', '--threads', 1,
                             '--steps', STEPS, '--out', out, '--json', *options)
        return result, array.array('f', out.read_bytes()[20:])

    def test_built_for_it(self):
        """Lest all this compares a machine with itself."""
        for program in ('device-agent/tasuki-agent', 'edge-trainer/tasuki-trainer', 'cli/tasuki', 'common/engine/tasuki-worker'):
            self.assertEqual((rig.BUILD / program).read_bytes()[18:20], AARCH64, program)
            self.assertNotEqual((HERE / program).read_bytes()[18:20], AARCH64, program)

    def test_same_data(self):
        made = {}
        for which in self.programs:
            out = self.work / which
            self.tasuki(which, 'dataset', 'digits', '--out', out / 'all', '--n', 2000, '--seed', 5)
            self.tasuki(which, 'dataset', 'share', '--data', out / 'all', '--out', out / 'parts', '--part', 'a=3', '--part',
                        'b=1:0-4', '--seed', 5)
            made[which] = {p.relative_to(out): p.read_bytes() for p in out.rglob('*') if p.is_file()}
        self.assertEqual(sorted(made['arm64']), sorted(made['here']))
        self.assertGreater(len(made['here']), 10)
        for name, data in made['arm64'].items():
            self.assertTrue(data == made['here'][name], f'{name} differs')
        a, b = self.both('dataset', 'count', '--data', self.work / 'here/parts/b', '--json')
        self.assertEqual(a, b)

    def test_same_training(self):
        data = self.digits('d', 400, 1)
        for options in ((), ('--fold', 3, '--shift', 2, '--blur', 1, '--brightness', 0.3)):
            (ra, a), (rb, b) = self.trained('arm64', data, *options), self.trained('here', data, *options)
            self.assertEqual((ra['images'], len(a)), (rb['images'], len(b)))
            worst = max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, b))
            rig.figure(f'largest difference of a weight, arm64 to this machine, after {STEPS} steps{" with augmentation" * bool(options)}: {worst:.1g}')
            self.assertLess(worst, TOLERANCE)
            self.assertAlmostEqual(ra['loss'], rb['loss'], delta=TOLERANCE * rb['loss'])
        start = self.digits('other', 400, 2)
        self.assertGreater(max(abs(x - y) for x, y in zip(self.trained('here', start)[1], b)) / max(map(abs, b)), TOLERANCE)

    def test_same_scores_and_blends(self):
        """Of one file: the same images, the same answers, the same bytes."""
        data = self.digits('d', 1000, 1)
        self.tasuki('here', 'train', '--cfg', rig.TINY, '--data', data, '--epochs', 3, '--out', self.work / 'a.weights')
        self.tasuki('here', 'train', '--cfg', rig.TINY, '--data', data, '--epochs', 1, '--seed', 2, '--out', self.work / 'b.weights')
        common = ('--cfg', rig.TINY, '--json')
        for split, engine in itertools.product(('test', 'validation'), ((), ('--engine', 'darknet'))):
            a, b = self.both('evaluate', '--weights', self.work / 'a.weights', '--data', data, '--split', split, *engine, *common)
            self.assertAlmostEqual(a['loss'], b['loss'], delta=TOLERANCE * b['loss'])
            for key in ('n', 'correct', 'per_class', 'snapshot', 'checkpoint'):
                self.assertEqual(a[key], b[key])
            self.assertGreater(a['correct'], 0.2 * a['n'])
        self.assertEqual(*self.both('inspect', self.work / 'a.weights', *common))
        a, b = self.both('blend', self.work / 'a.weights', self.work / 'b.weights', '--alpha', 0.3, '--out', self.work / 'c.weights',
                         *common)
        self.assertEqual(a['checkpoint'], b['checkpoint'])

    def test_handover(self):
        """A device with arm64, a trainer on this machine."""
        test = self.shared_test_images()
        for name, n, seed in (('edge', 600, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        self.fleet.start_broker()
        listener = self.fleet.listen('device/+/offer', 'device/+/in/offer', 'trainer/+/in/+/ack')
        self.quick_trainer('edge-1', self.work / 'data/edge', {'data': {'test': test}})
        self.quick_agent('cam-1', self.work / 'data/cam', {'data': {'test': test}, 'train': {'round_epochs': 6}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        ack = self.decided(listener, 'cam-1', timeout=LONG)[0]
        result = next(body(m) for m in listener.all() if m['topic'].endswith('cam-1/in/offer') and body(m)['id'] == ack['checkpoint'])
        offer = next(body(m) for m in listener.all() if m['topic'].endswith('cam-1/offer') and body(m)['id'] == result['parents'][0])
        self.assertEqual(offer['model'], result['model'])
        for there, here in ((offer['test'], result['before']), (ack['test'], result['after'])):
            self.assertEqual((there['n'], there['correct']), (here['n'], here['correct']))
            self.assertAlmostEqual(there['loss'], here['loss'], delta=TOLERANCE * here['loss'])
        self.assertTrue(self.consistent('cam-1'))


rig.main()
