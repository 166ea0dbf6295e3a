"""The measurement of a fleet runs and says what it promises; no speed is judged, but no report may be lost."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

FLEET = rig.ROOT / 'tests/bench/fleet'
SMALL = ['--devices', 20, '--processes', 2, '--offers', 5, '--epoch', 2, '--job', 0.2, '--seconds', 5, '--ramp', 1, '--outage', 1]


def bench(*args):
    return subprocess.run([str(x) for x in (FLEET, '--build', rig.BUILD, *args)], capture_output=True, text=True, timeout=600)


class Bench(unittest.TestCase):
    def test_small(self):
        with tempfile.TemporaryDirectory() as d:
            doc = pathlib.Path(d) / 'doc.md'
            doc.write_text('before\n<!-- measured: fleet -->\nold\n<!-- end: fleet -->\nafter\n')
            r = bench(*SMALL, '--state', d, '--json', '--write', doc)
            self.assertEqual(r.returncode, 0, r.stderr)
            text = doc.read_text()
        run = json.loads(r.stdout)
        self.assertEqual(run['devices'], 20)
        self.assertGreater(run['reports'], 20)
        self.assertEqual(run['reports_lost'], 0)
        for part in ('steady', 'after_cut', 'after_restart'):
            self.assertGreater(run[part]['handovers'], 0, run[part])
            self.assertGreater(run[part]['answers'], 0, run[part])
            self.assertGreater(run[part]['cpu']['trainer'], 0, run[part])
        self.assertEqual((run['cut']['lost'], run['cut']['connects']), (20, 20))
        self.assertEqual((run['restart']['lost'], run['restart']['connects']), (0, 0))
        self.assertGreater(len(run['cut']['complaints']['trainer']), 0)  # it does say that it lost its broker
        self.assertEqual(run['devices_ended'], [0, 0], run['devices_log'])
        self.assertTrue(text.startswith('before\n<!-- measured: fleet -->\n') and text.endswith('<!-- end: fleet -->\nafter\n'))
        self.assertNotIn('\nold\n', text)
        self.assertIn('whole handovers', text)

    def test_bad_usage(self):
        for args in (['--devices', 3, '--processes', 4], ['--offers', 0], ['--seconds', 'inf'], ['--frobnicate'],
                     ['--write', '/no/such']):
            r = bench(*args)
            self.assertEqual(r.returncode, 2, args)
            self.assertEqual(r.stdout, '')


rig.main()
