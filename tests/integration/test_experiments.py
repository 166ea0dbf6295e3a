# build: plain
"""The paper's experiments in miniature: who gets which image, what a run leaves, what a rerun does, what the tables say."""
import json
import pathlib
import signal
import subprocess
import sys
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
sys.path.insert(0, str(rig.ROOT / 'tests/experiments'))
import figures
import plans
import split

CAMPAIGN = rig.ROOT / 'tests/experiments/campaign.py'
TINY_RUN = ['--data', 'digits', '--images', 400, '--seeds', 1, '--scale', 0.01, '--ratio', 3, '--jobs', 1]


def images(n, seed=''):
    return [split.Image(f'{seed}{i:04d}', pathlib.Path(f'{i}.jpg')) for i in range(n)]


def shas(part):
    return {i.sha for v in part.values() for i in v}


class Split(unittest.TestCase):
    def setUp(self):
        self.classes = {f'p{c}': images(30, f'{c}-') for c in range(6)}

    def test_each_image_is_tested_once(self):
        tested = [i.sha for k in range(plans.FOLDS) for v in split.deal(self.classes, plans.EXPERIMENTS['1'], k)['test'].values() for i in v]
        self.assertEqual(sorted(tested), sorted(shas(self.classes)))

    def test_nothing_that_judges_is_trained_on(self):
        for name, e in plans.EXPERIMENTS.items():
            for k in range(plans.FOLDS):
                parts = {p: shas(v) for p, v in split.deal({**self.classes, 'own': images(149, 'own-')}, e, k, ['own']).items()}
                self.assertFalse(parts['test'] & parts['validation'])
                for p in ('device', 'edge'):
                    self.assertFalse(parts[p] & (parts['test'] | parts['validation']), (name, k, p))
                # The edge never sees what only the device has.
                self.assertFalse({s for s in parts['edge'] if s.startswith('own-')})

    def test_shares(self):
        for name, share in (('2-1', 0.2), ('2-2', 0.8)):
            parts = {p: shas(v) for p, v in split.deal(self.classes, plans.EXPERIMENTS[name], 2).items()}
            n = len(parts['device']) + len(parts['edge'])
            self.assertEqual((len(parts['test']), len(parts['validation']), n), (36, 18, 126))
            self.assertAlmostEqual(len(parts['device']) / n, share, delta=0.01)
            self.assertFalse(parts['device'] & parts['edge'])
        parts = split.deal(self.classes, plans.EXPERIMENTS['1'], 2)
        self.assertEqual(shas(parts['device']), shas(parts['edge']))

    def test_copies_stay_together(self):
        twice = {'a': images(20, 'x') * 2, 'b': images(20, 'y')}
        parts = split.deal(twice, plans.EXPERIMENTS['2-1'], 0)
        self.assertEqual(sum(map(split.count, parts.values())), 40)


