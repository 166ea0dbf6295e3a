"""What a user gets: `tasuki train` with its worker, on images. Scaling, feeding, memory."""
import json
import pathlib
import random
import re
import statistics
import struct
import subprocess
import zlib

from speed import NETWORKS, TORCH, TORCH_LAST, flops
from subjects import HUNG_S, ROOT, WORKER_ENV, Disturbance, Unavailable, build_options, by_turns, clean_env, proc_kib, ratio
from worker import Worker, WorkerError

LFW = ROOT.parent / 'shared/data/lfw'
AUGMENT = ['--fold', 9, '--flip', '--shift', 4, '--blur', 0.8, '--brightness', 0.2]
TIMES = (1, 2, 4)  # of images, of filters
CFG = {n.name: n.cfg for n in NETWORKS}


class Tasuki:
    def __init__(self, build, threads, work):
        self.program, self.threads, self.work = build / 'cli/tasuki', threads, work

    def run(self, *args):
        """Its JSON."""
        argv = [str(x) for x in (self.program, *args, '--json')]
        p = subprocess.run(argv, capture_output=True, env=clean_env(), text=True)
        if p.returncode:
            raise Unavailable((p.stderr.strip().splitlines() or [f'status {p.returncode}'])[-1])
        return json.loads(p.stdout)

    def train(self, cfg, data, *args, precision='f32'):
        return self.run('train', '--cfg', cfg, '--data', data, '--out', self.work / 'bench.weights', '--threads',
                        self.threads, '--engine', 'onednn', '--precision', precision, *args)


def png(path, side, rng):
    """A colour image of noise on a slope; the zlib of the standard library suffices for that."""
    base = [rng.randrange(128) for _ in range(3)]
    rows = bytearray()
    for y in range(side):
        rows.append(0)
        noise = rng.randbytes(3 * side)
        rows += bytes((base[i % 3] + y + noise[i] // 8) % 256 for i in range(3 * side))

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)) +
                     chunk(b'IDAT', zlib.compress(bytes(rows), 1)) + chunk(b'IEND', b''))


def image_folders(work, data=None):
    """(folder, options of tasuki, in words): the given one, the faces that lie beside the project, or drawn ones."""
    if data:
        return pathlib.Path(data), [], str(data)
    if LFW.is_dir():
        return LFW, ['--center-crop', 120], 'LFW, middle 120 of 250 px'
    folder, rng = work / 'images', random.Random(1)
    for c in range(33 if not folder.exists() else 0):  # two parts may ask for them
        (folder / f'{c:02}').mkdir(parents=True)
        for i in range(10):
            png(folder / f'{c:02}/{i}.png', 96, rng)
    return folder, [], '330 generated images of 96x96 px'


def measure_feed(makers, tasuki, rounds, progress, data=None):
    """Training from image folders with augmentation beside the same kernels on tensors that are always there."""
    folder, options, words = image_folders(tasuki.work, data)
    disturbance, rows, missing = Disturbance(), [], []
    for precision in ('f32', 'bf16'):
        progress(f'feed, {precision}')
        try:
            tensors = makers.engine('tensors', CFG['faces'], 'train', 'onednn', precision)
        except Unavailable as e:
            missing.append({'network': 'faces', 'mode': 'training', 'subject': f'Tasuki {precision}', 'why': str(e)})
            continue
        fed = []
        try:
            tensors.measure()
            speed, batch = (tensors.results[0][k] for k in ('images_per_second', 'batch'))
            steps = max(4, round(2 * makers.seconds * speed / batch))
            tensors.results.clear()
            for i in range(rounds):
                progress(f'feed, {precision}, round {i + 1} of {rounds}')
                tensors.measure()
                fed.append(tasuki.train(CFG['faces'], folder, '--steps', steps, *options, *AUGMENT, precision=precision))
            f = [r['images_per_second'] for r in fed]
            rows.append({'engine': fed[0].get('engine'), 'precision': fed[0].get('precision'), 'steps': steps,
                         'rounds': rounds, 'tensors': statistics.median(tensors.figures()),
                         'images': statistics.median(f), 'ratio': ratio(f, tensors.figures()),
                         'figures_tensors': tensors.figures(), 'figures_images': f})
        except Unavailable as e:
            missing.append({'network': 'faces', 'mode': 'training', 'subject': f'Tasuki {precision}', 'why': str(e)})
        finally:
            tensors.close()
    return {'data': words, 'augmentation': ' '.join(map(str, AUGMENT)), 'rows': rows, 'missing': missing,
            'disturbance': disturbance.shares()}


def widened(work, times):
    """The digits' network with so many times the filters in each layer."""
    text = re.sub(r'^filters=(\d+)', lambda m: f'filters={int(m[1]) * times}', CFG['digits'].read_text(), flags=re.M)
    path = work / f'digits-x{times}.cfg'
    path.write_text(text)
    return path


