"""Ten devices, each with mostly three of ten classes of digits, and one edge: each device alone, or handing over to an edge that
goes on from each one's checkpoint for itself (resume), from their mean (merge), or from a mean that leans to those who
fare worst (agnostic).

All devices train the same number of epochs and offer a checkpoint every so many. What counts is what is in use on
each at the end, on test images of the device's own mix of classes (recall by class, weighed by the mix) and of all
classes alike; and the same of what the edge returned last.
"""
import pathlib
import shutil
import sys

import plans
import split
from child import Child, main, write_json
from fleet import Fleet
from live import SCORED_WITHIN_S, Device, start_broker, until

TRAINER = 'edge'
CLASSES = [str(c) for c in range(10)]
# Images.
DEVICE_IMAGES, VALIDATION_IMAGES, EDGE_IMAGES, TEST_IMAGES = 150, 300, 300, 1000
# Of a device: milliseconds a step costs, epochs in all, and between two offers (both scaled by --scale).
STEP_MS, EPOCHS, EVERY = 20, 40, 5
DEVICE_FOLD, EDGE_FOLD, EDGE_EPOCHS, WINDOW_S = 4, 4, 2, 20


def mix_of(i, n):
    """Shares of the classes on device i of n: 27 % each of its three, 2.7 % of each other one. The last device alone has
    much of the last three classes, the others share the first seven, and the edge has none but these."""
    own = [7, 8, 9] if i == n - 1 else [(i + k) % 7 for k in range(3)]
    weights = [10 if c in own else 1 for c in range(10)]
    return [w / sum(weights) for w in weights]


class Pool:
    """Images of each class, each given out once."""

    def __init__(self, classes, seed):
        self.left = {c: split.in_order(images, seed) for c, images in classes.items()}

    def take(self, n, mix):
        part = {}
        for c, share in zip(CLASSES, mix):
            k = round(n * share)
            part[c], self.left[c] = self.left[c][:k], self.left[c][k:]
        return part


class Many(Child):
    def prepare(self):
        s, data = self.spec, self.folder / 'data'
        self.epochs, self.every = (max(1, round(s['scale'] * x)) for x in (EPOCHS, EVERY))
        self.names = [f'device-{i}' for i in range(plans.MANY_DEVICES)]
        self.mixes = [mix_of(i, len(self.names)) for i in range(len(self.names))]
        self.cfg = self.copy_cfg('digits', len(CLASSES))
        shutil.rmtree(data, ignore_errors=True)
        pool = Pool(split.read_idx(pathlib.Path(s['data']), 'train'), f'many {s["fold"]}')
        edge = [1 / 7 if c < 7 else 0 for c in range(10)]
        for name, mix in zip(self.names, self.mixes):
            split.write_idx(pool.take(DEVICE_IMAGES, mix), data / name, CLASSES)
            split.write_idx(pool.take(VALIDATION_IMAGES, mix), data / f'{name}-validation', CLASSES)
        split.write_idx(pool.take(EDGE_IMAGES, edge), data / TRAINER, CLASSES)
        split.write_idx(split.some(split.read_idx(pathlib.Path(s['data']), 't10k'), TEST_IMAGES, 'test'), data / 'test', CLASSES)
        (data / 'classes.txt').write_text(''.join(f'{c}\n' for c in CLASSES))
        self.data = data

    def configure(self, fleet, strategy):
        common = {'data': {'test': self.data / 'test'}, 'augment': plans.AUGMENT['digits']}
        for name in self.names:
            fleet.agent_conf(name, self.cfg, self.data / 'classes.txt', self.data / name, {
                'data': {**common['data'], 'validation': self.data / f'{name}-validation', 'rescan_s': 0},
                'augment': {**common['augment'], 'fold': DEVICE_FOLD},
                # The same first weights everywhere: only such checkpoints average well.
                'train': {'seed': self.spec['fold'] + 1, 'nice': 5, 'step_ms': STEP_MS, 'round_epochs': self.epochs, 'rounds': 1},
                'handover': {'every_epochs': self.every if strategy != 'alone' else 0}})
        fleet.trainer_conf(TRAINER, self.cfg, self.data / 'classes.txt', self.data / TRAINER, {
            **common, 'augment': {**common['augment'], 'fold': EDGE_FOLD},
            'train': {'epochs': EDGE_EPOCHS, 'strategy': strategy if strategy != 'alone' else 'resume'},
            'merge': {'window_s': WINDOW_S, 'devices': len(self.names)},
            'queue': {'capacity': 2 * len(self.names), 'device_per_hour': 10000}})

    def hear(self):
        for parts, b, at in self.listener.news():
            if parts[0] == 'reply':
                self.devices[parts[2]].on_reply(parts[-1], b)
            elif parts[0] == 'device' and parts[2] == 'report':
                self.devices[parts[1]].on_report(b, at)
            elif parts[0] == 'device' and parts[2] == 'status':
                self.devices[parts[1]].status = b
        for d in self.devices.values():
            d.order()

    def over(self):
        """All have trained their epochs, and nothing is on its way."""
        self.hear()
        return all(d.status.get('epoch', 0) >= self.epochs and d.status.get('phase') == 'idle' for d in self.devices.values())

    def scored(self):
        self.hear()
        return not any(d.wanted for d in self.devices.values())

    def method(self, name):
        with self.processor, Fleet(self.folder / name, self.build, site='exp') as fleet:
            self.listener = start_broker(fleet)
            self.configure(fleet, name)
            if name != 'alone':
                fleet.start_trainer(TRAINER)
            self.devices = {d: Device(fleet, d, len(CLASSES)) for d in self.names}
            for d in self.names:
                fleet.start_agent(d)
            until('all devices to be done', fleet, self.over)
            for d in self.devices.values():
                d.want(d.activated()[-1]['checkpoint'])
            until('scores', fleet, self.scored, SCORED_WITHIN_S)
        found = [self.of_device(d, mix) for d, mix in zip(self.devices.values(), self.mixes)]
        self.say(f'own mix {summary(found, "in_use", "own")}, all classes {summary(found, "in_use", "all")}', name)
        return {'devices': found, 'epochs': self.epochs, 'every': self.every}

    def of_device(self, d, mix):
        active = d.activated()[-1]
        returned = [r for r in d.reports if r['origin'] == 'edge' and r['split'] == 'test']
        return {'in_use': recall(d.last(active['checkpoint'], 'test'), mix), 'returned': recall(returned[-1], mix) if returned else None,
                'origin': active['origin'], 'returns': len({r['checkpoint'] for r in returned})}


def recall(report, mix):
    """Percent on the device's mix, and on all classes alike."""
    by_class = {c['class']: c['correct'] / c['n'] for c in report['per_class'] if c['n']}
    return {'own': 100 * sum(mix[c] * v for c, v in by_class.items()), 'all': 100 * sum(by_class.values()) / len(by_class)}


def summary(devices, what, which):
    values = [d[what][which] for d in devices if d[what]]
    return f'mean {sum(values) / len(values):.1f} %, worst {min(values):.1f} %' if values else '-'


if __name__ == '__main__':
    sys.exit(main(Many))
