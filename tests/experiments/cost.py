"""What the edge pays for an accuracy: going on from what a device handed over, on its own images, beside training all at the
edge, from nothing, on its own and the device's images. Offline, on the very images that experiment 2-1 deals out."""
import sys

import plans
from child import Child, Failed, main, share

EXPERIMENT = plans.EXPERIMENTS['2-1']


class Cost(Child):
    def prepare(self):
        self.lay_out(EXPERIMENT, pooled=True)
        self.steps = round(self.spec['scale'] * EXPERIMENT.edge_steps)

    def common(self, data):
        return ('--cfg', self.cfg, '--data', self.parts.path(data), '--classes', self.parts.path('classes.txt'), '--threads', 1,
                '--test-share', 0, '--validation-share', 0, '--center-crop', self.crop)

    def score(self, weights, data):
        return self.tasuki('evaluate', *self.common(data), '--weights', weights, '--split', 'train')[0]

    def epochs(self, data, weights=None, at_a_time=1):
        """Trains on, so many epochs at a time, from weights or from nothing: (path, steps, CPU seconds), all since the beginning."""
        a, images = plans.AUGMENT[self.kind], self.parts.counts[data]
        fold = plans.device_fold(images)
        out, momentum = self.folder / f'{data}.weights', self.folder / f'{data}.momentum'
        steps = cpu_s = 0
        epoch = 1
        while True:
            r, s = self.tasuki(
                'train', *self.common(data), '--out', out, '--epochs', at_a_time, '--epoch', epoch, '--seed', self.spec['fold'] + 1, '--fold', fold,
                '--shift', a['shift_px'], '--blur', a['blur'], '--brightness', a['brightness'], *(['--flip'] if a['flip'] else []),
                '--momentum', momentum, *(['--weights', weights] if weights else []))
            weights, steps, cpu_s, epoch = out, steps + r['steps'], cpu_s + s, epoch + at_a_time
            yield out, steps, cpu_s

    def curve(self, data, weights=None):
        found = []
        for out, steps, cpu_s in self.epochs(data, weights):
            s = self.score(out, 'test')
            found.append({'steps': steps, 'cpu_s': cpu_s, 'test': {'n': s['n'], 'correct': s['correct']}})
            if steps >= self.steps:
                self.say(f'{data}: {share(s)} of the test images after {steps} steps and {cpu_s:.0f} CPU seconds')
                return found

    def handed_over(self):
        """What the device has once its validation images say so, or as late as the paper hands over."""
        for out, steps, _ in self.epochs('device', at_a_time=3):
            s = self.score(out, 'validation')
            if s['correct'] * 100 >= plans.HANDOVER_PERCENT * s['n'] or steps >= EXPERIMENT.device_steps:
                return out

    def method(self, name):
        if name != 'curves':
            raise Failed(f'cost: found method {name}, expected curves')
        with self.processor:
            weights = self.handed_over()
            start = self.score(weights, 'test')
            return {'start': {'n': start['n'], 'correct': start['correct']}, 'images': self.parts.counts,
                    'handover': self.curve('edge', weights), 'all_at_the_edge': self.curve('pool')}


if __name__ == '__main__':
    sys.exit(main(Cost))
