# alone
# build: plain
"""The agent's own memory while a 100 MB checkpoint passes through it, both ways, and the broker's."""
import sys
import threading
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import wait_for

AGENT_MAX_KIB = 24 * 1024
BROKER_MAX_KIB = 64 * 1024

# Two big connected layers, 784 x 8,000 x 2,400: 102 MB, and little to compute.
BIG = '''[net]
batch=8
subdivisions=1
height=28
width=28
channels=1
learning_rate=0.001
momentum=0.9
decay=0.0005
policy=constant
max_batches=1000

[connected]
output=8000
activation=leaky

[connected]
output=2400
activation=leaky

[connected]
output=10
activation=linear

[softmax]
groups=1
'''


class Memory(rig.Case):
    def test_hundred_megabytes(self):
        cfg = self.work / 'big.cfg'
        cfg.write_text(BIG)
        self.digits('edge', 10, 1)
        self.digits('cam', 20, 2)
        self.fleet.start_broker()
        listener = self.fleet.listen('trainer/+/in/+/ack', 'device/+/offer')
        self.fleet.trainer_conf('edge-1', cfg, rig.DIGITS, self.work / 'data/edge', {'train': {'epochs': 1}})
        self.fleet.agent_conf('cam-1', cfg, rig.DIGITS, self.work / 'data/cam', {
            'data': {'validation_share': 0.5}, 'train': {'round_epochs': 1, 'rounds': 1}, 'handover': {'every_epochs': 1}})
        agent = self.fleet.start_agent('cam-1')
        listener.wait('the offer', lambda m: m['topic'].endswith('cam-1/offer'), 300)
        broker = self.fleet.programs['broker']
        before, peak, done = rig.rss_kib(broker.pid), [0], []

        def watch():
            while not done:
                peak[0] = max(peak[0], rig.rss_kib(broker.pid))
                time.sleep(0.02)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        self.fleet.start_trainer('edge-1')
        began = time.monotonic()
        self.decided(listener, 'cam-1', timeout=600)
        took = time.monotonic() - began
        done.append(1)
        thread.join()
        agent_peak = rig.rss_kib(agent.pid, 'VmHWM')
        size = (self.work / 'cam-1/state/active.weights').stat().st_size
        rig.figure(f'{size / 1e6:.0f} MB there and back in {took:.0f} s (training in it): agent at most {agent_peak / 1024:.1f} MB, '
                   f'broker {(peak[0] - before) / 1024:.1f} MB more than before')
        self.assertGreater(size, 95e6)
        self.assertLess(agent_peak, AGENT_MAX_KIB)
        self.assertLess(peak[0] - before, BROKER_MAX_KIB)


rig.main()
