# alone
# build: plain
"""A checkpoint through a real broker over a bad network, by the product's transfer code at both ends (tests/bench/wire_end):
how much of a slow link is used, and what a connection that breaks all the time costs. Nothing here depends on how fast
the machine is: 10 Mbit/s is far below that."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
sys.path[:0] = [__file__.rsplit('/', 2)[0] + '/' + folder for folder in ('lib', 'bench')]
import rig
import wire_runs
from fault_proxy import FaultProxy
from fleet import Fleet, wait_for

RATE = 1_250_000  # 10 Mbit/s
ROUND_S = 0.1
BLOCK = 131072
OVERHEAD = 1.02   # topics, wants, acknowledgements


class Wire(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-wire-'))
        self.addCleanup(shutil.rmtree, self.work)
        self.fleet = self.enterContext(Fleet(self.work / 'fleet', rig.BUILD))
        self.fleet.start_broker(wire_runs.BROKER)
        self.proxy = self.enterContext(FaultProxy(self.fleet.port))
        self.cfg, self.weights = wire_runs.make_checkpoint(self.work, 5)
        for way in (self.proxy.up, self.proxy.down):
            way.rate, way.delay = RATE, ROUND_S / 2

    def sender(self, port):
        return self.enterContext(wire_runs.Sender(rig.BUILD, port, self.weights, BLOCK))

    def take(self, port, sender, timeout=120):
        return wire_runs.take(rig.BUILD, port, self.cfg, sender, self.work / 'store', timeout)

    def test_link_is_used(self):
        """In either direction of the slow end."""
        for slow in ('receiver', 'sender'):
            with self.subTest(slow=slow):
                way = self.proxy.down if slow == 'receiver' else self.proxy.up
                sender = self.sender(self.proxy.port if slow == 'sender' else self.fleet.port)
                before = way.bytes
                r = self.take(self.proxy.port if slow == 'receiver' else self.fleet.port, sender)
                used = int(sender.size) / RATE / r['arrived']
                rig.figure(f'10 Mbit/s, 100 ms, the {slow} behind it: {100 * used:.1f} % of the link used')
                self.assertGreater(used, 0.9)
                self.assertEqual((r['twice'], r['reasked']), (0, 0))
                self.assertLess(way.bytes - before, int(sender.size) * OVERHEAD)
                shutil.rmtree(self.work / 'store')
                sender.__exit__()

    def test_reset_every_two_megabytes(self):
        """What is on its way when a connection breaks goes again, and nothing else does."""
        self.proxy.down.reset_every = 2_000_000
        sender = self.sender(self.fleet.port)
        r = self.take(self.proxy.port, sender)
        extra = self.proxy.down.bytes - int(sender.size)
        rig.figure(f'reset every 2 MB: {self.proxy.resets} resets, {r["reasked"]} blocks asked for again, {extra} bytes '
                   f'beyond the checkpoint, a window of at most {r["window_max"]} blocks')
        self.assertGreaterEqual(self.proxy.resets, 2)
        self.assertEqual(r['connects'], self.proxy.resets + 1)
        self.assertLessEqual(r['reasked'], self.proxy.resets * r['window_max'])
        self.assertLessEqual(extra, self.proxy.resets * r['window_max'] * BLOCK + int(sender.size) * (OVERHEAD - 1))
        self.assertLess(r['window_max'] * BLOCK, 2_000_000)

    def test_stall_and_jitter(self):
        """Nothing comes for longer than the stall time, while wants go out; then all of it."""
        self.proxy.down.jitter = 0.05
        sender = self.sender(self.fleet.port)

        def stall():
            wait_for('the middle of it', lambda: self.proxy.down.bytes > 2_000_000, 60)
            self.proxy.down.hold(3)
        thread = threading.Thread(target=stall)
        thread.start()
        r = self.take(self.proxy.port, sender)
        thread.join()
        self.assertGreater(r['reasked'], 0)
        self.assertLessEqual(r['twice'], r['reasked'])
        self.assertEqual(r['connects'], 1)
        self.assertLess(self.proxy.down.bytes, int(sender.size) * OVERHEAD + r['twice'] * BLOCK)

    def test_slow_link_is_not_flooded(self):
        """On 1 Mbit/s a claim must not wait for the whole checkpoint: what is asked for at a time is seconds of it."""
        self.proxy.down.rate = 125_000
        self.cfg, self.weights = wire_runs.make_checkpoint(self.work, 2)
        sender = self.sender(self.fleet.port)
        r = self.take(self.proxy.port, sender)
        outstanding_s = r['window_max'] * BLOCK / self.proxy.down.rate
        rig.figure(f'1 Mbit/s: at most {outstanding_s:.1f} s of the link outstanding')
        self.assertLess(outstanding_s, 10)
        self.assertEqual(r['twice'], 0)

    def test_bench(self):
        """tests/bench/wire runs and says what it promises; no figure is judged."""
        doc = self.work / 'doc.md'
        doc.write_text('before\n<!-- measured: loopback -->\nold\n<!-- end: loopback -->\nafter\n'
                       '<!-- measured: secure -->\nold\n<!-- end: secure -->\n')
        r = subprocess.run([rig.ROOT / 'tests/bench/wire', '--loopback', '--secure', '--rounds', '1', '--megabytes', '2', '--build',
                            rig.BUILD, '--json', '--write', doc], capture_output=True, text=True, timeout=120)
        self.assertEqual(r.returncode, 0, r.stderr)
        run = json.loads(r.stdout)
        found, = run['loopback']
        self.assertEqual([bool(row['rate']) for row in run['secure']], [False, True])
        self.assertGreater(min(v for row in run['secure'] for v in row['median'].values()), 0)
        self.assertGreater(found['bytes'], 1_900_000)
        self.assertGreater(min(found['median'].values()), 0)
        text = doc.read_text()
        self.assertIn(f'| {found["bytes"]:,} |', text)
        self.assertNotIn('old', text)


class Handover(rig.Case):
    def test_both_ends_on_bad_networks(self):
        """The daemons themselves: the device's connection breaks every 10 KB of what it sends, the trainer's every 10 KB of
        what it gets; a handover is decided all the same."""
        self.fleet.start_broker()
        device, edge = (self.enterContext(FaultProxy(self.fleet.port, seed=s)) for s in (1, 3))
        for proxy in (device, edge):
            for way in (proxy.up, proxy.down):
                way.rate, way.delay, way.jitter = 125_000, 0.01, 0.01
        device.up.reset_every, edge.down.reset_every = 10_000, 10_000
        for name, n, seed in (('edge', 300, 1), ('cam', 120, 2)):
            self.digits(name, n, seed)
        listener = self.fleet.listen('trainer/+/in/+/ack')
        raw = {'transfer': {'encoding': 'raw'}}
        self.quick_trainer('edge-1', self.work / 'data/edge', {'broker': {'port': edge.port}, 'queue': {'block_size': 1024}, **raw})
        self.quick_agent('cam-1', self.work / 'data/cam', {'broker': {'port': device.port}, 'handover': {'block_size': 1024}, **raw})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        self.decided(listener, 'cam-1')
        rig.figure(f'a handover over {device.resets} and {edge.resets} resets')
        self.assertGreater(device.resets, 0)
        self.assertGreater(edge.resets, 0)
        self.consistent('cam-1')


if __name__ == '__main__':
    if os.access(rig.BUILD / 'tests/bench/wire_end', os.X_OK):
        rig.main()
    rig.skip(f'no wire_end in {rig.BUILD}')
