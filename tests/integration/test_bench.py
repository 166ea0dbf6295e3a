# alone
# build: plain
"""The measurements of the engine, and of an application beside it, run and say what they promise; no figure is judged."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

ENGINE = rig.ROOT / 'tests/bench/engine'
APP = rig.ROOT / 'tests/bench/app'
TINY_RUN = ['--seconds', 0.05, '--rounds', 1, '--build', rig.BUILD]


def bench(*args, program=ENGINE):
    return subprocess.run([str(x) for x in (program, *TINY_RUN, *args)], capture_output=True, text=True, timeout=600)


class Bench(unittest.TestCase):
    def run_json(self, *args):
        r = bench('--json', *args)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(len(r.stdout.strip().splitlines()), 1, r.stdout)
        run = json.loads(r.stdout)
        for key in ('command', 'machine', 'build', 'threads', 'rounds', 'seconds'):
            self.assertIn(key, run)
        return run

    def test_speed(self):
        with tempfile.TemporaryDirectory() as d:
            folder = pathlib.Path(d)
            doc = folder / 'doc.md'
            doc.write_text('before\n<!-- measured: speed -->\nold\n<!-- end: speed -->\nafter\n')
            run = self.run_json('--only', 'digits', '--out', folder, '--write', doc)
            text = doc.read_text()
            self.assertEqual(json.loads((folder / 'engine.json').read_text()), run)
            pictured = (folder / 'speed.png').exists()
        speed = run['speed']
        self.assertEqual([(b['network'], b['mode']) for b in speed['blocks']],
                         [('digits', 'training'), ('digits', 'evaluation')])
        absent = {m['subject']: m['why'] for m in speed['missing']}
        for b in speed['blocks']:
            rows = {r['subject']: r for r in b['rows']}
            self.assertLessEqual({'Darknet', 'Darknet + OpenBLAS', 'Tasuki f32'}, set(rows))
            for name in ('PyTorch f32', 'PyTorch f32, channels last', 'PyTorch bf16', 'Tasuki bf16'):
                self.assertTrue((name in rows) != (name in absent), name)
            for r in rows.values():
                self.assertEqual(len(r['figures']), 1)
                self.assertGreater(r['images_per_second'], 0)
                self.assertGreater(r['peak_bytes'], 1e6)
                self.assertAlmostEqual(r['gflops'], r['images_per_second'] * b['flops_per_image'] / 1e9)
            # What each is called is what computed it.
            self.assertEqual(rows['Darknet']['engine'], 'darknet')
            self.assertEqual((rows['Tasuki f32']['engine'], rows['Tasuki f32']['precision']), ('onednn', 'f32'))
            self.assertEqual(rows['Darknet']['to_stock'], 1)
            self.assertEqual(b['peer'] is None, 'PyTorch f32' in absent)
            self.assertEqual(set(b['disturbance']), {'others', 'host'})
        self.assertEqual(pictured, 'PyTorch f32' not in absent)
        # Three 3x3 convolutions and a connected layer; the first layer's input has no gradient.
        macs = [9 * 32 * 28 * 28, 9 * 32 * 64 * 14 * 14, 9 * 64 * 128 * 7 * 7, 128 * 10]
        train, evaluation = speed['blocks']
        self.assertEqual(evaluation['flops_per_image'], 2 * sum(macs))
        self.assertEqual(train['flops_per_image'], 6 * sum(macs) - 2 * macs[0])
        self.assertTrue(text.startswith('before\n<!-- measured: speed -->\n') and text.endswith('<!-- end: speed -->\nafter\n'))
        self.assertNotIn('old', text)
        self.assertTrue(re.search(r'^\| Tasuki f32 ', text, re.M), text)

    def test_scaling_feed_memory(self):
        run = self.run_json('--scaling', '--feed', '--memory', '--images', 60)
        self.assertEqual([r['times'] for r in run['scaling']['images']], [1, 2, 4])
        ratios = [r['flops_ratio'] for r in run['scaling']['filters'] if (r['mode'], r['precision']) == ('train', 'f32')]
        self.assertEqual(ratios[0], 1)
        self.assertTrue(12 < ratios[2] < 16.1, ratios)
        self.assertEqual(run['feed']['rows'][0]['precision'], 'f32')
        self.assertGreater(run['feed']['rows'][0]['ratio'], 0)
        workers = [r for r in run['memory']['rows'] if r['subject'].startswith('worker')]
        self.assertGreaterEqual(len(workers), 3)
        self.assertTrue(workers[0]['subject'].endswith('idle'))
        for r in workers[1:]:
            self.assertGreater(r['peak_bytes'], workers[0]['peak_bytes'] + 32e6, r)  # weights and momentum alone

    def test_application(self):
        r = bench('--json', '--only', 'digits', '--seconds', 0.3, '--every', 20, program=APP)
        self.assertEqual(r.returncode, 0, r.stderr)
        found = json.loads(r.stdout)['networks']['digits']
        self.assertEqual(list(found), ['libtasuki', 'the same engine in it', 'Darknet in it'])
        for how in found.values():
            self.assertEqual([x['swaps'] for x in how['quiet']], [0])
            self.assertGreater(how['swaps'][0]['swaps'], 0)
            self.assertLessEqual(how['swaps'][0]['median_ms'], how['swaps'][0]['longest_ms'])

    def test_bad_usage(self):
        for args in (['--rounds', 0], ['--only', 'nothing'], ['--seconds', 'inf'], ['--frobnicate']):
            r = bench(*args)
            self.assertEqual(r.returncode, 2, args)
            self.assertEqual(r.stdout, '')


rig.main()
