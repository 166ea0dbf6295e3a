"""What is measured: programs that wait for their turn, and the machine and build they run on."""
import json
import os
import pathlib
import platform
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = pathlib.Path(__file__).resolve().parent
HUNG_S = 600
PAUSE_S = 0.03  # between two measurements: threads of the last one that still spin come to rest
PRODUCT_SIDE = 2048

# Settings of a person's shell that change how fast one subject or another is: none of them gets any.
TUNING = re.compile(r'^(OMP|GOMP|KMP|OPENBLAS|GOTO|BLIS|MKL|DNNL|ONEDNN|ATEN|MALLOC)_')
# As worker_process.c starts the worker.
WORKER_ENV = {'OPENBLAS_NUM_THREADS': '1', 'GOMP_SPINCOUNT': '1000'}


class Unavailable(Exception):
    """A subject that cannot be measured here, and why."""


def clean_env(extra=None):
    return {**{k: v for k, v in os.environ.items() if not TUNING.match(k)}, **(extra or {})}


def ignored_env():
    return sorted(f'{k}={v}' for k, v in os.environ.items() if TUNING.match(k))


def proc_kib(pid, key):
    """A figure of /proc/PID/status; 0 when the process is gone."""
    try:
        text = pathlib.Path(f'/proc/{pid}/status').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf'^{key}:\s+(\d+) kB', text, re.M)
    return int(found.group(1)) if found else 0


