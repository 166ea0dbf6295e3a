# build: plain device
"""A whole training, epoch by epoch: the engine onednn follows Darknet's own from the same first weights, over the same
images in the same order, and what one has trained the other goes on with."""
import json
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

CFG = rig.ROOT / 'deploy/models/demo.cfg'
EPOCHS = 4
# Both round differently, and training amplifies it: how far the mean loss of an epoch may be off, of its size. A slip in one
# gradient shows as tens of percent.
LOSS_OFF = 0.05


class LossCurve(rig.Case):
    def setUp(self):
        super().setUp()
        self.data = self.digits('images', 800, 7)

    def train(self, engine, epochs, weights=None):
        out = self.work / f'{engine}-{epochs}.weights'
        r = self.fleet.run_tasuki('train', '--cfg', CFG, '--data', self.data, '--epochs', epochs, '--out', out, '--seed', 3,
                                  '--threads', 1, '--engine', engine, '--json', *(['--weights', weights] if weights else []))
        return out, json.loads(r.stdout)['loss']

    def accuracy(self, weights):
        r = self.fleet.run_tasuki('evaluate', '--cfg', CFG, '--data', self.data, '--weights', weights, '--split', 'test', '--json')
        return json.loads(r.stdout)['accuracy']

    def test_curve(self):
        curves = {engine: [self.train(engine, n + 1)[1] for n in range(EPOCHS)] for engine in ('darknet', 'onednn')}
        off = [abs(a - b) / b for a, b in zip(curves['onednn'], curves['darknet'])]
        self.assertLess(curves['darknet'][-1], curves['darknet'][0] / 3)  # there is a curve to follow
        self.assertLess(max(off), LOSS_OFF, curves)
        rig.figure(f'loss of {EPOCHS} epochs, onednn beside darknet: at most {100 * max(off):.2f} % apart '
                   f'({curves["darknet"][0]:.3f} down to {curves["darknet"][-1]:.3f})')

    def test_goes_on_from_the_other(self):
        first = {engine: self.train(engine, EPOCHS)[0] for engine in ('darknet', 'onednn')}
        for mine, other in (('darknet', 'onednn'), ('onednn', 'darknet')):
            out, loss = self.train(mine, 2, weights=first[other])
            own = self.train(mine, 2, weights=first[mine])[1]
            self.assertLess(abs(loss - own) / own, 4 * LOSS_OFF)
            self.assertGreater(self.accuracy(out), 0.6)  # after few epochs; chance is 0.1


rig.main()
