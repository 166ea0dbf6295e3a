"""One whole handover between two devices and an edge trainer, on this machine's loopback.

Without --data the digits are drawn here (nothing is downloaded); with it, the images of DIR (MNIST's four IDX
files, or one folder of images per class) are dealt out to the edge and the two devices. Nothing but loopback
connections is opened, and nobody else on a network can reach them. With --secure everybody has a certificate all the same,
made for this run, and the broker is that of broker-config/production.conf: what you would run on a network.
"""
import argparse
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

from fleet import ROOT, Fleet, interrupt_once, percent

DEVICES = ['cam-1', 'cam-2']
TRAINER = 'edge-1'


def options():
    p = argparse.ArgumentParser(prog='deploy/demo', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', metavar='DIR', help='your own images instead of the embedded digits')
    p.add_argument('--cfg', metavar='FILE', help='Darknet cfg (default: a small net for IDX data and digits, a 16 MB '
                   'one for folders of photos); its last connected layer is given as many outputs as there are classes')
    p.add_argument('--center-crop', metavar='PX', type=int,
                   help='square around the middle of each photo (default: 48 %% of its shorter side, where faces are)')
    p.add_argument('--epochs', type=at_least(1), help='device epochs before the handover')
    p.add_argument('--edge-epochs', type=at_least(1), help='epochs of the edge for each handover')
    p.add_argument('--after', type=at_least(0), help='device epochs after the decision')
    p.add_argument('--limit', type=at_least(0), default=0, help='at most so many images for each of the three; 0: all')
    p.add_argument('--secure', action='store_true', help='certificates, TLS and access control for everybody')
    p.add_argument('--minutes', type=float, default=90, help='give up after so long (90)')
    p.add_argument('--work', metavar='DIR', help='where everything is kept (default: build-demo/run)')
    p.add_argument('--build', metavar='DIR', default=str(ROOT / 'build-demo'), help=argparse.SUPPRESS)
    p.add_argument('--check-options', action='store_true', help=argparse.SUPPRESS)
    args = p.parse_args()
    for name, found in (('--data', args.data is None or pathlib.Path(args.data).is_dir()),
                        ('--cfg', args.cfg is None or pathlib.Path(args.cfg).is_file())):
        if not found:
            p.error(f'{name}: {getattr(args, name[2:])!r} is not there')
    return args


def at_least(least):
    def number(text):
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f'found {text}, expected at least {least}')
        return value
    return number


def size_text(n):
    return f'{n / 1e6:.1f} MB' if n >= 1e6 else f'{n / 1e3:.0f} kB'


def form_text(manifest):
    return f'{size_text(manifest["size"])} of {manifest["encoding"]}'


MARKER = '.tasuki-demo'  # in every working folder that the demo has made: only such a one is emptied


def take_work_folder(path, data):
    """Makes or empties the working folder and locks it for this process's life."""
    if data and (path == data or path in data.parents or data in path.parents):
        raise RuntimeError(f'--work {path}: must lie apart from --data {data}')
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / MARKER).exists())):
        raise RuntimeError(f'--work {path}: holds something that is not the demo\'s; give a new folder')
    path.mkdir(parents=True, exist_ok=True)
    lock = os.open(path / MARKER, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError(f'another demo runs in {path} (pid {os.read(lock, 20).decode().strip()}); '
                           'give this one a --work of its own') from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f'{os.getpid()}\n'.encode(), 0)
    for old in path.iterdir():
        if old.name != MARKER:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    return lock