class Figures(unittest.TestCase):
    def result(self, **columns):
        score = {'n': 100, 'correct': 50, 'loss': 1}
        return {'method': 'paper', 'classes': [10, 0], 'columns': {c: {**score, **columns.get(c, {})} for c in figures.COLUMNS}}

    def test_same_at_both_ends(self):
        self.assertTrue(figures.same_at_both_ends(self.result()))
        self.assertFalse(figures.same_at_both_ends(self.result(edge_before={'correct': 51})))
        self.assertFalse(figures.same_at_both_ends(self.result(device_after={'correct': 49})))
        # Of a class that only the device has, the edge says nothing.
        own = {'n': 110, 'correct': 57, 'private': {'n': 10, 'correct': 7}}
        self.assertTrue(figures.same_at_both_ends(self.result(device_before=own)))
        self.assertFalse(figures.same_at_both_ends(self.result(device_before={**own, 'correct': 58})))

    def test_interval(self):
        s = figures.interval([1.0, 2.0, 3.0, 4.0, 5.0])
        self.assertAlmostEqual(s['mean'], 3)
        self.assertAlmostEqual(s['low'], 3 - 2.776 * 2.5 ** 0.5 / 5 ** 0.5)
        self.assertNotIn('low', figures.interval([1.0]))
        self.assertIsNone(figures.interval([]))

    def test_accuracy(self):
        s = {'n': 20, 'correct': 12, 'private': {'n': 10, 'correct': 9}}
        self.assertEqual([figures.accuracy(s, of) for of in ('all', 'private', 'others')], [60, 90, 30])
        self.assertIsNone(figures.accuracy({'n': 20, 'correct': 12}, 'private'))

    def test_in_use(self):
        def use(s, correct, origin='local'):
            return {'s': s, 'origin': origin, 'test': {'n': 10, 'correct': correct}}
        r = {'use': [use(0, 4), use(5, 6, 'edge'), use(9, 7)]}
        self.assertEqual([figures.accuracy(figures.in_use(r, t)) for t in (0, 5, 8, 20)], [40, 60, 60, 70])
        self.assertEqual([figures.first_at(r, p) for p in (40, 55, 70, 80)], [0, 5, 9, None])
        self.assertTrue(figures.taken_back(r))
        self.assertFalse(figures.taken_back({'use': r['use'][:2]}))


    def test_compare(self):
        def run(method, fold, use):
            uses = [{'s': s, 'origin': 'local', 'test': {'n': 100, 'correct': c}} for s, c in use]
            return {'method': method, 'fold': fold, 'classes': [10, 0], 'use': uses, 'at_judged': uses[-2]['test'], 'at_end': uses[-1]['test'],
                    'seconds': {'judged': uses[-2]['s'], 'end': uses[-1]['s']}}
        paper = [run('paper', k, [(0, 40), (10, 60), (30, 70)]) for k in range(2)]
        ours = [run('ours', k, [(0, 40), (20, 75 + k), (40, 80)]) for k in range(2)]
        c = figures.compare(paper, ours)
        self.assertAlmostEqual(c['judged']['mean'], 15.5)  # at 20 s the paper's method has 60 in use
        self.assertAlmostEqual(c['end']['mean'], 5.5)      # at 30 s, where the shorter one ends
        self.assertEqual([c['time'][k]['mean'] for k in ('paper', 'ours', 'less')], [30, 20, 10])
        # What the paper's method came to before ours was judged counts.
        late = [run('ours', k, [(0, 40), (35, 75 + k), (40, 80)]) for k in range(2)]
        self.assertAlmostEqual(figures.compare(paper, late)['judged']['mean'], 5.5)
        self.assertIsNone(figures.compare(paper, []))

    def test_many_and_cost(self):
        def many(strategy, fold, worst):
            return {'experiment': 'many', 'data_name': 'digits', 'scale': 1, 'ratio': 12, 'commit': 'c', 'method': strategy, 'fold': fold, 'epochs': 3,
                    'every': 1, 'devices': [{'in_use': {'own': v, 'all': 50}, 'returned': None, 'returns': 1} for v in (worst, 90)]}
        g, = figures.groups([many('merge', 0, 50), many('merge', 1, 60), many('agnostic', 0, 54), many('agnostic', 1, 65)])
        self.assertEqual(g['strategies']['merge']['worst in_use own']['mean'], 55)
        self.assertEqual(g['strategies']['merge']['mean in_use own']['mean'], 72.5)
        self.assertEqual(g['worst_agnostic_over_merge']['in_use']['mean'], 4.5)
        curve = [{'steps': s, 'cpu_s': s / 10, 'test': {'n': 100, 'correct': c}} for s, c in ((10, 40), (20, 55), (30, 62))]
        cost = {**many('curves', 0, 0), 'experiment': 'cost', 'start': {'n': 10, 'correct': 4}, 'handover': curve[1:], 'all_at_the_edge': curve}
        g, = figures.groups([cost])
        self.assertEqual([t['handover'] and t['handover']['mean'] for t in g['targets'][:3]], [2, 3, None])


