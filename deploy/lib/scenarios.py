"""What may happen to a site, each as a person would see it: deploy/rig scenario NAME.

A scenario is a function whose documentation says what is expected; it says what it sees, raises Unexpected when that is
something else, and mends what it broke however it ends. They stand on a site that is up, in any order and again.
What is seen is what the broker delivers to a dashboard, and what the device's own reports say.
"""
import time

from containers import DEVICES, LATER, RELEASE, TRAINERS, Trouble
from fleet import body, percent, wait_for

DECIDED_S = 180  # from a cause to the decision about what comes back
BACK_S = 60  # until all are connected again
CUT_S = 25  # long enough that the broker gives the device up (its keep-alive is 10 s)

SCENARIOS = {}


class Unexpected(Trouble):
    """The site did something else."""


def scenario(name):
    def add(function):
        SCENARIOS[name] = function
        return function
    return add


def returned(reports):
    """Decisions about what came back from the edge."""
    return [r for r in reports if r['origin'] == 'edge' and r['split'] == 'validation' and 'decision' in r]


def expect(what, condition, timeout, every=1):
    try:
        return wait_for(what, condition, timeout, every)
    except TimeoutError as e:
        raise Unexpected(f'expected {e}') from None


class Watch:
    """What dashboards hear while a scenario runs."""

    def __init__(self, site):
        self.listener = site.listen('device/+/status', 'device/+/presence', 'trainer/+/presence', 'trainer/+/job/+')
        self.jobs, self.status, self.presence = [], {}, {}

    def __enter__(self):
        expect('to hear something of the site', lambda: self.listener.all(), BACK_S, 0.2)
        return self

    def __exit__(self, *exc):
        self.listener.stop()

    def hear(self):
        for parts, b, _ in self.listener.news():
            if parts[2] == 'job':
                self.jobs.append({**b, 'trainer': parts[1]})
            elif parts[2] == 'status':
                self.status[parts[1]] = b
            else:
                self.presence[parts[1]] = b
        return self

    def job(self, match, since=0):
        """The newest job message that matches, of those from number `since` on."""
        return next((j for j in reversed(self.hear().jobs[since:]) if match(j)), None)

    def online(self, *names):
        self.hear()
        return all(self.presence.get(n, {}).get('online') for n in names)


def first_handovers(site, devices, say, timeout):
    """Until each has decided about a first result; says when."""
    began, waiting = time.monotonic(), list(devices)

    def done():
        for d in list(waiting):
            found = returned(site.reports(d))
            if found:
                waiting.remove(d)
                say(f'{d}: {found[0]["checkpoint"][:12]} came back, {percent(found[0])} of its validation images: '
                    f'{found[0]["decision"]} after {time.monotonic() - began:.0f} s')
        return not waiting
    expect(f'a first handover of {", ".join(waiting)}', done, timeout)


def another_handover(site, device, say, timeout=DECIDED_S, since=None):
    """Until it decides about one more result than it had (or than `since`)."""
    before = len(returned(site.reports(device))) if since is None else since
    site.tasuki('cmd', device, 'handover', check=False)  # it may be due anyway, or have one under way
    report = expect(f'{device} to decide about what comes back', lambda: returned(site.reports(device))[before:], timeout)[0]
    say(f'{device}: {report["checkpoint"][:12]} came back, {percent(report)} of its validation images: {report["decision"]}')
    return report


@scenario('paper')
def paper(site, say):
    """Takano et al., experiment 1, in small: cam-1 begins anew. The first checkpoint that the edge sends back scores better
    at the edge than what was handed over, and better on the device than that did there; it is taken into use."""
    device = 'cam-1'
    site.fresh(device)
    with Watch(site) as watch:
        found = expect(f'{device} to decide about what comes back', lambda: returned(site.reports(device)), DECIDED_S)[0]
        job = expect('the trainer to say how its job ended', lambda: watch.job(
            lambda j: j['device'] == device and j.get('before') and j.get('after')), BACK_S)
    local = {r['checkpoint']: r for r in site.reports(device) if r['origin'] == 'local' and r['split'] == 'validation'}
    # A copy that was rounded to be sent has an id of its own: the epoch tells which local one it was.
    handed = local.get(job['checkpoint']) or next((r for r in reversed(list(local.values())) if r['epoch'] <= job['epoch']), None)
    say('accuracy of: handed over, device | handed over, edge | returned, edge | returned, device | device alone meanwhile')
    say(f'    {percent(handed)} | {percent(job["before"])} | {percent(job["after"])} | {percent(found)} | '
        f'{100 * (found.get("against") or {}).get("accuracy", 0):.1f} %')
    if job['after']['correct'] * job['before']['n'] <= job['before']['correct'] * job['after']['n']:
        raise Unexpected('training at the edge made it no better there')
    if found['decision'] != 'activated':
        raise Unexpected(f'{device} kept what it had ({found.get("why")}), expected it to take what came back')
    if found['accuracy'] <= found['against']['accuracy']:
        raise Unexpected('what came into use scores no better on the device than what it replaces')