class Demo:
    def __init__(self, args):
        self.args = args
        self.work = pathlib.Path(args.work or pathlib.Path(args.build) / 'run').resolve()
        self.fleet = None
        self.began = time.monotonic()
        self.status, self.jobs, self.reports, self.handovers = {}, {}, {d: [] for d in DEVICES}, {}
        self.on_line = False

    def say(self, text):
        if self.on_line:
            sys.stdout.write('\r\033[K')
            self.on_line = False
        print(f'{time.monotonic() - self.began:6.1f} s  {text}', flush=True)

    def tasuki(self, *args):
        return self.fleet.run_tasuki(*args).stdout

    # What the fleet trains on, and which network.
    def prepare(self):
        data = self.work / 'data'
        if self.args.data:
            self.deal(pathlib.Path(self.args.data).resolve(), data)
        else:
            self.draw(data)
        self.classes = data / 'classes.txt'
        self.own_cfg()
        look = ('--center-crop', self.crop) if self.photos else ('--side', 28)
        self.tasuki('dataset', 'sheet', '--data', data / DEVICES[0], '--out', self.work / 'images-cam-1.png', *look,
                    '--test-share', 0, '--validation-share', 0)

    def draw(self, data):
        self.photos, self.crop = False, 0
        self.say('drawing handwriting-like digits: 6000 for the edge, 600 for each device, of which 4 in 5 are of '
                 'its own five classes')
        mixes = {'cam-1': '4,4,4,4,4,1,1,1,1,1', 'cam-2': '1,1,1,1,1,4,4,4,4,4'}
        for seed, (name, n) in enumerate([(TRAINER, 6000), *[(d, 600) for d in DEVICES], ('test', 5000)], 1):
            mix = ['--mix', mixes[name]] if name in mixes else []
            self.tasuki('dataset', 'digits', '--out', data / name, '--n', n, '--seed', seed, *mix)
            # Everybody's reports stand on the same test images: those of 'test'.
            for f in data.glob(f'{name}/{"train" if name == "test" else "t10k"}-*'):
                f.unlink()
        (data / 'classes.txt').write_text(''.join(f'{i}\n' for i in range(10)))

    def deal(self, source, data):
        self.photos = not any(source.glob('*-idx?-ubyte*'))
        self.say(f'dealing out {source}: 70 % to the edge, 15 % to each device, which has twice as many of half of the classes; '
                 'test images first')
        count = json.loads(self.tasuki('dataset', 'count', '--data', source, '--json'))
        n = len(count['classes'])
        halves = [f'0-{n // 2 - 1}', f'{n // 2}-{n - 1}'] if n > 1 else ['0', '0']
        self.tasuki('dataset', 'share', '--data', source, '--out', data, '--part', f'{TRAINER}=0.7',
                    '--part', f'cam-1=0.15:{halves[0]}', '--part', f'cam-2=0.15:{halves[1]}', '--skew', 2)
        for name in (TRAINER, *DEVICES, 'test'):
            if not (data / name).is_dir():
                raise RuntimeError(f'--data {source}: too few images: none is left for {name}')
        self.crop = self.args.center_crop
        if self.crop is None:
            self.crop = default_crop(source) if self.photos else 0
            if self.photos:
                self.say(f'of each photo the {self.crop} x {self.crop} pixels in the middle (--center-crop)')

    def own_cfg(self):
        """The network with as many outputs as there are classes."""
        default = 'faces.cfg' if self.photos else 'demo.cfg'
        source = pathlib.Path(self.args.cfg) if self.args.cfg else ROOT / 'deploy/models' / default
        n = len(self.classes.read_text().splitlines())
        self.cfg = self.work / 'model.cfg'
        self.cfg.write_text(with_outputs(source.read_text(), n))
        self.say(f'network {source.name} with {n} outputs')

    def start(self):
        a, photos, data = self.args, self.photos, self.work / 'data'
        self.epochs = a.epochs or (4 if photos else 5)
        self.after = a.after if a.after is not None else (2 if photos else 8)
        edge_epochs = a.edge_epochs or (5 if photos else 4)
        augment = {'shift_px': 4 if photos else 2, 'flip': photos, 'blur': 0.8, 'brightness': 0.2}
        common = {'data': {'test': data / 'test', 'center_crop': self.crop, 'limit': a.limit}}
        if photos:  # they were dealt out as links, which the worker's cage follows nowhere else
            common['worker'] = {'readable': pathlib.Path(a.data).resolve()}
        fold = 9 if photos else 2
        self.fleet.start_broker(guarded=True)
        self.listener = self.fleet.listen(
            'device/+/status', 'device/+/report', 'device/+/offer', 'device/+/in/offer', 'trainer/+/job/+',
            'trainer/+/in/+/ack', 'trainer/+/in/+/grant')
        time.sleep(0.3)
        self.fleet.trainer_conf(TRAINER, self.cfg, self.classes, data / TRAINER, {
            **common, 'augment': {**augment, 'fold': 9 if photos else 1}, 'train': {'epochs': edge_epochs, 'threads': 1}})
        self.fleet.start_trainer(TRAINER)
        for d in DEVICES:
            # One seed: from the same first weights, so that a first handover can be the difference to them.
            self.fleet.agent_conf(d, self.cfg, self.classes, data / d, {
                **common, 'data': {**common['data'], 'validation_share': 0.4},
                'augment': {**augment, 'fold': fold},
                'train': {'seed': 1, 'threads': 1, 'nice': 5},
                'handover': {'every_epochs': 1000000, 'min_epochs': self.epochs}})
            self.fleet.start_agent(d)
        self.say(f'broker on {self.where()}, trainer {TRAINER} and devices {", ".join(DEVICES)} run; look for yourself:')
        self.say(' '.join([*(f'{k}={shlex.quote(v)}' for k, v in self.fleet.tasuki_env().items()),
                           shlex.quote(str(self.fleet.tasuki)), 'watch']))

    def where(self):
        if not self.args.secure:
            return f'127.0.0.1:{self.fleet.port}, the loopback only: no certificates, nobody is asked for a name (--secure)'
        return '127.0.0.1, ports ' + ', '.join(f'{port} for {role}s' for role, port in self.fleet.ports.items() if role != 'broker') \
            + f', TLS with certificates of {self.fleet.pki.folder}'

    # What the fleet says, as it comes.
    def hear(self):
        for parts, b, _ in self.listener.news():
            if parts[0] == 'device' and parts[2] == 'status':
                self.status[parts[1]] = b
            elif parts[0] == 'device' and parts[2] == 'report':
                self.on_report(parts[1], b)
            elif parts[0] == 'device' and parts[-1] == 'offer':
                self.on_offer(parts[1], b, returned=parts[2] == 'in')
            elif parts[0] == 'trainer' and parts[2] == 'job':
                self.jobs[parts[3]] = b
            elif parts[0] == 'trainer' and parts[-1] == 'ack':
                self.on_ack(parts[3], b)
            elif parts[0] == 'trainer' and parts[-1] == 'grant' and b.get('granted'):
                h = self.handovers.setdefault(parts[3], {})
                if h.setdefault('fence', b['fence']) == b['fence'] and not h.get('granted'):
                    h['granted'] = True
                    self.say(f'{parts[3]}: granted its checkpoint to {parts[1]} (fence {b["fence"]})')

    def on_report(self, device, r):
        if any(x['seq'] == r['seq'] for x in self.reports[device]):
            return
        self.reports[device].append(r)
        if r['split'] != 'validation':
            return
        decision = {'activated': ', now active', 'kept': ''}.get(r.get('decision'), '')
        # On a terminal the line below tells the epochs: only what changes something scrolls by.
        if r['origin'] == 'local' and (decision or not sys.stdout.isatty()):
            self.say(f'{device}: epoch {r["epoch"]:3d}: checkpoint {r["checkpoint"][:12]} has '
                     f'{100 * r["accuracy"]:5.1f} % of {r["n"]} validation images{decision}')

    def on_offer(self, device, o, returned):
        h = self.handovers.setdefault(device, {})
        if returned and 'returned' not in h:
            h['returned'] = o
            self.say(f'{device}: {TRAINER} offers {o["id"][:12]} back ({form_text(o)}): {percent(o["before"])} before its '
                     f'training, {percent(o["after"])} after')
        elif not returned and h.get('offer', {}).get('id') != o['id']:
            h['offer'] = o
            self.say(f'{device}: offers {o["id"][:12]} ({form_text(o)}), {percent(o.get("test"))} of the test images')

    def on_ack(self, device, a):
        h = self.handovers.setdefault(device, {})
        if 'ack' not in h:
            h['ack'] = a
            h['epoch'] = self.status.get(device, {}).get('epoch', 0)
            self.say(f'{device}: the returned checkpoint is {a.get("decision")}: {percent(a.get("validation"))} of the '
                     f'validation images, its own by now {percent(a.get("local_validation"))}')

    def progress_line(self):
        if not sys.stdout.isatty():
            return
        parts = []
        for d in DEVICES:
            s = self.status.get(d, {})
            parts.append(f'{d} {s.get("phase", "starting")} epoch {s.get("epoch", 0)}')
            if d in self.jobs and 'ack' not in self.handovers.get(d, {}):
                j = self.jobs[d]
                full = int(20 * (j.get('progress') or 0))
                parts.append(f'{TRAINER}: {j.get("phase")} [{"#" * full}{"." * (20 - full)}]')
        sys.stdout.write('\r\033[K' + ' | '.join(parts)[:shutil.get_terminal_size().columns - 1])
        sys.stdout.flush()
        self.on_line = True

    def offer_when_due(self):
        for d in DEVICES:
            s = self.status.get(d, {})
            h = self.handovers.setdefault(d, {})
            if not h.get('asked') and s.get('epoch', 0) >= self.epochs:
                self.fleet.command(d, 'handover', timeout=60)
                h['asked'] = True

    def run(self):
        end = time.monotonic() + self.args.minutes * 60
        while True:
            self.hear()
            self.offer_when_due()
            self.progress_line()
            for p in self.fleet.programs.values():
                if not p.running():
                    raise RuntimeError(f'{p.name} ended (exit {p.process.returncode}); its log {p.log} ends:\n{p.tail()}')
            done = [d for d in DEVICES if 'ack' in self.handovers.get(d, {})
                    and self.status.get(d, {}).get('epoch', 0) >= self.handovers[d]['epoch'] + self.after]
            if len(done) == len(DEVICES):
                return
            if time.monotonic() > end:
                raise RuntimeError(f'not done after {self.args.minutes:g} minutes; logs: {self.work}/*/*.log')
            time.sleep(0.2)

    def swaps(self, device):
        """(accuracy, origin) of each checkpoint that became active, in order."""
        return [(r['accuracy'], r['origin']) for r in sorted(self.reports[device], key=lambda r: r['seq'])
                if r.get('decision') == 'activated']

    def weights_bytes(self, device):
        return (self.work / device / 'state/active.weights').stat().st_size

    def table(self):
        head = ['', '(1) device,', '(2) same,', '(3) after', '(4) same, on', '(5) device']
        head2 = ['device', 'handed over', 'at the edge', 'edge training', 'the device', 'alone meanwhile']
        print('\nAccuracy on the same test images:\n')
        for row in (head, head2):
            print('  ' + ''.join(f'{c:>17}' for c in row))
        for d in DEVICES:
            h = self.handovers[d]
            scores = [h['offer'].get('test'), h['returned']['before'], h['returned']['after'], h['ack'].get('test'),
                      h['ack'].get('local_test')]
            print('  ' + f'{d:>17}' + ''.join(f'{percent(s):>17}' for s in scores))
        print()
        fine = True
        for d in DEVICES:
            h, swaps = self.handovers[d], self.swaps(d)
            same = all(a and b and (a['n'], a['correct']) == (b['n'], b['correct']) for a, b in
                       [(h['offer'].get('test'), h['returned']['before']), (h['returned']['after'], h['ack'].get('test'))])
            rising = all(a[0] < b[0] for a, b in zip(swaps, swaps[1:]))
            fine = fine and same and rising
            print(f'{d}: both checkpoints score {"the same at both ends, to the image" if same else "DIFFERENTLY at the two ends"}; '
                  f'the edge\'s was {h["ack"]["decision"]}')
            print(f'{d}: its checkpoint, {size_text(self.weights_bytes(d))}, crossed the broker as {form_text(h["offer"])}, and came back as '
                  f'{form_text(h["returned"])}')
            print(f'{d}: in use on its validation images, swap by swap: '
                  + ', '.join(f'{100 * a:.1f} % ({o})' for a, o in swaps)
                  + ('; never worse than before' if rising else '; NOT ALWAYS BETTER'))
        return fine

    def picture(self, device):
        """Accuracy over time: local, returned, in use."""
        rows = sorted((r for r in self.reports[device] if r['split'] == 'validation'), key=lambda r: r['seq'])
        folder = self.work / 'pictures'
        folder.mkdir(exist_ok=True)
        zero = parse_time(rows[0]['at'])
        in_use = None
        with open(folder / f'{device}.dat', 'w') as f:
            f.write('# seconds local returned in_use\n')
            for r in rows:
                if r.get('decision') == 'activated':
                    in_use = r['accuracy']
                acc = 100 * r['accuracy']
                f.write(f'{parse_time(r["at"]) - zero:.2f} {acc if r["origin"] == "local" else "NaN"} '
                        f'{acc if r["origin"] == "edge" else "NaN"} {100 * in_use if in_use is not None else "NaN"}\n')
        out = folder / f'{device}.png'
        script = f'''set terminal pngcairo size 900,500 font "DejaVu Sans,11"
set output "{out}"
set title "{device}: accuracy on its own validation images"
set xlabel "seconds since the first epoch"
set ylabel "percent"
set yrange [0:100]
set key bottom right
set grid ytics lc rgb "#dddddd"
set datafile missing "NaN"
plot "{folder / f'{device}.dat'}" using 1:4 with steps lw 3 lc rgb "#222222" title "in use", \\
     "" using 1:2 with linespoints pt 7 ps 0.5 lc rgb "#4477aa" title "trained here", \\
     "" using 1:3 with points pt 9 ps 2.2 lc rgb "#cc3311" title "returned by the edge"
'''
        subprocess.run(['gnuplot'], input=script, text=True, check=True, capture_output=True)
        return out

    def main(self):
        data = pathlib.Path(self.args.data).resolve() if self.args.data else None
        self.lock = take_work_folder(self.work, data)
        with Fleet(self.work, self.args.build, site='demo', secure=self.args.secure, control=False) as self.fleet:
            self.prepare()
            self.start()
            self.run()
            self.say('stopping broker, trainer and devices')
        fine = self.table()
        pictures = [self.picture(d) for d in DEVICES]
        print('\nPictures: ' + ', '.join(map(str, pictures)) + f', {self.work / "images-cam-1.png"}')
        print(f'Logs:     {self.work}/*/*.log')
        print(f'Weights:  {self.work}/cam-*/state/active.weights (with {self.cfg})')
        print(f'It took {(time.monotonic() - self.began) / 60:.1f} minutes.')
        return 0 if fine else 1


