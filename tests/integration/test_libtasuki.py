# build: gcc
"""What an application on the device has: libtasuki, its example, and the same over a socket; while weights are swapped
beneath it, as the agent swaps them, and while all kinds of things go wrong."""
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import BUILD, DIGITS, ROOT, SLOW, TINY, WAIT, wait_for

WORKER = BUILD / 'common/engine/tasuki-worker'
EXAMPLE = BUILD / 'libtasuki/examples/classify-folder'
SWAPS = 10000 if SLOW else 1000
N_CHECKPOINTS, N_IMAGES = 4, 8


def children(pid):
    """pids of the workers of a process."""
    found = []
    for task in os.listdir(f'/proc/{pid}/task'):
        found += map(int, pathlib.Path(f'/proc/{pid}/task/{task}/children').read_text().split())
    return found


class Swapper:
    """A state folder, and who swaps in it with the store's own code."""

    def __init__(self, state, cfg, weights):
        self.process = subprocess.Popen([BUILD / 'tests/bench/swapper', state, cfg, DIGITS, *weights], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == 'ready\n'

    def do(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return int(self.process.stdout.readline().split()[1])

    def swap(self):
        return self.do('swap')

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Followed:
    """`tasuki classify --follow`, and a client of it."""

    def __init__(self, tasuki, state, *options, path=None):
        self.path = path or state / 'classify.sock'
        self.process = subprocess.Popen([tasuki, 'classify', '--follow', state, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.said, self.warned = [], []
        self.readers = [threading.Thread(target=lambda f, to: to.extend(iter(f.readline, '')), args=a)
                        for a in ((self.process.stdout, self.said), (self.process.stderr, self.warned))]
        for r in self.readers:
            r.start()
        wait_for('the socket', lambda: self.process.poll() is not None or any('listening' in x for x in self.said), WAIT)
        assert self.process.poll() is None, self.warned
        self.client = Client(self.path)

    def ask(self, request=None, frame=b''):
        return self.client.ask(request, frame)

    def warned_of(self, *words):
        return any(all(w in line for w in words) for line in self.warned)

    def await_checkpoint(self, ident):
        wait_for(f'checkpoint {ident[:12]}', lambda: self.ask()['checkpoint'] == ident, WAIT)

    def close(self):
        self.client.close()
        self.process.terminate()
        code = self.process.wait(WAIT)
        for r in self.readers:
            r.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT)
        self.socket.connect(str(path))
        self.file = self.socket.makefile('rwb')

    def say(self, data):
        self.file.write(data)
        self.file.flush()

    def hear(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def ask(self, request=None, frame=b''):
        self.say(json.dumps(request or {}).encode() + b'\n' + frame)
        return self.hear()

    def close(self):
        self.file.close()
        self.socket.close()


class App(rig.Case):
    def setUp(self):
        super().setUp()
        self.state = self.work / 'app'

    def make_checkpoints(self, n=N_CHECKPOINTS):
        """Networks that have learned a little, each from other first weights: their scores of an image differ."""
        data = self.digits('few', 100, 1)
        self.weights = [self.work / f'{i}.weights' for i in range(n)]
        for i, w in enumerate(self.weights):
            self.fleet.run_tasuki('train', '--cfg', TINY, '--data', data, '--steps', 5, '--seed', i + 1, '--out', w, '--threads', 1)
        self.ids = [hashlib.sha256(w.read_bytes()).hexdigest() for w in self.weights]
        images = rig.read_idx(data, 't10k')[0]
        self.images, self.frames = [], images[:N_IMAGES]
        for i, image in enumerate(self.frames):
            self.images.append(self.work / 'images' / f'{i}.pgm')
            self.images[-1].parent.mkdir(exist_ok=True)
            self.images[-1].write_bytes(b'P5\n28 28\n255\n' + image)
        self.expected = {}
        for ident, w in zip(self.ids, self.weights):
            r = self.fleet.run_tasuki('classify', '--cfg', TINY, '--weights', w, '--json', *self.images)
            for x in json.loads(r.stdout)['results']:
                self.expected[ident, x['image']] = x['class'], x['score']
        # What is mixed up would show: app_stress.c takes scores within 1e-3 for equal.
        for a, b in itertools.combinations(self.ids, 2):
            self.assertTrue(any(self.expected[a, str(i)][0] != self.expected[b, str(i)][0] or
                                abs(self.expected[a, str(i)][1] - self.expected[b, str(i)][1]) > 5e-3 for i in self.images))
        self.table = self.work / 'expected'
        self.table.write_text(''.join(f'{i} {image} {c} {s!r}\n' for (i, image), (c, s) in self.expected.items()))

    def assert_right(self, answer, image):
        c, score = self.expected[answer['checkpoint'], str(image)]
        self.assertEqual(answer['class'], c)
        self.assertAlmostEqual(answer['score'], score, places=4)

    def stress(self, threads, swaps, seconds):
        self.rounds = self.work / 'rounds'
        self.rounds.unlink(missing_ok=True)
        p = subprocess.Popen([BUILD / 'tests/app-stress', self.state, self.table, str(threads), str(swaps), str(seconds), WORKER, self.rounds],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdout.close(), p.stderr.close()))
        self.assertEqual(p.stdout.readline(), 'open\n', p.stderr.read() if p.poll() else '')
        return p

    def result(self, process):
        out, errors = process.communicate(timeout=WAIT)
        self.assertNotIn('Sanitizer', errors)
        self.assertEqual(process.returncode, 0, errors)
        r = json.loads(out)
        self.assertEqual((r['wrong'], r['failed']), (0, 0), errors)
        return r, errors


class Stress(App):
    def test_swaps_at_full_speed(self):
        self.make_checkpoints()
        with Swapper(self.state, TINY, self.weights) as swapper:
            quiet, _ = self.result(self.stress(2, 0, 1))
            p = self.stress(2, SWAPS, 1)
            while p.poll() is None:
                swapper.do('run 200')
            r, errors = self.result(p)
        self.assertGreaterEqual(r['swaps'], SWAPS)
        self.assertGreaterEqual(r['called_back'], r['swaps'])
        self.assertGreater(r['checkpoints'], SWAPS / 20)  # they were in use, too
        self.assertNotIn('trouble', errors)
        rig.figure(f"libtasuki: {r['swaps']} swaps, {r['calls']} classifications, none wrong; longest {r['longest_ms']:.1f} ms, "
                   f"without swaps {quiet['longest_ms']:.1f} ms; {r['calls_per_second']} and {quiet['calls_per_second']} a second")

    def test_workers_that_end(self):
        """Killed again and again, amid swaps: each call is answered all the same."""
        self.make_checkpoints(2)
        kills = 40 if SLOW else 6
        with Swapper(self.state, TINY, self.weights) as swapper:
            p = self.stress(2, 10 * kills, 2)
            for _ in range(kills):
                # A call has two tries: each that was in hand at the last kill is to be done.
                seen = self.rounds.stat().st_size
                wait_for('calls', lambda: p.poll() is not None or self.rounds.stat().st_size >= seen + 2, WAIT)
                workers = wait_for('two workers', lambda: (w := children(p.pid))[1:] and w, WAIT)
                swapper.swap()
                time.sleep(random.uniform(0, 0.1))  # before it is loaded, meanwhile, or after it
                os.kill(random.choice(workers), signal.SIGKILL)
            while p.poll() is None:  # of two checkpoints the last swap may be to what serves already
                swapper.do('run 100')
            r, errors = self.result(p)
        self.assertIn('trouble: tasuki-worker died', errors)

    def test_whoever_swaps_is_killed(self):
        self.make_checkpoints(2)
        swapper = Swapper(self.state, TINY, self.weights)
        p = self.stress(1, 30, 2)
        for _ in range(8):
            swapper.process.stdin.write('run 5000\n')
            swapper.process.stdin.flush()
            time.sleep(random.uniform(0.02, 0.2))
            swapper.close()
            swapper = Swapper(self.state, TINY, self.weights)  # repairs what is half done, as the agent does at its start
        with swapper:
            while p.poll() is None:  # until it has seen as many as it wants
                swapper.do('run 100')
        self.result(p)


class Trouble(App):
    """Each fault by its name, and what was in use stays in use."""

    def test_damaged(self):
        self.make_checkpoints()
        a, b, c, d = self.ids
        with Swapper(self.state, TINY, self.weights) as swapper, Followed(self.fleet.tasuki, self.state) as f:
            self.assertEqual(f.ask()['checkpoint'], a)

            def folder(ident):
                return self.state / 'checkpoints' / ident

            def still(ident):
                got = f.ask({'path': str(self.images[0])})
                self.assertEqual(got['checkpoint'], ident)
                self.assert_right(got, self.images[0])

            data = bytearray((folder(b) / 'weights').read_bytes())
            data[-3] ^= 1  # of a float's mantissa: still a number
            (folder(b) / 'weights').write_bytes(data)
            swapper.swap()
            wait_for('sha256', lambda: f.warned_of(b, 'damaged', 'sha256'), WAIT)
            still(a)
            (folder(c) / 'weights').write_bytes(data[:-4])
            swapper.swap()
            wait_for('size', lambda: f.warned_of(c, f'found {len(data) - 4} bytes'), WAIT)
            still(a)
            (folder(d) / 'manifest.json').write_text('{"id": "' + a)
            swapper.swap()
            wait_for('manifest', lambda: f.warned_of(d, 'manifest.json'), WAIT)
            still(a)
            # Mended: by itself, in a while.
            data[-3] ^= 1
            (folder(b) / 'weights').write_bytes(data)
            for _ in range(2):
                swapper.swap()
            f.await_checkpoint(b)
            still(b)

    def test_hostile_weights(self):
        """What is named by its own sha256, and is no good."""
        self.make_checkpoints(2)
        with Swapper(self.state, TINY, self.weights), Followed(self.fleet.tasuki, self.state) as f:
            manifest = json.loads((self.state / 'active.json').read_text())
            good = bytearray(self.weights[0].read_bytes())
            for at, value, words in ((100, struct.pack('<f', float('nan')), ('finite',)), (0, struct.pack('<i', 9), ('version',)),
                                     (-4, b'', ('bytes',))):
                data = good[:]
                data[at:at + 4 if at >= 0 else None] = value
                ident = hashlib.sha256(data).hexdigest()
                folder = self.state / 'checkpoints' / ident
                folder.mkdir()
                (folder / 'weights').write_bytes(data)
                (folder / 'manifest.json').write_text(json.dumps({**manifest, 'id': ident}))
                (self.state / 'next').symlink_to(f'checkpoints/{ident}')
                os.rename(self.state / 'next', self.state / 'active')
                wait_for(str(words), lambda: f.warned_of(*words), WAIT)
                self.assert_right(f.ask({'path': str(self.images[1])}), self.images[1])
            (self.state / 'next').symlink_to('/etc/passwd')
            os.rename(self.state / 'next', self.state / 'active')
            wait_for('a link of another kind', lambda: f.warned_of('/etc/passwd', 'expected checkpoints/'), WAIT)
            self.assert_right(f.ask({'path': str(self.images[1])}), self.images[1])

    def opened(self, *options):
        r = self.fleet.run_tasuki('classify', '--follow', self.state, *options, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
        return r.stderr

    def test_what_cannot_be_opened(self):
        self.assertIn(f'{self.state}: No such file', self.opened('--socket', self.work / 's'))
        self.state.mkdir()
        self.assertIn('model.json: not there: tasuki-agent has not run', self.opened())
        self.make_checkpoints(1)
        Swapper(self.state, TINY, self.weights).close()
        for cfg, words in (('', 'is empty'), ('[net]\nheight=99999999\n', '[net]'), ('[net]\n[convolutional]\nsize=-1\n', 'size'),
                           ('[net]\nheight=28\nwidth=28\nchannels=1\nbatch=1\n[lstm]\noutput=9\n[softmax]\n', 'lstm')):
            path = self.work / 'bad.cfg'
            path.write_text(cfg)
            text = self.opened('--cfg', path)
            self.assertIn('bad.cfg', text)
        self.assertIn('No such file', self.opened('--classes', self.work / 'none'))
        other = self.work / 'other.cfg'
        other.write_text(TINY.read_text().replace('filters=4', 'filters=8'))
        self.assertIn('other.cfg and its class list describe model', self.opened('--cfg', other))
        (self.state / 'model.json').write_text('{"model": 7}')
        self.assertIn('model.json: model:', self.opened())
        self.assertEqual([p.name for p in self.state.glob('*.sock')], [])

    def test_nothing_is_active_yet(self):
        self.make_checkpoints(1)
        Swapper(self.state, TINY, self.weights).close()
        for name in ('active', 'active.weights', 'active.json'):
            (self.state / name).unlink()
        with Followed(self.fleet.tasuki, self.state) as f:
            self.assertEqual(f.ask()['checkpoint'], '')
            self.assertEqual(f.ask({'path': str(self.images[0])})['code'], 'ENODATA')
            with Swapper(self.state, TINY, self.weights):
                f.await_checkpoint(self.ids[0])
                self.assert_right(f.ask({'path': str(self.images[0])}), self.images[0])

    def test_a_folder_that_goes(self):
        self.make_checkpoints(2)
        Swapper(self.state, TINY, self.weights[:1]).close()
        with Followed(self.fleet.tasuki, self.state, '--socket', self.work / 's', path=self.work / 's') as f:
            shutil.rmtree(self.state)
            wait_for('that it is gone', lambda: f.warned_of('active', 'No such file'), WAIT)
            self.assert_right(f.ask({'path': str(self.images[0])}), self.images[0])
            with Swapper(self.state, TINY, self.weights[1:]):
                f.await_checkpoint(self.ids[1])
                self.assert_right(f.ask({'path': str(self.images[0])}), self.images[0])


class Socket(App):
    def test_requests(self):
        self.make_checkpoints(2)
        with Swapper(self.state, TINY, self.weights) as swapper, Followed(self.fleet.tasuki, self.state) as f:
            mode = os.stat(f.path).st_mode
            self.assertEqual(mode & 0o777, 0o600)
            frame, image = self.frames[2], self.images[2]
            u8 = {'width': 28, 'height': 28, 'channels': 1, 'bytes': 784}
            for request, data in (({'path': str(image)}, b''), (u8, frame), ({'format': 'f32', 'bytes': 3136},
                                                                             struct.pack('784f', *[x / 255 for x in frame])),
                                  ({'width': 28, 'height': 28, 'channels': 3, 'bytes': 2352}, bytes(x for x in frame for _ in range(3)))):
                got = f.ask({'id': 5, 'probabilities': True, **request}, data)
                self.assertEqual(got['id'], 5)
                self.assert_right(got, image)
                self.assertEqual(len(got['probabilities']), 10)
                self.assertAlmostEqual(sum(got['probabilities']), 1, places=4)
                self.assertEqual(max(got['probabilities']), got['score'])
            # What is wrong costs only itself, and the frame behind it is no request.
            for request, data, code in ((dict(u8, height=27), frame, 'EINVAL'), (dict(u8, channels=4), frame, 'ERANGE'),
                                        ({'path': '0.pgm'}, b'', 'EINVAL'), ({'path': str(self.work)}, b'', 'EINVAL'),
                                        ({'path': str(TINY)}, b'', 'EOPNOTSUPP'), (dict(u8, probabilities=3), frame, 'EINVAL'),
                                        ({'format': 'f32', 'bytes': 8}, bytes(8), 'EINVAL'),
                                        ({'format': 'f32', 'bytes': 3136}, struct.pack('784f', *[float('nan')] * 784), 'EINVAL')):
                got = f.ask(request, data)
                self.assertEqual(got['code'], code, got)
                self.assertTrue(got['error'])
            self.assert_right(f.ask(u8, frame), image)
            # After these it cannot be known where the next one begins.
            for text in (b'{"bytes": 99999999999}\n', b'{"bytes": "x"}\n', b'nonsense\n', b'[1]\n', b'x' * 9000):
                other = Client(f.path)
                other.say(text)
                self.assertIn('error', other.hear())
                self.assertIsNone(other.hear())
                other.close()
            watcher = Client(f.path)
            self.assertEqual(watcher.ask({'watch': True})['checkpoint'], self.ids[0])
            swapper.swap()
            self.assertEqual(watcher.hear(), {'event': 'swap', 'checkpoint': self.ids[1], 'origin': 'local', 'swaps': 1})
            watcher.close()

    def test_clients(self):
        """Many at once; one that goes in the midst of a frame; more than there is room for; a second server."""
        self.make_checkpoints(2)
        with Swapper(self.state, TINY, self.weights) as swapper, Followed(self.fleet.tasuki, self.state) as f:
            gone = Client(f.path)
            gone.say(b'{"width":28,"height":28,"channels":1,"bytes":784}\nshort')
            gone.close()
            problems = []

            def work(k):
                try:
                    c = Client(f.path)
                    for i in range(50):
                        image = self.images[(i + k) % N_IMAGES]
                        self.assert_right(c.ask({'path': str(image)}), image)
                    c.close()
                except Exception as e:
                    problems.append(e)
            threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
            for t in threads:
                t.start()
            while any(t.is_alive() for t in threads):
                swapper.swap()
            for t in threads:
                t.join()
            self.assertEqual(problems, [])
            many = [Client(f.path) for _ in range(15)]
            self.assertTrue(all(c.ask()['checkpoint'] for c in many))
            last = Client(f.path)
            self.assertEqual(last.hear()['code'], 'EBUSY')
            for c in (*many, last):
                c.close()
            self.assertIn('somebody listens there already', self.fleet.run_tasuki(
                'classify', '--follow', self.state, check=False).stderr)
            self.assertTrue(f.ask()['checkpoint'])
            f.process.kill()  # leaves its socket
        with Followed(self.fleet.tasuki, self.state) as f:
            self.assertTrue(f.ask()['checkpoint'])
            path = f.path
            self.assertEqual(f.close(), 0)
        self.assertFalse(path.exists())
        path.write_text('mine')
        self.assertIn('is there, and no socket', self.fleet.run_tasuki('classify', '--follow', self.state, check=False).stderr)
        self.assertEqual(path.read_text(), 'mine')


class Agent(App):
    def test_beside_a_real_agent(self):
        """The example follows a camera's folder while an agent trains, swaps, is killed and comes back; its command is run after
        each swap."""
        camera, facts, hook = self.work / 'camera', self.work / 'facts', self.work / 'hook.sh'
        camera.mkdir()
        hook.write_text(f'#!/bin/sh\necho "$TASUKI_CHECKPOINT $TASUKI_PREVIOUS $TASUKI_ORIGIN $TASUKI_N" >>{facts}\n'
                        'test "$(sha256sum <"$TASUKI_WEIGHTS" | cut -c-64)" = "$TASUKI_CHECKPOINT" || exit 7\n')
        hook.chmod(0o755)
        data = self.digits('d', 300, 1)
        self.fleet.start_broker()
        self.quick_agent('cam-1', data, {'hook': {'on_swap': hook}, 'train': {'rounds': 0, 'round_pause_s': 0},
                                         'select': {'selector': 'best'}})
        self.fleet.start_agent('cam-1')
        state = self.work / 'cam-1/state'
        wait_for('something active', lambda: self.fleet.active('cam-1'), WAIT)
        example = subprocess.Popen([EXAMPLE, '--follow', state, camera], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, 'PATH': f"{WORKER.parent}:{os.environ['PATH']}"})
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(example.stdout.readline, '')))
        reader.start()
        frames = rig.read_idx(data, 't10k')[0]

        def picture(i):
            path = camera / f'{i}.pgm'
            (self.work / 'shot').write_bytes(b'P5\n28 28\n255\n' + frames[i])
            os.rename(self.work / 'shot', path)
            wait_for('what it shows', lambda: any(line.startswith(f'{path}: ') for line in lines), WAIT)
            return path
        try:
            wait_for('the first checkpoint', lambda: any('swapped:' in line for line in lines), WAIT)
            picture(0)
            self.fleet.programs['cam-1'].kill()
            picture(1)
            self.fleet.programs['cam-1'].start()
            # By training it may have become as good as it will; and what is pinned stays.
            active = wait_for('a swap', lambda: self.fleet.command('cam-1', 'rollback', timeout=WAIT, expect_ok=False).get('checkpoint'), WAIT)
            wait_for('the active one', lambda: active[:12] in [line for line in lines if 'swapped:' in line][-1], WAIT)
            self.assertEqual(self.fleet.active('cam-1')[0], active)
            path = picture(2)
        finally:
            example.kill()
            example.wait()
            reader.join()
            example.stdout.close()
        answer = next(line for line in lines if line.startswith(f'{path}: '))
        cfg = TINY
        r = json.loads(self.fleet.run_tasuki('classify', '--cfg', cfg, '--classes', DIGITS, '--weights', state / 'active.weights',
                                             '--json', path).stdout)['results'][0]
        self.assertEqual(answer.strip(), f"{path}: {r['name']} {100 * r['score']:.1f} % checkpoint={active[:12]}")
        wait_for('the command', lambda: facts.exists() and facts.read_text().split()[-4:][0] == active
                 if facts.exists() and facts.read_text().split()[-1:] else False, WAIT)
        told = [line.split(' ') for line in facts.read_text().splitlines()]
        # Previous: what it was told before; but when the agent was killed, its command with it, that may have been the same.
        again = [(a, b) for a, b in zip(told, told[1:]) if b[1] != a[0]]
        self.assertTrue(len(again) <= 1 and all(b[1] == a[1] for a, b in again), told)
        self.assertEqual(told[0][1], '')
        self.assertTrue(all(t[2] == 'local' for t in told), told)
        self.assertTrue(all(int(t[3]) > 0 for t in told[:-1]), told)  # the last one was chosen by no score
        self.assertNotIn('exit status', self.fleet.programs['cam-1'].text())

    def test_installed(self):
        """With what is installed, and pkg-config, an application builds and runs."""
        if 'b_sanitize' in (BUILD / 'meson-info/intro-buildoptions.json').read_text() and any(
                o['name'] == 'b_sanitize' and o['value'] != 'none'
                for o in json.loads((BUILD / 'meson-info/intro-buildoptions.json').read_text())):
            flags = ['-fsanitize=address,undefined']
        else:
            flags = []
        root = self.work / 'root'
        subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', root], check=True, timeout=300)
        pc = next(root.rglob('tasuki.pc'))
        env = {**os.environ, 'PKG_CONFIG_PATH': str(pc.parent), 'PKG_CONFIG_SYSROOT_DIR': str(root)}
        options = subprocess.run(['pkg-config', '--cflags', '--libs', 'tasuki'], env=env, check=True, capture_output=True,
                                 text=True).stdout.split()
        subprocess.run(['cc', *flags, ROOT / 'libtasuki/examples/classify_folder.c', *options, '-o', self.work / 'app-1'], check=True,
                       timeout=120)
        library = next(root.rglob('libtasuki.so.0'))
        names = subprocess.run(['nm', '-D', '--defined-only', '--with-symbol-versions', library], check=True, capture_output=True,
                               text=True).stdout
        defined = {line.split()[-1] for line in names.splitlines() if ' T ' in line}
        public = set(re.findall(r'\b(tasuki_\w+)\(', (ROOT / 'libtasuki/tasuki.h').read_text())) - {'tasuki_classify_'}
        self.assertEqual({d for d in defined if not d.startswith('__')}, {f'{name}@@TASUKI_0' for name in public})
        self.make_checkpoints(1)
        Swapper(self.state, TINY, self.weights).close()
        r = subprocess.run([self.work / 'app-1', self.state, self.work / 'images'], capture_output=True, text=True, timeout=WAIT,
                           env={**os.environ, 'LD_LIBRARY_PATH': str(library.parent), 'PATH': f"{WORKER.parent}:{os.environ['PATH']}"})
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(len(r.stdout.splitlines()), N_IMAGES)


if __name__ == '__main__':
    rig.main()
