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

sys.path += [str(subjects.ROOT / 'deploy/lib'), str(subjects.ROOT / 'tests/lib')]
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


class Processes:
    """The drivers of the devices; what each says every second is kept."""

    def __init__(self, args, build, state, conf, log):
        self.ticks, self.all, self.error = [[] for _ in range(args.processes)], [], open(log, 'ab')
        first = 0
        for i in range(args.processes):
            count = (args.devices - first) // (args.processes - i)
            argv = [build / DEVICES, '--state', state, '--first', first, '--count', count, '--epoch-ms', int(args.epoch * 1000),
                    '--ramp-ms', int(args.ramp * 1000), '--again-ms', max(1, int(1000 * args.processes / args.offers)), conf]
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

    def say(self, word):
        for p in self.all:
            p.stdin.write(word + '\n')
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
        return [p.returncode for p in self.all]


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

    KEYS = ('statuses', 'reports', 'offers', 'claims', 'called', 'busy', 'results', 'acks')

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
            **{k: counts[k] - self.before[k] for k in ('claims', 'called', 'busy')}, 'handovers': counts['acks'] - self.before['acks'],
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
    raw = {'encoding': 'raw'}  # the stand-in for the worker knows no other
    fleet.trainer_conf('trainer', TINY, CLASSES, data, {
        'broker': product, 'transfer': raw, 'data': {'test_share': 0},
        'train': {'epochs': 1, 'step_ms': int(args.job * 1000 / STEPS), 'stall_s': 600}})
    conf = fleet.agent_conf('devices', TINY, CLASSES, data, {
        'broker': product, 'transfer': raw, 'data': {'rescan_s': 0}, 'train': {'round_epochs': 1000000},
        'handover': {'every_epochs': 1}, 'select': {'selector': 'best', 'tune_steps': 0}})
    fleet.start_trainer('trainer')
    processes = Processes(args, fleet.build, state, conf, fleet.work / 'devices.log')
    await_all(args, processes)
    return processes


def await_all(args, processes):
    fleets.wait_for(f'{args.devices} sessions', lambda: processes.sum('up') == args.devices, args.ramp + UP_S, 0.2)


def complaints(lines):
    """Warnings and errors among the lines of a log."""
    return [line for line in lines if re.search(r'^<[0-4]>|: (warning|error): |dropped|[Ee]rror|Sanitizer', line)]


class Cut:
    """From here until the whole fleet is there again."""

    def __init__(self, args, fleet, processes):
        self.args, self.fleet, self.processes = args, fleet, processes
        self.mark, self.lost = [n - 1 for n in processes.mark()], processes.sum('lost')
        self.logs = {n: len(fleet.programs[n].text()) for n in ('trainer', 'broker')}
        self.ups = self._trainer_ups()

    def _trainer_ups(self):
        return self.fleet.programs['trainer'].text().count(': connected')

    def end(self):
        began = time.monotonic()
        fleets.wait_for('trainer', lambda: self._trainer_ups() > self.ups, UP_S)
        await_all(self.args, self.processes)
        seconds = time.monotonic() - began
        self.processes.say('forget')
        time.sleep(1.1)  # the processes' last words on it
        ticks = self.processes.since(self.mark)
        rates = [sum(new['connects'] - old['connects'] for old, new in pairs)
                 for pairs in zip(*[list(zip(own, own[1:])) for own in ticks])]
        return {'back_s': round(seconds, 1), 'lost': self.processes.sum('lost') - self.lost,
                'connects': sum(own[-1]['connects'] - own[0]['connects'] for own in ticks),
                'peak_connects_a_second': max(rates, default=0),
                'complaints': {n: complaints(self.fleet.programs[n].text()[at:].splitlines()) for n, at in self.logs.items()}}


def cut_all(args, fleet, processes):
    """The broker is killed with all that it knew, and comes back."""
    cut = Cut(args, fleet, processes)
    fleet.programs['broker'].kill()
    time.sleep(args.outage)
    # What they say is a second old, or more: else the whole fleet might seem to be there again, since it still was.
    fleets.wait_for('the whole fleet to be cut', lambda: processes.sum('up') == 0, UP_S, 0.2)
    fleet.start_broker()
    return cut.end()


def cut_trainer(args, fleet, processes):
    """The trainer is killed, and comes back: it asks for all reports that it has missed."""
    cut = Cut(args, fleet, processes)
    fleet.programs['trainer'].kill()
    time.sleep(args.outage)
    fleet.start_trainer('trainer')
    return cut.end()