def scaling_filters(makers, rounds, work, progress, missing):
    rows = []
    for mode, precision in (('train', 'f32'), ('predict', 'f32'), ('train', 'bf16'), ('predict', 'bf16')):
        subjects = []
        try:
            for times in TIMES:
                progress(f'filters, {mode} {precision}: starting x{times}')
                subjects.append(makers.engine(f'x{times}', widened(work, times), mode, 'onednn', precision))
            failed = by_turns(subjects, rounds, lambda text: progress(f'filters, {mode} {precision}, {text}'))
            if failed:
                raise Unavailable('; '.join(failed.values()))
        except Unavailable as e:
            missing.append({'network': 'digits', 'mode': mode, 'subject': f'Tasuki {precision}', 'why': str(e)})
            continue
        finally:
            for s in subjects:
                s.close()
        first = None
        for times, s in zip(TIMES, subjects):
            r = s.results[0]
            cost = flops(r['macs_per_image'], r['macs_first_layer'], mode)
            first = first or (s, cost)
            rows.append({'mode': mode, 'precision': precision, 'times': times, 'flops_per_image': cost,
                         'images_per_second': statistics.median(s.figures()),
                         'flops_ratio': cost / first[1], 'time_ratio': ratio(first[0].figures(), s.figures())})
    return rows


def scaling_images(tasuki, rounds, n, progress):
    """One epoch over n, 2n and 4n images; its seconds without start and decoding."""
    folders, found = {}, {t: [] for t in TIMES}
    for times in TIMES:
        folders[times] = tasuki.work / f'digits-{times}'
        tasuki.run('dataset', 'digits', '--out', folders[times], '--n', n * times, '--seed', 1)
    for i in range(rounds):
        for times in TIMES:
            progress(f'images, round {i + 1} of {rounds}: x{times}')
            found[times].append(tasuki.train(CFG['digits'], folders[times], '--epochs', 1))
    seconds = {t: [r['seconds'] for r in found[t]] for t in TIMES}
    return [{'times': t, 'images': found[t][0]['images'], 'seconds': statistics.median(seconds[t]),
             'images_ratio': found[t][0]['images'] / found[1][0]['images'],
             'time_ratio': ratio(seconds[t], seconds[1]), 'engine': found[t][0].get('engine'),
             'figures': seconds[t]} for t in TIMES]


def measure_scaling(makers, tasuki, rounds, progress, n):
    disturbance, missing, images = Disturbance(), [], []
    try:
        images = scaling_images(tasuki, rounds, n, progress)
    except Unavailable as e:
        missing.append({'network': 'digits', 'mode': 'training', 'subject': 'tasuki train', 'why': str(e)})
    filters = scaling_filters(makers, rounds, tasuki.work, progress, missing)
    return {'images': images, 'filters': filters, 'missing': missing, 'disturbance': disturbance.shares()}


def worker(build):
    return Worker(build / 'common/engine/tasuki-worker', env=clean_env(WORKER_ENV), hung_s=HUNG_S)


def peak_bytes(w):
    return proc_kib(w.process.pid, 'VmHWM') * 1024


def idle_memory(build):
    """Of a worker that waits for its first request: it has answered one, to which nothing can be said yet."""
    with worker(build) as w:
        try:
            w.ask('pause')
        except WorkerError:
            pass  # 'open' must come first
        return {'engine': None, 'peak_bytes': peak_bytes(w)}


def working_memory(tasuki, build, folder, crop, engine, precision):
    """Of one that trains, evaluates what it has trained, and goes on."""
    out = str(tasuki.work / 'memory.weights')
    with worker(build) as w:
        ready = w.ask('open', cfg=str(CFG['faces']), threads=tasuki.threads, engine=engine, precision=precision, fold=9,
                      augment={'shift_px': 4, 'flip': True, 'blur': 0.8, 'brightness': 0.2},
                      data={'path': str(folder), 'center_crop': crop, 'validation_share': 0.2})
        w.ask('train', out=out, steps=20, seed=1)
        w.ask('evaluate', weights=out, split='validation')
        w.ask('train', weights=out, out=out, steps=5, seed=2)
        return {'engine': ready['engine'], 'peak_bytes': peak_bytes(w)}


def measure_memory(makers, tasuki, progress, data=None, beside=None):
    """Peak resident memory of the whole process that trains faces.cfg: the real worker, with its images and both
    networks, of each build, and PyTorch with one batch of random images."""
    folder, options, words = image_folders(tasuki.work, data)
    crop = options[1] if options else 0
    rows, missing = [], []

    def note(name, function):
        progress(f'memory: {name}')
        try:
            rows.append({'subject': name, **function()})
        except (Unavailable, WorkerError, OSError) as e:
            missing.append({'network': 'faces', 'mode': 'training', 'subject': name, 'why': str(e)})

    def torch(layout):
        s = makers.torch('PyTorch', CFG['faces'], 'train', layout, 'f32')
        try:
            s.measure()
            return {'engine': s.results[0]['engine'], 'peak_bytes': s.peak_bytes}
        finally:
            s.close()
    for build in filter(None, (makers.build, beside)):
        of = f'worker, Darknet of the {build_options(build).get("darknet", "system")}'
        note(f'{of}: idle', lambda: idle_memory(build))
        for name, engine, precision in (('Darknet + OpenBLAS', 'darknet', 'f32'), ('Tasuki f32', 'onednn', 'f32'),
                                        ('Tasuki bf16', 'onednn', 'bf16')):
            note(f'{of}: {name}', lambda: working_memory(tasuki, build, folder, crop, engine, precision))
    note(TORCH, lambda: torch('contiguous'))
    note(TORCH_LAST, lambda: torch('channels_last'))
    peers = [r['peak_bytes'] for r in rows if r['subject'] in (TORCH, TORCH_LAST)]
    for r in rows:  # beside the leaner of PyTorch's
        r['to_pytorch'] = r['peak_bytes'] / min(peers) if peers else None
    return {'data': words, 'rows': rows, 'missing': missing}
