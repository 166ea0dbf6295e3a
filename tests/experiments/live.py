"""A fleet that is listened to: what its devices say, which of their checkpoints are still to be scored, how long to wait."""
import json
import os
import pathlib
import time

from child import Failed
from fleet import ROOT
from rig import children

ORDER_AGAIN_S = 5  # an evaluation whose score has not come is ordered again
SCORED_WITHIN_S = 120
PHASE_LIMIT_S = 3600
TICKS = os.sysconf('SC_CLK_TCK')


def cpu_seconds(pid):
    """Of a program and its children, as far as they live."""
    total = 0.0
    for p in [pid, *children(pid)]:
        try:
            fields = pathlib.Path(f'/proc/{p}/stat').read_text().rsplit(')', 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


class Device:
    """What one device has said: its reports, and the test scores that are still wanted of its checkpoints."""

    def __init__(self, fleet, name, n_public):
        self.fleet, self.name, self.n_public = fleet, name, n_public
        self.reports, self.seen, self.wanted, self.passing, self.status = [], set(), {}, set(), {}

    def want(self, checkpoint, passing=False):
        """Its score on the test images, ordered until it comes or the device has the checkpoint no more. passing: one
        that has not been ordered when the next such one comes is not wanted any more (epochs may be quicker than answers)."""
        if passing:
            self.wanted = {c: asked for c, asked in self.wanted.items() if asked or c not in self.passing}
            self.passing.add(checkpoint)
        if not self.test(checkpoint):
            self.wanted.setdefault(checkpoint, 0.0)

    def order(self):
        for i, (checkpoint, asked) in enumerate(self.wanted.items()):
            if i < 2 and time.time() - asked > ORDER_AGAIN_S:
                self.wanted[checkpoint] = time.time()
                self.fleet.publish(f'device/{self.name}/in/cmd', {
                    'cmd': 'evaluate', 'id': f'{checkpoint[:32]}.{int(asked)}', 'checkpoint': checkpoint, 'split': 'test'},
                    response=self.fleet.topic(f'reply/experiment/{self.name}/{checkpoint}'))

    def on_report(self, r, at):
        """True when it is news."""
        if r['seq'] in self.seen:
            return False
        self.seen.add(r['seq'])
        self.reports.append({**r, 'heard': at})
        if r['split'] == 'test':
            self.wanted.pop(r['checkpoint'], None)
        return True

    def on_reply(self, checkpoint, answer):
        if not answer.get('ok') and 'is not on this device' in answer.get('error', ''):
            self.wanted.pop(checkpoint, None)

    def score(self, checkpoint, which):
        r = self.last(checkpoint, which)
        return self.brief(r) if r else None

    def last(self, checkpoint, which):
        """The newest report of a checkpoint's score on a split, None when there is none."""
        return next((r for r in reversed(self.reports) if r['checkpoint'] == checkpoint and r['split'] == which), None)

    def origin(self, checkpoint):
        return next(r['origin'] for r in self.reports if r['checkpoint'] == checkpoint)

    def test(self, checkpoint):
        return self.score(checkpoint, 'test')

    def brief(self, r):
        """n, correct and loss of a report; of the private classes, too, where there are any."""
        s = {'n': r['n'], 'correct': r['correct'], 'loss': r['loss']}
        own = [c for c in r.get('per_class', []) if c['class'] >= self.n_public]
        if own:
            s['private'] = {k: sum(c[k] for c in own) for k in ('n', 'correct')}
        return s

    def activated(self):
        """Reports of what became active, in order."""
        return [r for r in self.reports if r.get('decision') == 'activated']

    def validated(self, origin='local'):
        return [r for r in self.reports if r['split'] == 'validation' and r['origin'] == origin]


def start_broker(fleet):
    conf = (ROOT / 'broker-config/development.conf').read_text()
    fleet.start_broker(conf + '\nsys_interval 1\n', guarded=True)  # it tells the bytes it has moved
    listener = fleet.listen('device/+/status', 'device/+/report', 'device/+/offer', 'device/+/in/offer',
                            'trainer/+/job/+', 'trainer/+/status', 'trainer/+/in/+/ack', 'trainer/+/in/+/grant',
                            'reply/experiment/+/+', '$SYS/broker/bytes/received')
    time.sleep(0.2)
    return listener


def alive(fleet):
    for p in fleet.programs.values():
        if not p.running():
            raise Failed(f'{p.name} ended (exit {p.process.returncode}); its log {p.log} ends:\n{p.tail()}')


def until(what, fleet, step, limit=PHASE_LIMIT_S):
    """Calls step() until it is true."""
    end = time.monotonic() + limit
    while not step():
        alive(fleet)
        if time.monotonic() > end:
            raise Failed(f'{what}: not within {limit} s; logs: {fleet.work}')
        time.sleep(0.1)


def device_state(fleet, name):
    return json.loads((fleet.work / name / 'state/state.json').read_text())
