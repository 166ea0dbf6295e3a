"""Training and evaluation of several programs on the same networks, by turns."""
import pathlib
import statistics

from subjects import ROOT, Disturbance, Unavailable, by_turns, ratio

PACKAGE_CFG = pathlib.Path('/usr/share/darknet/cfg')  # of the package darknet
MODES = {'train': 'training', 'predict': 'evaluation'}


class Network:
    """batch 0: the cfg's. stock_batch, stock_rounds: where Darknet's own loops would take minutes a batch."""

    def __init__(self, name, cfg, batch=0, stock_batch=None, stock_rounds=None):
        self.name, self.cfg, self.batch = name, cfg, batch
        self.stock_batch = batch if stock_batch is None else stock_batch
        self.stock_rounds = stock_rounds


NETWORKS = [
    Network('digits', ROOT / 'deploy/models/digits.cfg'),
    Network('faces', ROOT / 'deploy/models/faces.cfg'),
    Network('resnet18', PACKAGE_CFG / 'resnet18.cfg', batch=16, stock_batch=1, stock_rounds=1),
]

STOCK = 'Darknet'
TORCH = 'PyTorch f32'
TORCH_LAST = 'PyTorch f32, channels last'
OURS = 'Tasuki f32'
LIMIT = 'matrix product'


def starters(makers, net, mode):
    """[(name, function that starts it)] in the order of the table."""
    def ours(name, engine, precision, stock=False):
        batch = net.stock_batch if stock else net.batch
        return name, lambda: makers.engine(name, net.cfg, mode, engine, precision, batch, stock)

    def torch(name, layout, precision):
        return name, lambda: makers.torch(name, net.cfg, mode, layout, precision, net.batch)
    return [
        ours(STOCK, 'darknet', 'f32', stock=True),
        ours('Darknet + OpenBLAS', 'darknet', 'f32'),
        torch(TORCH, 'contiguous', 'f32'),
        torch(TORCH_LAST, 'channels_last', 'f32'),
        torch('PyTorch bf16', 'contiguous', 'bf16'),
        torch('PyTorch bf16, channels last', 'channels_last', 'bf16'),
        ours(OURS, 'onednn', 'f32'),
        ours('Tasuki bf16', 'onednn', 'bf16'),
        (LIMIT, lambda: makers.product(LIMIT)),
    ]


def flops(macs, first, mode):
    """Of one image by the direct algorithms. Backward, each layer's products are those of forward twice, for the
    gradients of its weights and of its input; the first layer's input needs none."""
    return 2 * macs if mode == 'predict' else 6 * macs - 2 * first


def start(makers, net, mode, progress, missing):
    subjects = []
    for name, starter in starters(makers, net, mode):
        progress(f'{net.name}, {MODES[mode]}: starting {name}')
        try:
            subjects.append(starter())
        except Unavailable as e:
            missing.append({'network': net.name, 'mode': MODES[mode], 'subject': name, 'why': str(e)})
    return subjects


def peer_name(figures, mode):
    """What ours is compared with: PyTorch's usual format in training, its faster one in evaluation."""
    if mode == 'predict' and figures.get(TORCH) and figures.get(TORCH_LAST) and \
            statistics.median(figures[TORCH_LAST]) > statistics.median(figures[TORCH]):
        return TORCH_LAST
    return TORCH if figures.get(TORCH) else None


def summarize(net, mode, subjects):
    figures = {s.name: s.figures() for s in subjects if s.name != LIMIT}
    limit = next((s.figures('gflops') for s in subjects if s.name == LIMIT), [])
    shape = next(s.results[0] for s in subjects if 'macs_per_image' in s.results[0])
    per_image = flops(shape['macs_per_image'], shape['macs_first_layer'], mode)
    peer = peer_name(figures, mode)
    rows = []
    for s in subjects:
        if s.name == LIMIT:
            continue
        f = figures[s.name]
        middle = statistics.median(f)
        gflops = [x * per_image / 1e9 for x in f]
        rows.append({
            'network': net.name, 'mode': MODES[mode], 'subject': s.name, 'engine': s.results[0]['engine'],
            'precision': s.results[0]['precision'], 'batch': s.results[0]['batch'], 'rounds': len(f),
            'images_per_second': middle, 'figures': f, 'spread': (max(f) - min(f)) / middle,
            'gflops': statistics.median(gflops), 'of_limit': ratio(gflops, limit),
            'to_stock': ratio(f, figures.get(STOCK)), 'to_pytorch': ratio(f, figures.get(peer)),
            'peak_bytes': s.peak_bytes})
    return {'network': net.name, 'mode': MODES[mode], 'flops_per_image': per_image, 'peer': peer, 'rows': rows,
            'limit_gflops': statistics.median(limit) if limit else None,
            'limit_core': next((s.results[0]['core'] for s in subjects if s.name == LIMIT), None)}


def measure_block(makers, net, mode, rounds, progress, missing):
    disturbance = Disturbance()
    subjects = start(makers, net, mode, progress, missing)
    try:
        failed = by_turns(subjects, rounds, lambda text: progress(f'{net.name}, {MODES[mode]}, {text}'),
                          {STOCK: net.stock_rounds} if net.stock_rounds else None)
        missing += [{'network': net.name, 'mode': MODES[mode], 'subject': k, 'why': v} for k, v in failed.items()]
        block = summarize(net, mode, [s for s in subjects if s.name not in failed])
    finally:
        for s in subjects:
            s.close()
    block['disturbance'] = disturbance.shares()
    return block


def measure(makers, names, rounds, progress):
    missing, blocks = [], []
    for net in NETWORKS:
        if net.name not in names:
            continue
        if not net.cfg.exists():
            missing.append({'network': net.name, 'mode': '', 'subject': 'all', 'why': f'{net.cfg}: not there'})
            continue
        blocks += [measure_block(makers, net, mode, rounds, progress, missing) for mode in MODES]
    return {'blocks': blocks, 'missing': missing}
