"""A fleet of devices on one machine: what is started, what is measured, and the table of it."""
import json
import os
import pathlib
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time

import subjects

sys.path[:0] = [str(subjects.ROOT / 'deploy/lib'), str(subjects.ROOT / 'tests/lib')]
import fleet as fleets  # noqa: E402
from tables import table  # noqa: E402

DEVICES = 'tests/bench/fleet_devices'
TINY = subjects.ROOT / 'tests/data/tiny.cfg'
CLASSES = subjects.ROOT / 'tests/data/digits.txt'
FILES_EACH = 10  # that a session opens in its process: socket, event, timers, lock, and a few for a moment
FILES_MORE = 100
UP_S = 300  # until the fleet is there, or there again; longer is a failure
REPORTS_S = 120  # until the last report has been stored
STEPS = 4  # of the trainer's epoch: its images by the batch of tiny.cfg
SECTION = re.compile(r'^(?:<\d>)?\S*:? ?', re.M)


class Processes:
    """The drivers of the devices; what each says every second is kept."""

    def __init__(self, args, build, state, conf, log):
        self.ticks, self.all, self.error = [[] for _ in range(args.processes)], [], open(log, 'ab')
        first = 0
        for i in range(args.processes):
            count = (args.devices - first) // (args.processes - i)
            argv = [build / DEVICES, '--state', state, '--first', first, '--count', count, '--epoch-ms', int(args.epoch * 1000),
                    '--ramp-ms', int(args.ramp * 1000), conf]
            p = subprocess.Popen([*map(str, argv)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.error, text=True,
                                 start_new_session=True, preexec_fn=fleets.die_with_parent)
            self.all.append(p)
            threading.Thread(target=self._read, args=(p, self.ticks[i]), daemon=True).start()
            first += count

    @staticmethod
    def _read(process, ticks):
        for line in process.stdout:
            ticks.append(json.loads(line))

    def sum(self, key):
        ended = [p.pid for p in self.all if p.poll() is not None]
        if ended:
            raise SystemExit(f'fleet: process {ended[0]} of the devices has ended: see --keep')
        return sum(t[-1][key] if t else 0 for t in self.ticks)

    def mark(self):
        return [len(t) for t in self.ticks]

    def since(self, mark):
        return [t[n:] for t, n in zip(self.ticks, mark)]

    def hold(self):
        for p in self.all:
            p.stdin.write('hold\n')
            p.stdin.flush()

    def stop(self):
        for p in self.all:
            p.stdin.close()
        for p in self.all:
            try:
                p.wait(60)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.error.close()


def cpu_s(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def rss_mb(pid, key='VmRSS'):
    return subjects.proc_kib(pid, key) * 1024 / 1e6


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))] if values else None


class Interval:
    """What happens from now on."""

    KEYS = ('statuses', 'reports', 'offers', 'claims', 'busy', 'results', 'done')

    def __init__(self, fleet, processes):
        self.fleet, self.processes = fleet, processes
        self.pids = {name: fleet.programs[name].pid for name in ('trainer', 'broker')}
        self.mark, self.began, self.before, self.cpu = processes.mark(), time.monotonic(), self._counts(), self._cpu()

    def _counts(self):
        return {k: self.processes.sum(k) for k in self.KEYS}

    def _cpu(self):
        return {'devices': sum(cpu_s(p.pid) for p in self.processes.all), **{n: cpu_s(pid) for n, pid in self.pids.items()}}

    def end(self):
        seconds, counts, cpu = time.monotonic() - self.began, self._counts(), self._cpu()
        ticks = [t for own in self.processes.since(self.mark) for t in own]
        latencies = [x for t in ticks for x in t['latencies_ms']]
        return {
            'seconds': round(seconds, 1),
            'cpu': {n: round((cpu[n] - self.cpu[n]) / seconds, 4) for n in cpu},
            'a_second': {k: round((counts[k] - self.before[k]) / seconds, 2) for k in self.KEYS},
            'claims': counts['claims'] - self.before['claims'], 'handovers': counts['done'] - self.before['done'],
            'answers': len(latencies), 'latency_ms': {str(p): percentile(latencies, p) for p in (50, 99, 100)},
            'late_ms': max((t['late_ms'] for t in ticks), default=0),
            'rss_mb': {n: round(rss_mb(pid), 1) for n, pid in self.pids.items()},
        }


