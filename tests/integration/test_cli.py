# build: gcc device
"""The offline commands, as a person and as a program would use them, with good and bad input."""
import json
import os
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig


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


rig.main()
