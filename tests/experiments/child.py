"""What every run has: a child process of campaign.py that is told by a JSON object what to do, and leaves results."""
import argparse
import fcntl
import json
import math
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / 'deploy/lib'), str(HERE.parent / 'lib')]
import plans  # noqa: E402
import split  # noqa: E402
from demo import default_crop, with_outputs  # noqa: E402
from fleet import ROOT, die_with_parent, interrupt_once  # noqa: E402


class Failed(Exception):
    pass


def write_json(path, value):
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix('.new')
    with open(new, 'w') as f:
        json.dump(value, f, indent=1)
        f.write('\n')
        f.flush()
        os.fsync(f.fileno())
    os.replace(new, path)


def share(score):
    return f'{100 * score["correct"] / score["n"]:.1f} %' if score and score.get('n') else '-'


class Processor:
    """A processor of its own, for what computes as fast as it can: the runs share as many as the machine has, each
    a locked file in a folder, so that a run that mostly waits leaves its own to another."""

    def __init__(self, folder, n):
        self.files = [folder / f'processor-{i}' for i in range(n)]
        self.lock = None
        folder.mkdir(parents=True, exist_ok=True)

    def take(self):
        while self.lock is None:
            for path in self.files:
                lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.lock = lock
                    return
                except BlockingIOError:
                    os.close(lock)
            time.sleep(0.1)

    def give(self):
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def __enter__(self):
        self.take()

    def __exit__(self, *exc):
        self.give()


def network(cfg, kind, outputs):
    """The text of a cfg (None: the usual one) with so many outputs and steps of plans.BATCH images."""
    text = pathlib.Path(cfg or ROOT / 'deploy/models' / plans.NETWORKS[kind]).read_text()
    text = re.sub(r'^subdivisions\s*=.*', 'subdivisions=1', re.sub(r'^batch\s*=.*', f'batch={plans.BATCH}', text, flags=re.M), flags=re.M)
    return with_outputs(text, outputs)


class Child:
    """spec: experiment, fold, data, data_name, private, scale, ratio, cfg, images, folder, keep, results {method: path of
    what is to be made}, at_a_time (runs that compute), work, and step_ms, edge_step_ms, commit. A subclass has
    prepare() and method(name) -> result."""

    def __init__(self, spec, build):
        self.spec, self.build = spec, pathlib.Path(build)
        self.folder = pathlib.Path(spec['folder'])
        self.began = time.monotonic()
        self.processor = Processor(pathlib.Path(spec['work']) / 'processors', spec['at_a_time'])

    def say(self, text, method=''):
        who = ' '.join(filter(None, (self.spec['experiment'], f'fold {self.spec["fold"]}', method)))
        print(f'{time.monotonic() - self.began:6.1f} s  {who}: {text}', file=sys.stderr, flush=True)

    def lay_out(self, experiment, pooled=False):
        """The fold's images on disk, and the network with as many outputs as there are classes."""
        s = self.spec
        self.parts = p = split.lay_out(pathlib.Path(s['data']), s['private'] and pathlib.Path(s['private']), experiment,
                                       s['fold'], self.folder / 'data', s['images'], pooled)
        self.kind = 'photos' if p.photos else 'digits'
        self.cfg = self.copy_cfg(self.kind, len(p.public) + len(p.private))
        self.crop = default_crop(pathlib.Path(s['data'])) if p.photos else 0

    def copy_cfg(self, kind, outputs):
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / 'model.cfg'
        text = network(self.spec['cfg'], kind, outputs)
        path.write_text(text)
        self.input_bytes = math.prod(int(re.search(rf'^{k}\s*=\s*(\d+)', text, re.M)[1]) for k in ('width', 'height', 'channels'))
        return path

    def told(self):
        """What a result says of the run that it is of."""
        return {k: self.spec[k] for k in ('experiment', 'fold', 'scale', 'ratio', 'data_name', 'step_ms', 'edge_step_ms', 'commit')}

    def tasuki(self, *args):
        """(the answer of an offline command, the CPU seconds that it took)."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [str(self.build / 'cli/tasuki'), *map(str, args), '--json']
        r = subprocess.run(argv, capture_output=True, text=True, preexec_fn=die_with_parent)
        if r.returncode:
            raise Failed(f'{" ".join(argv)}: {r.stderr.strip()}')
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return json.loads(r.stdout), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def run(self):
        self.prepare()
        for name, path in self.spec['results'].items():
            shutil.rmtree(self.folder / name, ignore_errors=True)
            result = self.method(name)
            write_json(pathlib.Path(path), {**self.told(), 'method': name, **result})
            if not self.spec['keep']:
                shutil.rmtree(self.folder / name, ignore_errors=True)
        if not self.spec['keep']:
            shutil.rmtree(self.folder)


def main(kind):
    p = argparse.ArgumentParser()
    p.add_argument('--build', required=True)
    p.add_argument('spec', help='JSON')
    args = p.parse_args()
    interrupt_once()
    run = kind(json.loads(args.spec), args.build)
    try:
        run.run()
        return 0
    except KeyboardInterrupt:
        return 130
    except (Failed, RuntimeError, OSError, TimeoutError, subprocess.SubprocessError) as e:
        run.say(f'FAILED: {e}')
        return 1
