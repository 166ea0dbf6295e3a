"""Builds and runs every test; see --help. The last line is 'N passed, N failed, N skipped'."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COVERAGE_WANTED = 85.0

# name -> (compiler, meson options). One build each for: sanitizers and coverage with gcc; sanitizers
# with clang; neither, for valgrind, memory figures and long campaigns; Darknet from source, as for a
# small device, for what touches the engine; the same for arm64, whose programs qemu runs; libFuzzer (both slow only).
SANITIZE = '-Db_sanitize=address,undefined'
BUILDS = {
    'gcc': ('gcc', [SANITIZE, '-Db_coverage=true', '-Dwerror=true']),
    'clang': ('clang', [SANITIZE, '-Db_lundef=false', '-Dwerror=true']),
    'plain': ('gcc', ['-Dwerror=true']),
    'device': ('gcc', ['-Dwerror=true', '-Ddarknet=source', '-Ddarknet_cache=.cache/darknet']),
    'fuzz': ('clang', [SANITIZE, '-Db_lundef=false', '-Dc_args=-fsanitize=fuzzer-no-link', '-Dwerror=true']),
}
BUILDS['arm64'] = ('gcc', [*BUILDS['device'][1], '--cross-file', '.cache/arm64/sysroot.ini', '--cross-file', 'deploy/lib/arm64.ini'])
SLOW = ('arm64', 'fuzz')
CPUS = len(os.sched_getaffinity(0))
NO_BUILD = 'none'  # of a test that makes its own, or that is about files as they are
ONLY = {'fuzz': ['fuzzers']}  # what of a build is built; else all
SANITIZER_ENV = {
    'ASAN_OPTIONS': 'detect_leaks=1:abort_on_error=0:exitcode=86:allocator_may_return_null=1:detect_stack_use_after_return=0',
    'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1:exitcode=86',
    'LSAN_OPTIONS': f'suppressions={ROOT}/tests/lsan.supp:print_suppressions=0',
}


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []
        self.lock = threading.Lock()

    def add(self, *args):
        with self.lock:
            self.add_locked(*args)

    def add_locked(self, name, result, seconds, detail='', figures=()):
        print(f'{result:7} {name} ({seconds:.1f} s)', flush=True)
        for figure in figures:
            print(f'        {figure}', flush=True)
        if result == 'ok':
            self.passed += 1
        elif result == 'skipped':
            self.skipped.append(name)
            print('        ' + detail.strip()[-500:].replace('\n', '\n        '), flush=True)
        else:
            self.failed.append(name)
            print('        ' + detail.strip()[-6000:].replace('\n', '\n        '), flush=True)


def sh(argv, **kw):
    return subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors='replace', stdin=subprocess.DEVNULL, **kw)


def at_hand(name, tally):
    """What a build needs beside packages is in its cache, or is downloaded through apt now."""
    needs = []
    if name in ('device', 'arm64'):
        needs.append(['darknet-source', ROOT / '.cache/darknet'])
    if name == 'arm64':
        libraries = sh([ROOT / 'deploy/lib/packages', 'libraries']).stdout.split()
        needs.append(['sysroot', 'arm64', ROOT / '.cache/arm64', *libraries, 'libcmocka-dev'])
    for script, *args in needs:
        began = time.monotonic()
        r = sh([ROOT / 'deploy/lib' / script, *args])
        absent = r.returncode == 3 and os.environ.get('CI') != 'true'
        if r.returncode:
            tally.add(f'{script} for build {name}', 'skipped' if absent else 'FAILED', time.monotonic() - began, r.stdout)
            return False
    return True


def build(name, tally):
    """True: built, False: failed, None: skipped."""
    if not at_hand(name, tally):
        return None
    compiler, options = BUILDS[name]
    folder = ROOT / f'build-{name}'
    began = time.monotonic()
    if not (folder / 'build.ninja').exists():
        shutil.rmtree(folder, ignore_errors=True)
        r = sh(['meson', 'setup', *options, folder, ROOT], env={**os.environ, 'CC': compiler})
        if r.returncode:
            tally.add(f'build {name}', 'FAILED', time.monotonic() - began, r.stdout)
            return False
    r = sh(['ninja', '-C', folder, *ONLY.get(name, [])])
    tally.add(f'build {name}', 'FAILED' if r.returncode else 'ok', time.monotonic() - began, r.stdout)
    return r.returncode == 0


def meson_tests(name, tally, wrap=None, suites=('unit', 'fuzz'), only=None, label=None):
    """Runs a build's meson tests and counts each executable."""
    folder = ROOT / f'build-{name}'
    label = label or name
    # Half of the time tests of brokers, workers and deadlines wait; under valgrind they mostly compute.
    argv = ['meson', 'test', '-C', folder, '--no-rebuild', '--logbase', f'log-{label}', '--num-processes', CPUS + 1 if wrap else 2 * CPUS,
            '--timeout-multiplier', '10' if wrap or name == 'arm64' else '4']
    for suite in suites:
        argv += ['--suite', suite]
    if wrap:
        argv += [f'--wrapper={wrap}']
    for stale in (folder / 'meson-logs').glob(f'log-{label}*.json'):
        stale.unlink()  # a run that writes none must not pass on an older one
    sh(argv, env={**os.environ, **SANITIZER_ENV, 'MALLOC_PERTURB_': '0'})
    log = folder / 'meson-logs' / f'log-{label}.json'
    if not log.exists():
        log = next(iter((folder / 'meson-logs').glob(f'log-{label}*.json')), None)
    if not log:
        tally.add(f'{label}: meson test', 'FAILED', 0, 'no log was written')
        return
    for line in log.read_text().splitlines():
        t = json.loads(line)
        result = {'OK': 'ok', 'EXPECTEDFAIL': 'ok', 'SKIP': 'skipped'}.get(t['result'], 'FAILED')
        tally.add(f'{label}: {t["name"].split(" ")[-1]}', result, t['duration'],
                  f"{t['result']}\n{t.get('stdout', '')[-4000:]}\n{t.get('stderr', '')[-4000:]}")
        for left_out in sorted(set(re.findall(r'^qemu-user cannot .*', t.get('stdout', ''), re.M))):
            print(f'        in part: {left_out}', flush=True)


