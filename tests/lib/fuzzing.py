"""libFuzzer campaigns over the targets of tests/fuzz, and what of a campaign's corpus is kept."""
import concurrent.futures
import contextlib
import dataclasses
import glob
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import runner

ROOT = runner.ROOT
CORPUS = ROOT / 'tests/fuzz/corpus'
SECONDS = 900          # of each target
MEMORY_MB = 1024       # more is a finding, as is one allocation of so much
INPUT_S = 10           # an input that takes longer is a finding
SLACK_S = 300          # for starting, reading the corpus and ending
INPUT_BYTES_MAX = 4096 # of what is generated, and kept
GROWN_MAX = 60         # files a target that are kept of campaigns, beside those that people wrote
GROWN = 'grown-'

# Words of a format, for the fuzzer's dictionary, are those of its readers' sources; and how they look in it.
JSON, CFG, CONF = ('"{}"', '"{}":'), ('{}', '{}=', '[{}]\n'), ('{}', '{} = ', '[{}]\n')
MESSAGES = ['common/protocol/*.c', 'common/checkpoint/manifest.c']
CONFS = ['common/conf/*.c', 'common/engine/worker_conf.c', 'common/trust/*.c', 'common/checkpoint/manifest.c']
WORDS = {
    'message': (JSON, MESSAGES),
    'command': (JSON, ['common/protocol/message_cmd.c', 'common/protocol/field.c', 'common/protocol/message.c']),
    'manifest': (JSON, ['common/checkpoint/manifest.c']),
    'state': (JSON, [*MESSAGES, 'device-agent/state*.c', 'device-agent/candidates.c']),
    'fleet': (JSON, [*MESSAGES, 'edge-trainer/fleet_file.c']),
    'reports': (JSON, ['device-agent/reports.c']),
    'worker': (JSON, ['common/engine/worker_wire.c']),
    'audit': (JSON, ['common/audit/*.c']),
    'classify': (JSON, ['cli/classify_request.c']),
    'model_file': (JSON, ['common/checkpoint/model_file.c']),
    'topic': (('{}', '{}/'), ['common/protocol/topic.c']),
    'cfg': (CFG, ['common/checkpoint/cfg.c', 'common/checkpoint/layer*.c', 'common/checkpoint/model.c']),
    'conf': (CONF, ['tests/fuzz/fuzz_conf.c']),
    'agent_conf': (CONF, [*CONFS, 'device-agent/conf*.c']),
    'trainer_conf': (CONF, [*CONFS, 'edge-trainer/conf*.c']),
    'dashboard_conf': (CONF, ['common/conf/*.c', 'common/trust/identity.c', 'dashboard/gateway/conf.c']),
    'browser': (('{}', '{}/'), ['common/protocol/topic.c']),
}
EDGES = ['0', '-1', '2147483648', '4294967296', '9007199254740991', '9223372036854775807', '1e308', '-1e999', 'nan']


@dataclasses.dataclass
class Result:
    name: str
    execs: int    # inputs run
    edges: int    # covered
    corpus: int   # inputs that were worth keeping
    finding: str  # what it found, and where it lies; '': nothing

    def line(self, seconds):
        return f'{self.name}: {self.execs:,} inputs in {seconds} s, {self.edges} edges covered, a corpus of {self.corpus}'


def targets(build):
    """Each has a corpus; fails where one has no program."""
    names = sorted(p.name for p in CORPUS.iterdir())
    missing = [n for n in names if not program(build, n).exists()]
    if missing:
        raise FileNotFoundError(f'{program(build, missing[0])}: not there; built by: ninja -C {build} fuzzers')
    return names


def program(build, name):
    return build / f'tests/fuzz/fuzz_{name}_lf'


@contextlib.contextmanager
def environment():
    """Files of targets lie in memory where there is such a place, and go with it, whatever a target died of."""
    shm = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='tasuki-fuzz-', dir=shm) as tmp:
        yield {**os.environ, **runner.SANITIZER_ENV, 'TMPDIR': tmp}


def dictionary(name, work):
    """The option that names it; none for a format without words."""
    if name not in WORDS:
        return []
    forms, sources = WORDS[name]
    text = ''.join(pathlib.Path(p).read_text() for s in sources for p in sorted(glob.glob(str(ROOT / s))))
    words = sorted(set(re.findall(r'"([A-Za-z][\w-]{1,40})"', text)))
    entries = [form.format(w) for w in words for form in forms] + EDGES
    quoted = ''.join('"' + ''.join(c if c.isalnum() else f'\\x{ord(c):02x}' for c in e) + '"\n' for e in entries)
    path = work / f'{name}.dict'
    path.write_text(quoted)
    return [f'-dict={path}']