class Campaign(rig.Case):
    def argv(self, *extra):
        return [str(x) for x in (sys.executable, CAMPAIGN, '--build', rig.BUILD, '--work', self.work / 'w', *extra)]

    def left(self):
        """Programs that still run in the working folder."""
        found = []
        for p in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if str(self.work / 'w').encode() in p.read_bytes():
                    found.append(p.read_bytes())
            except OSError:
                pass
        return found

    def test_interrupted_and_resumed(self):
        results = self.work / 'w/results'
        p = subprocess.Popen(self.argv('mnist', *TINY_RUN), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        rig.wait_for('the first result', lambda: p.poll() is not None or list(results.glob('*.json')), rig.WAIT)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=rig.WAIT)
        self.assertEqual(p.returncode, 130, err)
        rig.wait_for('nothing to be left', lambda: not self.left(), rig.WAIT)
        first, = results.glob('*.json')
        self.assertIn('_paper_', first.name)
        was = first.stat()
        r = subprocess.run(self.argv('mnist', *TINY_RUN, '--json'), capture_output=True, text=True, timeout=300)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual((first.stat().st_ino, first.stat().st_mtime_ns), (was.st_ino, was.st_mtime_ns))
        self.check_report(json.loads(r.stdout))
        self.assertFalse(list((self.work / 'w/runs').iterdir()))
        # Nothing is missing: nothing runs, the report is the same.
        again = subprocess.run(self.argv('mnist', *TINY_RUN, '--json'), capture_output=True, text=True, timeout=60)
        self.assertEqual(json.loads(again.stdout), json.loads(r.stdout))
        self.check_document()

    def check_report(self, report):
        e, = report['experiments']
        self.assertEqual((e['experiment'], e['data'], e['scale'], e['ratio']), ('mnist', 'digits-400', 0.01, 3))
        self.assertEqual(set(e['methods']), {'paper', 'ours'})
        for m in e['methods'].values():
            self.assertEqual(m['same_at_both_ends'], [True])
            self.assertEqual(set(m['columns']['all']), set(figures.COLUMNS))
            for name, s in m['columns']['all'].items():
                self.assertTrue(s and 0 <= s['mean'] <= 100, name)
            self.assertGreater(m['ratio']['mean'], 0)
            self.assertGreater(m['bytes']['broker']['mean'], 2 * m['bytes']['checkpoint'])
        self.assertEqual(set(e['compared']), {'judged', 'end', 'time'})
        self.assertEqual(pathlib.Path(e['picture']).read_bytes()[:4], b'\x89PNG')

    def check_document(self):
        doc = self.work / 'doc.md'
        doc.write_text('before\n<!-- measured: mnist digits-400 -->\nstale words\n<!-- end: mnist digits-400 -->\nafter\n')
        r = subprocess.run(self.argv('mnist', '--report', '--markdown', doc), capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        text = doc.read_text()
        self.assertTrue(text.startswith('before\n<!-- measured: mnist digits-400 -->\n') and text.endswith('<!-- end: mnist digits-400 -->\nafter\n'))
        self.assertIn("| the paper's method ", text)
        self.assertNotIn('stale words', text)
        self.assertTrue((self.work / 'experiment-mnist-digits-400.png').exists())

    def test_missing_data_and_bad_usage(self):
        r = subprocess.run(self.argv('3', '--shared', self.work / 'nothing'), capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 77)
        self.assertIn(str(self.work / 'nothing/lfw'), r.stderr)
        for extra in (['4'], [], ['3', '--seeds', '6'], ['3', '--data', '/no/such'], ['3', '--ratio', '0.5'], ['3', '--scale', 'inf'],
                      ['3', '--markdown', __file__], ['--report', '--markdown', '/no/such']):
            r = subprocess.run(self.argv(*extra), capture_output=True, text=True, timeout=60)
            self.assertEqual((r.returncode, r.stdout), (2, ''), extra)
        r = subprocess.run(self.argv('3', '--report'), capture_output=True, text=True, timeout=60)
        self.assertEqual((r.returncode, r.stdout), (0, ''))
        self.assertIn(f"no results of 3 in {self.work / 'w/results'}", r.stderr)
        (self.work / 'empty').mkdir()
        r = subprocess.run(self.argv('1', '--data', self.work / 'empty'), capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 1)
        self.assertEqual(r.stderr.splitlines()[-1],
                         f"tests/experiments/run: {self.work / 'empty'}: found neither folders of images nor IDX files")


rig.main()
