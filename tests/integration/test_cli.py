# build: gcc device
"""The commands, as a person and as a program would use them, with good and bad input; on a terminal and in a pipe."""
import fcntl
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import mqtt5
import rig
from fault_proxy import FaultProxy


class Offline(rig.Case):
    def run_json(self, *args, code=0):
        r = self.fleet.run_tasuki(*args, '--json', check=False)
        self.assertEqual(r.returncode, code, r.stderr)
        if code == 0:
            return json.loads(r.stdout)
        self.assertEqual(r.stdout, '')
        self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
        return r.stderr

    def test_train_to_classify(self):
        data = self.digits('d', 300, 1)
        a, b, c = (self.work / f'{x}.weights' for x in 'abc')
        t = self.run_json('train', '--cfg', rig.TINY, '--data', data, '--epochs', 2, '--out', a, '--threads', 1)
        self.assertEqual(t['checkpoint'], rig.hashlib.sha256(a.read_bytes()).hexdigest())
        for key in ('images', 'seconds', 'images_per_second', 'loss'):
            self.assertIn(key, t)
        # The same seed in another process: the same weights.
        self.run_json('train', '--cfg', rig.TINY, '--data', data, '--epochs', 2, '--out', b, '--threads', 1)
        self.assertEqual(a.read_bytes(), b.read_bytes())
        # Going on from it.
        self.run_json('train', '--cfg', rig.TINY, '--data', data, '--epochs', 1, '--weights', a, '--out', b)
        self.assertNotEqual(a.read_bytes(), b.read_bytes())
        e = self.run_json('evaluate', '--cfg', rig.TINY, '--weights', b, '--data', data)
        self.assertEqual(e['n'], 60)
        self.assertEqual(sum(x['correct'] for x in e['per_class']), e['correct'])
        self.assertAlmostEqual(e['accuracy'], e['correct'] / e['n'])
        self.assertIn('%', self.fleet.run_tasuki('evaluate', '--cfg', rig.TINY, '--weights', b, '--data', data, '--split', 'train').stdout)
        # A blend of nothing of B is A; of all of it, B.
        for alpha, same in ((0, a), (1, b)):
            self.run_json('blend', '--cfg', rig.TINY, a, b, '--alpha', alpha, '--out', c)
            self.assertEqual(c.read_bytes()[20:], same.read_bytes()[20:])
        i = self.run_json('inspect', c, '--cfg', rig.TINY)
        self.assertTrue(i['well_formed'])
        self.assertEqual(i['bytes'], c.stat().st_size)
        self.assertIn('well-formed', self.fleet.run_tasuki('inspect', c, '--cfg', rig.TINY).stdout)
        pgm = self.work / 'one.pgm'
        pgm.write_bytes(b'P5\n28 28\n255\n' + rig.read_idx(data, 't10k')[0][0])
        k = self.run_json('classify', '--cfg', rig.TINY, '--weights', b, pgm)
        self.assertEqual(k['results'][0]['image'], str(pgm))
        self.assertTrue(0 <= k['results'][0]['score'] <= 1)
        self.assertIn('one.pgm', self.fleet.run_tasuki('classify', '--cfg', rig.TINY, '--weights', b, pgm).stdout)

    def test_stop_and_resume(self):
        """Two epochs in one go and in two processes end in the same file, with the momentum kept beside it."""
        data = self.work / 'resume-data'
        self.fleet.run_tasuki('dataset', 'digits', '--out', data, '--n', 120, '--seed', 4)
        # demo.cfg: a batch normalization that Darknet computes amid oneDNN's.
        for engine, cfg in (('auto', rig.TINY), ('darknet', rig.TINY), ('auto', rig.ROOT / 'deploy/models/demo.cfg')):
            straight, stopped, momentum = (self.work / f'{n}-{engine}-{cfg.stem}' for n in ('straight', 'stopped', 'momentum'))
            base = ('train', '--cfg', cfg, '--data', data, '--threads', 1, '--engine', engine)
            self.run_json(*base, '--epochs', 2, '--out', straight)
            self.run_json(*base, '--epochs', 1, '--out', stopped, '--momentum', momentum)
            first = stopped.read_bytes()
            self.run_json(*base, '--epochs', 1, '--epoch', 2, '--weights', stopped, '--out', stopped, '--momentum', momentum)
            self.assertEqual(straight.read_bytes(), stopped.read_bytes(), (engine, cfg))
            # Momentum of other weights, or none, is not taken.
            stopped.write_bytes(first)
            self.run_json(*base, '--epochs', 1, '--epoch', 2, '--weights', stopped, '--out', stopped, '--momentum', momentum)
            self.assertNotEqual(straight.read_bytes(), stopped.read_bytes(), (engine, cfg))

    def test_momentum_is_no_checkpoint(self):
        data, w = self.digits('d', 60, 1), self.work / 'w'
        self.fleet.run_tasuki('train', '--cfg', rig.TINY, '--data', data, '--steps', 1, '--out', w)
        before = w.read_bytes()
        for more in (('--out', w), ('--weights', w, '--out', self.work / 'x'), ('--weights', self.work / '.' / 'w', '--out', self.work / 'x')):
            r = self.fleet.run_tasuki('train', '--cfg', rig.TINY, '--data', data, '--steps', 1, '--momentum', w, *more, check=False)
            self.assertEqual(r.returncode, 2)
            self.assertIn('--momentum', r.stderr)
        self.assertEqual(w.read_bytes(), before)

    def test_data_sets(self):
        data = self.digits('d', 500, 1)
        again = self.digits('e', 500, 1)
        self.assertEqual((data / 'train-images-idx3-ubyte').read_bytes(), (again / 'train-images-idx3-ubyte').read_bytes())
        parts = self.work / 'parts'
        self.fleet.run_tasuki('dataset', 'share', '--data', data, '--out', parts, '--part', 'edge=3', '--part', 'cam=1:0-4')
        seen = [rig.read_idx(parts / p, s)[0] for p, s in (('edge', 'train'), ('cam', 'train'), ('test', 't10k'))]
        self.assertEqual(sum(map(len, seen)), 600)
        self.assertFalse(set(seen[0]) & set(seen[1]))
        self.assertLess(abs(len(seen[1]) - 125), 50)  # a quarter, although it favours five classes
        labels = rig.read_idx(parts / 'cam', 'train')[1]
        self.assertGreater(sum(x < 5 for x in labels), len(labels) * 0.6)
        count = self.run_json('dataset', 'count', '--data', parts / 'edge')
        self.assertEqual(count['train'] + count['validation'] + count['test'], len(seen[0]))
        sheet = self.work / 'sheet.png'
        self.fleet.run_tasuki('dataset', 'sheet', '--data', data, '--out', sheet)
        self.assertEqual(sheet.read_bytes()[:4], b'\x89PNG')
        r = self.fleet.run_tasuki('dataset', 'share', '--data', data, '--out', parts, '--part', 'edge=1', check=False)
        self.assertIn('exists already', r.stderr)

    def test_bad_files(self):
        data = self.digits('d', 60, 1)
        good = self.work / 'good.weights'
        self.run_json('train', '--cfg', rig.TINY, '--data', data, '--steps', 2, '--out', good)
        weights = good.read_bytes()
        bad = self.work / 'bad.weights'

        def refused(content, *words):
            bad.write_bytes(content)
            for args in (('inspect', bad, '--cfg', rig.TINY), ('evaluate', '--cfg', rig.TINY, '--weights', bad, '--data', data),
                         ('train', '--cfg', rig.TINY, '--weights', bad, '--data', data, '--epochs', 1, '--out', self.work / 'never')):
                text = self.run_json(*args, code=1)
                for w in ('bad.weights', *words):
                    self.assertIn(w, text)
            self.assertFalse((self.work / 'never').exists())
        refused(weights[:10], str(len(weights)))
        refused(weights[:-4], str(len(weights)))
        refused(weights + b'\0' * 4, str(len(weights)))
        refused(b'\xff' * len(weights))
        refused(weights[:-4] + b'\0\0\xc0\x7f')  # one NaN
        refused(weights[:12] + b'\xff' * 8 + weights[20:], 'seen')
        mean_end = 20 + 4 * 4 * 3  # biases, scales, means of 4 filters; then variances
        refused(weights[:mean_end] + b'\0\0\x80\xbf' + weights[mean_end + 4:], 'variance')

    def test_bad_data(self):
        out = self.work / 'x.weights'

        def refused(data, *words):
            text = self.run_json('train', '--cfg', rig.TINY, '--data', data, '--epochs', 1, '--out', out, code=1)
            for w in words:
                self.assertIn(w, text)
        empty = self.work / 'empty'
        (empty / 'cat').mkdir(parents=True)
        (empty / 'dog').mkdir()
        refused(empty, 'cat')
        data = self.digits('d', 60, 1)
        images = data / 'train-images-idx3-ubyte'
        whole = images.read_bytes()
        images.write_bytes(whole[:-100])
        refused(data, 'train-images-idx3-ubyte')
        images.write_bytes(whole[:4] + (50).to_bytes(4, 'big') + whole[8:16 + 50 * 784])
        refused(data, 'train-', '50', '60')
        # Unreadable images among readable ones are skipped, counted and named.
        photos = self.work / 'photos'
        for name in ('0', '1'):
            (photos / name).mkdir(parents=True)
            for i in range(12):
                (photos / name / f'{i}.pgm').write_bytes(b'P5\n28 28\n255\n' + bytes((i * 7 + j * (1 + int(name))) % 256 for j in range(784)))
        (photos / '1/broken.png').write_bytes(b'\x89PNG\r\n\x1a\nrubbish')
        r = self.run_json('dataset', 'count', '--data', photos)
        self.assertEqual(r['skipped'], 1)
        self.assertIn('broken.png', self.fleet.run_tasuki('dataset', 'count', '--data', photos).stderr)

    def test_bad_cfg(self):
        data = self.digits('d', 60, 1)
        cfg = self.work / 'bad.cfg'
        text = rig.TINY.read_text()
        for change, words in ((('batch=16', 'batch=0'), ('[net]', 'batch')), (('batch=16', ''), ('batch',)),
                              (('[maxpool]', '[gru]'), ('gru',)), (('output=10', 'output=ten'), ('output', 'ten')),
                              (('filters=4', 'filters=-4'), ('filters',)), (('size=3\nstride=2\npad=1', 'size=333\nstride=2\npad=0'), ('size',)),
                              (('policy=constant', 'policy=steps'), ('[net]', 'steps')), (('subdivisions=1', 'subdivisions=0'), ('[net]', 'subdivisions')),
                              (('learning_rate=', 'learning_rate=-'), ('[net]', 'learning_rate')), (('[maxpool]', '[batchnorm]\n[maxpool]'), ('[batchnorm]', 'batch_normalize')),
                              (('[maxpool]', '[yolo]'), ('[yolo]', 'classifier')), (('[softmax]', '[logistic]'), ('[logistic]', '[softmax]')),
                              ((text, ''), ('bad.cfg',))):
            bad = text.replace(*change)
            self.assertNotEqual(bad, text)
            cfg.write_text(bad)
            err = self.run_json('train', '--cfg', cfg, '--data', data, '--epochs', 1, '--out', self.work / 'x', code=1)
            for w in words:
                self.assertIn(w, err, change)
            if bad:
                self.assertRegex(err, r'bad\.cfg:\d+: \[')

    def test_engines(self):
        """What is asked for is what computes, or one line says what is missing."""
        data, w = self.digits('d', 60, 1), self.work / 'w.weights'
        train = ('train', '--cfg', rig.TINY, '--data', data, '--epochs', 1, '--out', w)
        r = self.run_json(*train, '--engine', 'darknet', '--precision', 'auto', '--threads', 1)
        self.assertIn(r['engine'], ('darknet', 'darknet+openblas'))
        self.assertEqual((r['precision'], r['threads']), ('f32', 1))
        r = self.run_json('evaluate', '--cfg', rig.TINY, '--weights', w, '--data', data)
        self.assertIn(r['engine'], ('onednn', 'darknet', 'darknet+openblas'))
        self.assertEqual(r['threads'], len(os.sched_getaffinity(0)))
        self.assertIn('precision', self.run_json(*train, '--engine', 'darknet', '--precision', 'bf16', code=1))
        r = self.fleet.run_tasuki(*train, '--engine', 'onednn', '--json', check=False)
        if r.returncode == 0:
            self.assertEqual(json.loads(r.stdout)['engine'], 'onednn')
        else:
            self.assertIn('onednn', r.stderr)
            self.assertEqual((r.returncode, len(r.stderr.splitlines())), (1, 1))
        r = self.fleet.run_tasuki(*train, '--precision', 'bf16', '--json', check=False)
        if r.returncode == 0:
            self.assertEqual(json.loads(r.stdout)['precision'], 'bf16')
        else:
            self.assertIn('precision', r.stderr)
            self.assertEqual((r.returncode, len(r.stderr.splitlines())), (1, 1))
        for bad in (('--engine', 'abacus'), ('--precision', 'f8'), ('--threads', '9999')):
            r = self.fleet.run_tasuki(*train, *bad, check=False)
            self.assertEqual(r.returncode, 2)
            self.assertIn(bad[0], r.stderr)

    def test_usage(self):
        for args in ((), ('trian',), ('train',), ('train', '--cfg'), ('train', '--epochs', 'x'), ('evaluate', '--split', 'all'),
                     ('blend', 'a', 'b', '--alpha', '2'), ('dataset',), ('dataset', 'digits'), ('cmd', 'a'), ('publish', 'w'), ('show', 'a/b'),
                     ('privacy',), ('privacy', '--noise', '1'), ('privacy', '--handovers', '1'), ('privacy', '--noise', '0', '--handovers', '1'),
                     ('privacy', '--noise', '1', '--handovers', '0'), ('privacy', '--noise', '1', '--handovers', '1', '--delta', '0'),
                     ('devices', '--broker', 'x:y')):
            r = self.fleet.run_tasuki(*args, check=False)
            self.assertEqual(r.returncode, 2, (args, r.stderr))
            self.assertTrue(r.stderr)
        self.assertIn("did you mean 'train'", self.fleet.run_tasuki('trian', check=False).stderr)
        for name in ('', 'train', 'evaluate', 'classify', 'blend', 'inspect', 'dataset', 'devices', 'show', 'watch', 'cmd', 'publish', 'privacy'):
            r = self.fleet.run_tasuki(*([name] if name else []), '--help')
            self.assertIn('usage: tasuki', r.stdout)
        missing = self.work / 'missing'
        err = self.run_json('inspect', missing, '--cfg', rig.TINY, code=1)
        self.assertIn('missing', err)
        err = self.run_json('train', '--cfg', rig.TINY, '--data', self.digits('d', 60, 1), '--epochs', 1, '--out',
                            missing / 'deeper/x', code=1)
        self.assertIn('missing', err)
        self.assertTrue(os.path.isdir(self.work))
        # Missing files: 1 and one line; a folder as --out: before any training.
        data = self.work / 'data/d'
        for args, word in ((('--cfg', rig.TINY, '--data', 'nope', '--out', 'x'), 'nope'), (('--cfg', 'nope', '--data', data, '--out', 'x'), 'nope'),
                           (('--cfg', rig.TINY, '--data', data, '--out', self.work), 'is a folder'),
                           (('--cfg', rig.TINY, '--data', data, '--out', f'{self.work}/'), 'is a folder')):
            self.assertIn(word, self.run_json('train', *args, '--epochs', 1000000, code=1))
        # The option parser's own messages, too, name the whole command.
        for args in (('train', '--nonsense'), ('devices', '--nonsense'), ('dataset', '--out'), ('cmd', '--nonsense'), ('inspect', '--cfg')):
            r = self.fleet.run_tasuki(*args, check=False)
            self.assertEqual(r.returncode, 2)
            self.assertTrue(r.stderr.startswith(f'tasuki {args[0]}: '), r.stderr)

    def test_cmd_members(self):
        """Judged before any broker is asked."""
        for args, words in ((('train', 'epoch=2'), ("'epoch='", 'epochs')), (('ping', 'x=1'), ("'x='", 'nothing after ping')),
                            (('evaluate', 'key=1'), ('checkpoint', 'split')), (('set', 'keys=1'), ('key or value',)),
                            (('pin', 'checkpoint=x', 'checkpoint=y'), ('twice',)), (('handover', 'id=1'), ("'id='",))):
            r = self.fleet.run_tasuki('cmd', 'cam-1', *args, '--broker', '127.0.0.1:1', check=False)
            self.assertEqual(r.returncode, 2, r.stderr)
            for w in words:
                self.assertIn(w, r.stderr)

    def test_privacy(self):
        """The values: test_accountant.c. The unit is any two sets of images: two clips apart."""
        one = self.run_json('privacy', '--noise', 2, '--handovers', 1)
        self.assertEqual((one['delta'], one['noise'], one['handovers']), (1e-5, 2, 1))
        self.assertAlmostEqual(one['epsilon'], 4.7285, 3)  # rho = 1/2
        self.assertAlmostEqual(self.run_json('privacy', '--noise', 8, '--handovers', 16)['epsilon'], one['epsilon'], 6)
        self.assertGreater(self.run_json('privacy', '--noise', 2, '--handovers', 1, '--delta', 1e-9)['epsilon'], one['epsilon'])
        self.assertIn('epsilon 4.729 at delta 1e-05 after 1 handover with noise 2', self.fleet.run_tasuki('privacy', '--noise', 2, '--handovers', 1).stdout)

        r = self.fleet.run_tasuki('privacy', '--noise', 2, '--handovers', 1, 'x', check=False)
        self.assertEqual((r.returncode, "found 'x'" in r.stderr), (2, True), r.stderr)

    def test_nothing_speaks_to_the_terminal(self):
        """What is shown of a log that others made."""
        log = self.work / 'audit.log'
        log.write_text(json.dumps({'seq': 1, 'at': '\x1b[2J\x9b31m', 'event': 'x', 'prev': 64 * '0'}, ensure_ascii=True) + '\n')
        r = self.fleet.run_tasuki('audit', 'verify', log, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("at: found ' [2J  31m'", r.stderr)

    def test_inspect_classes(self):
        data, out = self.digits('d', 60, 1), self.work / 'x.weights'
        old = os.umask(0o022)
        try:
            self.run_json('train', '--cfg', rig.TINY, '--data', data, '--steps', 1, '--out', out)
            self.fleet.run_tasuki('dataset', 'share', '--data', data, '--out', self.work / 'parts', '--part', 'a=1')
        finally:
            os.umask(old)
        for path, mode in ((out, 0o644), (self.work / 'parts/a', 0o755), (self.work / 'parts/a/train-images-idx3-ubyte', 0o644)):
            self.assertEqual(path.stat().st_mode & 0o777, mode, path)
        plain = self.run_json('inspect', out, '--cfg', rig.TINY)
        named = self.run_json('inspect', out, '--cfg', rig.TINY, '--classes', rig.DIGITS)
        self.assertNotEqual(plain['model'], named['model'])
        self.assertEqual(plain['checkpoint'], named['checkpoint'])
        self.assertTrue(all(x['outputs'] for x in plain['layers']))
        self.assertNotIn('0 x 0 x 0', self.fleet.run_tasuki('inspect', out, '--cfg', rig.TINY).stdout)
        self.assertIn('nope', self.run_json('inspect', out, '--cfg', rig.TINY, '--classes', 'nope', code=1))

    def test_help_and_list(self):
        """What completion and man pages are made from is what --help says, and all that it says is taken."""
        listed = self.fleet.run_tasuki('--list-commands').stdout.splitlines()
        commands = {}
        for line in listed:
            kind, name, *rest = line.split('\t')
            self.assertIn(kind, ('command', 'option'))
            if kind == 'command':
                commands[name] = (rest[0], [])
            else:
                commands[name][1].append(rest)
        self.assertGreaterEqual(len(commands), 17)
        overview, tried = self.fleet.run_tasuki('--help').stdout, set()
        for name, (summary, options) in commands.items():
            self.assertRegex(overview, rf'(?m)^  {name} +{re.escape(summary)}$')
            text = self.fleet.run_tasuki(name, '--help').stdout
            self.assertRegex(text, rf'^usage: tasuki {name} ')
            example = text.split('\nexample:\n')[1]
            self.assertRegex(example, rf'^  tasuki {name}[ \n]')
            for option, arg, about in options:
                shown = f'  {option}{" " * bool(arg)}{arg} '
                self.assertIn(shown.rstrip() + ('\n' if len(shown) > 24 else ' '), text, (name, option))
                self.assertTrue(about, (name, option))
                if option in tried:
                    continue
                tried.add(option)
                typo = option[:-1] + '_'
                if len(option) > 6:
                    r = self.fleet.run_tasuki(name, typo, check=False)
                    self.assertEqual(r.returncode, 2, (name, typo))
                    self.assertRegex(r.stderr, rf"^tasuki {name}: no option '{typo}'; did you mean '--[a-z-]+'\?", (name, option))
                if arg:
                    r = self.fleet.run_tasuki(name, option, check=False)
                    self.assertEqual((r.returncode, r.stderr), (2, f'tasuki {name}: {option}: found nothing, expected a value (tasuki {name} --help)\n'))

    def test_did_you_mean(self):
        cfg = self.work / 'models'
        cfg.mkdir()
        shutil.copy(rig.TINY, cfg / 'tiny.cfg')
        for args, meant in ((('tarin',), 'train'), (('train', '--epoch5'), '--epochs'), (('dataset', 'digit'), 'digits'), (('audit', 'verfiy', 'x'), 'verify'),
                            (('inspect', 'x', '--cfg', cfg / 'tyni.cfg'), cfg / 'tiny.cfg'), (('rollout', 'hlat'), 'halt'), (('devices', '--phase', 'trianing'), 'training'),
                            (('train', '--cfg', cfg / 'tiny.cgf', '--data', self.work, '--epochs', 1, '--out', 'x'), cfg / 'tiny.cfg'),
                            (('publish', 'x', '--cfg', cfg / 'tny.cfg', '--state', self.work), cfg / 'tiny.cfg'), (('export', cfg / 'tinyy.cfg', '--out', 'x'), cfg / 'tiny.cfg')):
            r = self.fleet.run_tasuki(*args, check=False)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn(f"did you mean '{meant}'?", r.stderr, args)

    def test_progress(self):
        """A bar on a terminal, lines in a pipe; Ctrl-C leaves nothing of it."""
        data, out = self.digits('d', 300, 1), self.work / 'w'
        train = ['train', '--cfg', str(rig.ROOT / 'deploy/models/demo.cfg'), '--data', str(data), '--threads', '1', '--out', str(out)]
        screen, code = terminal(self.fleet, [*train, '--epochs', '15'], 2 * rig.WAIT)
        self.assertEqual(code, 0, screen)
        self.assertRegex(screen, rb'\r\x1b\[Ktrain \[[#.]{30}\] +\d+ % step \d+ of \d+')
        self.assertLess(max(len(x) for x in re.findall(rb'\x1b\[K(train [^\r]*)', screen)), 80)
        self.assertIn(b'checkpoint ', screen.split(b'\x1b[K')[-1])
        # Long enough to be interrupted, and to say something in a pipe.
        screen, code = terminal(self.fleet, [*train, '--epochs', '10000'], rig.WAIT, until=b'step')
        self.assertEqual(code, -signal.SIGINT)
        self.assertTrue(screen.endswith(b'\r\x1b[K'), screen[-80:])
        p = subprocess.Popen([str(self.fleet.tasuki), *train, '--epochs', '10000'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            line = p.stderr.readline()
        finally:
            p.terminate()
            p.communicate()
        self.assertRegex(line, rb'^train \d+ % step \d+ of \d+, loss .*\n$')


def terminal(fleet, args, timeout, until=None, rows=24, columns=80, env=None):
    """Runs it on a terminal of its own; with `until` sends Ctrl-C once that has been shown. What was shown, and the exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))  # here, so that it is never another one
        os.execve(fleet.tasuki, ['tasuki', *map(str, args)], {**os.environ, **fleet.tasuki_env(), **(env or {})})
    shown, end = b'', time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            if not select.select([fd], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(fd, 65536)
            except OSError:  # it has ended
                break
            shown += data
            if until and until in shown:
                os.write(fd, b'\x03')
                until = None
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
    return shown, code


def made_up(i, **more):
    return {'boot': 1, 'agent': '0.1.0', 'model': 'a' * 64, 'phase': 'idle', 'reason': '', 'epoch': i, 'report_seq': 1, 'moved_bytes': 1500000,
            'active': {'checkpoint': f'{i:064x}', 'origin': 'local', 'accuracy': 0.9, 'pinned': False}, 'at': '2026-11-26T08:00:00.000Z', **more}


POINTS = [[1790000000, 1, 'local', 100, 50, 1, 'a' * 12], [1790000600, 2, 'local', 100, 48, 0, 'b' * 12],
          [1790001200, 2, 'edge', 100, 80, 1, 'c' * 12], [1790001800, 3, 'fleet', 100, 90, 1, 'd' * 12]]


class Online(rig.Case):
    """Devices that the test makes up, at a real broker."""

    def say(self, device, online=True, **status):
        self.fleet.publish(f'device/{device}/presence', {'online': online, 'boot': 1}, retain=True)
        self.fleet.publish(f'device/{device}/status', made_up(len(device), **status), retain=True)

    def run_json(self, *args, **kw):
        return json.loads(self.fleet.run_tasuki(*args, '--json', **kw).stdout)

    def start(self):
        self.fleet.start_broker()
        self.say('cam-1', phase='training', progress=0.5)
        self.say('cam-2', online=False, active={'checkpoint': 'c' * 64, 'origin': 'edge', 'accuracy': 0.6, 'pinned': True})
        self.say('door', phase='waiting', reason='no bytes left', handover='pulling', trainer='edge-1')
        self.fleet.publish('device/cam-1/history', {'at': '2026-11-26T08:00:00.000Z', 'points': POINTS, 'confusion': {
            'checkpoint': 'd' * 64, 'classes': 2, 'counts': [40, 1, 2, 57]}}, retain=True)
        self.fleet.publish('trainer/edge-1/presence', {'online': True, 'boot': 1}, retain=True)

    def test_fleet(self):
        self.start()
        for args, expected in (((), 'cam-1 cam-2 door'), (('cam-*',), 'cam-1 cam-2'), (('--phase', 'waiting'), 'door'), (('--origin', 'edge'), 'cam-2'),
                               (('--offline',), 'cam-2'), (('--online', '--below', 95, 'c*'), 'cam-1'), (('--handover',), 'door'),
                               (('--sort', 'accuracy'), 'cam-2 cam-1 door'), (('nobody',), '')):
            self.assertEqual(' '.join(d['id'] for d in self.run_json('devices', *args)['devices']), expected, args)
        text = self.fleet.run_tasuki('devices').stdout
        self.assertRegex(text, r'(?m)^cam-1 +online +training +5 +#####\.\.\.\.\. +local +90\.0 % +1\.5 MB$')
        self.assertRegex(text, r'(?m)^cam-2 +offline +- .* edge pinned +60\.0 %')
        self.assertIn('3 devices: 2 online, 1 training, 1 waiting, 1 in a handover\n', text)
        self.assertNotIn('\x1b', text)
        # Colours on a terminal only, and not where somebody does not want them.
        green = b'\x1b[32monline'
        for args, env, coloured in (((), {}, True), (('--no-color',), {}, False), (('--color=never',), {}, False), ((), {'NO_COLOR': '1'}, False),
                                    ((), {'NO_COLOR': ''}, True), (('--color', 'always'), {'NO_COLOR': '1'}, True)):
            shown, code = terminal(self.fleet, ['devices', *args], rig.WAIT, env=env)
            self.assertEqual((green in shown, code), (coloured, 0), (args, env, shown))
        self.assertIn(green.decode(), self.fleet.run_tasuki('devices', '--color=always').stdout)
        # A narrow terminal: fewer columns, no line that breaks.
        shown, _ = terminal(self.fleet, ['devices', '--no-color'], rig.WAIT, columns=50)
        self.assertLessEqual(max(map(len, shown.decode().split('\r\n')[:5])), 50)
        self.assertIn(b'ACCURACY', shown)
        self.assertNotIn(b'MOVED', shown)

    def test_watch(self):
        self.start()
        shown, code = terminal(self.fleet, ['devices', '--watch'], rig.WAIT, until=b'cam-1', rows=20)
        self.assertEqual(code, 0)
        self.assertTrue(shown.startswith(b'\x1b[?1049h\x1b[?25l'), shown[:40])
        self.assertTrue(shown.rstrip().endswith(b'\x1b[?25h\x1b[?1049l'), shown[-40:])
        frame = shown.split(b'\x1b[H')[1]
        self.assertLessEqual(frame.count(b'\n'), 20)
        for i in range(30):
            self.say(f'many-{i}')
        shown, _ = terminal(self.fleet, ['watch', 'many-*'], rig.WAIT, until=b'more', rows=20)
        self.assertRegex(shown, rb'\.\.\. and \d+ more')
        self.assertEqual(shown.split(b'\x1b[H')[1].count(b'\n'), 19)
        lines = self.fleet.run_tasuki('watch', '--seconds', 1, 'cam-*').stdout.splitlines()
        self.assertEqual([json.loads(x)['id'] for x in lines], ['cam-1', 'cam-2'])

    def test_two_thousand(self):
        self.fleet.start_broker()
        with mqtt5.Client(self.fleet.port) as c:
            for i in range(2000):
                c.publish(self.fleet.topic(f'device/cam-{i:04}/presence'), '{"online": true, "boot": 1}', retain=True)
                c.publish(self.fleet.topic(f'device/cam-{i:04}/status'), json.dumps(made_up(i)), retain=True)

        def table(*there):
            r = self.fleet.run_tasuki('devices', '--timeout', 60, *there)
            self.assertEqual(len(re.findall(r'(?m)^cam-\d{4} +online +idle ', r.stdout)), 2000)
            self.assertIn('2000 devices: 2000 online, 2000 idle\n', r.stdout)
            self.assertNotIn('missing', r.stderr)
        began = time.monotonic()
        table()
        rig.figure(f'2,000 devices as a table after {time.monotonic() - began:.2f} s')
        ten = ('devices', 'cam-199?', '--phase', 'idle', '--timeout', 60)
        self.assertEqual([d['id'] for d in self.run_json(*ten)['devices']], [f'cam-199{i}' for i in range(10)])
        # A silence in the middle is not the end, and neither is a connection that breaks.
        for fault in (lambda p: p.down.hold(1), lambda p: p.reset()):
            with FaultProxy(self.fleet.port) as proxy:
                proxy.down.rate = 400_000

                def in_the_middle():
                    rig.wait_for('some of them', lambda: proxy.down.bytes > 100_000, rig.WAIT, every=0.005)
                    fault(proxy)
                thread = threading.Thread(target=in_the_middle)
                thread.start()
                table('--broker', f'127.0.0.1:{proxy.port}')
                thread.join()

    def test_history(self):
        self.start()
        text = self.fleet.run_tasuki('history', 'cam-1', '--confusion').stdout
        self.assertIn('cam-1: 4 checkpoints scored, 3 became active', text)
        self.assertRegex(text, r'(?m)^2026-09-21 14:33:20 +2 +edge +80 of 100 +80\.00 % +\* +cccccccccccc$')
        self.assertRegex(text, r'(?m)^2026-09-21 14:23:20 +2 +local +48 of 100 +48\.00 % +bbbbbbbbbbbb$')
        self.assertRegex(text, r'(?m)^ 90 % \| +F$')
        self.assertRegex(text, r'(?m)^ +1 +2 +57$')
        self.assertEqual(self.run_json('history', 'cam-1')['points'], POINTS)
        png, svg = self.work / 'h.png', self.work / 'h.svg'
        r = self.fleet.run_tasuki('history', 'cam-1', '--png', png, '--svg', svg, check=False)
        if 'without cairo' in r.stderr:
            rig.skip('libcairo2-dev')
        self.assertEqual(r.returncode, 0, r.stderr)
        head = png.read_bytes()[:24]
        self.assertEqual((head[:8], struct.unpack('>II', head[16:])), (b'\x89PNG\r\n\x1a\n', (1200, 640)))
        drawn = svg.read_text()
        self.assertIn('<svg ', drawn)
        for colour in (0x0072b2, 0xd55e00, 0xe69f00):  # local, edge, fleet
            rgb = ','.join(f'{100 * (colour >> s & 255) / 255:.6f}'.rstrip('0').rstrip('.') + '%' for s in (16, 8, 0))
            self.assertIn(rgb, set(re.findall(r'fill:rgb\(([^)]*)\)', drawn)))
        for device, words in (('door', ('door has told no history',)), ('cam-9', ('no device', "did you mean 'cam-1'"))):
            r = self.fleet.run_tasuki('history', device, check=False)
            self.assertEqual(r.returncode, 1)
            for w in words:
                self.assertIn(w, r.stderr)
        self.fleet.publish('device/door/history', {'at': 'x', 'points': []}, retain=True)
        self.assertIn('at: ', self.fleet.run_tasuki('history', 'door', check=False).stderr)

    def test_far_away(self):
        """A broker that is slow to answer has not answered that there is nothing."""
        self.start()
        with FaultProxy(self.fleet.port) as proxy:
            proxy.up.delay = proxy.down.delay = 0.2
            there = ('--broker', f'127.0.0.1:{proxy.port}', '--timeout', 60)
            self.assertEqual(self.run_json('history', 'cam-1', *there)['points'], POINTS)
            self.assertIn("did you mean 'cam-1'", self.fleet.run_tasuki('show', 'cam-11', *there, check=False).stderr)

    def test_errors(self):
        """Nobody waits in silence, and what was wrong is named."""
        self.start()
        # What is waited for is said after 0.8 s: long before the end, so that one who was not let run just then says it, too.
        for args, words in ((('devices', '--broker', f'127.0.0.1:{rig.free_port()}', '--timeout', 4), ('waiting for the broker', 'no connection to the broker 127.0.0.1:', 'tasuki doctor says what to do')),
                            (('show', 'cam-11'), ("no device 'cam-11' has said anything at site test", "did you mean 'cam-1'")),
                            (('show', 'cam-1', '--site', 'tset'), ("no device 'cam-1' has said anything at site tset",)),
                            (('cmd', 'dor', 'ping', '--timeout', 4), ('waiting for the answer of dor, of which nothing has been heard', "did you mean 'door'")),
                            (('cmd', 'cam-2', 'ping', '--timeout', 4), ('waiting for the answer of cam-2, which is offline', 'no answer within 4 s')),
                            (('rollout', 'halt', '--state', self.work), ('expected the state folder of a trainer',)),
                            (('devices', '--certificate', self.work / 'none.crt'), ('expected certificate, key and authorities together',))):
            r = self.fleet.run_tasuki(*args, check=False, timeout=60)
            self.assertEqual((r.returncode, r.stdout), (1, ''), args)
            for w in words:
                self.assertIn(w, r.stderr, args)
        self.assertIn('no device has said anything at site tset', self.fleet.run_tasuki('devices', '--site', 'tset').stdout)

    def test_rollout_and_logs(self):
        self.start()
        self.assertIn('nothing is offered to everyone', self.fleet.run_tasuki('rollout').stdout)
        log = subprocess.Popen([str(self.fleet.tasuki), 'logs'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **self.fleet.tasuki_env()})
        lines = []

        def read():
            for line in log.stdout:
                lines.append(line)
        reader, jobs = threading.Thread(target=read, daemon=True), itertools.count(1)
        reader.start()

        def listens():
            """It subscribes to jobs when it has heard what presences and statuses were."""
            self.fleet.publish('trainer/edge-1/job/first', {'fence': next(jobs), 'device': 'first', 'checkpoint': 'e' * 64, 'phase': 'training',
                                                            'epoch': 1, 'epochs': 2, 'progress': 0.5, 'at': '2026-09-21T14:40:00Z'})
            return lines
        try:
            rig.wait_for('it to listen', listens, rig.WAIT, every=0.2)
            offer = {'id': 'd' * 64, 'model': 'a' * 64, 'origin': 'fleet', 'device': 'edge-1', 'trainer': 'edge-1', 'epoch': 1, 'images_seen': 1, 'classes': 10,
                     'size': 4096, 'block_size': 1024, 'created': '2026-09-21T14:40:00Z', 'encoding': 'raw', 'sequence': 1790001600, 'share': 100, 'spread_ms': 1000}
            self.fleet.publish('fleet/offer', offer, retain=True)
            self.say('cam-1', phase='evaluating')
            self.fleet.publish('reply/x', {'id': 'not ours'})
            self.fleet.publish('device/cam-2/presence', {'online': True, 'boot': 2}, retain=True)
            rig.wait_for('the last line', lambda: any(' cam-2 ' in x for x in lines), rig.WAIT)
        finally:
            log.send_signal(signal.SIGINT)
            reader.join(60)
            code, err = log.wait(60), log.stderr.read()
            log.stdout.close()
            log.stderr.close()
        self.assertEqual((code, [x for x in err.splitlines() if 'waiting for' not in x]), (0, []))
        lines = [re.sub(r'^\S+ +', '', x) for x in ''.join(lines).splitlines() if 'job of first' not in x]
        self.assertEqual([re.sub(' +', ' ', x) for x in lines], ['test for everyone: dddddddddddd, to 100 % of the devices', 'cam-1 evaluating, epoch 5',
                                                                 'cam-2 online, boot 2'])
        r = self.run_json('rollout')
        self.assertEqual((r['stage'], r['checkpoint'], r['counts']['in use'], r['counts']['waits']), ('rest', 'd' * 64, 1, 2))
        self.assertAlmostEqual(r['points'], 10)
        text = self.fleet.run_tasuki('rollout').stdout
        self.assertIn('stage       for all devices', text)
        self.assertRegex(text, r'(?m)^cam-1 +in use +90\.0 % +80\.0 % +\+10\.0$')
        self.assertIn('--state is required', self.fleet.run_tasuki('rollout', 'next', check=False).stderr)


class Real(rig.Case):
    """A real device and trainer."""

    def test_handover_export_rollout(self):
        self.fleet.start_broker()
        edge, cam = self.digits('edge', 300, 1), self.digits('cam', 200, 2)
        self.quick_trainer('edge-1', edge)
        self.quick_agent('cam-1', cam, {'handover': {'every_epochs': 0}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        rig.wait_for('three epochs', lambda: len(self.device_reports('cam-1')) >= 3, rig.WAIT)
        rig.wait_for('idle', lambda: json.loads(self.fleet.run_tasuki('show', 'cam-1', '--json').stdout)['status']['phase'] == 'idle', rig.WAIT)
        shown, code = terminal(self.fleet, ['cmd', 'cam-1', 'handover', '--follow', '--timeout', 60], 2 * rig.WAIT)
        self.assertEqual(code, 0, shown)
        self.assertRegex(shown, rb'cam-1: ok\r\n')
        self.assertRegex(shown, rb'\x1b\[Kcam-1 \w+ \[[#.]{30}\]')
        self.assertRegex(shown.split(b'\x1b[K')[-1], rb'^cam-1: (activated [0-9a-f]{12} \(|kept its own, )')
        judged = self.judgements('cam-1')
        self.assertEqual(b'activated' in shown, any(r['decision'] == 'activated' for r in judged))

        def told():
            r = self.fleet.run_tasuki('history', 'cam-1', '--json', check=False)
            return r.returncode == 0 and {p[2] for p in json.loads(r.stdout)['points']} & {'edge', 'tuned', 'blend'}
        rig.wait_for('a history with the handover', told, rig.WAIT)
        self.export()
        self.rollout(edge)
        audit = self.fleet.run_tasuki('audit', 'show', '--event', 'command', self.work / 'cam-1/state').stdout
        self.assertRegex(audit, r'^\S+Z +\d+ command +.*command=handover')
        self.assertEqual(len(self.fleet.run_tasuki('audit', 'show', '--last', 3, '--json', self.work / 'edge-1/state').stdout.splitlines()), 3)

    def export(self):
        out = self.work / 'out'
        r = json.loads(self.fleet.run_tasuki('export', self.work / 'cam-1/agent.conf', '--out', out, '--json').stdout)
        active = self.fleet.active('cam-1')[0]
        self.assertEqual((r['checkpoint'], r['from'], r['outputs']), (active, 'cam-1', 10))
        self.assertEqual(rig.hashlib.sha256((out / 'model.weights').read_bytes()).hexdigest(), active)
        self.assertEqual((out / 'model.cfg').read_text(), rig.TINY.read_text())
        self.assertEqual((out / 'model.names').read_text().split(), rig.DIGITS.read_text().split())
        self.assertEqual(json.loads((out / 'model.json').read_text())['manifest']['id'], active)
        for args, word in ((('--checkpoint', 'latest'), 'expected active, previous, newest'), (('--checkpoint', 'ffffffff'), 'begins with ffffffff')):
            r = self.fleet.run_tasuki('export', self.work / 'cam-1/agent.conf', '--out', out, *args, check=False)
            self.assertEqual((r.returncode, word in r.stderr), (1, True), r.stderr)
        self.fleet.run_tasuki('export', self.work / 'edge-1/trainer.conf', '--out', self.work / 'of-trainer')
        self.fleet.run_tasuki('export', self.work / 'cam-1/agent.conf', '--out', self.work / 'other', '--checkpoint', active[:8])
        if shutil.which('darknet'):
            pgm = self.work / 'one.pgm'
            pgm.write_bytes(b'P5\n28 28\n255\n' + rig.read_idx(self.work / 'data/cam', 't10k')[0][0])
            said = subprocess.run(['darknet', 'classifier', 'predict', 'model.data', 'model.cfg', 'model.weights', pgm], cwd=out, capture_output=True, text=True, timeout=60)
            ours = json.loads(self.fleet.run_tasuki('classify', '--cfg', rig.TINY, '--weights', out / 'model.weights', pgm, '--json').stdout)['results'][0]
            self.assertRegex(said.stdout, rf'%: {ours["class"]}\b')
        # A damaged one is not given out.
        weights = self.work / 'cam-1/state/active/weights'
        whole = weights.read_bytes()
        weights.chmod(0o640)
        weights.write_bytes(whole[:-4] + b'\0\0\0\0')
        self.assertIn('damaged', self.fleet.run_tasuki('export', self.work / 'cam-1/agent.conf', '--out', self.work / 'bad', check=False).stderr)
        weights.write_bytes(whole)

    def rollout(self, edge):
        state, w = self.work / 'edge-1/state', self.work / 'w.weights'
        self.fleet.run_tasuki('train', '--cfg', rig.TINY, '--data', edge, '--epochs', 1, '--seed', 9, '--out', w)
        checkpoint = json.loads(self.fleet.run_tasuki('publish', w, '--cfg', rig.TINY, '--state', state, '--json').stdout)['checkpoint']

        def stage(**members):
            def there():
                r = json.loads(self.fleet.run_tasuki('rollout', '--json', '--state', state).stdout)
                return all(r.get(k) == v for k, v in members.items()) and r
            return rig.wait_for(f'a rollout of {members}', there, rig.WAIT)
        stage(checkpoint=checkpoint, stage='rest')  # one device: everyone at once
        r = self.fleet.run_tasuki('rollout', 'next', '--state', state, check=False)
        self.assertIn('offered to all devices already', r.stderr)
        self.assertEqual(self.fleet.run_tasuki('rollout', 'halt', '--state', state, '--timeout', 60).stdout, 'halt: done\n')
        first = stage(stage='halted', reason='by an operator')['sequence']
        self.assertIn('halted already', self.fleet.run_tasuki('rollout', 'halt', '--state', state, check=False).stderr)
        self.assertIn('offers it again', self.fleet.run_tasuki('rollout', 'resume', '--state', state).stdout)
        self.assertGreater(stage(checkpoint=checkpoint, stage='rest')['sequence'], first)
        self.assertIn('found nothing that is halted', self.fleet.run_tasuki('rollout', 'resume', '--state', state, check=False).stderr)


rig.main()
