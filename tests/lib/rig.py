"""What the integration tests share: a fleet in a temporary folder, small data, and their way to end.

A test program defines unittest cases and calls rig.main(). Exit code 0: passed; 77: something that it needs is
missing (it says what); 1: failed.
"""
import contextlib
import getpass
import hashlib
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'deploy/lib'))
from fleet import Fleet, Pki, body, die_with_parent, free_port, merge, wait_for, write_conf  # noqa: E402,F401

BUILD = pathlib.Path(os.environ.get('TASUKI_BUILD', ROOT / 'build-gcc'))
SLOW = bool(os.environ.get('TASUKI_SLOW'))
# Sanitizers and a shared processor cost time: nothing here measures it, so waits are long.
WAIT = 120
TINY = ROOT / 'tests/data/tiny.cfg'
DIGITS = ROOT / 'tests/data/digits.txt'
DATA = ROOT.parent / 'shared/data'


def skip(why):
    """Ends the whole program as skipped."""
    print(f'skipped: {why}')
    sys.exit(77)


def figure(text):
    """A measured figure that the runner shows also when all is well."""
    print(f'\nfigure: {text}', flush=True)  # a line of its own, whatever unittest has begun


class Case(unittest.TestCase):
    """A fleet in a folder of its own for each test; kept when the test fails and TASUKI_KEEP is set."""
    site = 'test'

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-test-'))
        self.fleet = Fleet(self.work, BUILD, site=self.site)

    def tearDown(self):
        failed = any(error for _, error in getattr(self._outcome, 'errors', []) or []) or \
            (hasattr(self._outcome, 'result') and any(t is self for t, _ in
             [*self._outcome.result.failures, *self._outcome.result.errors]))
        logs = {p.name: p for p in self.fleet.programs.values()}
        self.fleet.stop()
        texts = {p.name: p.text() for p in logs.values()}
        for p in logs.values():
            text = texts[p.name]
            if 'Sanitizer' in text or 'runtime error' in text:
                print(f'--- {p.name} ---\n{text[-6000:]}')
                failed = True
                sanitizer = True
            else:
                sanitizer = False
            if failed and not sanitizer:
                print(f'--- {p.name} (end of its log) ---\n{p.tail(25)}')
        found = False
        for log in self.work.glob('*/state/worker*.log'):
            text = log.read_text(errors='replace')
            if 'Sanitizer' in text or 'runtime error' in text:
                print(f'--- {log} ---\n{text[-6000:]}')
                failed = found = True
        if failed and os.environ.get('TASUKI_KEEP'):
            print(f'kept: {self.work}')
        else:
            shutil.rmtree(self.work, ignore_errors=True)
        self.assertFalse(found, 'a sanitizer spoke in the log of a worker')
        for name, text in texts.items():
            self.assertNotIn('Sanitizer', text, name)
            self.assertNotIn('runtime error', text, name)

    def digits(self, name, n, seed, mix=None, test=True):
        out = self.work / 'data' / name
        self.fleet.run_tasuki('dataset', 'digits', '--out', out, '--n', n, '--seed', seed,
                              *(['--mix', mix] if mix else []))
        if not test:
            for f in out.glob('t10k-*'):
                f.unlink()
        return out

    def class_folders(self, name, n, seed, names, mix=None):
        """Drawn digits as one folder of images a class."""
        images, labels, rows, cols = read_idx(self.digits(name + '-idx', n, seed, mix=mix), 'train')
        for i, (image, label) in enumerate(zip(images, labels)):
            path = self.work / 'data' / name / names[label] / f'{i}.pgm'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'P5 %d %d 255\n' % (cols, rows) + image)
        return self.work / 'data' / name

    def shared_test_images(self, n=200, seed=99):
        out = self.digits('test', n * 5, seed)
        for f in out.glob('train-*'):
            f.unlink()
        return out

    def quick_agent(self, name, data, conf=None):
        """Few images, a tiny network, a handover after two epochs."""
        self.fleet.agent_conf(name, TINY, DIGITS, data, merge({
            'data': {'validation_share': 0.4, 'rescan_s': 1},
            'augment': {'shift_px': 1},
            'train': {'round_epochs': 3, 'rounds': 1},
            'handover': {'every_epochs': 2, 'lease_s': 20}}, conf))

    def quick_trainer(self, name, data, conf=None):
        self.fleet.trainer_conf(name, TINY, DIGITS, data, merge({
            'train': {'epochs': 2}, 'queue': {'lease_s': 20, 'capacity': 8}}, conf))

    def decided(self, listener, device, count=1, timeout=WAIT):
        """Waits until `count` different results of a device were decided; returns the acks."""
        def acks():
            found = {}
            for m in listener.all():
                parts = m['topic'].split('/')[3:]
                if parts[0] == 'trainer' and parts[-1] == 'ack' and parts[3] == device:
                    b = body(m)
                    if b.get('decision') in ('activated', 'kept'):
                        found.setdefault(b['checkpoint'], b)
            return list(found.values()) if len(found) >= count else None
        return wait_for(f'{count} decided handovers of {device}', acks, timeout)

    def consistent(self, device):
        """The pair behind the device's `active` link, opened once: they belong together."""
        link = self.fleet.work / device / 'state/active'
        try:
            name = os.readlink(link)
            fd = os.open(link.parent / name, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # Gone between the two calls, by two swaps: what is active now is asked for.
            return self.consistent(device) if os.path.lexists(link) and os.readlink(link) != name else None
        try:
            def read(name):
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=fd), 'rb') as f:
                    return f.read()
            ident, manifest = hashlib.sha256(read('weights')).hexdigest(), json.loads(read('manifest.json'))
        except FileNotFoundError:
            if os.path.lexists(link) and os.readlink(link) == name:
                raise
            return self.consistent(device)
        finally:
            os.close(fd)
        self.assertEqual(ident, manifest['id'], f'{device}: active weights and manifest do not belong together')
        return ident

    def trainer_db(self, name):
        return sqlite3.connect(f'file:{self.fleet.work / name / "state/trainer.db"}?mode=ro', uri=True, timeout=30)

    def never_at_once(self, *trainers):
        """From the fence numbers and times of both databases: one checkpoint is never trained twice at once."""
        runs = []
        for t in trainers:
            with self.trainer_db(t) as db:
                runs += [(*r, t) for r in db.execute(
                    'SELECT device, checkpoint, started_mono_ms, COALESCE(ended_mono_ms, until_mono_ms), fence FROM runs')]
        runs.sort()
        fences = {}
        for device, checkpoint, began, ended, fence, trainer in runs:
            fences.setdefault((device, fence), set()).add(trainer)
        for key, who in fences.items():
            self.assertEqual(len(who), 1, f'fence {key} was used by {who}')
        for a, b in zip(runs, runs[1:]):
            if a[:2] == b[:2]:
                self.assertLessEqual(a[3], b[2], f'{a} and {b} trained at once')
        return len(runs)

    def device_reports(self, device):
        """The reports a device has made, from its own file, by seq."""
        path = self.fleet.work / device / 'state/reports.jsonl'
        text = path.read_text() if path.exists() else ''
        # What has no end yet is being written, or was when it was killed.
        return {r['seq']: r for r in map(json.loads, text.split('\n')[:-1])}

    def judgements(self, device):
        """Its reports of decisions about what came back, or was made of that."""
        return [r for _, r in sorted(self.device_reports(device).items())
                if 'decision' in r and r['origin'] in ('edge', 'blend', 'tuned')]