def raise_limits(args):
    """Every session has a few files; the broker, one."""
    need = max(args.devices, args.devices * FILES_EACH // args.processes) + FILES_MORE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        raise SystemExit(f'fleet: at most {hard} open files a process (ulimit -Hn), expected {need}: more --processes, fewer --devices')
    resource.setrlimit(resource.RLIMIT_NOFILE, (need if soft == resource.RLIM_INFINITY else max(soft, need), hard))


def start(args, fleet, state):
    """Broker, trainer and devices; returns the devices' processes when all are connected."""
    raise_limits(args)
    data = fleet.work / 'data'
    fleet.start_broker()
    fleet.run_tasuki('dataset', 'digits', '--out', data, '--n', 16 * STEPS, '--seed', 1)
    product = {'reconnect_first_ms': 500, 'reconnect_cap_ms': 30000}  # as it comes
    # Whoever finds the trainer busy comes back when the job in hand is over: that job's length is the offers' pace.
    step_ms = min(60000, int(args.devices / args.offers / STEPS * 1000))
    fleet.trainer_conf('trainer', TINY, CLASSES, data, {
        'broker': product, 'data': {'test_share': 0},
        'train': {'epochs': 1, 'step_ms': step_ms, 'stall_s': 120}})
    conf = fleet.agent_conf('devices', TINY, CLASSES, data, {
        'broker': product, 'data': {'rescan_s': 0}, 'train': {'round_epochs': 1000000},
        'handover': {'every_epochs': 1}, 'select': {'selector': 'best', 'tune_steps': 0}})
    fleet.start_trainer('trainer')
    processes = Processes(args, fleet.build, state, conf, fleet.work / 'devices.log')
    await_all(args, processes)
    return processes


def await_all(args, processes):
    fleets.wait_for(f'{args.devices} sessions', lambda: processes.sum('up') == args.devices, args.ramp + UP_S, 0.2)


def log_lines(program, levels, since=0):
    text = program.text()[since:]
    return sum(line.startswith(tuple(f'<{n}>' for n in levels)) or bool(re.match(r'^\S+: (warning|error)', line)) for line in text.splitlines())


def cut(args, fleet, processes):
    """The broker is killed with all that it knew, and comes back; how long until everybody is there."""
    trainer, mark, seen = fleet.programs['trainer'], processes.mark(), len(fleet.programs['trainer'].text())
    before = trainer.text().count('connected')
    fleet.programs['broker'].kill()
    time.sleep(args.outage)
    fleet.start_broker()
    began = time.monotonic()
    await_all(args, processes)
    devices_s = time.monotonic() - began
    fleets.wait_for('trainer', lambda: trainer.text().count('connected') > before, UP_S)
    ticks = processes.since(mark)
    rates = [sum(new['connects'] - old['connects'] for old, new in pairs)
             for pairs in zip(*[list(zip(own, own[1:])) for own in ticks])]
    return {'outage_s': args.outage, 'back_s': round(devices_s, 1), 'lost': sum(own[-1]['lost'] - own[0]['lost'] for own in ticks),
            'connects': sum(own[-1]['connects'] - own[0]['connects'] for own in ticks),
            'peak_connects_a_second': max(rates, default=0), 'trainer_log': trainer.text()[seen:].splitlines()}


def made(state):
    """(device, log, seq) of all reports that the devices have made."""
    for folder in sorted(state.iterdir()):
        path = folder / 'reports.jsonl'
        for line in path.read_text().splitlines() if path.exists() else ():
            r = json.loads(line)
            yield folder.name, r.get('log', ''), r['seq']


def stored(fleet):
    path = fleet.work / 'trainer/state/trainer.db'
    with sqlite3.connect(f'file:{path}?mode=ro', uri=True, timeout=30) as db:
        return set(db.execute('SELECT device, log, seq FROM reports'))


def lost_reports(fleet, state):
    """How many reports there are, and of these not in the trainer's database, once nothing comes any more."""
    missing, end = set(made(state)), time.monotonic() + REPORTS_S
    n = len(missing)
    while True:
        missing -= stored(fleet)
        if not missing or time.monotonic() > end:
            return n, len(missing)
        time.sleep(1)


def measure(args, build, work, state):
    run = {'devices': args.devices, 'processes': args.processes}
    disturbance = subjects.Disturbance()
    with fleets.Fleet(work, build, site='crowd') as fleet:
        processes = start(args, fleet, state)
        try:
            interval = Interval(fleet, processes)
            time.sleep(args.seconds)
            run['steady'] = interval.end()
            run['cut'] = cut(args, fleet, processes)
            interval = Interval(fleet, processes)
            time.sleep(args.seconds)
            run['after'] = interval.end()
            processes.hold()
            time.sleep(2)
            run['reports'], run['reports_lost'] = lost_reports(fleet, state)
            run['device_mb'] = round(sum(rss_mb(p.pid) for p in processes.all) / args.devices, 3)
            run['peak_mb'] = {n: round(rss_mb(fleet.programs[n].pid, 'VmHWM'), 1) for n in ('trainer', 'broker')}
        finally:
            processes.stop()
        run['devices_log'] = (work / 'devices.log').read_text().splitlines()
        run['broker_log'] = fleet.programs['broker'].text().splitlines()
    run['disturbance'] = disturbance.shares()
    return run