def parse_time(text):
    import datetime
    return datetime.datetime.fromisoformat(text.replace('Z', '+00:00')).timestamp()


def with_outputs(cfg, n):
    """A cfg's text whose last connected layer has n outputs."""
    lines = cfg.splitlines()
    last = max((i for i, l in enumerate(lines) if l.split('=')[0].strip() == 'output'), default=None)
    if last is not None:
        lines[last] = f'output={n}'
    return '\n'.join(lines) + '\n'


def default_crop(source):
    """48 % of the shorter side: of LFW's 250 pixels the 120 in which the face is."""
    size = next(filter(None, (image_size(p) for p in sorted(source.glob('*/*')) if p.is_file())), None)
    if not size:
        raise RuntimeError(f'--data {source}: no jpg, png or pgm in its folders')
    return int(min(size) * 0.48)


def image_size(path):
    """(width, height) of a jpg, png or pgm from its header, None for anything else."""
    with open(path, 'rb') as f:
        data = f.read(1 << 20)
    if data[:8] == b'\x89PNG\r\n\x1a\n':
        return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
    pgm = re.match(rb'P[25]\s+(?:#.*\s+)*(\d+)\s+(?:#.*\s+)*(\d+)\s', data)
    if pgm:
        return int(pgm[1]), int(pgm[2])
    i = 2
    while data[:2] == b'\xff\xd8' and i + 9 < len(data):
        marker, length = data[i + 1], int.from_bytes(data[i + 2:i + 4], 'big')
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):
            return int.from_bytes(data[i + 7:i + 9], 'big'), int.from_bytes(data[i + 5:i + 7], 'big')
        i += 2 + length
    return None


def main():
    args = options()
    if args.check_options:
        return 0
    interrupt_once()
    demo = Demo(args)
    try:
        return demo.main()
    except KeyboardInterrupt:
        print('\nInterrupted: what was started is stopped.', file=sys.stderr)
        return 130
    except (RuntimeError, OSError, TimeoutError, subprocess.SubprocessError) as e:
        print(f'\ndeploy/demo: {e}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