class Subject:
    """A program of tests/bench that measures itself once for each line it is sent."""

    def __init__(self, name, argv, env=None):
        self.name, self.results, self.peak_bytes = name, [], 0
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*map(str, argv), '-'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, env=clean_env(env), text=True)
        try:
            self._line('ready')
        except BaseException:
            self.close()
            raise

    def _line(self, wanted=None):
        """The next line; what Darknet itself prints on standard output comes before `ready`."""
        while True:
            if not select.select([self.process.stdout], [], [], HUNG_S)[0]:
                raise Unavailable(f'no answer within {HUNG_S} s')
            line = self.process.stdout.readline()
            if not line:
                raise Unavailable(self._last_words())
            if wanted is None or line.strip() == wanted:
                return line

    def _last_words(self):
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors='replace').strip().splitlines()
        return lines[-1] if lines else f'ended with status {self.process.returncode}'

    def measure(self):
        time.sleep(PAUSE_S)
        try:
            self.process.stdin.write('\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(self._last_words()) from None
        result = json.loads(self._line())
        self.peak_bytes = proc_kib(self.process.pid, 'VmHWM') * 1024
        self.results.append(result)
        return result

    def figures(self, key='images_per_second'):
        return [r[key] for r in self.results]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


class Makers:
    """How each kind of subject is started."""

    def __init__(self, build, threads, seconds):
        self.build, self.threads, self.seconds = build, threads, seconds
        self.python = torch_python()

    def engine(self, name, cfg, mode, engine, precision, batch=0, stock=False):
        program = self.build / 'tests/bench' / ('engine_speed_stock' if stock else 'engine_speed')
        return Subject(name, [program, cfg, mode, engine, precision, self.threads, self.seconds, batch], WORKER_ENV)

    def torch(self, name, cfg, mode, layout, precision, batch=0):
        if not self.python:
            raise Unavailable('python3-torch is not installed (deploy/lib/packages bench)')
        return Subject(name, [self.python, BENCH / 'torch_peer.py', cfg, mode, layout, precision, self.threads,
                              self.seconds, batch])

    def product(self, name):
        program = self.build / 'tests/bench/product_speed'
        if not program.exists():
            raise Unavailable('the build has no OpenBLAS')
        return Subject(name, [program, PRODUCT_SIDE, self.threads, self.seconds])


def torch_python():
    """Debian's package belongs to Debian's interpreter, which may not be the first in PATH."""
    for python in (sys.executable, '/usr/bin/python3'):
        if python and os.path.exists(python) and subprocess.run(
                [python, '-c', 'import torch'], env=clean_env(), capture_output=True).returncode == 0:
            return python
    return None


def by_turns(subjects, rounds, progress, rounds_of=None):
    """`rounds` rounds, in each of which every subject is measured once; the first one of a round goes round, too.
    rounds_of: fewer rounds by name, for what is too slow. Returns those that failed: {name: why}."""
    failed = {}
    for i in range(rounds):
        start = i % len(subjects)
        for s in subjects[start:] + subjects[:start]:
            if s.name in failed or i >= (rounds_of or {}).get(s.name, rounds):
                continue
            progress(f'round {i + 1} of {rounds}: {s.name}')
            try:
                s.measure()
            except Unavailable as e:
                failed[s.name] = str(e)
    return failed


def ratio(ours, theirs):
    """Median of the rounds' ratios: both of a round saw the same state of the machine. Where one has fewer
    rounds, of the medians."""
    if not ours or not theirs:
        return None
    if len(ours) == len(theirs):
        return statistics.median(a / b for a, b in zip(ours, theirs))
    return statistics.median(ours) / statistics.median(theirs)


class Disturbance:
    """How much of the processors others took meanwhile: programs of this machine, and the host beneath it."""

    def __init__(self):
        self.begun = self._now()

    @staticmethod
    def _now():
        ticks = [int(x) for x in pathlib.Path('/proc/stat').read_text().split('\n', 1)[0].split()[1:9]]
        t, hz = os.times(), os.sysconf('SC_CLK_TCK')
        own = t.user + t.system + t.children_user + t.children_system
        # user nice system idle iowait irq softirq steal
        return {'all': sum(ticks) / hz, 'busy': (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) / hz,
                'steal': ticks[7] / hz, 'own': own}

    def shares(self):
        """Call it when all subjects are closed: a child's time counts when it has ended."""
        now = self._now()
        d = {k: now[k] - self.begun[k] for k in now}
        total = max(d['all'], 1e-9)
        return {'others': round(max(0.0, d['busy'] - d['own']) / total, 3), 'host': round(d['steal'] / total, 3)}


def package_versions(names):
    r = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${Version}\n', *names], capture_output=True, text=True)
    return dict(line.split(' ', 1) for line in r.stdout.splitlines() if ' ' in line and line.split(' ', 1)[1])


def machine():
    info = pathlib.Path('/proc/cpuinfo').read_text()
    model = re.search(r'^model name\s*: (.*)', info, re.M)
    flags = set((re.search(r'^(?:flags|Features)\s*: (.*)', info, re.M) or [None, ''])[1].split())
    wanted = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'asimd', 'sve', 'bf16')
    memory = re.search(r'MemTotal:\s+(\d+)', pathlib.Path('/proc/meminfo').read_text())
    debian = pathlib.Path('/etc/debian_version')
    return {
        'cpu': model.group(1) if model else platform.machine(), 'arch': platform.machine(),
        'cpus': len(os.sched_getaffinity(0)), 'features': [f for f in wanted if f in flags],
        'memory_bytes': int(memory.group(1)) * 1024,
        'debian': debian.read_text().strip() if debian.exists() else '',
        'packages': package_versions(['darknet', 'libdnnl2', 'libopenblas0', 'python3-torch']),
        'ignored_environment': ignored_env(),
    }


def make_build(folder):
    """A release build; what is missing is told, not installed."""
    for tool in ('meson', 'ninja'):
        if not shutil.which(tool):
            raise SystemExit(f'engine: {tool} is not installed (deploy/lib/packages bench)')
    steps = [['ninja', '-C', folder]]
    if not (folder / 'build.ninja').exists():
        steps.insert(0, ['meson', 'setup', '-Dbuildtype=release', '-Dtests=false', '-Dbench=true', folder, ROOT])
    for argv in steps:
        r = subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode:
            sys.stderr.write(r.stdout[-3000:])
            raise SystemExit('engine: the build failed (deploy/lib/packages bench installs what it needs)')


def build_options(folder):
    r = subprocess.run(['meson', 'introspect', '--buildoptions', str(folder)], capture_output=True, text=True)
    wanted = ('buildtype', 'darknet', 'b_sanitize')
    return {o['name']: o['value'] for o in json.loads(r.stdout or '[]') if o['name'] in wanted}
