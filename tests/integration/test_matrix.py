# build: gcc
"""Who gets in, and who may do what there: everything that an attacker can show to the broker of production.conf, and the table of
docs/security.md, tried by every role on every topic. Proof is what is delivered, seen by a client with all rights."""
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import forge
import rig
from mqtt5 import Client, Refused
from rig import ROOT, WAIT, wait_for

ROLES = ('device', 'trainer', 'operator', 'dashboard')
SELF = {'device': 'cam-1', 'trainer': 'edge-1', 'operator': 'op-1', 'dashboard': 'dash-1', 'broker': '127.0.0.1'}
OTHER = {'device': 'cam-2', 'trainer': 'edge-2', 'operator': 'op-2'}
HASH = 'ab' * 32


def table():
    """[(topic, {role: {'reads', 'writes', 'reads its own', ...}})] of docs/security.md."""
    text = (ROOT / 'docs/security.md').read_text()
    text = text.split('\n## Who may read and write what\n')[1].split('\n## ')[0]
    rows = [[c.strip() for c in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('|')]
    assert rows[0] == ['topic', *ROLES], rows[0]
    out = []
    for topic, *cells in rows[2:]:
        rights = {role: set() if cell == '–' else set(cell.split(', ')) for role, cell in zip(ROLES, cells)}
        assert all(r <= {'reads', 'writes', 'reads its own', 'writes its own'} for r in rights.values()), topic
        out.append((topic.strip('`'), rights))
    return out


def topics(site):
    """{topic: {role: {'reads', 'writes'}}}: each row with everybody's own id, and with another's, at each place."""
    out = {}
    for row, rights in table():
        names = [{}]
        for role in OTHER:
            if f'<{role}>' in row:
                names = [{**n, role: who[role]} for n in names for who in (SELF, OTHER)]
        for n in names:
            topic = row.replace('<checkpoint>', HASH).replace('<number>', '7').replace('<rest>', 'a/b')
            for role, name in n.items():
                topic = topic.replace(f'<{role}>', name)
            out[f'tasuki/v1/{site}/{topic}'] = {
                role: {r.split()[0] for r in may if ' ' not in r or n.get(role) == SELF[role]}
                for role, may in rights.items()}
    for odd in ('', '%u', 'cam-1 '):  # no ids, but a '+' takes them for some
        out[f'tasuki/v1/{site}/device/{odd}/status'] = out[f'tasuki/v1/{site}/device/cam-2/status']
    # Nobody's: near what is allowed, of another site or version, and of nothing at all.
    for rest in ('device/cam-1', 'device/cam-1/presence/x', 'device/cam-1/in', 'device/cam-1/in/claim/x', 'device/cam-1/in/other',
                 'device/cam-1/in/block', f'device/cam-1/in/block/{HASH}', f'device/cam-1/in/block/{HASH}/7/x', 'Device/cam-1/status', 'fleet', 'fleet/block', 'fleet/other',
                 'trainer/edge-1', 'trainer/edge-1/in', 'trainer/edge-1/in/cam-1', 'trainer/edge-1/in/cam-1/other',
                 'trainer/edge-1/job', 'trainer/edge-1/job/cam-1/x', 'reply', 'other', ''):
        out[f'tasuki/v1/{site}/{rest}'] = {}
    for topic in ('tasuki/v1/elsewhere/device/cam-1/status', 'tasuki/v1/elsewhere/fleet/cmd', 'tasuki/v2/home/fleet/cmd',
                  f'/tasuki/v1/{site}/device/cam-1/status', 'x', '$SYS/broker/uptime', '$SYS/x', '$CONTROL/dynamic-security/v1'):
        out[topic] = {}
    return out


def filters(site, all_topics):
    """What to subscribe to: each topic by itself, and in each way that MQTT has to say more than one."""
    base = f'tasuki/v1/{site}'
    return [[t for t in all_topics], ['#'], ['+/#'], ['tasuki/#'], ['+/+/+/#'], [f'{base}/#'], [f'{base}/+/+/#'],
            [f'{base}/device/#'], [f'{base}/device/+/#'], [f'{base}/device/cam-1/#'], [f'{base}/device/cam-2/#'],
            [f'{base}/device/+/in/#'], [f'{base}/device/+/in/cmd'], [f'{base}/+/+/in/+'], [f'{base}/trainer/#'],
            [f'{base}/trainer/+/in/+/+'], [f'{base}/reply/#'], [f'{base}/reply/+'], [f'{base}/fleet/#'],
            ['/'.join(['+'] * n) for n in range(1, 11)], ['$SYS/#'], ['$SYS/+/+'], ['$CONTROL/#'],
            ['$share/g/#'], [f'$share/trainers/{base}/device/+/offer'], [f'$share/g/{base}/device/cam-2/in/#'], ['$share/g/$SYS/#']]


def matches(pattern, topic):
    """MQTT 4.7."""
    p, t = pattern.split('/'), topic.split('/')
    if p[0] == '$share':
        p = p[2:]
    if t[0].startswith('$') and p[0] in ('#', '+'):
        return False
    for i, part in enumerate(p):
        if part == '#':
            return True
        if i >= len(t) or part not in ('+', t[i]):
            return False
    return len(p) == len(t)


class Matrix(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=True)
        self.pki = self.fleet.pki

    def start(self):
        self.broker = self.fleet.start_broker()

    def control(self):
        c = Client(self.fleet.port)
        self.addCleanup(c.close)
        return c

    def identity(self, role, name=None):
        return self.pki.identity(role, name or SELF[role])

    def connect(self, role, name=None, **kw):
        c = Client(self.fleet.ports[role], self.identity(role, name), **{'client_id': f'{role}-{name}', **kw})
        self.addCleanup(c.close)
        return c

    def forged(self, role, common_names, authority=None, **kw):
        """A certificate that deploy/pki would not issue, signed by a role's authority."""
        authority = authority or self.pki.folder
        self.n = getattr(self, 'n', 0) + 1
        crt = forge.certificate(self.work / 'forged', f'{role}-{self.n}', authority / role / 'key.pem',
                                f'Tasuki {role} authority'.encode(), common_names, **kw)
        return {'certificate': crt, 'key': crt.with_suffix('.key'), 'authorities': self.pki.authorities}

    # Who gets in.

    def test_who_gets_in(self):
        foreign = rig.Pki(self.work / 'foreign')
        revoked = {role: self.identity(role, 'gone') for role in ROLES}
        for role in ROLES:
            self.pki.revoke(role, 'gone')
        self.start()
        for role in ROLES:
            port, mine, name = self.fleet.ports[role], self.identity(role), SELF[role].encode()
            self.connect(role).close()
            Client(port, self.forged(role, [name])).close()  # what follows is refused for what it says
            attempts = {
                'no TLS': None,
                'no certificate': {'authorities': self.pki.authorities},
                'revoked': revoked[role],
                'expired': self.forged(role, [name], begin=-3, end=-1),
                'not yet valid': self.forged(role, [name], begin=1, end=3),
                'foreign authority of the same name': {**foreign.identity(role, SELF[role]), 'authorities': self.pki.authorities},
                'a server\'s': self.forged(role, [name], purpose='server'),
                'signed by itself': self.signed_by_itself(role, name),
                'signed by a device': self.signed_by_certificate(mine, name),
                **{f'a {other}\'s': self.identity(other) for other in (*ROLES, 'broker') if other != role},
            }
            for what, identity in attempts.items():
                with self.subTest(role=role, what=what):
                    with self.assertRaises(Refused):
                        Client(port, identity, client_id=SELF[role], username=SELF[role]).publish('x', 'y')
        self.assertTrue(self.broker.running())
        for old in ('-tls1', '-tls1_1'):
            self.assertIn('Cipher is (NONE)', self.handshake(old, '-cipher', 'ALL@SECLEVEL=0'))
        self.assertIn('TLSv1.2', self.handshake('-tls1_2'))
        self.assertIn('New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384', self.handshake())

    def handshake(self, *how):
        i = self.identity('device')
        r = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{self.fleet.ports["device"]}', '-CAfile',
                            self.pki.authorities / 'broker.crt', '-cert', i['certificate'], '-key', i['key'], *how],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT)
        return r.stdout

    def signed_by_itself(self, role, name):
        key = self.work / f'self-{role}/ca.key'
        key.parent.mkdir()
        forge.openssl('genpkey', '-algorithm', 'ED25519', '-out', key)
        crt = forge.certificate(key.parent, 'me', key, f'Tasuki {role} authority'.encode(), [name])
        return {'certificate': crt, 'key': crt.with_suffix('.key'), 'authorities': self.pki.authorities}

    def signed_by_certificate(self, signer, name):
        crt = forge.certificate(signer['key'].parent / 'below', 'me', signer['key'], name, [name])
        crt.write_text(crt.read_text() + signer['certificate'].read_text())
        return {'certificate': crt, 'key': crt.with_suffix('.key'), 'authorities': self.pki.authorities}

    def test_another_name(self):
        """The name is the certificate's, whatever CONNECT says; so is a device's client id."""
        self.start()
        control, first = self.control(), self.connect('device', client_id='x', clean=False, expiry=60)
        first.subscribe(self.fleet.topic('device/cam-1/in/cmd'))
        second = self.connect('device', 'cam-2', client_id='cam-1', username='cam-1')
        second.subscribe(self.fleet.topic('device/cam-1/in/cmd'))
        self.assertEqual(second.publish(self.fleet.topic('device/cam-1/status'), 'forged'), 0x87)
        control.publish(self.fleet.topic('device/cam-1/in/cmd'), 'for cam-1')
        self.assertEqual([m[1] for m in first.received()], ['for cam-1'])  # its session stands
        self.assertEqual(second.received(), [])
        # One that is away keeps what waits for it.
        first.close()
        second.close()
        self.connect('device', 'cam-2', client_id='cam-1', username='cam-1', clean=False).received()
        control.publish(self.fleet.topic('device/cam-1/in/cmd'), 'while away')
        again = self.connect('device', client_id='y', clean=False, expiry=60)
        self.assertEqual([m[1] for m in again.received()], ['while away'])
        # A Will for another is no way round.
        control.subscribe(self.fleet.topic('device/+/presence'))
        for name in ('cam-1', 'cam-2'):
            try:
                self.connect('device', 'cam-2', will=(self.fleet.topic(f'device/{name}/presence'), f'of {name}')).close()
            except Refused:
                self.assertEqual(name, 'cam-1')
        wait_for('the Will of its own', lambda: [m for m in control.messages if m[1] == 'of cam-2'] or control.subscribe('x') and False, WAIT)
        self.assertEqual([m for m in control.messages if m[1] == 'of cam-1'], [])

    def test_revoked_while_connected(self):
        """docs/operations.md: who is there, and who comes, until the broker's restart; not later."""
        self.start()
        control, topic = self.control(), self.fleet.topic('device/cam-1/in/cmd')
        device = self.connect('device')
        device.subscribe(topic)
        self.assertTrue(self.gets_in('cam-2'))
        for name in ('cam-1', 'cam-2'):
            self.pki.revoke('device', name)
        self.assertTrue(self.gets_in('cam-2'))
        control.publish(topic, 'still there')
        self.assertEqual([m[1] for m in device.received()], ['still there'])
        self.fleet.restart('broker')
        self.assertEqual([self.gets_in(f'cam-{i}') for i in (1, 2, 3)], [False, False, True])

    def gets_in(self, name):
        try:
            Client(self.fleet.ports['device'], self.identity('device', name)).received()
            return True
        except Refused:
            return False

    def test_insiders(self):
        """What Mosquitto 2.0.11 lets one of another role do by a client id or a share: disturb, and read nothing."""
        self.start()
        control, topic = self.control(), self.fleet.topic('device/cam-1/in/cmd')
        device = self.connect('device')
        device.subscribe(topic)
        usurper = self.connect('dashboard', client_id='cam-1', clean=False, expiry=60)
        with self.assertRaises(Refused):
            device.received()
        control.publish(topic, 'for cam-1')
        self.assertEqual(usurper.received(), [])
        usurper.subscribe('#')
        again = self.connect('device')
        again.subscribe(topic)
        control.publish(topic, 'for cam-1')
        self.assertEqual([m[1] for m in again.received()], ['for cam-1'])
        # Who joins the trainers' share gets nothing of it, and neither does any other for each time that it was its turn.
        share = f'$share/trainers/{self.fleet.topic("device/+/offer")}'
        trainer, other = self.connect('trainer'), self.connect('device', 'cam-2')
        for who in (trainer, other):
            who.subscribe(share)
        control.publish_all([self.fleet.topic('device/cam-1/offer')] * 20, 'an offer')
        self.assertEqual(other.received(), [])
        self.assertGreaterEqual(len(trainer.received()), 10)  # a repeated offer gets there

    # The broker has to show who it is, too.

    def test_clients_know_their_broker(self):
        self.identity('operator', 'gone')
        self.pki.revoke('operator', 'gone')
        self.start()
        env = self.fleet.tasuki_env()
        self.fleet.run_tasuki('devices')
        foreign = rig.Pki(self.work / 'foreign')
        brokers = {
            'another host': (self.pki.identity('broker', 'elsewhere.example'), 'the broker\'s certificate is for another name'),
            'expired': (self.forged('broker', [b'127.0.0.1'], purpose='server', begin=-3, end=-1, names=['127.0.0.1']), 'TLS: certificate verify failed'),
            'foreign': (foreign.identity('broker', '127.0.0.1'), 'TLS: certificate verify failed'),
            'a device\'s': (self.identity('device', '127.0.0.1'), 'TLS: certificate verify failed'),
        }
        asked = {}
        for what, (identity, _) in brokers.items():
            port = self.serve(what, identity)
            asked[what] = self.ask({**env, 'TASUKI_BROKER': f'127.0.0.1:{port}'})
            with self.assertRaises(Refused):
                Client(port, self.identity('device'))
        brokers['the right one, by one who is revoked'] = (None, 'TLS: no answer to CONNECT, perhaps our certificate was refused')
        asked['the right one, by one who is revoked'] = self.ask(self.fleet.tasuki_env(name='gone'))
        brokers['with the key of another'] = (None, 'is not the key of the certificate')
        asked['with the key of another'] = self.ask({**env, 'TASUKI_KEY': self.fleet.tasuki_env(name='gone')['TASUKI_KEY']})
        for what, process in asked.items():
            with self.subTest(what=what):
                out, said = process.communicate(timeout=WAIT)
                self.assertEqual((process.returncode, out), (1, ''))
                self.assertIn(brokers[what][1], said)
        # The daemons say so, and go on trying: once it is there, they are connected.
        data = self.digits('cam', 60, 2)
        port = rig.free_port()
        self.quick_agent('cam-1', data, {'broker': {'port': port}, 'train': {'rounds': 1}})
        false = self.serve('another host', brokers['another host'][0], port)
        agent = self.fleet.start_agent('cam-1')
        wait_for('the reason in its log', lambda: f'{port}: TLS: the broker\'s certificate is for another name' in agent.text(), WAIT)
        self.assertNotIn(' connected', agent.text())
        self.fleet.programs[f'broker-{false}'].stop()
        self.serve('the right one', self.pki.identity('broker', '127.0.0.1'), port)
        wait_for('the connection', lambda: f'{port}: connected' in agent.text(), WAIT)
        # Somebody else's certificate is told at once.
        conf = self.work / 'cam-1/agent.conf'
        conf.write_text(conf.read_text().replace('/cam-1.crt', '/cam-2.crt').replace('/cam-1.key', '/cam-2.key'))
        self.identity('device', 'cam-2')
        r = subprocess.run([self.fleet.agent_program, '--check-config', conf], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("[identity] certificate: found the certificate of 'cam-2', expected that of 'cam-1'", r.stderr)
        self.pki.identity('device', 'cam-2')['key'].chmod(0o644)
        r = subprocess.run([self.fleet.agent_program, '--check-config', conf], capture_output=True, text=True, timeout=30)
        self.assertIn('[identity] key: found', r.stderr)
        self.assertIn('0644', r.stderr)

    def ask(self, env):
        return subprocess.Popen([self.fleet.tasuki, 'devices', '--timeout', '15'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**rig.os.environ, **env})

    def serve(self, what, identity, port=None):
        """A broker with one listener for everybody, that shows this certificate."""
        port = port or rig.free_port()
        folder = self.work / f'broker-{port}'
        folder.mkdir(exist_ok=True)
        (folder / 'all.crt').write_text(''.join((self.pki.authorities / f'{r}.crt').read_text() for r in ROLES))
        (folder / 'mosquitto.conf').write_text(
            f'listener {port} 127.0.0.1\nallow_anonymous true\ncafile {folder}/all.crt\ncertfile {identity["certificate"]}\n'
            f'keyfile {identity["key"]}\nuser {rig.getpass.getuser()}\n')
        name = f'broker-{port}'
        mosquitto = rig.shutil.which('mosquitto') or '/usr/sbin/mosquitto'
        self.fleet._program(name, [mosquitto, '-c', folder / 'mosquitto.conf'], folder).start()

        def up():
            with rig.socket.socket() as s:
                return s.connect_ex(('127.0.0.1', port)) == 0
        wait_for(what, up, WAIT)
        return port

    # Who may do what.

    def test_everybody_and_every_topic(self):
        self.start()
        every = topics(self.site)
        control = self.control()
        control.subscribe('#', '$SYS/x', '$CONTROL/#')
        control.received()
        tried = 0
        for role in ROLES:
            who = self.connect(role)
            tried += self.write_all(role, who, control, every) + self.read_all(role, who, control, every)
        self.assertGreater(tried, 4 * 25 * len(every) // 2)
        rig.figure(f'{tried} times a topic, a role and a direction: all as the table in docs/security.md says')

    def write_all(self, role, who, control, every):
        codes = who.publish_all(list(every), role)
        self.assertEqual(set(codes), {0, 0x87} if role != 'dashboard' else {0x87})
        arrived = {m[0] for m in control.received() if m[1] == role}
        self.assertEqual(arrived, {t for t, may in every.items() if 'writes' in may.get(role, ())}, f'{role} writes')
        return len(every)

    def read_all(self, role, who, control, every):
        tried = 0
        mine = {t for t, may in every.items() if 'reads' in may.get(role, ())}
        for patterns in filters(self.site, every):
            patterns = [p for p in patterns if p]
            self.assertTrue(set(who.subscribe(*patterns)) <= {0, 1, 0x87}, patterns)
            who.received()
            control.publish_all(list(every), 'control')
            got = {m[0] for m in who.received() if m[1] == 'control'}
            self.assertEqual(got, {t for t in mine if any(matches(p, t) for p in patterns)}, f'{role} reads {patterns[:3]}')
            tried += len(every)
            who.unsubscribe(*patterns)
        # What is retained is not given to a newcomer who may not read it, either.
        plain = [t for t in every if not t.startswith('$')]
        control.publish_all(plain, 'kept', retain=True)
        who.subscribe('#')
        got = {m[0] for m in who.received() if m[2]}
        self.assertEqual(got, mine, f'{role} reads what is retained')
        who.subscribe('$SYS/#')
        self.assertEqual([m for m in who.received() if m[0].startswith('$SYS')], [])
        who.unsubscribe('#', '$SYS/#')
        control.publish_all(plain, '', retain=True)
        control.received()
        return tried + len(every)

    def test_odd_names(self):
        """Should an authority sign such a name: it is nobody else's. deploy/pki signs none of them."""
        self.start()
        every = topics(self.site)
        control = self.control()
        control.subscribe('#')
        # What depends on no name.
        common = {way: {t for t, may in every.items() if way in may.get('device', ()) and 'device/' not in t and '/in/' not in t} for way in ('reads', 'writes')}
        odd = [b'+', b'#', b'cam-1/#', b'cam-1/in', b'+/in', b'%u', b'%c', b'cam-1 ', b' cam-1', b'cam 1', b'c' * 65, b'cam-1' + b'x' * 65,
               'kamera-\u00e4'.encode(), '\u5c45'.encode(), b'', b'cam-1\0', b'cam-1\0.example', b'\xff\xfe', b'$SYS', b'$share/g/cam-1', b'.', b'..',
               b'CAM-1', b'cam-1\n']
        let_in, self.reached = 0, {}
        for cn in odd:
            with self.subTest(cn=cn):
                identity = self.forged('device', [cn])
                try:
                    who = Client(self.fleet.ports['device'], identity, client_id='cam-1', username='cam-1')
                except Refused:
                    continue
                let_in += 1
                with who:
                    self.odd_name(cn, who, control, every, common)
        self.assertGreater(let_in, 0)
        # To the broker a '/' is as good as any: why no authority signs one, and trainers and devices look at names themselves.
        self.assertEqual(self.reached, {b'cam-1/in': {self.fleet.topic('device/cam-1/in/offer')}})

    def odd_name(self, cn, who, control, every, common):
        plain = [t for t in every if not t.startswith('$')]
        self.assertLessEqual(set(who.publish_all(plain, 'odd')), {0, 0x10, 0x87})
        beyond = {m[0] for m in control.received() if m[1] == 'odd'} - common['writes']
        own = self.fleet.topic(f'device/{cn.decode(errors="replace")}/')
        beyond = {t for t in beyond if not (t.startswith(own) and '/' not in t[len(own):] and b'/' not in cn)}
        if beyond:
            self.reached[cn] = beyond
        who.subscribe('#', f'tasuki/v1/{self.site}/device/cam-1/in/#')
        control.publish_all(plain, 'control')
        self.assertLessEqual({m[0] for m in who.received() if m[1] == 'control'}, common['reads'], cn)
        control.received()

    def test_presence_and_will(self):
        """A Will is published by the broker in the device's name: under its ACL, retained, and taken back by nobody else."""
        self.start()
        watcher = self.connect('dashboard')
        topic = self.fleet.topic('device/cam-1/presence')
        device = self.connect('device', will=(topic, 'gone'))
        self.assertEqual(device.publish(topic, 'here', retain=True), 0x10)  # nobody has subscribed
        device.close()
        wait_for('the Will', lambda: watcher.subscribe(topic) and (topic, 'gone', 1) in watcher.received(), WAIT)
        for role, name in (('device', 'cam-2'), ('trainer', 'edge-1'), ('operator', 'op-1'), ('dashboard', 'dash-2')):
            self.connect(role, name).publish(topic, '', retain=True)
        again = self.connect('dashboard', 'dash-3')
        again.subscribe(topic)
        self.assertEqual(again.received(), [(topic, 'gone', 1)])


rig.main()
