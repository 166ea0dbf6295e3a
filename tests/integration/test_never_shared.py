# build: plain
"""share = never: no ancestor of anything that was offered has seen such a folder.

What descends from what is not taken from manifests, which the agent makes by itself, but from what its worker was
asked for: the agent is given a program that passes everything on to the worker and writes it down. What the agent
makes without the worker (copies without private rows, results with them) is taken from its log."""
import json
import re
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

PASS_ON = '''#!/usr/bin/env python3
import ctypes, os, signal, socket, subprocess, sys, threading
agent = socket.socket(fileno=3)
ours, theirs = socket.socketpair()
fd, log = theirs.fileno(), open({log!r} + f'/{{os.getpid()}}', 'wb', buffering=0)

def become():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.dup2(fd, 3)

worker = subprocess.Popen([{worker!r}], preexec_fn=become, pass_fds=[3], env=os.environ)
theirs.close()

def pass_on(source, sink, mark):
    for line in source.makefile('rb'):
        log.write(mark + line)
        sink.sendall(line)
    os._exit(0)

threading.Thread(target=pass_on, args=(agent, ours, b'>'), daemon=True).start()
pass_on(ours, agent, b'<')
'''
ID = re.compile(r'/checkpoints/([0-9a-f]{64})/weights$')
MADE = re.compile(r'checkpoint=([0-9a-f]{12}) made origin=(\w+) parents=([0-9a-f]*),([0-9a-f]*)')
VERBOSE = ('sh', '-c', 'exec "$0" --verbose "$@"')


class Ancestry:
    """Checkpoints by the first 12 digits of their ids: parents, and whether never shared images trained them."""

    def __init__(self):
        self.parents, self.trained = {}, set()

    def add(self, ident, parents, trained=False):
        self.parents.setdefault(ident[:12], set()).update(p[:12] for p in parents)
        if trained:
            self.trained.add(ident[:12])

    def ancestors(self, ident):
        todo, done = [ident[:12]], set()
        while todo:
            at = todo.pop()
            if at not in done:
                done.add(at)
                todo += self.parents[at]  # one that came from nowhere is an error
        return done

    def seen(self, ident):
        return bool(self.ancestors(ident) & self.trained)

    def add_worker(self, text, all_are_marked):
        """One worker's dialogue."""
        asked = {}
        for line in text.splitlines():
            try:
                m = json.loads(line[1:])
            except ValueError:
                continue  # killed in the middle of it
            if line[0] == '>':
                asked[m['id']] = m
                continue
            r, made = asked.get(m['id'], {}), m.get('result') or {}
            if not m.get('ok') or r.get('op') not in ('train', 'blend', 'merge', 'first', 'encode'):
                continue
            inputs = [r[k] for k in ('weights', 'a', 'b') if r.get(k)]
            inputs += [i['weights'] for i in r.get('inputs', [])] + r.get('bases', [])
            marked = r['op'] == 'train' and (r.get('stay', False) or all_are_marked)
            assert not (r.get('stay') and r.get('momentum')), r
            self.add(made['checkpoint'], [ID.search(p).group(1) for p in inputs], marked)