def made(state):
    """(device, log, seq) of all reports that the devices have made."""
    for folder in sorted(state.iterdir()):
        path = folder / 'reports.jsonl'
        for line in path.read_text().split('\n')[:-1] if path.exists() else ():  # without one that is being written
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


def observe(args, fleet, processes):
    interval = Interval(fleet, processes)
    time.sleep(args.seconds)
    return interval.end()


def measure(args, build, work, state):
    run = {k: getattr(args, k) for k in ('devices', 'processes', 'offers', 'epoch', 'job', 'seconds')}
    run['outage_s'] = args.outage
    disturbance = subjects.Disturbance()
    with fleets.Fleet(work, build, site='crowd') as fleet:
        processes = start(args, fleet, state)
        try:
            run['steady'] = observe(args, fleet, processes)
            run['cut'] = cut_all(args, fleet, processes)
            run['after_cut'] = observe(args, fleet, processes)
            run['restart'] = cut_trainer(args, fleet, processes)
            run['after_restart'] = observe(args, fleet, processes)
            processes.say('hold')
            time.sleep(2)
            run['reports'], run['reports_lost'] = lost_reports(fleet, state)
            run['device_mb'] = round(sum(rss_mb(p.pid) for p in processes.all) / args.devices, 3)
            run['peak_mb'] = {n: round(rss_mb(fleet.programs[n].pid, 'VmHWM'), 1) for n in ('trainer', 'broker')}
        finally:
            run['devices_ended'] = processes.stop()
        run['devices_log'] = complaints((work / 'devices.log').read_text().splitlines())
    run['disturbance'] = disturbance.shares()
    return run


def percent(x):
    return f'{100 * x:.1f} %'


def ms(x):
    return '-' if x is None else f'{x} ms'


def text(run):
    """The table, and what is beside it."""
    parts = ('steady', 'after_cut', 'after_restart')
    rows = [[title, *(fill(run[p]) for p in parts)] for title, fill in (
        ('trainer: of a processor', lambda p: percent(p['cpu']['trainer'])),
        ('trainer: resident', lambda p: f'{p["rss_mb"]["trainer"]} MB'),
        ('broker: of a processor', lambda p: percent(p['cpu']['broker'])),
        ('broker: resident', lambda p: f'{p["rss_mb"]["broker"]} MB'),
        ('statuses, reports a second', lambda p: f'{p["a_second"]["statuses"]:.0f}, {p["a_second"]["reports"]:.0f}'),
        ('offers a second', lambda p: f'{p["a_second"]["offers"]:.1f}'),
        ('answers: claim, `busy`', lambda p: f'{p["claims"] - p["called"]}, {p["busy"]}'),
        ('claimed when their turn had come', lambda p: p['called']),
        ('offer to claim or `busy`: median', lambda p: ms(p['latency_ms']['50'])),
        ('... 99th percentile', lambda p: ms(p['latency_ms']['99'])),
        ('... longest', lambda p: ms(p['latency_ms']['100'])),
        ("devices' own loops late, at most", lambda p: ms(p['late_ms'])),
        ('whole handovers', lambda p: p['handovers']))]
    cut, again = run['cut'], run['restart']

    def said(c):
        n = {name: len(lines) for name, lines in c['complaints'].items()}
        return f'{n["trainer"]} warnings or errors of the trainer, {n["broker"]} of the broker'
    return '\n\n'.join([
        f'{run["devices"]} sessions in {run["processes"]} processes; an epoch takes {run["epoch"]:g} s and is offered, a job of the '
        f'trainer {run["job"]:g} s. Who finds it busy comes back when told; {run["offers"]:g} a second offer again nevertheless. '
        f'Each column is {run["seconds"]:g} s.',
        table(['', 'steady', 'after the cut', 'after the restart'], rows),
        f'Broker killed, back after {run["outage_s"]:g} s: {cut["lost"]} sessions cut, all there {cut["back_s"]} s after it, at most '
        f'{cut["peak_connects_a_second"]} a second; {said(cut)}. Trainer killed, back after as long: {said(again)}. Of '
        f'{run["reports"]} reports {run["reports_lost"]} were lost. Peaks: trainer {run["peak_mb"]["trainer"]} MB, broker '
        f'{run["peak_mb"]["broker"]} MB. A device takes {1000 * run["device_mb"]:.0f} kB of its process.',
        f'All else that ran here took {100 * run["disturbance"]["others"]:.0f} % of the processors.'])
