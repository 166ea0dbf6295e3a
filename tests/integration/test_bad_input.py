# build: gcc
"""What bad input gets: a clear error that names it, nothing lost, the active weights untouched."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

HASH = 'ab' * 32


class Config(rig.Case):
    def check(self, program, path):
        return subprocess.run([program, '--check-config', path], capture_output=True, text=True, timeout=60)

    def both(self):
        data = self.digits('d', 60, 1)
        self.quick_agent('cam-1', data)
        self.quick_trainer('edge-1', data)
        return ((self.fleet.agent_program, self.work / 'cam-1/agent.conf'),
                (self.fleet.trainer_program, self.work / 'edge-1/trainer.conf'))

    def test_config(self):
        for program, path in self.both():
            good = path.read_text()
            r = self.check(program, path)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertRegex(r.stdout, f'^{path}: fine: (device|trainer)=')
            # Each change: what the error must name.
            for old, new, words in (
                    ('epochs = ', 'epochz = ', ('epochz', f'{path}:')),
                    ('lease_s = 20', 'lease_s = soon', ('lease_s', 'soon', f'{path}:')),
                    ('lease_s = 20', 'lease_s = -1', ('lease_s', '-1')),
                    ('site = test', 'site = a/b', ('site', 'a/b')),
                    ('\nid = ', '\nid = a+', ('id', 'a+')),
                    ('[data]', '[dada]', ('[data]', '[dada]', f'{path}:')),
                    ('port = ', 'port = 99999', ('port',)),
                    (str(rig.TINY), '/no/such.cfg', ('/no/such.cfg',)),
                    (str(rig.DIGITS), '/no/such.txt', ('/no/such.txt',)),
                    ('\npath = ', '\npath = /no/such/folder', ('[data] path', '/no/such/folder', f'{path}:')),
                    ('\nhost = ', '\nhost = ;', ('[broker] host', f'{path}:')),
                    ('[data]', '[worker]\nprogram = /no/such/worker\n[data]', ('[worker] program', '/no/such/worker', f'{path}:')),
                    ('\nstate = state', '\nstate = /dev/null/state', ('state', '/dev/null', f'{path}:')),
                    ('[model]', '[model]\nthis is no line', (f'{path}:',))):
                self.assertIn(old, good)
                path.write_text(good.replace(old, new, 1))
                r = self.check(program, path)
                self.assertEqual(r.returncode, 1, (new, r.stderr))
                self.assertRegex(r.stderr, r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z tasuki-\w+: error: ')
                for w in words:
                    self.assertIn(w, r.stderr, new)
            for old, new, words in (('subdivisions=1', 'subdivisions=0', ('[net] subdivisions',)), ('[softmax]', '[logistic]', ('[logistic]', '[softmax]')),
                                    ('[maxpool]', '[lstm]', ('[lstm]',))):
                cfg = self.work / 'bad.cfg'
                cfg.write_text(rig.TINY.read_text().replace(old, new))
                path.write_text(good.replace(str(rig.TINY), str(cfg)))
                r = self.check(program, path)
                self.assertEqual(r.returncode, 1, (new, r.stderr))
                self.assertRegex(r.stderr, r'bad\.cfg:\d+: ')
                for w in words:
                    self.assertIn(w, r.stderr, new)
            path.write_text(good)
            self.assertEqual(self.check(program, path.with_name('nothing.conf')).returncode, 1)
            self.assertEqual(subprocess.run([program], capture_output=True).returncode, 2)
            self.assertEqual(subprocess.run([program, '--nonsense', path], capture_output=True).returncode, 2)
            r = subprocess.run([program, '--help'], capture_output=True, text=True)
            self.assertEqual(r.returncode, 0)
            self.assertRegex(r.stdout, '^Usage: ')
            for option in ('--check-config', '--verbose', '--version', '--help'):
                self.assertIn(f'\n  {option} ', r.stdout)
            # To look at a configuration makes nothing.
            self.assertEqual([p.name for p in path.parent.iterdir()], [path.name])

    def test_data_folder(self):
        photos = self.work / 'photos'
        (photos / '0').mkdir(parents=True)
        self.quick_agent('cam-1', photos)
        self.fleet.start_broker()
        p = self.fleet.start_agent('cam-1')
        wait_for('its end', lambda: not p.running(), WAIT)
        self.assertEqual(p.process.returncode, 1)
        self.assertIn(str(photos / '0'), p.text())
        self.fleet.programs.pop('cam-1')


    def test_memory_limit(self):
        """A network that does not fit: the device's agent ends with the bytes needed, the trainer says so and takes nothing."""
        data = self.digits('d', 100, 1)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_agent('cam-1', data, {'train': {'memory_max_mb': 4}})
        self.quick_trainer('edge-1', data, {'train': {'memory_max_mb': 4}})
        self.fleet.start_trainer('edge-1')
        p = self.fleet.start_agent('cam-1')
        wait_for('its end', lambda: not p.running(), WAIT)
        self.assertEqual(p.process.returncode, 1)
        self.assertRegex(p.text(), rf'{rig.TINY}: needs \d+ bytes of memory .* and the limit is 4194304')
        self.fleet.programs.pop('cam-1')
        listener.wait('the reason', lambda m: m['topic'].endswith('edge-1/status') and body(m)['reason'] == 'out of memory', WAIT)
        self.assertIn('needs', self.fleet.programs['edge-1'].text())