class NeverShared(rig.Case):
    def setUp(self):
        super().setUp()
        self.dialogues = self.work / 'dialogues'
        self.dialogues.mkdir()
        self.program = self.work / 'pass-on'
        self.program.write_text(PASS_ON.format(log=str(self.dialogues), worker=str(rig.BUILD / 'common/engine/tasuki-worker')))
        self.program.chmod(0o755)

    def start(self, data, conf, classes=10):
        """classes: of the public list; only the device has images of the others."""
        known = ','.join(['1'] * classes + ['0'] * (10 - classes))
        for name, n, seed, mix in (('edge', 150, 1, known), ('cam', 120, 2, None), ('never', 500, 3, None)):
            self.digits(name, n, seed, mix=mix, test=False)
        (self.work / 'classes.txt').write_text('\n'.join(map(str, range(classes))) + '\n')
        model = {'model': {'classes': self.work / 'classes.txt'}}
        self.fleet.start_broker()
        self.listener = self.fleet.listen('device/cam-1/offer', 'device/cam-1/in/offer', 'trainer/+/in/+/ack',
                                          'trainer/+/in/cam-1/block/#', 'device/cam-1/report')
        self.quick_trainer('edge-1', self.work / 'data/edge', rig.merge(model, {'train': {'epochs': 1}}))
        self.quick_agent('cam-1', self.work / 'data/cam', rig.merge({
            **model, 'data': data, 'worker': {'program': self.program},
            'train': {'round_epochs': 4, 'rounds': 0},
            'select': {'selector': 'best', 'lineage': 'adopt', 'blends': '50', 'tune_steps': 40, 'tune_rate_percent': 100,
                       'budget_s': 0}}, conf))
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1', wrap=VERBOSE)

    def ancestry(self, all_are_marked=False):
        found = Ancestry()
        for path in self.dialogues.iterdir():
            found.add_worker(path.read_text(errors='replace'), all_are_marked)
        for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/in/offer')):
            found.add(body(m)['id'], body(m)['parents'])
            found.add(body(m).get('source') or body(m)['id'], body(m)['parents'])
        for ident, _, *parents in MADE.findall(self.fleet.programs['cam-1'].text()):
            if ident not in found.parents:
                found.add(ident, [p for p in parents if p])
        return found

    def left(self):
        """Ids of all that was offered, or of which a block was sent, or that a trainer has of others."""
        offers = [body(m) for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/offer'))]
        payloads = {m.get('payload') or m['id']: m['id'] for m in offers}
        blocks = {m['topic'].split('/')[-2] for m in self.listener.all(lambda m: '/block/' in m['topic'])}
        kept = [json.loads(p.read_text()) for p in (self.work / 'edge-1/state/store').glob('checkpoints/*/manifest.json')]
        return ({m['id'] for m in offers}, {payloads[b] for b in blocks},
                {m['id'] for m in kept if m.get('trainer') != 'edge-1'})

    def tuned_in_use(self):
        return [r for r in self.device_reports('cam-1').values() if r.get('decision') == 'activated' and r['origin'] == 'tuned']

    def handed_over(self, n):
        self.decided(self.listener, 'cam-1', n)

    def test_second_folder(self):
        self.second_folder({})

    def test_second_folder_and_private_classes(self):
        """Copies without private rows, and results with them, are links of the chain, too."""
        (self.work / 'mine.txt').write_text('nobody\n')
        ancestry = self.second_folder({'model': {'classes': self.work / 'classes.txt',
                                                 'private_classes': self.work / 'mine.txt'}}, 9)
        sources = {body(m)['id']: body(m).get('source') for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/offer'))}
        for ident, source in sources.items():
            self.assertIn(source[:12], ancestry.ancestors(ident))

    def second_folder(self, conf, classes=10):
        self.start({'never_shared': self.work / 'data/never'}, conf, classes)
        self.handed_over(2)
        self.fleet.restart('cam-1')
        self.handed_over(4)
        agent = self.fleet.programs['cam-1']
        agent.kill()
        agent.start()
        self.handed_over(6)
        wait_for('one of them to be of use', self.tuned_in_use, WAIT)
        agent.stop()
        self.fleet.programs['edge-1'].stop()  # else what it keeps may go while it is looked at
        self.fleet.publish('device/cam-1/report', 'end')
        self.listener.wait('all that came before', lambda m: m['payload'] == 'end', WAIT)
        ancestry = self.ancestry()
        offers, blocks, kept = self.left()
        self.assertGreaterEqual(len(offers), 6)
        self.assertTrue(blocks and blocks <= offers)
        self.assertTrue(kept & offers)
        for ident in offers | blocks | kept:
            self.assertFalse(ancestry.seen(ident), f'{ident} has seen the folder, and was offered')
        # Else it proves nothing: the folder has trained, what it trained was in use, and lineages went through it.
        self.assertGreaterEqual(len(ancestry.trained), 4)
        self.assertTrue(all(ancestry.seen(r['checkpoint']) for r in self.tuned_in_use()))
        return ancestry

    def test_marked_folder(self):
        """What was trained under the mark is not offered when the mark is gone either."""
        self.start({'share': 'never'}, {'handover': {'every_epochs': 1}})
        agent = self.fleet.programs['cam-1']
        wait_for('some epochs', lambda: len(self.device_reports('cam-1')) > 5, WAIT)
        self.assertIn('[data] share = never: nothing is offered', agent.text())
        answer = self.fleet.command('cam-1', 'handover', expect_ok=False)
        self.assertIn('share = never', answer['error'])
        agent.stop()
        conf = self.work / 'cam-1/agent.conf'
        conf.write_text(conf.read_text().replace('share = never', 'share = yes'))
        before = len(self.device_reports('cam-1'))
        agent.start()
        wait_for('more epochs', lambda: len(self.device_reports('cam-1')) > before + 3, WAIT)
        wait_for('what is due to be refused, or offered', lambda: 'not offered: checkpoint' in agent.text() or self.left()[0], WAIT)
        self.assertEqual(self.left()[0], set())
        self.assertIn('share = never', self.fleet.command('cam-1', 'handover', expect_ok=False)['error'])
        agent.stop()
        self.assertEqual(self.left(), (set(), set(), set()))
        self.assertTrue(all(json.loads(p.read_text())['stays'] for p in
                            self.work.glob('cam-1/state/checkpoints/*/manifest.json')))


rig.main()
