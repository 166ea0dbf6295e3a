"""The paper's experiments through the real agent, trainer and broker, and what came of them.

Each (experiment, fold, method) that has no result in the working folder yet is run; so an interrupted call is resumed by
the same call. Experiments on faces need photos, one folder a person (../shared/data/lfw, and ../shared/data/lfw-private for the one
that only the device has); where MNIST is not at hand, digits are drawn. Exit status: 0, 1: a run failed, 2: bad usage, 77: data are missing,
130: interrupted.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / 'deploy/lib'), str(HERE.parent / 'lib')]
import plans  # noqa: E402
import report  # noqa: E402
import split  # noqa: E402
from options import number  # noqa: E402
from child import network  # noqa: E402
from demo import default_crop  # noqa: E402
from fleet import ROOT, die_with_parent, interrupt_once  # noqa: E402

NAMES = ['3', '2-2', '2-1', '1', 'many', '3-digits', 'mnist', 'cost']  # `all`, what matters most first
ON_DIGITS = ('mnist', '3-digits')
CALIBRATION_STEPS, CALIBRATION_S = 40, 6  # at least, about
WAITING = 2  # runs started beyond those that compute: most of a device's decision is waiting


class Missing(Exception):
    pass


def say(text):
    print(f'         {text}', file=sys.stderr, flush=True)


def options():
    p = argparse.ArgumentParser(prog='tests/experiments/run', description=__doc__)
    p.add_argument('names', metavar='NAME', nargs='*', help=f'{", ".join(sorted(NAMES))}, or all')
    p.add_argument('--data', metavar='DIR', help='images: one folder a class, or the four IDX files of MNIST; `digits`: drawn ones')
    p.add_argument('--private', metavar='DIR', help='images of what only the device knows (experiment 3 on photos)')
    p.add_argument('--seeds', type=number(int, 1), default=plans.FOLDS, metavar='N', help=f'folds, 1 to {plans.FOLDS} ({plans.FOLDS})')
    p.add_argument('--scale', type=number(float, 1e-4), default=1.0, metavar='X', help="of the paper's steps at the edge and after the handover (1)")
    p.add_argument('--ratio', type=number(float, 1), default=12.0, metavar='R', help='edge steps that a device step costs (12)')
    p.add_argument('--method', choices=[*plans.METHODS, 'both'], default='both', help='run this one only (both)')
    p.add_argument('--work', type=pathlib.Path, metavar='DIR', help='where results and runs are kept (build-experiments/work)')
    p.add_argument('--jobs', type=number(int, 1), default=len(os.sched_getaffinity(0)), metavar='N',
                   help='runs that compute at a time, one thread each (one a processor)')
    p.add_argument('--cfg', type=pathlib.Path, metavar='FILE', help='another network; its last layer is given as many outputs as there are classes')
    p.add_argument('--images', type=number(int, 100), metavar='N', help=f'digits dealt out in a fold ({plans.DIGITS_IMAGES})')
    p.add_argument('--keep', action='store_true', help='keep what each run leaves (checkpoints, logs)')
    p.add_argument('--report', action='store_true', help='run nothing: tables and pictures of what is there')
    p.add_argument('--markdown', type=pathlib.Path, metavar='FILE', help='with --report: put the tables into this document, the pictures beside it')
    p.add_argument('--json', action='store_true', help='one JSON object on standard output')
    p.add_argument('--check', action='store_true', help=argparse.SUPPRESS)  # of the arguments, before anything is built
    p.add_argument('--shared', type=pathlib.Path, default=ROOT.parent / 'shared/data', help=argparse.SUPPRESS)
    p.add_argument('--build', type=pathlib.Path, default=ROOT / 'build-experiments', help=argparse.SUPPRESS)
    args = p.parse_args()
    for name in args.names:
        if name not in (*NAMES, 'all'):
            p.error(f'found {name!r}, expected NAMEs of {", ".join(sorted(NAMES))}, or all')
    if args.markdown and not args.report:
        p.error('--markdown: expected together with --report')
    if args.markdown and not args.markdown.is_file():
        p.error(f'--markdown: {str(args.markdown)!r}: no such document')
    if not args.names and not args.report:
        p.error('found no NAME; expected one or more, or --report')
    if args.seeds > plans.FOLDS:
        p.error(f'--seeds: found {args.seeds}, expected at most {plans.FOLDS}')
    for name in ('data', 'private', 'cfg'):
        value = getattr(args, name)
        if value and not pathlib.Path(value).exists() and (name, value) != ('data', 'digits'):
            p.error(f'--{name}: {str(value)!r} is not there')
    args.names = list(dict.fromkeys(n for name in args.names for n in (NAMES if name == 'all' else [name])))
    args.methods = list(plans.METHODS) if args.method == 'both' else [args.method]
    args.work = (args.work or args.build / 'work').resolve()
    return args


# Which images.
def drawn(args):
    images = (args.images or plans.DIGITS_IMAGES) * plans.FOLDS
    folder = args.work / f'digits-{images}'
    if not folder.exists():
        new = folder.with_suffix('.new')
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run([args.build / 'cli/tasuki', 'dataset', 'digits', '--out', new, '--n', str(images), '--seed', '1'],
                       check=True, stdout=subprocess.DEVNULL)
        new.rename(folder)
    return folder


def named(args, data):
    """Results of other networks or numbers of images have other names."""
    return '-'.join([data, *([args.cfg.stem] if args.cfg else []), *([str(args.images)] if args.images else [])])


def data_of(args, name):
    """(folder, name for people, folder of the private class or None)."""
    if args.data == 'digits' or not args.data and (name == 'many' or name in ON_DIGITS and not (args.shared / 'mnist').is_dir()):
        return drawn(args), named(args, 'digits'), None
    folder = pathlib.Path(args.data) if args.data else args.shared / ('mnist' if name in ON_DIGITS else 'lfw')
    if not folder.is_dir():
        raise Missing(f'experiment {name}: {folder}: no such folder; it needs photos of faces, one folder a person (--data)')
    private = None
    if getattr(plans.EXPERIMENTS.get(name), 'private', False) and not split.is_idx(folder):
        private = pathlib.Path(args.private) if args.private else args.shared / 'lfw-private'
        if not private.is_dir():
            raise Missing(f'experiment {name}: {private}: no such folder; it needs photos of one more person (--private)')
    return folder.resolve(), named(args, folder.resolve().name), private and private.resolve()


def result_path(args, name, data_name, method, fold):
    return args.work / 'results' / f'{name}_{data_name}_scale{args.scale:g}_ratio{args.ratio:g}_{method}_fold{fold}.json'


def missing_runs(args):
    """[spec], most important experiment first; and what cannot be run."""
    specs, absent = [], []
    for name in args.names:
        try:
            data, data_name, private = data_of(args, name)
        except Missing as e:
            absent.append(str(e))
            continue
        for fold in range(min(args.seeds, plans.MOST_FOLDS.get(name, args.seeds))):
            results = {m: str(result_path(args, name, data_name, m, fold)) for m in plans.OTHERS.get(name, args.methods)}
            results = {m: p for m, p in results.items() if not os.path.exists(p)}
            if results:
                specs.append({'experiment': name, 'fold': fold, 'data': str(data), 'data_name': data_name,
                              'private': private and str(private), 'scale': args.scale, 'ratio': args.ratio,
                              'cfg': args.cfg and str(args.cfg.resolve()), 'images': args.images, 'results': results,
                              'keep': args.keep, 'at_a_time': args.jobs, 'work': str(args.work),
                              'folder': str(args.work / 'runs' / f'{name}-{data_name}-{args.scale:g}-fold{fold}')})
    return specs, absent


# How fast the edge is here.
def calibrate(args, spec):
    """Milliseconds of an edge step on these images, with as many trainings at a time as there will be runs."""
    folder = args.work / 'calibration'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    experiment = plans.EXPERIMENTS.get(spec['experiment'], plans.EXPERIMENTS['2-1'])
    parts = split.lay_out(pathlib.Path(spec['data']), spec['private'] and pathlib.Path(spec['private']), experiment, 0,
                          folder / 'data', spec['images'])
    kind = 'photos' if parts.photos else 'digits'
    cfg = folder / 'model.cfg'
    cfg.write_text(network(args.cfg, kind, len(parts.public) + len(parts.private)))
    a = plans.AUGMENT[kind]
    argv = [args.build / 'cli/tasuki', 'train', '--json', '--cfg', cfg, '--data', folder / 'data/edge', '--threads', 1,
            '--fold', plans.edge_fold(parts.counts['edge']), '--test-share', 0, '--validation-share', 0, '--shift', a['shift_px'], '--blur', a['blur'],
            '--brightness', a['brightness'], *(['--flip'] if a['flip'] else []),
            *(['--center-crop', default_crop(pathlib.Path(spec['data']))] if parts.photos else [])]

    def train(steps):
        children = [subprocess.Popen([*map(str, argv), '--steps', str(steps), '--out', str(folder / f'{i}.weights')],
                                     stdout=subprocess.PIPE, preexec_fn=die_with_parent) for i in range(args.jobs)]
        results = [json.loads(c.communicate()[0]) for c in children]
        return sum(1000 * r['seconds'] / r['steps'] for r in results) / len(results)
    steps = CALIBRATION_STEPS
    ms = train(steps)
    while steps * ms < 1000 * CALIBRATION_S / 2:
        steps = max(2 * steps, round(1000 * CALIBRATION_S / ms))
        ms = train(steps)
    shutil.rmtree(folder)
    return ms


# Running.
class Pool:
    """Runs as child processes, so many at a time; all are stopped with this one."""

    def __init__(self, args):
        self.args, self.running, self.failed = args, [], 0

    def start(self, spec):
        program = f'{spec["experiment"]}.py' if spec['experiment'] in plans.OTHERS else 'one.py'
        argv = [sys.executable, str(HERE / program), '--build', str(self.args.build), json.dumps(spec)]
        self.running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                                             preexec_fn=die_with_parent))

    def reap(self):
        for p in [p for p in self.running if p.poll() is not None]:
            self.running.remove(p)
            self.failed += p.returncode != 0

    def run(self, specs):
        try:
            for spec in specs:
                while len(self.running) >= self.args.jobs + WAITING:
                    time.sleep(0.1)
                    self.reap()
                self.start(spec)
            while self.running:
                time.sleep(0.1)
                self.reap()
        finally:
            for p in self.running:
                p.terminate()
            for p in self.running:
                p.wait()


def run_missing(args, specs):
    commit = subprocess.run(['git', '-C', ROOT, 'describe', '--always', '--dirty'], capture_output=True, text=True).stdout.strip()
    speeds = {}
    for s in specs:
        key = (s['data_name'], s['cfg'])
        if s['experiment'] in plans.OTHERS:
            speeds[key] = speeds.get(key, 0)
        elif not speeds.get(key):
            speeds[key] = calibrate(args, s)
            say(f'an edge step on {s["data_name"]} takes {speeds[key]:.1f} ms here on one thread, {args.jobs} at a time;'
                f' a device step {args.ratio * speeds[key]:.0f} ms')
        s.update(edge_step_ms=speeds[key], step_ms=round(args.ratio * speeds[key]), commit=commit or 'unknown')
    pool = Pool(args)
    pool.run(specs)
    return pool.failed


def main():
    args = options()
    if args.check:
        return 0
    interrupt_once()
    failed, absent = 0, []
    try:
        if not args.report:
            args.work.mkdir(parents=True, exist_ok=True)
            specs, absent = missing_runs(args)
            for a in absent:
                print(f'tests/experiments/run: {a}', file=sys.stderr)
            if specs:
                began = time.monotonic()
                say(f'{len(specs)} runs; results: {args.work}/results')
                failed = run_missing(args, specs)
                say(f'took {(time.monotonic() - began) / 60:.1f} minutes')
    except split.Unusable as e:
        print(f'tests/experiments/run: {e}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted: what was started is stopped; the same call goes on where it stood.', file=sys.stderr)
        return 130
    report.show(args)
    return 1 if failed else 77 if absent else 0


if __name__ == '__main__':
    sys.exit(main())
