"""One fold of an experiment through the real programs: the device alone until it may hand over, then, from that very state
and once for each method, the handover, and what the device does after it.

The run's clock. A device step costs `ratio` edge steps: from the handover to the decision about what came back the
agent's worker is held to it ([train] step_ms), beside a trainer that trains as fast as it can. Before the
handover nothing waits for the device, and after the decision nothing goes on beside it: there it trains unpaced,
and its clock is counted, step by step.
"""
import json
import shutil
import sys

import plans
from child import Child, main, share, write_json
from fleet import Fleet, merge
from live import SCORED_WITHIN_S, Device, cpu_seconds, device_state, start_broker, until

DEVICE, TRAINER = 'device', 'edge'


class Run(Child):
    def prepare(self):
        self.experiment = plans.EXPERIMENTS[self.spec['experiment']]
        self.lay_out(self.experiment)
        s, p = self.spec, self.parts
        self.fold = plans.device_fold(p.counts['device'])
        self.steps_an_epoch = plans.epoch_steps(p.counts['device'], self.fold)
        self.edge_epochs = plans.edge_epochs(self.experiment, p.counts['edge'], s['scale'])
        self.edge_steps = self.edge_epochs * plans.epoch_steps(p.counts['edge'], plans.edge_fold(p.counts['edge']))

    # Configurations.
    def agent_conf(self, fleet, method, step_ms):
        base = {
            'data': {'validation': self.parts.path('validation'), 'test': self.parts.path('test'), 'center_crop': self.crop,
                     'rescan_s': 0},
            'augment': {**plans.AUGMENT[self.kind], 'fold': self.fold},
            'train': {'seed': self.spec['fold'] + 1, 'threads': 1, 'nice': 5, 'round_epochs': 1000000, 'step_ms': step_ms},
            'handover': {'every_epochs': 0}}
        if self.parts.private:
            base['model'] = {'private_classes': self.parts.path('private-classes.txt')}
        fleet.agent_conf(DEVICE, self.cfg, self.parts.path('classes.txt'), self.parts.path('device'),
                         merge(base, plans.METHODS[method]['agent']))

    def trainer_conf(self, fleet, method):
        fleet.trainer_conf(TRAINER, self.cfg, self.parts.path('classes.txt'), self.parts.path('edge'), merge({
            'data': {'test': self.parts.path('edge-test'), 'center_crop': self.crop},
            'augment': {**plans.AUGMENT[self.kind], 'fold': plans.edge_fold(self.parts.counts['edge'])},
            'train': {'seed': self.spec['fold'] + 1, 'epochs': self.edge_epochs, 'threads': 1}},
            plans.METHODS[method]['trainer']))

    # The device alone, until its validation images say that it may hand over.
    def before(self):
        """The state that both methods go on from, and its reports."""
        place, marker = self.folder / 'before', self.folder / 'before.json'
        if marker.exists():  # of an interrupted call: both methods have one clock
            found = json.loads(marker.read_text())
            self.spec.update(found['speed'])
            return found
        shutil.rmtree(place, ignore_errors=True)
        with self.processor, Fleet(place, self.build, site='exp') as fleet:
            listener = start_broker(fleet)
            self.agent_conf(fleet, 'paper', 0)
            device = Device(fleet, DEVICE, len(self.parts.public))
            fleet.start_agent(DEVICE)
            latest = -(-self.experiment.device_steps // self.steps_an_epoch)

            def step():
                for parts, b, at in listener.news():
                    if parts[0] == 'device' and parts[2] == 'report':
                        device.on_report(b, at)
                own = device.validated()
                return any(ready(r) for r in own) or own and own[-1]['epoch'] >= latest
            until('the accuracy that a handover wants', fleet, step)
        state, last = device_state(fleet, DEVICE), device.validated()[-1]
        self.say(f'after {last["epoch"]} epochs of {self.steps_an_epoch} steps: {share(last)} of {last["n"]} validation images'
                 + ('' if ready(last) else f', not the {plans.HANDOVER_PERCENT} % wanted: handed over as late as the paper does'))
        found = {'reports': device.reports, 'local': state['local'], 'steps': state['rounds']['epoch'] * self.steps_an_epoch,
                 'speed': {k: self.spec[k] for k in ('step_ms', 'edge_step_ms')}}
        write_json(marker, found)
        return found

    def method(self, name):
        before = self.before()
        with Fleet(self.folder / name, self.build, site='exp') as fleet:
            return Handover(self, name, fleet, before).run()


class Handover:
    """One method's part of a run, from the state that the device has come to alone."""

    def __init__(self, run, method, fleet, before):
        self.run_, self.name, self.fleet, self.before = run, method, fleet, before
        self.device = Device(fleet, DEVICE, len(run.parts.public))
        self.device.reports = list(before['reports'])
        self.device.seen = {r['seq'] for r in before['reports']}
        self.offer = self.result = self.ack = None
        self.at = {}  # what happened when: granted, training, trained, returned, judged
        self.bytes, self.counted_at = 0, 0
        self.use = []  # (seconds of the run's clock, checkpoint, origin) of each swap
        self.clock = {}  # checkpoint -> seconds of the run's clock at its report
        self.step_s = run.spec['step_ms'] / 1000
        self.base = None  # after the decision: (epoch, seconds) that later epochs are counted from

    def say(self, text):
        self.run_.say(text, self.name)

    # What is heard.
    def hear(self):
        for parts, b, at in self.listener.news():
            if parts[0] == 'device' and parts[2] == 'report':
                self.on_report(b, at)
            elif parts[0] == 'device' and parts[2] == 'status':
                self.device.status = b
            elif parts[0] == 'device' and parts[-1] == 'offer':
                self.on_offer(b, at, returned=parts[2] == 'in')
            elif parts[0] == 'trainer' and parts[2] == 'job':
                self.on_job(b, at)
            elif parts[0] == 'trainer' and parts[-1] == 'grant' and b.get('granted'):
                self.at.setdefault('granted', at)
            elif parts[0] == 'trainer' and parts[-1] == 'ack' and b.get('decision') and not self.ack:
                self.on_ack(b, at)
            elif parts[0] == 'reply':
                self.device.on_reply(parts[-1], b)
        sys_bytes = [m for m in self.listener.all(lambda m: m['topic'].startswith('$SYS'))]
        if sys_bytes:
            self.bytes, self.counted_at = int(sys_bytes[-1]['payload']), sys_bytes[-1]['at']
        self.device.order()

    def now_s(self, report, at):
        """A report on the run's clock."""
        if self.base and report['origin'] == 'local' and report['epoch'] > self.base[0]:
            return max(self.judged_s, self.base[1] + (report['epoch'] - self.base[0]) * self.run_.steps_an_epoch * self.step_s)
        if self.base:
            return max([self.judged_s, *(t for t in self.clock.values())])
        return at - self.at['granted'] if 'granted' in self.at else 0.0

    def on_report(self, r, at):
        if not self.device.on_report(r, at) or r['split'] != 'validation':
            return
        if r['origin'] == 'local' or r.get('decision') == 'activated':
            self.device.want(r['checkpoint'], passing=r.get('decision') != 'activated')
        t = self.clock.setdefault(r['checkpoint'], self.now_s(r, at))
        if r.get('decision') == 'activated':
            self.use.append((t, r['checkpoint'], r['origin']))
            self.say(f'{r["origin"]} {r["checkpoint"][:12]} is in use, {100 * r["accuracy"]:.1f} % of {r["n"]} validation images')

    def on_offer(self, o, at, returned):
        if returned and not self.result:
            self.result, self.at['returned'] = o, at
            self.keep_sources(o.get('source') or o['id'])
            self.known = set(self.clock)
            self.returned_steps = self.device_steps()
            self.cpu = cpu_seconds(self.fleet.programs[TRAINER].pid) - self.cpu_before
            self.say(f'comes back: {share(o["before"])} before the edge\'s {self.run_.edge_steps} steps, {share(o["after"])} after, '
                     f'{at - self.at["granted"]:.0f} s')
        elif not returned and not self.offer:
            self.offer = o
            self.say(f'hands over {o["id"][:12]} of epoch {o["epoch"]}')

    def keep_sources(self, wanted=None):
        """Links to what the trainer has in its store; in the end only to what the result was coded from, which it does not need."""
        kept = self.run_.folder / 'sources'
        for weights in (self.fleet.work / TRAINER / 'state/store/checkpoints').glob('*/weights'):
            link = kept / weights.parent.name / 'weights'
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                try:
                    link.hardlink_to(weights)
                except FileNotFoundError:
                    pass  # gone meanwhile
        for folder in kept.iterdir() if wanted and kept.exists() else ():
            if folder.name != wanted:
                shutil.rmtree(folder)

    def on_job(self, j, at):
        if j.get('phase') == 'training':
            self.at.setdefault('training', at)
        elif 'training' in self.at and j.get('phase') in ('evaluating', 'offering'):
            self.at.setdefault('trained', at)

    def on_ack(self, a, at):
        self.ack, self.at['judged'] = a, at
        self.judged_s = at - self.at['granted']
        self.say(f'{a["decision"]} after {self.judged_s:.0f} s; its own by now: {share(a.get("local_test"))} of the test images')

    def device_steps(self):
        """Of its own since the handover, the epoch in hand as far as the device has told."""
        done = max([r['epoch'] for r in self.device.validated()]) * self.run_.steps_an_epoch - self.before['steps']
        s = self.device.status
        part = s.get('progress', 0) if s.get('phase') == 'training' else 0
        return done + round(part * self.run_.steps_an_epoch)

    # What is done.
    def run(self):
        run = self.run_
        folder = self.fleet.work / DEVICE
        folder.mkdir(parents=True)
        shutil.copytree(run.folder / 'before' / DEVICE / 'state', folder / 'state', symlinks=True)
        run.processor.take()
        self.listener = start_broker(self.fleet)
        run.trainer_conf(self.fleet, self.name)
        trainer = self.fleet.start_trainer(TRAINER)
        until('the trainer', self.fleet, lambda: self.listener.all(
            lambda m: m['topic'].endswith(f'trainer/{TRAINER}/status')), 120)
        run.agent_conf(self.fleet, self.name, run.spec['step_ms'])
        self.fleet.start_agent(DEVICE)
        active = self.device.activated()[-1]
        self.use.append((0.0, active['checkpoint'], active['origin']))
        for checkpoint in (active['checkpoint'], self.before['local']):
            self.clock[checkpoint] = 0.0
            self.device.want(checkpoint)
        self.cpu_before = cpu_seconds(trainer.pid)
        self.fleet.command(DEVICE, 'handover', timeout=60)
        until('the return', self.fleet, self.returned)
        run.processor.give()  # what follows is paced
        until('a decision', self.fleet, self.judged)
        until('scores', self.fleet, self.scored, SCORED_WITHIN_S)
        self.at_judged = self.use[-1]
        self.fleet.programs.pop(TRAINER).stop()
        self.fleet.programs[DEVICE].stop()
        with run.processor:
            self.go_on()
        until('the broker to count what it has moved', self.fleet, self.counted)
        return self.outcome()

    def returned(self):
        self.hear()
        if not self.result:
            self.keep_sources()
        return self.result is not None

    def judged(self):
        """Decided, and, if something that came of the return took over, told so."""
        self.hear()
        taken = [origin for _, checkpoint, origin in self.use if checkpoint not in self.known]
        return self.ack is not None and (self.ack['decision'] != 'activated' or any(o != 'local' for o in taken))

    def scored(self):
        self.hear()
        return not self.device.wanted

    def counted(self):
        self.hear()
        return self.counted_at > self.at['judged']

    def go_on(self):
        """Unpaced, from the newest local checkpoint: an epoch that was under way is taken up again, at the time it began."""
        run = self.run_
        self.hear()
        state = device_state(self.fleet, DEVICE)
        epoch = state['rounds']['epoch']
        own = self.clock.get(state['local']) if state['local'] in [r['checkpoint'] for r in self.device.validated()] else None
        self.base = (epoch, self.judged_s if own is None else own)
        run.agent_conf(self.fleet, self.name, 0)
        self.fleet.start_agent(DEVICE)
        left_s = run.experiment.until * run.edge_steps * run.spec['edge_step_ms'] / 1000 - self.base[1]
        wanted = max(1, round(left_s / self.step_s / run.steps_an_epoch))

        def step():
            self.hear()
            return max(r['epoch'] for r in self.device.validated()) >= epoch + wanted
        until('the device to go on', self.fleet, step)
        until('scores', self.fleet, self.scored, SCORED_WITHIN_S)

    # What has come of it.
    def outcome(self):
        run, d, at = self.run_, self.device, self.at
        tests = {c: d.test(c) for c in self.clock}
        trained_s = at['trained'] - at['training']
        paced_s = at['returned'] - at['granted']
        series = [{'s': round(t, 2), 'checkpoint': c, 'origin': d.origin(c), 'validation': d.score(c, 'validation'), 'test': tests[c]}
                  for c, t in self.clock.items()]
        own = self.ack.get('local_test')
        local = next((c for c, s in tests.items() if s and own and d.origin(c) == 'local' and (s['correct'], s['loss']) == (own['correct'], own['loss'])), None)
        # What travels may lack rows that the device keeps: what it is on the device has another id.
        offered = next(r['checkpoint'] for r in d.reports if r['origin'] == 'local' and r['epoch'] == self.offer['epoch'])
        returned = next(r['checkpoint'] for r in d.reports if r['origin'] == 'edge')
        # In a form that rounds it is a checkpoint of its own, with scores of its own.
        sent = None if run.parts.private else d.test(self.offer['id'])
        return {
            'images': run.parts.counts, 'bytes_of': run.parts.photo_bytes, 'classes': [len(run.parts.public), len(run.parts.private)],
            'columns': {'device_before': sent or d.test(offered), 'edge_before': self.result['before'],
                        'edge_after': self.result['after'], 'device_after': d.test(returned),
                        'local_meanwhile': tests.get(local) or own},
            'decision': self.ack['decision'], 'validation': {k: self.ack.get(k) for k in ('validation', 'local_validation')},
            'at_judged': d.test(self.at_judged[1]), 'in_use_when_judged': self.at_judged[2], 'at_end': d.test(self.use[-1][1]),
            'series': sorted(series, key=lambda x: x['s']),
            'use': [{'s': round(t, 2), 'checkpoint': c, 'origin': o, 'test': d.test(c)} for t, c, o in self.use],
            'seconds': {'returned': paced_s, 'judged': self.judged_s, 'end': max(self.clock.values())},
            'edge': {'steps': run.edge_steps, 'training_s': trained_s, 'job_s': self.result['duration_ms'] / 1000,
                     'cpu_s': self.cpu},
            'device': {'steps_before': self.before['steps'], 'steps_meanwhile': self.returned_steps, 'steps_an_epoch': run.steps_an_epoch},
            'ratio_achieved': (run.edge_steps / trained_s) / (self.returned_steps / paced_s) if self.returned_steps else None,
            'input_bytes': run.input_bytes, 'checkpoint_bytes': self.offer['size'], 'broker_bytes': self.bytes,
        }


def ready(r):
    return r['correct'] * 100 >= plans.HANDOVER_PERCENT * r['n']


if __name__ == '__main__':
    sys.exit(main(Run))