def integration_tests(args):
    """Each tests/integration/test_*.py is a program: 0 passed, 77 skipped; with --rig, each tests/rig/test_*.py, too.
    Its header line '# build: NAME...' chooses the builds (gcc, with sanitizers and coverage, unless told; none: it needs
    no build), '# beside: NAME' one that it compares with, '# alone' has nothing run beside it (what measures time),
    '# slow' keeps it for --slow. Yields (path, builds, beside, alone)."""
    paths = sorted((ROOT / 'tests/integration').glob('test_*.py'))
    if args.rig:
        paths += sorted((ROOT / 'tests/rig').glob('test_*.py'))
    for path in paths:
        head = path.read_text().split('"""')[0]
        if re.search(r'^# slow', head, re.M) and not args.slow:
            continue
        if args.only and not re.search(args.only, path.stem):
            continue
        found, beside = (re.search(rf'^# {key}: ([a-z0-9 ]+)', head, re.M) for key in ('build', 'beside'))
        yield (path, (found.group(1) if found else 'gcc').split(), (beside.group(1) if beside else '').split(),
               bool(re.search(r'^# alone', head, re.M)))


def integration_test(tally, args, path, which):
    began = time.monotonic()
    needs_machine = path.parent.name == 'rig'  # one that may run containers: not every CI's may, and then it says so
    env = {**os.environ, **SANITIZER_ENV, 'TASUKI_BUILD': str(ROOT / f'build-{which}'),
           'TASUKI_SLOW': '1' if args.slow else ''}
    try:
        r = sh([sys.executable, path], env=env, timeout=4 * 3600 if args.slow else 2700 if needs_machine else 900)
        result = {0: 'ok', 77: 'skipped'}.get(r.returncode, 'FAILED')
        detail = r.stdout
    except subprocess.TimeoutExpired as e:
        result, detail = 'FAILED', f'not done after {e.timeout:.0f} s\n{(e.stdout or b"").decode(errors="replace")}'
    if result == 'skipped' and os.environ.get('CI') == 'true' and not needs_machine:
        result, detail = 'FAILED', f'on CI nothing may be missing: {detail}'
    figures = [line[8:] for line in detail.splitlines() if line.startswith('figure: ') and result == 'ok']
    tally.add(f'{which}: {path.stem}', result, time.monotonic() - began, detail, figures)


