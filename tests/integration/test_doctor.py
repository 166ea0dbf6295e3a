# build: gcc
"""`tasuki doctor`: set-ups that are good but for one fault, made on purpose: each is named, with what to do. The good ones are
clean, nothing is changed, and an agent that runs does not notice."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import forge
import rig
from made_up import rfc3339
from rig import wait_for

NOBODY = 'nosuch.invalid'  # RFC 6761
AT_ONCE = 6  # they mostly wait


class Doctor(rig.Case):
    def setUp(self):
        super().setUp()
        self.secure = rig.Fleet(self.work / 'secure', rig.BUILD, site='test', secure=True)
        self.addCleanup(self.secure.stop)
        self.data = self.digits('d', 200, 1)
        self.photos = self.class_folders('photos', 300, 2, [str(i) for i in range(10)])
        for fleet in (self.fleet, self.secure):
            fleet.start_broker()
        self.foreign_brokers()

    def foreign_brokers(self):
        """One whose certificate is for another name, one whose is of no brokers' authority."""
        pki, text, self.odd = self.secure.pki, 'per_listener_settings true\n', {}
        for what, i in (('name', pki.identity('broker', 'other.example')), ('authority', pki.identity('device', 'cam-9'))):
            self.odd[what] = rig.free_port()
            text += (f'listener {self.odd[what]} 127.0.0.1\ncafile {pki.authorities}/device.crt\ncertfile {i["certificate"]}\n'
                     f'keyfile {i["key"]}\nrequire_certificate true\n')
        folder = self.work / 'odd'
        folder.mkdir()
        (folder / 'mosquitto.conf').write_text(f'{text}user {rig.getpass.getuser()}\n')
        program = self.fleet._program('odd', [shutil.which('mosquitto') or '/usr/sbin/mosquitto', '-c', folder / 'mosquitto.conf'],
                                      folder).start()
        wait_for('the odd broker', lambda: ' running' in program.text(), 60)

    # A good set-up in a folder of its own, and what is otherwise in it.
    def agent(self, name, conf=None, fleet=None, **kw):
        return (fleet or self.secure).agent_conf(name, kw.get('cfg', rig.TINY), kw.get('classes', rig.DIGITS),
                                                 kw.get('data', self.data), conf)

    def trainer(self, name, conf=None, fleet=None):
        return (fleet or self.secure).trainer_conf(name, rig.TINY, rig.DIGITS, self.data, conf)

    def identity(self, name, **other):
        """The device's, with other files."""
        return {'identity': {**self.secure.pki.identity('device', name), **other}}

    def forged(self, name, begin, end):
        crt = forge.certificate(self.work / 'forged', name, self.secure.pki.folder / 'device/key.pem', b'Tasuki device authority',
                                [name.encode()], begin=begin, end=end)
        return {'identity': {'certificate': crt, 'key': crt.with_suffix('.key')}}

    def authorities(self, name, change):
        folder = self.work / f'authorities-{name}'
        shutil.copytree(self.secure.pki.authorities, folder)
        change(folder)
        return {'identity': {'authorities': folder}}

    def old_list(self, folder, role):
        """One that has run out."""
        own = self.work / f'old-{role}'
        own.mkdir()
        (own / 'index').write_text('')
        (own / 'ca.cnf').write_text(f'[ca]\ndefault_ca = a\n[a]\ndatabase = {own}/index\ndefault_md = default\n')
        forge.openssl('ca', '-config', own / 'ca.cnf', '-gencrl', '-keyfile', self.secure.pki.folder / role / 'key.pem', '-cert',
                      folder / f'{role}.crt', '-crl_lastupdate', '20200101000000Z', '-crl_nextupdate', '20200201000000Z',
                      '-out', folder / f'{role}.crl')

    def doctor(self, *args):
        r = subprocess.run([str(x) for x in (self.fleet.tasuki, 'doctor', '--json', *args)], capture_output=True, text=True,
                           timeout=300)
        self.assertIn(r.returncode, (0, 1), r.stderr)
        answer = json.loads(r.stdout)
        self.assertEqual((r.returncode == 1, answer['ok']), (not answer['ok'], answer['faults'] == 0))
        return answer

    def conf_cases(self):
        typo = self.agent('typo')
        typo.write_text(typo.read_text().replace('[train]\n', '[train]\nrouds = 3\n'))
        neither = self.work / 'neither.conf'
        neither.write_text('[broker]\nhost = x\n')
        return [('fault', 'configuration', typo, 'rouds', 'correct the file'),
                ('fault', 'configuration', neither, 'expected a section [device] or [trainer]', 'correct the file'),
                ('fault', 'configuration', self.work / 'nosuch.conf', 'nosuch.conf', 'correct the file'),
                ('fault', 'configuration', self.agent('gone', data=self.work / 'nosuch'), '[data] path', 'put there what is missing')]

    def certificate_cases(self):
        pki, i = self.secure.pki, self.identity
        open_key = self.work / 'open.key'
        shutil.copy(pki.identity('device', 'open')['key'], open_key)
        open_key.chmod(0o644)
        stolen = self.agent('stolen')
        revoked = self.authorities('before', lambda folder: None)
        pki.revoke('device', 'stolen')
        shutil.copy(pki.authorities / 'device.crl', revoked['identity']['authorities'] / 'device.crl')
        return [
            ('fault', 'certificate', self.agent('lost', i('lost', certificate=self.work / 'lost.crt')), 'lost.crt', 'copy it'),
            ('fault', 'certificate', self.agent('open', i('open', key=open_key)), 'mode 0644', f'chmod 600 {open_key}'),
            ('fault', 'certificate', self.agent('mixed', i('mixed', key=pki.identity('device', 'cam-8')['key'])),
             'is not the key of', 'copy it anew'),
            ('fault', 'certificate', self.agent('name', self.identity('cam-7')), "that of 'cam-7'", 'the certificate for this id'),
            ('fault', 'certificate', self.agent('old', self.forged('old', -9, -1)), 'expired', 'deploy/pki renew'),
            ('fault', 'certificate', self.agent('young', self.forged('young', 1, 9)), 'not yet valid', 'set the clock'),
            ('fault', 'certificate', stolen, 'revoked', 'a new key'),
            ('fault', 'certificate', self.agent('nolist', self.authorities('nolist', lambda f: (f / 'device.crl').unlink())),
             'no list of revoked', 'deploy/pki crl'),
            ('fault', 'certificate', self.agent('oldlist', self.authorities('oldlist', lambda f: self.old_list(f, 'device'))),
             'list of revoked certificates is outdated', 'deploy/pki crl'),
            ('fault', 'certificate', self.agent('role', {'identity': pki.identity('trainer', 'role')}), 'another authority',
             'for this role'),
            ('fault', 'authorities', self.agent('theirs', self.authorities('theirs', lambda f: self.old_list(f, 'trainer'))),
             'trainer.crl', 'deploy/pki crl'),
            ('warning', 'certificate', self.agent('soon', self.forged('soon', -1, 5)), 'ends in 4 days', 'deploy/pki renew')]

    def broker_cases(self):
        def at(name, host='127.0.0.1', port=None, fleet=None):
            port = port or (fleet or self.secure).ports.get('device') or self.fleet.port
            return self.agent(name, {'broker': {'host': host, 'port': port}}, fleet)
        return [
            ('fault', 'broker', at('where', host=NOBODY), NOBODY, '[broker] host'),
            ('fault', 'broker', at('nobody', port=rig.free_port()), 'Connection refused', 'start the broker'),
            ('fault', 'broker', at('clear', port=self.fleet.port), 'TLS', "the broker's TLS listener for devices, 8883"),
            ('fault', 'broker', at('listener', port=self.secure.ports['trainer']), 'TLS', 'the listener for devices (8883'),
            ('fault', 'broker', at('host', port=self.odd['name']), 'another name', '[broker] host'),
            ('fault', 'broker', at('imposter', port=self.odd['authority']), 'TLS', 'authorities/broker.crt of this site'),
            ('fault', 'session', at('plain', port=self.secure.ports['device'], fleet=self.fleet), 'no connection', '[identity]'),
            ('fault', 'access', self.trainer('edge-8', {'trainer': {'site': 'elsewhere'}}), 'does not let us write',
             "the site's name"),
            ('fault', 'id', self.agent('twin', fleet=self.fleet), 'two have the same id', 'an id of its own'),
            ('fault', 'clocks', self.agent('late', {'device': {'site': 'future'}}, self.fleet), 'behind those of 3 of 3', 'set it')]

    def machine_cases(self):
        young = self.work / 'young.cfg'
        young.write_text(rig.TINY.read_text())
        os.utime(young, (time.time() + 86400,) * 2)
        many = self.work / 'many.txt'
        many.write_text(rig.DIGITS.read_text() + 'eleven\n')
        names = self.work / 'names.txt'
        names.write_text(rig.DIGITS.read_text().replace('7', 'seven'))
        bad_cfg = self.work / 'bad.cfg'
        bad_cfg.write_text(rig.TINY.read_text().replace('filters=4', 'filters=-4'))
        dogs, torn = self.work / 'dogs', self.work / 'torn'
        shutil.copytree(self.photos, dogs)
        (dogs / 'dog').mkdir()
        shutil.copy(next((dogs / '1').iterdir()), dogs / 'dog')
        shutil.copytree(self.photos, torn)
        (torn / '1/torn.png').write_bytes(b'\x89PNG\r\n\x1a\nrubbish')
        supply = self.work / 'root/sys/class/power_supply/BAT0'
        supply.mkdir(parents=True)
        for key, text in (('type', 'Battery'), ('status', 'Discharging'), ('capacity', '31')):
            (supply / key).write_text(text)
        other = self.agent('other', fleet=self.fleet, classes=names)
        (self.fleet.work / 'other/state').mkdir()
        shutil.copy(self.fleet.work / 'running/state/state.json', self.fleet.work / 'other/state')
        return [
            ('fault', 'state folder', self.agent('file', {'device': {'state': rig.DIGITS / 'state'}}), 'Not a directory',
             'a folder that this user can write'),
            ('fault', 'state folder', other, 'holds checkpoints of model', 'name a new folder'),
            ('fault', 'clock', self.agent('young-cfg', cfg=young), 'young.cfg', 'set it'),
            ('fault', 'network', self.agent('many', classes=many), '11', 'correct cfg, class list'),
            ('fault', 'network', self.agent('bad-cfg', cfg=bad_cfg), 'filters', 'correct cfg, class list'),
            ('fault', 'data set', self.agent('dogs', data=dogs), 'dog', 'named as a class'),
            ('fault', 'data set', self.agent('blind', {'data': {'validation_share': 0}}), 'no validation images',
             'validation_share'),
            ('warning', 'data set', self.agent('few', {'data': {'limit': 60}}), 'mostly chance below 30', 'more images'),
            ('warning', 'images', self.agent('torn', data=torn), 'torn.png', 'replace or remove'),
            ('fault', 'worker', self.agent('small', {'train': {'memory_max_mb': 1}}), 'needs', 'correct [train]'),
            ('fault', 'worker', self.agent('noworker', {'worker': {'program': '/bin/false'}}), '', 'install tasuki-worker'),
            ('warning', 'worker', self.agent('loose', {'worker': {'sandbox': 'off'}}), 'not confined', 'sandbox = on'),
            ('warning', 'disk', self.trainer('edge-9', {'queue': {'disk_max_mb': 1 << 30}}), 'MB free', 'disk_max_mb'),
            ('warning', 'when', self.agent('battery', {'when': {'power': 'mains', 'root': self.work / 'root'}}),
             'battery at 31 %, mains wanted', '[when]')]

    def start_running(self):
        """An agent, which is to go on whatever is asked, and others that only their messages are of."""
        self.agent('running', {'train': {'rounds': 1, 'round_epochs': 1}}, self.fleet)
        self.fleet.start_agent('running')
        wait_for('a state', lambda: (self.fleet.work / 'running/state/active').exists(), rig.WAIT)
        presence = {'online': True, 'boot': 7}
        self.fleet.publish('device/twin/presence', presence, retain=True)
        status = {'boot': 7, 'version': 'x', 'model': 'ab' * 32, 'queued': 0, 'active': 0, 'capacity': 1, 'devices': 0, 'handovers': 0,
                  'load': 0, 'reason': '', 'at': rfc3339(time.time() + 3600)}
        for i in range(3):
            for what, m in (('presence', presence), ('status', status)):
                subprocess.run(['mosquitto_pub', '-p', str(self.fleet.port), '-q', '1', '-r', '-t',
                                f'tasuki/v1/future/trainer/edge-{i}/{what}', '-m', json.dumps(m)], check=True)

    def look(self, case, *options):
        state, check, path, found, remedy = case
        answer = self.doctor(*options, path)
        lines = [c for c in answer['checks'] if c['state'] in ('fault', 'warning')]
        right = [c for c in lines if (c['state'], c['check']) == (state, check) and found in c['found'] and remedy in c['do']]
        # Only what is wrong; [data] path and the like are also seen by whoever needs them.
        about = {c['check'] for c in lines if c['state'] == 'fault'} - {check, 'configuration', 'worker', 'data set'}
        return None if right and not about and answer['ok'] == (state == 'warning') else f'{path}: {case}: {json.dumps(lines, indent=1)}'

    def snapshot(self, folder):
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob('*') if p.is_file()}

    def clean(self, conf):
        before = self.snapshot(conf.parent) if conf.parent.name != 'running' else None
        answer = self.doctor(conf)
        self.assertEqual((answer['faults'], answer['warnings']), (0, 0), answer)
        self.assertTrue({'configuration', 'state folder', 'clock', 'network', 'disk', 'memory', 'worker', 'data set', 'certificate',
                         'broker', 'session'} <= {c['check'] for c in answer['checks']})
        self.assertTrue(before is None or before == self.snapshot(conf.parent), 'something was changed')

    def person(self, role):
        """The way to the broker alone, and lines."""
        i = self.secure.pki.identity(role, 'ann')
        r = subprocess.run([str(x) for x in (self.fleet.tasuki, 'doctor', '--broker', f'127.0.0.1:{self.secure.ports[role]}', '--site',
                                             'test', '--certificate', i['certificate'], '--key', i['key'], '--authorities',
                                             i['authorities'])], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertRegex(r.stdout, f'(?m)^ok +certificate: of {role} ann, with its key, until ')
        self.assertIn('0 faults, 0 warnings\n', r.stdout)

    def test_all(self):
        self.start_running()
        good = [self.agent('cam-1'), self.trainer('edge-1'), self.agent('cam-2', data=self.photos, fleet=self.fleet),
                self.trainer('edge-2', fleet=self.fleet), self.fleet.work / 'running/agent.conf']
        machine, site = self.machine_cases(), self.conf_cases() + self.certificate_cases() + self.broker_cases()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            failed = [f for f in pool.map(lambda c: self.look(c, *['--quick'] * (c in site)), site + machine) if f]
            self.assertFalse(failed, '\n'.join(failed))
            list(pool.map(self.clean, good))
            list(pool.map(self.person, ('operator', 'dashboard')))
        # Named as it is in the current folder, where nothing is made yet.
        r = subprocess.run([self.fleet.tasuki, 'doctor', 'agent.conf', '--quick'], capture_output=True, text=True, cwd=good[2].parent)
        self.assertEqual(r.returncode, 0, r.stdout)
        self.assertIn('state folder: state: made at the first start', r.stdout)
        # The load is there, whose own share is not known while a daemon runs; the temperature is not.
        root, conf = self.work / 'root', self.fleet.work / 'running/when.conf'
        (root / 'proc').mkdir(parents=True)
        (root / 'proc/loadavg').write_text('9.00 9.00 9.00 1/1 1\n')
        conf.write_text(f'{(conf.parent / "agent.conf").read_text()}\n[when]\nroot = {root}\nload_max = 0.1\ntemperature_max_c = 60\n')
        said = [c['found'] for c in self.doctor(conf, '--quick')['checks'] if c['check'] == 'when']
        self.assertRegex(said[0], 'nothing back: temperature$')
        self.assertIn('training need not wait now', said[1])
        running = self.fleet.programs['running']
        self.assertTrue(running.running())
        self.assertNotIn('connection lost', running.text())
        self.assertEqual(running.text().count(': connected'), 1)
        r = subprocess.run([self.fleet.tasuki, 'doctor', '--broker', 'x', good[0]], capture_output=True, text=True)
        self.assertEqual(r.returncode, 2)
        rig.figure(f'{len(machine) + len(site)} broken set-ups')


rig.main()