class Network(rig.Case):
    def start(self, **conf):
        self.data = self.digits('cam', 120, 2)
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        self.quick_agent('cam-1', self.data, rig.merge({'transfer': {'encoding': 'raw'}}, conf))
        self.agent = self.fleet.start_agent('cam-1')
        self.offer = body(self.listener.wait('the offer', lambda m: m['topic'].endswith('cam-1/offer'), WAIT))

    def answer(self, kind, **members):
        self.fleet.publish(f'device/cam-1/in/{kind}', {'trainer': 'evil', **members})

    def test_hostile_trainer(self):
        self.start()
        wait_for('idle', lambda: self.last('cam-1/status').get('phase') == 'idle', WAIT)
        before = self.consistent('cam-1')
        # Junk on every topic it listens to.
        for kind in ('claim', 'offer', 'want', 'ack', 'cmd', f'block/{HASH}/0', f'block/{HASH}/99999999999', 'block/x/y', 'nothing'):
            for junk in (b'{}', b'\x00' * 100, b'[1]', b'{"trainer":"../..","checkpoint":"' + HASH.encode() + b'"}', b'x' * 200000):
                self.fleet.publish(f'device/cam-1/in/{kind}', junk)
        # A claim under an id that is none, and for another checkpoint.
        self.answer('claim', trainer='a/b', checkpoint=self.offer['id'], fence=0)
        self.answer('claim', checkpoint=HASH, fence=0)
        # A result nobody asked for.
        self.answer('offer', **{**self.offer, 'fence': 7, 'parents': [self.offer['id']], 'origin': 'edge'})
        # Now a proper claim, then results of every wrong kind under the right fence.
        self.answer('claim', checkpoint=self.offer['id'], fence=0)
        grant = body(self.listener.wait('the grant', lambda m: m['topic'].endswith('trainer/evil/in/cam-1/grant')
                                        and body(m)['granted'], WAIT))
        score = {'n': 10, 'correct': 9, 'accuracy': 0.9, 'loss': 0.3}
        fine = {**{k: v for k, v in self.offer.items() if k not in ('last_trainer', 'bases', 'validation', 'test')},
                'id': HASH, 'origin': 'edge', 'trainer': 'evil', 'parents': [self.offer['id']], 'fence': grant['fence'],
                'before': score, 'after': score, 'snapshot': HASH, 'images_trained': 100, 'duration_ms': 1000}
        for change in ({'size': -1}, {'size': 'big'}, {'size': self.offer['size'] + 4}, {'size': 2 ** 50}, {'model': HASH},
                       {'classes': 11}, {'id': 'x'}, {'id': HASH + '/..'}, {'block_size': 0}, {'block_size': 2 ** 30},
                       {'encoding': 'gzip'}, {'encoding': 'int8', 'size': 1000}, {'payload': HASH}, {'base': HASH},
                       {'encoding': 'int8', 'payload': HASH}, {'encoding': 'int8', 'payload': 'x', 'size': 1000},
                       {'encoding': 'delta', 'payload': HASH, 'size': 1000}, {'device': 'cam-2'}, {'expires': '2001-01-01T00:00:00Z'}, {'created': 5},
                       {'critical': ['newer'], 'newer': 1}, {'signature': 'x' * 5000}, {'parents': [HASH] * 100},
                       {'parents': []}, {'fence': grant['fence'] + 1}, {'trainer': 'a#b'}, {'origin': 'heaven'}):
            self.answer('offer', **{**fine, **change})
        for missing in ('id', 'model', 'size', 'block_size', 'encoding', 'fence', 'parents', 'device'):
            self.answer('offer', **{k: v for k, v in fine.items() if k != missing})
        time.sleep(1)
        self.assertFalse(self.listener.all(lambda m: m['topic'].endswith('trainer/evil/in/cam-1/want')), 'it asked for a bad one')
        # A result that does not fit ends the handover; the next grant has another fence. The right one: it asks; gets blocks out of range, twice, of wrong length, and at last full of NaN.
        self.fleet.command('cam-1', 'handover')

        def granted_anew():
            self.answer('claim', checkpoint=self.offer['id'], fence=0)
            self.answer('claim', checkpoint=self.last('cam-1/offer')['id'], fence=0)
            time.sleep(0.3)
            found = self.listener.all(lambda m: m['topic'].endswith('trainer/evil/in/cam-1/grant') and body(m)['granted'])
            return body(found[-1]) if body(found[-1])['fence'] > grant['fence'] else None
        again = wait_for('another grant', granted_anew, WAIT)
        fine.update(fence=again['fence'], parents=[again['checkpoint']])
        self.answer('offer', **fine)
        want = body(self.listener.wait('its want', lambda m: m['topic'].endswith('trainer/evil/in/cam-1/want'), WAIT))
        self.assertEqual(want['checkpoint'], HASH)
        size = self.offer['size']
        block = f'device/cam-1/in/block/{HASH}'
        self.fleet.publish(f'{block}/4000000', b'x' * 100)
        self.fleet.publish(f'{block}/0', b'x')
        self.fleet.publish(f'{block}/0', b'\xff' * size)
        self.fleet.publish(f'{block}/0', b'\xff' * size)
        # The hash does not fit: refused, and said so.
        ack = body(self.listener.wait('the refusal', lambda m: m['topic'].endswith('trainer/evil/in/cam-1/ack') and body(m).get('decision') == 'refused'
                                      and (body(m)['checkpoint'], body(m)['fence']) == (HASH, again['fence']), WAIT))
        self.assertTrue(ack['reason'])
        self.assertEqual(self.consistent('cam-1'), before)
        self.assertTrue(self.agent.running())
        self.fleet.command('cam-1', 'ping')

    def last(self, end):
        found = self.listener.all(lambda m: m['topic'].endswith(end))
        return body(found[-1]) if found else {}

    def test_values_of_a_result(self):
        """A result whose hash is right and whose values are not: NaN, negative variance, another size of header; a payload that codes
        nothing."""
        self.start(handover={'every_epochs': 2, 'lease_s': 60})
        wait_for('idle', lambda: self.last('cam-1/status').get('phase') == 'idle', WAIT)
        before = self.consistent('cam-1')
        weights = (self.work / f'cam-1/state/checkpoints/{self.offer["id"]}/weights').read_bytes()
        variance, fence = 20 + 4 * 4 * 3, 0
        for label, bad in (('NaN', weights[:-4] + b'\0\0\xc0\x7f'), ('variance', weights[:variance] + b'\0\0\x80\xbf' + weights[variance + 4:]),
                           ('seen', weights[:12] + b'\xff' * 8 + weights[20:]), ('version', b'\x09' + weights[1:]),
                           ('coded', b'TSK1\x03' + weights[:20] + bytes(range(256)) * 4)):
            if label != 'NaN':
                self.fleet.command('cam-1', 'handover')

            def granted():
                self.answer('claim', checkpoint=self.last('cam-1/offer')['id'], fence=0)
                time.sleep(0.3)
                # Each claim is answered: those to the ones before may come only now.
                found = self.listener.all(lambda m: m['topic'].endswith('trainer/evil/in/cam-1/grant')
                                          and body(m)['granted'] and body(m)['fence'] > fence)
                return found and body(found[-1])
            grant = wait_for('the grant', granted, WAIT)
            fence = grant['fence']
            offer = body(self.listener.wait('its offer', lambda m: m['topic'].endswith('cam-1/offer') and body(m)['id'] == grant['checkpoint'], WAIT))
            ident = rig.hashlib.sha256(bad).hexdigest()
            score = {'n': 10, 'correct': 9, 'accuracy': 0.9, 'loss': 0.3}
            manifest = {k: v for k, v in offer.items() if k not in ('last_trainer', 'bases', 'validation', 'test')}
            coded = {'encoding': 'int8', 'payload': ident} if label == 'coded' else {}
            self.answer('offer', **{**manifest, **coded, 'size': len(bad), 'id': HASH if coded else ident, 'origin': 'edge', 'trainer': 'evil', 'parents': [offer['id']],
                                    'fence': grant['fence'], 'before': score, 'after': score, 'snapshot': HASH,
                                    'images_trained': 10, 'duration_ms': 10})
            self.listener.wait('its want', lambda m: m['topic'].endswith('trainer/evil/in/cam-1/want') and body(m)['checkpoint'] == ident, WAIT)
            self.fleet.publish(f'device/cam-1/in/block/{ident}/0', bad)
            ack = body(self.listener.wait(f'refusal of {label}', lambda m: m['topic'].endswith('trainer/evil/in/cam-1/ack')
                                          and body(m)['checkpoint'] == (HASH if coded else ident), WAIT))
            self.assertEqual(ack['decision'], 'refused', label)
        self.assertEqual(self.consistent('cam-1'), before)

    def test_hostile_device(self):
        """The trainer's side: offers that lie, blocks that do not fit; an honest device is served all the same."""
        self.fleet.start_broker()
        listener = self.listener = self.fleet.listen('#')
        self.digits('edge', 120, 1)
        self.quick_trainer('edge-1', self.work / 'data/edge')
        trainer = self.fleet.start_trainer('edge-1')
        listener.wait('the trainer', lambda m: m['topic'].endswith('edge-1/presence') and body(m)['online'], WAIT)
        data = self.digits('cam', 100, 2)
        self.quick_agent('cam-1', data, {'transfer': {'encoding': 'raw'}})
        fine = {'id': HASH, 'parents': [], 'model': HASH, 'origin': 'local', 'device': 'bad-1', 'epoch': 1, 'images_seen': 100,
                'classes': 10, 'size': 1000, 'block_size': 131072, 'created': '2026-01-01T00:00:00Z', 'encoding': 'raw'}
        for change in ({}, {'device': 'cam-1'}, {'id': 5}, {'size': 2 ** 60}, {'critical': ['x'], 'x': 1}, {'images_seen': -5}):
            self.fleet.publish('device/bad-1/offer', {**fine, **change})
        for junk in (b'{', b'\0' * 70000, b'{"id":' + b'[' * 5000):
            for topic in ('device/bad-1/offer', 'device/bad-1/report', 'device/bad-1/status', 'trainer/edge-1/in/bad-1/grant',
                          'trainer/edge-1/in/bad-1/want', 'trainer/edge-1/in/bad-1/ack', f'trainer/edge-1/in/bad-1/block/{HASH}/0'):
                self.fleet.publish(topic, junk)
        self.fleet.start_agent('cam-1')
        model = body(listener.wait('an offer', lambda m: m['topic'].endswith('cam-1/offer'), WAIT))
        # Of the right model and size, but what comes is not what its id says.
        self.fleet.publish('device/bad-1/offer', {**fine, 'model': model['model'], 'size': model['size']})
        listener.wait('a claim', lambda m: m['topic'].endswith('bad-1/in/claim') and not body(m).get('busy'), WAIT)
        self.fleet.publish('trainer/edge-1/in/bad-1/grant', {'checkpoint': HASH, 'granted': True, 'fence': 1, 'lease_ms': 60000})
        listener.wait('a want', lambda m: m['topic'].endswith('bad-1/in/want') and body(m).get('checkpoint') == HASH, WAIT)
        self.fleet.publish(f'trainer/edge-1/in/bad-1/block/{HASH}/0', b'\x01' * model['size'])
        self.decided(listener, 'cam-1')
        self.assertTrue(trainer.running())
        with self.trainer_db('edge-1') as db:
            self.assertEqual(db.execute('SELECT COUNT(*) FROM runs WHERE device = "bad-1"').fetchone()[0], 0)
        why = listener.wait('why', lambda m: m['topic'].endswith('bad-1/in/claim') and body(m).get('busy'), WAIT)
        self.assertIn('another model', body(why)['reason'])
        # More invented devices than there are places, which promise and send nothing: they take no room on disk, and the
        # device that is known is served again.
        fakes = [f'fake-{i}' for i in range(10)]
        for fake in fakes:
            self.fleet.publish(f'device/{fake}/offer', {**fine, 'device': fake, 'model': model['model'], 'size': model['size']})
            claim = body(listener.wait('an answer', lambda m: m['topic'].endswith(f'{fake}/in/claim'), WAIT))
            if not claim.get('busy'):
                self.fleet.publish(f'trainer/edge-1/in/{fake}/grant', {'checkpoint': HASH, 'granted': True, 'fence': 1,
                                                                       'claim': claim['claim'], 'lease_ms': 60000})
        refused = [f for f in fakes if any(body(m).get('busy') for m in listener.all(lambda m: m['topic'].endswith(f'{f}/in/claim')))]
        self.assertGreaterEqual(len(refused), 4)
        self.fleet.command('cam-1', 'train', epochs=1)
        self.fleet.command('cam-1', 'handover')
        self.decided(listener, 'cam-1', 2)
        self.assertEqual([str(p) for p in (self.work / 'edge-1/state/incoming').glob('fake-*/*')], [])