class Campaign:
    """Targets side by side; what each grew is in work/NAME, what it found in work/NAME.found."""

    def __init__(self, build, work, seconds=SECONDS):
        self.build, self.work, self.seconds = build, work, seconds
        self.running = set()

    def run(self, names, jobs=None):
        """As many at a time as there are processors, unless told; yields each result as it comes. Who stops ends them all."""
        pool = concurrent.futures.ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0)))
        try:
            for done in concurrent.futures.as_completed([pool.submit(self.fuzz, n) for n in names]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for p in list(self.running):
                p.kill()
            pool.shutdown()

    def wait(self, argv, log):
        """Its exit status, or why there is none."""
        limit = self.seconds + SLACK_S
        with open(log, 'w') as f, environment() as env, subprocess.Popen(
                list(map(str, argv)), stdout=f, stderr=f, stdin=subprocess.DEVNULL, cwd=self.work, env=env) as p:
            self.running.add(p)
            try:
                return p.wait(limit)
            except subprocess.TimeoutExpired:
                p.kill()
                return f'nothing after {limit} s'
            finally:
                self.running.discard(p)

    def fuzz(self, name):
        grown, found, log = self.work / name, self.work / f'{name}.found', self.work / f'{name}.log'
        for folder in (grown, found):
            folder.mkdir(parents=True, exist_ok=True)
        argv = ['nice', '-n', '19', program(self.build, name), f'-max_total_time={self.seconds}', f'-rss_limit_mb={MEMORY_MB}',
                f'-timeout={INPUT_S}', f'-max_len={INPUT_BYTES_MAX}', '-print_final_stats=1', f'-artifact_prefix={found}/',
                *dictionary(name, self.work), grown, CORPUS / name]
        before = set(found.iterdir())
        rc = self.wait(argv, log)
        text = log.read_text(errors='replace')
        figures = re.findall(r'cov: (\d+) ft: \d+ corp: (\d+)/', text) or [(0, 0)]
        execs = re.findall(r'number_of_executed_units: (\d+)', text) or [0]
        kept = sorted(str(p) for p in set(found.iterdir()) - (set() if rc else before))
        finding = '' if rc == 0 and not kept else f'{name}: ended with {rc}, input: {" ".join(kept) or "none"}\n{text[-4000:]}'
        return Result(name, int(execs[-1]), *map(int, figures[-1]), finding)


# ---- what is kept ----

def covered(build, name, files, work):
    """{file: (edges, features)} of those that the program runs to their end. A feature is an edge of the control flow and how
    often it was taken, in eight steps."""
    folder, empty, control = work / f'{name}.all', work / f'{name}.none', work / f'{name}.control'
    for d in (folder, empty):
        shutil.rmtree(d, ignore_errors=True)
        d.mkdir()
    control.unlink(missing_ok=True)
    for i, f in enumerate(files):
        shutil.copyfile(f, folder / str(i))
    with environment() as env:
        r = runner.sh([program(build, name), '-set_cover_merge=1', f'-merge_control_file={control}', f'-timeout={INPUT_S}',
                       f'-rss_limit_mb={MEMORY_MB}', f'-artifact_prefix={work}/merge-', empty, folder], env=env, cwd=work)
    if r.returncode:
        raise ChildProcessError(f'{name}: merging ended with {r.returncode}:\n{r.stdout[-3000:]}')
    lines = control.read_text().split('\n')
    names = [files[int(pathlib.Path(p).name)] for p in lines[2:2 + int(lines[0])]]
    features = {}
    for line in lines[2 + len(names):]:
        kind, _, rest = line.partition(' ')
        if kind == 'FT' and rest:
            which, *items = map(int, rest.split())
            features[names[which]] = frozenset(items)
    return {f: (frozenset(i // 8 for i in items), items) for f, items in features.items()}


def choose(reached, always, most):
    """At most so many files beside `always`: greedily those that add most edges, then most features; the smallest of equals."""
    chosen = []
    for kind in (0, 1):
        have = set().union(*(reached[f][kind] for f in [*always, *chosen] if f in reached))
        left = {f: sets[kind] - have for f, sets in reached.items() if f not in chosen and f not in always}
        while left and len(chosen) < most:
            best = max(left, key=lambda f: (len(left[f]), -f.stat().st_size, f.name))
            if not left[best]:
                break
            chosen.append(best)
            have = left.pop(best)
            left = {f: s - have for f, s in left.items()}
    return chosen


def keep(build, name, grown):
    """Replaces what is kept in tests/fuzz/corpus/NAME of earlier campaigns by the best of that and of what has grown."""
    folder = CORPUS / name
    written = [p for p in sorted(folder.iterdir()) if not p.name.startswith(GROWN)]
    candidates = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in [*grown.iterdir(), *folder.glob(GROWN + '*')]
                  if p.stat().st_size <= INPUT_BYTES_MAX}
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        reached = covered(build, name, [*written, *candidates.values()], tmp)
        texts = {p.read_bytes() for p in choose(reached, written, GROWN_MAX)}
    for p in folder.glob(GROWN + '*'):
        p.unlink()
    for text in texts:
        (folder / f'{GROWN}{hashlib.sha256(text).hexdigest()[:12]}').write_bytes(text)
    return len(written), len(texts), sum(map(len, texts))
