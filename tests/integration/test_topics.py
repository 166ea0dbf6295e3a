# build: gcc
"""The topic contract, tried with nothing but mosquitto_pub and mosquitto_sub."""
import datetime
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, body, wait_for

HASH_0 = '0' * 64
PATIENT = ('--timeout', 60)  # an answer that comes is not waited for any longer


def ago(seconds):
    t = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
    return t.strftime('%Y-%m-%dT%H:%M:%SZ')


class Topics(rig.Case):
    def start(self, conf=None):
        data = self.digits('cam', 120, 2)
        self.fleet.start_broker()
        self.listener = self.fleet.listen('#')
        self.quick_agent('cam-1', data, conf)
        self.fleet.start_agent('cam-1')

    def last(self, end):
        found = self.listener.all(lambda m: m['topic'].endswith(end))
        return body(found[-1]) if found else {}

    def histories(self):
        return [body(m) for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/history'))]

    def idle(self):
        wait_for('the end of the round', lambda: self.last('cam-1/status').get('phase') == 'idle', WAIT)

    def idle_now(self):
        """By its own answer: the last status may be older than what it was told since. (While it looks for new images, it waits.)"""
        wait_for('it to be idle', lambda: self.fleet.command('cam-1', 'status')['phase'] == 'idle', WAIT)

    def test_presence_status_reports(self):
        self.start()
        self.idle()
        presence = self.last('cam-1/presence')
        self.assertTrue(presence['online'])
        status = self.last('cam-1/status')
        for key in ('boot', 'agent', 'model', 'phase', 'reason', 'epoch', 'report_seq', 'active', 'at'):
            self.assertIn(key, status)
        self.assertEqual(status['boot'], presence['boot'])
        self.assertEqual(status['epoch'], 3)
        self.assertEqual(status['active']['origin'], 'local')
        reports = [body(m) for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/report'))]
        self.assertEqual([r['seq'] for r in reports], list(range(1, len(reports) + 1)))
        for r in reports:
            for key in ('checkpoint', 'origin', 'snapshot', 'split', 'n', 'correct', 'accuracy', 'loss', 'at'):
                self.assertIn(key, r)
            self.assertAlmostEqual(r['accuracy'], r['correct'] / r['n'])
            if 'per_class' in r:
                self.assertEqual(sum(c['correct'] for c in r['per_class']), r['correct'])
        # What a newcomer is told at once is what is retained.
        late = self.fleet.listen('device/+/presence', 'device/+/status')
        late.wait('retained presence', lambda m: m['topic'].endswith('/presence') and m['retain'], WAIT)
        late.wait('retained status', lambda m: m['topic'].endswith('/status') and m['retain'], WAIT)
        # The offer: repeated while nobody answers, always the same one.
        wait_for('a repeated offer', lambda: len(self.listener.all(lambda m: m['topic'].endswith('cam-1/offer'))) >= 2, WAIT)
        self.assertEqual(len({body(m)['id'] for m in self.listener.all(lambda m: m['topic'].endswith('cam-1/offer'))}), 1)
        # The Will: kill -9, and the broker says it.
        self.fleet.programs['cam-1'].kill()
        self.listener.wait('the Will', lambda m: m['topic'].endswith('cam-1/presence') and not body(m)['online'], WAIT)
        boot, told = presence['boot'], len(self.histories())
        self.fleet.programs['cam-1'].start()
        wait_for('a later boot', lambda: self.last('cam-1/presence').get('online') and self.last('cam-1/presence')['boot'] > boot, WAIT)
        # The history says what the reports did, also after that, and what is taken for what: that of the new boot, which stays.
        wait_for('the history', lambda: len(self.histories()) > told, WAIT)
        history = self.histories()[-1]
        validation = [r for r in reports if r['split'] == 'validation']
        self.assertEqual([p[1:] for p in history['points']],
                         [[r['epoch'], r['origin'], r['n'], r['correct'], int(r.get('decision') == 'activated'), r['checkpoint'][:12]]
                          for r in validation])
        self.assertEqual(history['points'][0][5], 1)
        counts = history['confusion']
        self.assertEqual(counts['checkpoint'], status['active']['checkpoint'])
        active = [r for r in validation if r['checkpoint'] == counts['checkpoint']][-1]
        k = counts['classes']
        self.assertEqual(k, 10)
        self.assertEqual(len(counts['counts']), k * k)
        rows = [counts['counts'][i * k:i * k + k] for i in range(k)]
        self.assertEqual([(sum(rows[c['class']]), rows[c['class']][c['class']]) for c in active['per_class']],
                         [(c['n'], c['correct']) for c in active['per_class']])
        self.assertEqual(self.last('cam-1/status')['moved_bytes'], 0)
        # The images are measured once the new process's worker has read them; a status before that does not name their size.
        wait_for('the size of the images', lambda: 'data_bytes' in self.last('cam-1/status'), WAIT)
        self.assertEqual(self.last('cam-1/status')['data_bytes'], sum(f.stat().st_size for f in (self.work / 'data/cam').iterdir()))
        self.assertGreater(self.last('cam-1/status')['disk_free_bytes'], 0)
        late = self.fleet.listen('device/+/history')
        late.wait('retained history', lambda m: m['retain'] and body(m) == history, WAIT)

    def test_commands(self):
        self.start({'train': {'rounds': 1, 'round_epochs': 3}, 'handover': {'every_epochs': 0}})
        self.idle()
        c = self.fleet.command
        self.assertEqual(c('cam-1', 'ping')['device'], 'cam-1')
        self.idle_now()
        # train: as many epochs as asked for, also when idle.
        epoch = self.last('cam-1/status')['epoch']
        c('cam-1', 'train', epochs=2)
        wait_for('two more epochs', lambda: self.last('cam-1/status')['epoch'] == epoch + 2
                 and self.last('cam-1/status')['phase'] == 'idle', WAIT)
        # pause and resume.
        c('cam-1', 'pause')
        wait_for('paused', lambda: self.last('cam-1/status')['phase'] == 'paused', WAIT)
        c('cam-1', 'train', epochs=1)
        self.assertEqual(self.last('cam-1/status')['phase'], 'paused')
        c('cam-1', 'resume')
        wait_for('training after resume', lambda: self.last('cam-1/status')['epoch'] >= epoch + 3, WAIT)
        self.idle()
        # evaluate: a score and a report.
        answer = c('cam-1', 'evaluate', split='train')
        self.assertGreater(answer['n'], 0)
        # rollback goes to the previous one and pins it; unpin lets the selector decide again.
        def activations():
            if len([r for r in self.device_reports('cam-1').values() if r.get('decision') == 'activated']) > 1:
                return True
            if self.last('cam-1/status')['phase'] == 'idle':
                c('cam-1', 'train', epochs=2)
            return False
        wait_for('a second activation', activations, WAIT, every=0.5)
        self.idle_now()
        now = self.fleet.active('cam-1')[0]
        back = c('cam-1', 'rollback')['checkpoint']
        self.assertNotEqual(back, now)
        self.assertEqual(self.fleet.active('cam-1')[0], back)
        wait_for('pinned in the status', lambda: (self.last('cam-1/status').get('active') or {}).get('pinned'), WAIT)
        c('cam-1', 'pin', checkpoint=now)
        self.assertEqual(self.fleet.active('cam-1')[0], now)
        c('cam-1', 'unpin')
        # set: allow-listed keys only.
        self.assertEqual(c('cam-1', 'set', key='round_epochs', value='7')['value'], '7')
        self.assertIn('host', c('cam-1', 'set', key='host', value='elsewhere', expect_ok=False)['error'])
        self.assertFalse(c('cam-1', 'set', key='round_epochs', value='many', expect_ok=False)['ok'])
        # handover: offers the newest local one.
        offered = c('cam-1', 'handover')['checkpoint']
        self.listener.wait('the offer', lambda m: m['topic'].endswith('cam-1/offer')
                           and offered in (body(m)['id'], body(m).get('source')), WAIT)
        self.assertTrue(c('fleet', 'ping')['ok'])

    def test_refused(self):
        self.start({'handover': {'every_epochs': 0}})
        self.idle()
        before = self.fleet.active('cam-1')[0]
        c = self.fleet.command
        for cmd, members, word in (
                ('fly', {}, 'fly'),
                ('ping', {'expires': ago(60)}, 'expire'),
                ('ping', {'expires': 'tomorrow'}, 'expires'),
                ('pin', {}, 'checkpoint'),
                ('pin', {'checkpoint': '../../etc/passwd'}, 'checkpoint'),
                ('pin', {'checkpoint': HASH_0}, HASH_0[:12]),
                ('train', {'epochs': 'two'}, 'epochs'),
                ('train', {'epochs': -1}, 'epochs'),
                ('evaluate', {'split': 'all'}, 'split'),
                ('set', {'key': 'every_epochs'}, 'value'),
                ('ping', {'critical': ['unheard_of'], 'unheard_of': 1}, 'unheard_of')):
            answer = c('cam-1', cmd, expect_ok=False, **members)
            self.assertFalse(answer['ok'], (cmd, members))
            self.assertIn(word, answer['error'], (cmd, members))
        # No id to answer to, or no JSON: nothing happens, nobody falls over.
        for junk in (b'', b'{', b'[]', b'"ping"', b'\xff\xfe', b'{"cmd":"rollback"}', b'{"cmd":"pause","id":"a/b"}',
                     b'{"cmd":"pause","id":"x","id":"y"}', b'{"cmd":"pause","id":"big","pad":"' + b'x' * 5000 + b'"}'):
            if junk:
                self.fleet.publish('device/cam-1/in/cmd', junk)
        c('cam-1', 'ping')
        self.assertEqual(self.fleet.active('cam-1')[0], before)
        # A response topic outside reply/ is not honoured.
        self.fleet.publish('device/cam-1/in/cmd', {'cmd': 'ping', 'id': 'nosy'}, response=self.fleet.topic('device/other/in/cmd'))
        self.listener.wait('the answer under reply/', lambda m: m['topic'].endswith('reply/cam-1') and body(m)['id'] == 'nosy', WAIT)
        self.assertFalse(self.listener.all(lambda m: m['topic'].endswith('device/other/in/cmd')))

    def test_retained_leftovers(self):
        """What somebody retained by mistake is no command, no claim and no result, whoever comes later."""
        self.fleet.start_broker()
        for kind in ('cmd', 'claim', 'offer', 'want'):
            self.fleet.publish(f'device/cam-1/in/{kind}', {'cmd': 'pause', 'id': 'old'}, retain=True)
        self.fleet.publish('fleet/cmd', {'cmd': 'pause', 'id': 'old-too'}, retain=True)
        self.listener = self.fleet.listen('#')
        self.quick_agent('cam-1', self.digits('cam', 120, 2))
        self.fleet.start_agent('cam-1')
        self.idle()
        self.assertFalse(self.listener.all(lambda m: '/reply/' in m['topic']))

    def test_while_away(self):
        self.start({'handover': {'every_epochs': 0}})
        self.idle()
        self.fleet.programs['cam-1'].stop()
        for _ in range(2):  # twice the same: carried out once
            self.fleet.publish('device/cam-1/in/cmd', {'cmd': 'train', 'id': 'away-1', 'epochs': 1})
        self.fleet.publish('device/cam-1/in/cmd', {'cmd': 'pause', 'id': 'away-2', 'expires': ago(1)})
        epoch = self.last('cam-1/status')['epoch']
        self.fleet.programs['cam-1'].start()
        for ident, ok in (('away-1', True), ('away-2', False)):
            answer = body(self.listener.wait(f'answer to {ident}', lambda m: m['topic'].endswith('reply/cam-1')
                                             and body(m)['id'] == ident, WAIT))
            self.assertEqual(answer['ok'], ok, answer)
        wait_for('one more epoch', lambda: self.last('cam-1/status').get('epoch') == epoch + 1
                 and self.last('cam-1/status')['phase'] == 'idle', WAIT)
        rig.time.sleep(1)
        self.assertEqual(self.last('cam-1/status')['epoch'], epoch + 1)

    def test_tools(self):
        self.start({'handover': {'every_epochs': 0}})
        self.idle()
        devices = rig.json.loads(self.fleet.run_tasuki('devices', '--json').stdout)['devices']
        self.assertEqual([d['id'] for d in devices], ['cam-1'])
        self.assertEqual(devices[0]['presence'], 'online')
        self.assertIn('cam-1', self.fleet.run_tasuki('devices').stdout)
        shown = rig.json.loads(self.fleet.run_tasuki('show', 'cam-1', '--json').stdout)
        self.assertEqual(shown['status']['active']['checkpoint'], self.fleet.active('cam-1')[0])
        self.assertIn('active', self.fleet.run_tasuki('show', 'cam-1').stdout)
        self.assertEqual(self.fleet.run_tasuki('show', 'nobody', check=False).returncode, 1)
        answer = rig.json.loads(self.fleet.run_tasuki('cmd', 'cam-1', 'ping', '--json', *PATIENT).stdout)['answers'][0]
        self.assertTrue(answer['ok'])
        self.assertEqual(answer['device'], 'cam-1')
        lines = self.fleet.run_tasuki('cmd', 'cam-1', 'ping', *PATIENT).stdout.splitlines()
        self.assertEqual(lines[0], 'cam-1: ok')
        self.assertEqual(list(rig.json.loads(lines[1].removeprefix('cam-1: '))), ['boot'])
        self.assertEqual(self.fleet.run_tasuki('cmd', 'cam-1', 'pause', *PATIENT).stdout, 'cam-1: ok\n')
        self.fleet.run_tasuki('cmd', 'cam-1', 'resume', *PATIENT)
        r = self.fleet.run_tasuki('cmd', 'cam-1', 'pin', f'checkpoint={"0" * 64}', *PATIENT, check=False)
        self.assertEqual(r.returncode, 1)
        self.assertTrue(r.stderr.startswith('cam-1: error: '), r.stderr)
        r = self.fleet.run_tasuki('cmd', 'fleet', 'pin', f'checkpoint={"0" * 64}', '--timeout', 6, '--json', check=False)
        self.assertEqual(rig.json.loads(r.stdout)['answers'][0]['device'], 'cam-1')
        # The model that a device names is what `inspect --classes` prints.
        out = self.work / 'x.weights'
        self.fleet.run_tasuki('train', '--cfg', rig.TINY, '--data', self.work / 'data/cam', '--steps', 1, '--out', out)
        inspected = self.fleet.run_tasuki('inspect', out, '--cfg', rig.TINY, '--classes', rig.DIGITS, '--json').stdout
        self.assertEqual(rig.json.loads(inspected)['model'], shown['status']['model'])
        self.assertIn('cam-1', self.fleet.run_tasuki('cmd', 'fleet', 'ping', '--timeout', 6).stdout)
        r = self.fleet.run_tasuki('cmd', 'cam-1', 'pong', check=False)
        self.assertEqual(r.returncode, 2)
        self.assertIn("did you mean 'ping'", r.stderr)
        for how in (('--timeout', 1), ('--later',)):
            r = self.fleet.run_tasuki('cmd', 'cam-9', 'ping', *how, check=False)
            self.assertEqual(r.returncode, 1, how)
            self.assertIn('cam-9: no device of that name has ever said anything at site test', r.stderr)
            self.assertEqual(r.stdout, '')
        lines = self.fleet.run_tasuki('watch', '--seconds', 2, '--json').stdout.splitlines()
        self.assertEqual(rig.json.loads(lines[0])['id'], 'cam-1')
        r = self.fleet.run_tasuki('devices', '--broker', f'127.0.0.1:{rig.free_port()}', check=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn('waiting for the broker', r.stderr)
        # Away: what was not answered in time is not carried out later, what was queued is.
        epoch = self.last('cam-1/status')['epoch']
        self.fleet.programs['cam-1'].stop()
        row = [x for x in self.fleet.run_tasuki('devices').stdout.splitlines() if x.startswith('cam-1')][0].split()
        self.assertEqual(row[1:5], ['offline', '-', str(epoch), '-'])
        shown = self.fleet.run_tasuki('show', 'cam-1').stdout
        self.assertRegex(shown, r'offline +since \d{4}-\d\d-\d\dT')
        self.assertRegex(shown, r'phase +offline, was \w+, epoch')
        r = self.fleet.run_tasuki('cmd', 'cam-1', 'pause', '--timeout', 1, check=False)
        self.assertIn('cam-1: no answer within 1 s (it is offline); the command has expired', r.stderr)
        self.assertEqual(self.fleet.run_tasuki('cmd', 'cam-1', 'train', 'epochs=1', '--later').stdout, 'queued for cam-1\n')
        self.fleet.programs['cam-1'].start()
        wait_for('one more epoch', lambda: self.last('cam-1/status').get('epoch') == epoch + 1, WAIT)
        self.assertNotEqual(self.last('cam-1/status')['phase'], 'paused')
        # What was made active by hand need not have been scored.
        status = self.last('cam-1/status')
        unscored = {**status, 'active': {**status['active'], 'accuracy': None}}
        self.fleet.publish('device/cam-7/status', rig.json.dumps(unscored), retain=True)
        self.assertIn('accuracy not known', self.fleet.run_tasuki('show', 'cam-7').stdout)


rig.main()