class Trouble(rig.Case):
    def test_broker_comes_late_and_goes(self):
        data = self.digits('cam', 100, 2)
        self.digits('edge', 100, 1)
        self.quick_agent('cam-1', data)
        self.quick_trainer('edge-1', self.work / 'data/edge')
        agent, trainer = self.fleet.start_agent('cam-1'), self.fleet.start_trainer('edge-1')
        # Offline everything on the device goes on.
        wait_for('an active checkpoint without a broker', lambda: self.consistent('cam-1'), WAIT)
        self.assertTrue(agent.running() and trainer.running())
        wait_for('the broker missed', lambda: f'127.0.0.1:{self.fleet.port}' in agent.text(), WAIT)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        listener.wait('a claim', lambda m: m['topic'].endswith('cam-1/in/claim'), WAIT)
        self.fleet.programs['broker'].kill()
        time.sleep(1)
        self.fleet.programs['broker'].start()
        self.fleet.await_broker(self.fleet.programs['broker'])

        # Who listens may be there again later than the two, and the decision be said by then.
        def decided():
            with self.trainer_db('edge-1') as db:
                return db.execute('SELECT 1 FROM jobs WHERE device = "cam-1" AND outcome IN ("activated", "kept")').fetchone()
        wait_for('a decided handover', decided, WAIT)

    def test_broker_refuses(self):
        self.quick_agent('cam-1', self.digits('cam', 100, 2))
        self.fleet.start_broker(f'listener {self.fleet.port} 127.0.0.1\nallow_anonymous false\n')
        agent = self.fleet.start_agent('cam-1')
        wait_for('an active checkpoint', lambda: self.consistent('cam-1'), WAIT)
        wait_for('the refusal in its log', lambda: 'not authori' in agent.text().lower(), WAIT)
        self.assertTrue(agent.running())

    def test_full_disk(self):
        """A state folder on a file system with no room: the reason is told, nothing changes; with room it goes on."""
        folder = self.work / 'cam-1'
        state = folder / 'state'
        state.mkdir(parents=True)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', state], capture_output=True).returncode:
            self.skipTest('no file system can be mounted here')
        try:
            self.fleet.start_broker()
            listener = self.fleet.listen('#')
            self.quick_agent('cam-1', self.digits('cam', 100, 2), {'train': {'rounds': 0, 'round_epochs': 2}, 'handover': {'every_epochs': 0}})
            agent = self.fleet.start_agent('cam-1')
            wait_for('an active checkpoint', lambda: self.consistent('cam-1'), WAIT)
            with open(state / 'ballast', 'wb', buffering=0) as f:
                try:
                    while True:
                        f.write(b'x' * 4096)
                except OSError:
                    pass
            wait_for('the reason in its log', lambda: 'No space left' in agent.text(), WAIT)
            active = self.consistent('cam-1')
            self.assertTrue(active and agent.running())
            reason = body(listener.wait('the reason in its status', lambda m: m['topic'].endswith('cam-1/status')
                                        and 'space' in body(m).get('reason', '').lower(), WAIT))
            self.assertTrue(reason)
            epoch = len(self.device_reports('cam-1'))
            os.unlink(state / 'ballast')
            wait_for('training goes on', lambda: len(self.device_reports('cam-1')) > epoch + 1, WAIT)
            self.assertTrue(self.consistent('cam-1'))
            agent.stop()
        finally:
            self.fleet.stop()
            subprocess.run(['umount', '-l', state])
            shutil.rmtree(state, ignore_errors=True)

    def test_new_files_are_noticed(self):
        photos = self.work / 'photos'
        source = rig.read_idx(self.digits('d', 200, 3), 'train')
        for i, (pixels, label) in enumerate(zip(*source[:2])):
            (photos / str(label)).mkdir(parents=True, exist_ok=True)
            (photos / str(label) / f'{i}.pgm').write_bytes(b'P5\n28 28\n255\n' + pixels)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_agent('cam-1', photos, {'train': {'rounds': 1, 'round_epochs': 2}, 'handover': {'every_epochs': 0}})
        self.fleet.start_agent('cam-1')

        def idle():
            found = listener.all(lambda m: m['topic'].endswith('cam-1/status'))
            return found and body(found[-1])['phase'] == 'idle' and body(found[-1])
        epoch = wait_for('the end of the round', idle, WAIT)['epoch']
        snapshots = {r['snapshot'] for r in self.device_reports('cam-1').values()}
        more = rig.read_idx(self.digits('e', 100, 4), 'train')
        for i, (pixels, label) in enumerate(zip(*more[:2])):
            (photos / str(label) / f'new-{i}.pgm').write_bytes(b'P5\n28 28\n255\n' + pixels)
        (photos / '0/torn.png').write_bytes(b'\x89PNG\r\n\x1a\n')
        wait_for('another round', lambda: (idle() or {'epoch': 0})['epoch'] > epoch, WAIT)
        self.assertTrue({r['snapshot'] for r in self.device_reports('cam-1').values()} - snapshots)
        wait_for('the unreadable one counted', lambda: (idle() or {}).get('skipped_images') == 1, WAIT)
        # A class folder that has become empty: the reason is told, the name of the class is not.
        agent = self.fleet.programs['cam-1']
        (photos / '7').rename(self.work / 'away')
        (photos / '7').mkdir()
        worker = wait_for('the worker', lambda: rig.children(agent.pid), WAIT)[0]
        os.kill(worker, signal.SIGKILL)
        wait_for('the reason in its status', lambda: [m for m in listener.all(lambda m: m['topic'].endswith('cam-1/status'))
                                                      if 'images are not usable' in body(m)['reason']], WAIT)
        for m in listener.all(lambda m: m['topic'].endswith('cam-1/status')):
            self.assertNotIn(str(photos), m['payload'])
        self.assertIn(str(photos / '7'), agent.text())