def rss_kib(pid, what='VmRSS'):
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith(what + ':'):
            return int(line.split()[1])
    raise ValueError(what)


def children(pid):
    found = []
    for path in pathlib.Path(f'/proc/{pid}/task').glob('*/children'):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of a thread that has just ended
            found += [int(x) for x in path.read_text().split()]
    return found


def read_idx(folder, stem):
    import gzip

    def load(kind):
        for path in (folder / f'{stem}-{kind}', folder / f'{stem}-{kind}.gz'):
            if path.exists():
                data = path.read_bytes()
                return gzip.decompress(data) if path.suffix == '.gz' else data
        raise FileNotFoundError(f'{folder}/{stem}-{kind}')
    images, labels = load('images-idx3-ubyte'), load('labels-idx1-ubyte')
    n, rows, cols = struct.unpack('>III', images[4:16])
    size = rows * cols
    return [images[16 + i * size:16 + (i + 1) * size] for i in range(n)], list(labels[8:8 + n]), rows, cols


def main():
    if not (BUILD / 'build.ninja').exists():
        skip(f'no build in {BUILD} (tests/run makes it)')
    program = unittest.main(module='__main__', exit=False, verbosity=2, failfast=False)
    sys.exit(0 if program.result.wasSuccessful() else 1)