@scenario('cut-transfer')
def cut_transfer(site, say):
    """cam-6, whose link is slow, is cut from the network in the middle of a transfer. It trains on; once it is connected again
    the handover goes on and is decided, and no report is lost."""
    device = 'cam-6'
    with Watch(site) as watch:
        site.tasuki('cmd', device, 'handover', check=False)
        # Some of it has come, some has not.
        job = expect(f'a transfer of {device}', lambda: watch.job(
            lambda j: j['device'] == device and j['phase'] == 'pulling' and 0 < j['progress'] < 0.9), DECIDED_S, 0.1)
        site.cut(device)
        try:
            say(f'{device} cut while {job["trainer"]} had {100 * job["progress"]:.0f} % of {job["checkpoint"][:12]}')
            reports = site.reports(device)
            at_cut, decided = len(reports), len(returned(reports))
            expect(f'the broker to say that {device} is offline', lambda: not watch.online(device), BACK_S)
            time.sleep(CUT_S)
            epochs = [r for r in site.reports(device)[at_cut:] if r['origin'] == 'local']
            say(f'{device} offline, and has trained on: {len(epochs)} reports more')
            if not epochs:
                raise Unexpected(f'{device} did not train on while it was cut')
        finally:
            site.heal(device)
        seen = len(watch.hear().jobs)
        expect(f'{device} online again', lambda: watch.online(device), BACK_S)
        resumed = expect(f'the transfer of {device} to go on', lambda: watch.job(
            lambda j: j['device'] == device and j['phase'] not in ('claiming', 'lapsed'), seen), DECIDED_S, 0.1)
        say(f'{device} connected again: {resumed["trainer"]} is {resumed["phase"]}, at {100 * resumed["progress"]:.0f} %')
        found = expect(f'{device} to decide about what comes back', lambda: returned(site.reports(device))[decided:], DECIDED_S)[0]
        say(f'{device}: {percent(found)} of its validation images came back: {found["decision"]}')
    numbers = [r['seq'] for r in site.reports(device)]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise Unexpected(f'numbers of reports of {device} have gaps')


@scenario('trainer-lost')
def trainer_lost(site, say):
    """The trainer that works for a device is killed. Once its lease has run out the device turns to the other one, and the
    handover is decided."""
    with Watch(site) as watch:
        for device in DEVICES[:2]:
            site.tasuki('cmd', device, 'handover', check=False)
        job = expect('a trainer at work', lambda: watch.job(lambda j: j['phase'] == 'training'), DECIDED_S, 0.1)
        lost, device = job['trainer'], job['device']
        other = next(t for t in TRAINERS if t != lost)
        site.kill(lost)
        try:
            say(f'{lost} killed while it trained for {device}')
            before, seen = len(returned(site.reports(device))), len(watch.hear().jobs)
            expect(f'{other} to train for {device}', lambda: watch.job(
                lambda j: j['device'] == device and j['trainer'] == other and j['phase'] in ('training', 'offering', 'done'), seen), DECIDED_S)
            say(f'{other} has taken over')
            found = expect(f'{device} to decide about what comes back', lambda: returned(site.reports(device))[before:], DECIDED_S)[0]
            say(f'{device}: {percent(found)} of its validation images came back: {found["decision"]}')
        finally:
            site.heal(lost)
        site.await_healthy(BACK_S)
        say(f'{lost} is back')


@scenario('broker-restart')
def broker_restart(site, say):
    """The broker is killed (so it forgets what it had not yet written) and started again. All devices and trainers come back
    by themselves, and a handover after that is decided."""
    try:
        site.kill('broker')
        time.sleep(2)
    finally:
        site.heal('broker')
    began = time.monotonic()
    for device in site.devices():
        expect(f'{device} to answer', lambda: site.tasuki('cmd', device, 'ping', check=False).returncode == 0, BACK_S)
    site.await_healthy(BACK_S)
    say(f'all devices answer, and trainers are connected, {time.monotonic() - began:.0f} s after it was started')
    another_handover(site, 'cam-2', say)


@scenario('rolling-upgrade')
def rolling_upgrade(site, say):
    """Another release comes to the devices one by one: each comes back with what it had in use, its reports and its epochs,
    before the next one is taken down; the others go on meanwhile."""
    old = site.release()
    new = old + 1
    site.build('cam-1', release=new)
    for device in site.devices():
        reports = site.reports(device)
        site.compose('up', '-d', '--no-build', '--no-deps', '-t', '10', device, release=new)
        expect(f'{device} to answer', lambda: site.tasuki('cmd', device, 'ping', check=False).returncode == 0, BACK_S)
        have = site.reports(device)
        found = int(site.services()[device]['Config']['Labels'][RELEASE])
        if found != new:
            raise Unexpected(f'{device}: found release {found}, expected {new}')
        if have[:len(reports)] != reports:
            raise Unexpected(f'{device} has lost reports')
        last = len(have)
        expect(f'{device} to train on', lambda: len(site.reports(device)) > last, DECIDED_S)
        after = site.reports(device)
        if max(r['epoch'] for r in after) < max((r['epoch'] for r in reports), default=0):
            raise Unexpected(f'{device} has begun anew')
        say(f'{device}: release {old} -> {new}, {len(reports)} reports kept, epoch {after[-1]["epoch"]}')
    another_handover(site, 'cam-3', say)


@scenario('device-added')
def device_added(site, say):
    """A seventh device comes: with its certificate it is let in, and its first handover is decided. (Again: it begins anew.)"""
    if LATER in site.services():
        site.fresh(LATER)
    else:
        site.compose('up', '-d', '--no-build', '--no-deps', LATER)
    first_handovers(site, [LATER], say, DECIDED_S)