class Worker(rig.Case):
    def test_hung_and_killed(self):
        """A worker that stands still is replaced after its deadline, one that is killed at once."""
        self.fleet.start_broker()
        self.quick_agent('cam-1', self.digits('cam', 100, 2), {'train': {'rounds': 0, 'round_epochs': 5, 'stall_s': 3},
                                                             'handover': {'every_epochs': 0}})
        agent = self.fleet.start_agent('cam-1')
        wait_for('an active checkpoint', lambda: self.consistent('cam-1'), WAIT)
        for signo in (signal.SIGSTOP, signal.SIGKILL):
            def hit():
                for pid in rig.children(agent.pid):
                    os.kill(pid, signo)
                    return pid
            pid = wait_for('a worker', hit, WAIT)
            wait_for('another worker', lambda: [p for p in rig.children(agent.pid) if p != pid], WAIT)
            made = len(self.device_reports('cam-1'))
            wait_for('training goes on', lambda: len(self.device_reports('cam-1')) > made, WAIT)
        self.assertIn('worker', agent.text())

    def test_exits_without_a_result(self):
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_agent('cam-1', self.digits('cam', 100, 2), {'worker': {'program': '/bin/true'}})
        agent = self.fleet.start_agent('cam-1')
        listener.wait('the reason', lambda m: m['topic'].endswith('cam-1/status') and 'worker' in body(m).get('reason', ''), WAIT)
        self.assertTrue(agent.running())


if __name__ == '__main__':
    rig.main()
