#!/usr/bin/env python3
"""Speed of PyTorch on the network of a Darknet cfg, measured as engine_speed measures ours.

torch_peer.py CFG train|predict contiguous|channels_last f32|bf16 THREADS SECONDS [BATCH [-]]

Training is what a user of PyTorch writes: stochastic gradient descent with momentum and weight decay, cross-entropy,
random images. Evaluation runs in inference mode. bf16 is PyTorch's own autocast. Prints one JSON object a measurement;
with "-" the line "ready" and then one for each line on standard input.
"""
import json
import resource
import sys
import time

WARM_UP = 3  # batches, unless they take longer than a measurement


def read_cfg(path):
    """[(section, {key: value})]"""
    sections = []
    for line in open(path, encoding='utf-8'):
        line = line.split('#')[0].split(';')[0].strip()
        if line.startswith('['):
            sections.append((line[1:line.index(']')], {}))
        elif line:
            key, value = line.split('=', 1)
            sections[-1][1][key.strip()] = value.strip()
    return sections


class Shape:
    def __init__(self, channels, height, width):
        self.channels, self.height, self.width = channels, height, width

    def slid(self, channels, size, stride, padding):
        """After a window of `size` with `padding` in all, both sides together."""
        return Shape(channels, (self.height + padding - size) // stride + 1,
                     (self.width + padding - size) // stride + 1)

    def count(self):
        return self.channels * self.height * self.width


def build(torch, sections):
    """(module, shape of an image, outputs). Each layer may add the output of an earlier one: [shortcut]."""
    nn = torch.nn

    def activation(name):
        return {'linear': [], 'leaky': [nn.LeakyReLU(0.1, inplace=True)], 'relu': [nn.ReLU(inplace=True)],
                'logistic': [nn.Sigmoid()], 'tanh': [nn.Tanh()]}[name]

    def convolutional(o, at):
        filters, size, stride, groups = (int(o.get(k, 1)) for k in ('filters', 'size', 'stride', 'groups'))
        padding = size // 2 if int(o.get('pad', 0)) else int(o.get('padding', 0))
        normalize = int(o.get('batch_normalize', 0))
        modules = [nn.Conv2d(at.channels, filters, size, stride, padding, groups=groups, bias=not normalize)]
        modules += [nn.BatchNorm2d(filters)] if normalize else []
        return modules + activation(o.get('activation', 'logistic')), at.slid(filters, size, stride, 2 * padding)

    def maxpool(o, at):
        stride = int(o.get('stride', 1))
        size = int(o.get('size', stride))
        if size != 2 or stride != 2 or 'padding' in o:
            raise SystemExit('torch_peer: [maxpool]: only size 2, stride 2')
        return [nn.MaxPool2d(2, 2, ceil_mode=True)], at.slid(at.channels, 2, 2, 1)

    def connected(o, at):
        outputs = int(o['output'])
        return ([nn.Flatten(), nn.Linear(at.count(), outputs)] + activation(o.get('activation', 'logistic')),
                Shape(outputs, 1, 1))

    def layer(kind, o, at):
        if kind == 'avgpool':
            return [nn.AdaptiveAvgPool2d(1)], Shape(at.channels, 1, 1)
        if kind == 'dropout':
            return [nn.Dropout(float(o.get('probability', 0.5)))], at
        makers = {'convolutional': convolutional, 'maxpool': maxpool, 'connected': connected}
        if kind not in makers:
            raise SystemExit(f'torch_peer: [{kind}]: not handled')
        return makers[kind](o, at)

    class Residual(nn.Module):
        """Layers in a row; `shortcuts` maps a place to the earlier one whose output is added there."""

        def __init__(self, layers, shortcuts):
            super().__init__()
            self.layers, self.shortcuts = nn.ModuleList(layers), shortcuts
            self.wanted = set(shortcuts.values())

        def forward(self, x):
            kept = {}
            for i, module in enumerate(self.layers):
                if i in self.shortcuts:
                    x = module(x + kept.pop(self.shortcuts[i]))
                else:
                    x = module(x)
                if i in self.wanted:
                    kept[i] = x
            return x

    net = sections[0][1]
    image = at = Shape(int(net.get('channels', 3)), int(net['height']), int(net['width']))
    layers, shortcuts = [], {}
    for i, (kind, o) in enumerate(s for s in sections[1:] if s[0] not in ('softmax', 'cost')):
        if kind == 'shortcut':
            shortcuts[i] = i + int(o['from'])
            modules = activation(o.get('activation', 'linear'))
        else:
            modules, at = layer(kind, o, at)
        layers.append(modules)
    if shortcuts:
        module = Residual([nn.Sequential(*modules) for modules in layers] + [nn.Flatten()], shortcuts)
    else:
        module = nn.Sequential(*(m for modules in layers for m in modules), nn.Flatten())
    return module, image, at.count()


class Peer:
    def __init__(self, torch, cfg, mode, layout, precision, threads, batch):
        sections = read_cfg(cfg)
        net = sections[0][1]
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        self.torch, self.train = torch, mode == 'train'
        self.batch = batch or int(net.get('batch', 1)) // int(net.get('subdivisions', 1))
        self.module, image, outputs = build(torch, sections)
        self.x = torch.rand(self.batch, image.channels, image.height, image.width)
        self.y = torch.randint(0, outputs, (self.batch,))
        if layout == 'channels_last':
            self.module = self.module.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.module.train(self.train)
        self.loss = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=float(net.get('learning_rate', 0.01)),
                                         momentum=0.9, weight_decay=5e-4)
        self.autocast = torch.cpu.amp.autocast(enabled=precision == 'bf16', dtype=torch.bfloat16)

    def step(self):
        if not self.train:
            with self.torch.inference_mode(), self.autocast:
                return self.module(self.x)
        self.optimizer.zero_grad()
        with self.autocast:
            loss = self.loss(self.module(self.x), self.y)
        loss.backward()
        self.optimizer.step()

    def run(self, seconds, batches_max=None):
        """Images a second."""
        begun, batches, spent = time.perf_counter(), 0, 0.0
        while batches == 0 or (spent < seconds and (batches_max is None or batches < batches_max)):
            self.step()
            batches += 1
            spent = time.perf_counter() - begun
        return batches * self.batch / spent


def main(argv):
    if len(argv) < 7:
        print(__doc__.split('\n')[2], file=sys.stderr)
        return 2
    try:
        import torch
    except ImportError:
        print('python3-torch is not installed', file=sys.stderr)
        return 1
    cfg, mode, layout, precision, threads, seconds = argv[1:7]
    peer = Peer(torch, cfg, mode, layout, precision, int(threads), int(argv[7]) if len(argv) > 7 else 0)
    peer.run(float(seconds), WARM_UP)

    def measure():
        speed = peer.run(float(seconds))
        print(json.dumps({
            'engine': f'pytorch {torch.__version__}', 'precision': precision, 'layout': layout, 'threads': int(threads),
            'batch': peer.batch, 'images_per_second': round(speed, 2),
            'parameters': sum(p.numel() for p in peer.module.parameters()),
            'peak_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)

    if len(argv) > 8:
        print('ready', flush=True)
        for _ in iter(sys.stdin.readline, ''):
            measure()
    else:
        measure()
    return 0


sys.exit(main(sys.argv))