def integration(tally, args, built):
    """More than half of a test is waiting: one more at a time than there are processors, and then those that measure."""
    wanted = [(path, which, alone) for path, builds, beside, alone in integration_tests(args) for which in builds
              if None not in [built[x] for x in [which, *beside]]]  # why was said once
    with concurrent.futures.ThreadPoolExecutor(CPUS + 1) as pool:
        for done in [pool.submit(integration_test, tally, args, path, which) for path, which, alone in wanted if not alone]:
            done.result()
    for path, which, alone in wanted:
        if alone:
            integration_test(tally, args, path, which)


def coverage(tally):
    began = time.monotonic()
    r = sh(['gcovr', '--root', ROOT, '--object-directory', ROOT / 'build-gcc', '--exclude', r'tests/',
            '--exclude', r'build-', '--gcov-ignore-parse-errors', '--print-summary', '-j', '2'])
    m = re.search(r'^lines: ([\d.]+)%', r.stdout, re.M)
    share = float(m.group(1)) if m else 0.0
    (ROOT / 'build-gcc/coverage.txt').write_text(r.stdout)
    print(f'line coverage {share:.1f} % (at least {COVERAGE_WANTED:.0f} % wanted; by file: build-gcc/coverage.txt)')
    tally.add('coverage', 'ok' if share >= COVERAGE_WANTED else 'FAILED', time.monotonic() - began,
              r.stdout[-5000:])


def main():
    p = argparse.ArgumentParser(prog='tests/run', description=__doc__)
    p.add_argument('--slow', action='store_true', help='also the long campaigns')
    p.add_argument('--rig', action='store_true', help='also what needs root or an engine for containers')
    p.add_argument('--only', metavar='REGEX', help='only integration tests whose names match')
    args = p.parse_args()
    began, tally = time.monotonic(), Tally()
    os.chdir(ROOT)
    wanted = {b for _, builds, beside, _ in integration_tests(args) for b in [*builds, *beside]}
    names = [n for n in BUILDS if n in wanted or not args.only and n not in SLOW]
    built = {NO_BUILD: True, **{name: build(name, tally) for name in names}}
    for stale in (ROOT / 'build-gcc').rglob('*.gcda'):
        stale.unlink()
    if not args.only:
        for name in ('gcc', 'clang'):
            if built[name]:
                meson_tests(name, tally, suites=('unit', 'unwrapped', 'fuzz', *(['sim'] if name == 'gcc' else [])))
        if built['plain']:
            meson_tests('plain', tally, suites=('unit',), label='valgrind',
                        wrap='valgrind --quiet --error-exitcode=87 --leak-check=full --errors-for-leak-kinds=definite '
                             f'--suppressions={ROOT}/tests/valgrind.supp')
        if built['device']:
            meson_tests('device', tally, suites=('engine',))
    if built.get('arm64'):
        meson_tests('arm64', tally)
    if False not in built.values():
        integration(tally, args, built)
        if not args.only:
            coverage(tally)
    print(f'took {(time.monotonic() - began) / 60:.1f} minutes')
    for name in tally.failed:
        print(f'FAILED {name}')
    print(f'{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped')
    return 1 if tally.failed else 0


if __name__ == '__main__':
    sys.exit(main())
