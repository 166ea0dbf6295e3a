# build: gcc
"""A handover over the secured broker as its documents say, verified by openssl alone; then somebody who has recorded all of it
and can publish anywhere plays it again, and so do others with certificates that are not for this."""
import base64
import contextlib
import json
import re
import subprocess
import sys
import tempfile
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import WAIT, Fleet, body, wait_for

TAIL = re.compile(r',"certificate":"([A-Za-z0-9+/=]+)","signature":"([0-9a-f]{128})"\}$')
SIGNED = {  # the end of a topic: the role that signs it
    'cam-1/offer': 'device', 'report': 'device', 'grant': 'device', 'cam-1/ack': 'device',
    'in/claim': 'trainer', 'in/offer': 'trainer', 'in/ack': 'trainer'}


def role_of(topic):
    return next((role for end, role in SIGNED.items() if topic.endswith(end)), None)


def openssl(*args, data=None):
    return subprocess.run(['openssl', *map(str, args)], input=data, capture_output=True)


class Signed(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = Fleet(self.work, rig.BUILD, site=self.site, secure=True)

    def bytes_of(self, topic, text):
        """What is signed, by docs/protocol.md."""
        return b'tasuki/1 message\0' + topic.encode() + b'\0' + text.encode()

    def verify(self, m):
        """The certificate's name; fails unless a third program finds all of it good."""
        found = TAIL.search(m['payload'])
        self.assertIsNotNone(found, m)
        with tempfile.NamedTemporaryFile() as crt, tempfile.NamedTemporaryFile() as key, \
                tempfile.NamedTemporaryFile() as data, tempfile.NamedTemporaryFile() as signature:
            crt.write(openssl('x509', '-inform', 'DER', data=base64.b64decode(found[1])).stdout)
            data.write(self.bytes_of(m['topic'], m['payload'][:m['payload'].index(',"signature":')]))
            signature.write(bytes.fromhex(found[2]))
            crt.flush()
            key.write(openssl('x509', '-in', crt.name, '-pubkey', '-noout').stdout)
            for f in (key, data, signature):
                f.flush()
            authority = self.fleet.pki.authorities / f'{role_of(m["topic"])}.crt'
            self.assertEqual(openssl('verify', '-CAfile', authority, crt.name).returncode, 0, m['topic'])
            r = openssl('pkeyutl', '-verify', '-rawin', '-pubin', '-inkey', key.name, '-in', data.name, '-sigfile', signature.name)
            self.assertEqual(r.returncode, 0, m['topic'])
            return openssl('x509', '-in', crt.name, '-noout', '-subject').stdout.decode().strip().split('=')[-1].strip()

    def sign(self, role, name, topic, message):
        """As a program of another make would."""
        who = self.fleet.pki.identity(role, name)
        der = openssl('x509', '-in', who['certificate'], '-outform', 'DER').stdout
        text = json.dumps(message)[:-1] + f',"certificate":"{base64.b64encode(der).decode()}"'
        with tempfile.NamedTemporaryFile() as f:
            f.write(self.bytes_of(self.fleet.topic(topic), text))
            f.flush()
            signature = openssl('pkeyutl', '-sign', '-rawin', '-inkey', who['key'], '-in', f.name).stdout
        return text + f',"signature":"{signature.hex()}"}}'

    def refused(self, program, name, topic, message):
        """Sends it until what the log says since the attacks began has it: of what was refused for the same reason a moment
        before, in a handover that took its time, nothing is said again for ten seconds."""
        def said():
            return f' {name}: ' in self.fleet.programs[program].text()[self.told[program]:]

        def attack():
            self.fleet.publish(topic, message)
            with contextlib.suppress(TimeoutError):
                return wait_for('a word about it', said, 5)
        wait_for(f'{program} to refuse it as {name}', attack, WAIT)

    def replayed(self, program, name, m):
        self.refused(program, name, m['topic'].split('/', 3)[3], m['payload'])

    def test_recorded_messages_lead_nowhere(self):
        test = self.shared_test_images()
        for name, n, seed in (('edge', 300, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        self.quick_trainer('edge-1', self.work / 'data/edge', {'data': {'test': test}})
        self.quick_agent('cam-1', self.work / 'data/cam', {
            'device': {'commands': 'signed'}, 'data': {'test': test}, 'select': {'blends': ''}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        self.decided(listener, 'cam-1')
        result = listener.all(lambda m: m['topic'].endswith('in/offer'))[0]
        listener.wait("the trainer's last word", lambda m: m['topic'].endswith('in/ack') and
                      body(m)['checkpoint'] == body(result)['id'], WAIT)
        recorded = {kind: listener.all(lambda m, k=kind: m['topic'].endswith(k))[0] for kind in SIGNED}
        # An earlier one was refused where the trainer did not have its base yet: that one was never taken.
        recorded['cam-1/offer'] = listener.all(lambda m: m['topic'].endswith('cam-1/offer') and
                                               body(m)['id'] == body(result)['parents'][0])[0]
        for kind, m in recorded.items():
            with self.subTest(kind):
                self.assertEqual(self.verify(m), 'cam-1' if role_of(m['topic']) == 'device' else 'edge-1')
        for m in listener.all(lambda m: '/status' in m['topic'] or '/want' in m['topic'] or '/presence' in m['topic']):
            self.assertNotIn('"signature"', m['payload'])
        self.evidence(listener)
        self.attacked(recorded)
        for name in ('cam-1', 'edge-1'):  # what it remembers is on its disk
            self.fleet.restart(name)
        wait_for('both to be back', lambda: self.online(listener) == {'cam-1', 'edge-1'}, WAIT)
        self.attacked(recorded)
        self.commanded()
        self.logged('cam-1', 'refused', 'replay')
        self.logged('edge-1', 'refused', 'replay')

    def logged(self, name, event, begin=''):
        *lines, _ = (self.work / name / 'state/audit.log').read_text().split('\n')  # the last one may just be written
        lines = [json.loads(line) for line in lines]
        found = [line for line in lines if line['event'] == event and line.get('reason', '').startswith(begin)]
        self.assertGreater(len(found), 0, f'{name}: {event} {begin}')
        return found

    def evidence(self, listener):
        """The audit log names the very messages that crossed the broker, and whose they were."""
        sent = {rig.hashlib.sha256(m['payload'].encode()).hexdigest(): m['topic'] for m in listener.all(lambda m: True)}
        for name, event, by, topic in (('edge-1', 'claimed', 'cam-1', '/offer'), ('edge-1', 'granted', 'cam-1', '/grant'),
                                       ('edge-1', 'decided', 'cam-1', '/ack'), ('cam-1', 'granted', 'edge-1', '/in/claim'),
                                       ('cam-1', 'returned', 'edge-1', '/in/offer')):
            line = self.logged(name, event)[0]
            self.assertEqual(line['signer'], by, line)
            self.assertTrue(sent[line['message']].endswith(topic), line)

    def online(self, listener):
        last = {m['topic'].split('/')[4]: body(m) for m in listener.all(lambda m: m['topic'].endswith('/presence'))}
        return {name for name, m in last.items() if m['online'] and m['boot'] == 2}

    def attacked(self, recorded):
        active, topic = self.fleet.active('cam-1'), 'device/cam-1/in/claim'
        self.told = {name: len(self.fleet.programs[name].text()) for name in ('cam-1', 'edge-1')}
        self.replayed('cam-1', 'replay', recorded['in/offer'])
        self.replayed('edge-1', 'replay', recorded['cam-1/offer'])
        self.replayed('cam-1', 'forged', dict(recorded['in/claim'], topic=recorded['in/offer']['topic']))
        claim = {k: v for k, v in body(recorded['in/claim']).items() if k not in ('certificate', 'signature')}
        self.refused('cam-1', 'unsigned', topic, claim)
        self.refused('cam-1', 'foreign', topic, self.sign('device', 'cam-2', topic, {**claim, 'trainer': 'cam-2'}))
        self.refused('cam-1', "another signer's", topic, self.sign('trainer', 'edge-2', topic, claim))
        offer = 'device/cam-1/offer'
        mine = {k: v for k, v in body(recorded['cam-1/offer']).items() if k not in ('certificate', 'signature')}
        self.refused('edge-1', "another device's", offer, self.sign('device', 'cam-2', offer, mine))
        self.assertEqual(self.fleet.active('cam-1')[0], active[0])

    def commanded(self):
        self.assertIn('cam-1: ok', self.fleet.run_tasuki('cmd', 'cam-1', 'pause', '--timeout', 60).stdout)
        self.fleet.publish('device/cam-1/in/cmd', {'cmd': 'resume', 'id': 'x1'})
        topic = 'device/cam-1/in/cmd'
        self.fleet.publish(topic, self.sign('trainer', 'edge-1', topic, {'cmd': 'resume', 'id': 'x2'}))
        answer = self.fleet.run_tasuki('cmd', 'cam-1', 'status', '--timeout', 60).stdout
        self.assertIn('"phase":"paused"', answer)
        paused = [line for line in self.logged('cam-1', 'command') if line.get('command') == 'pause'][0]
        self.assertNotIn(paused['who'], ('', 'unsigned', 'cam-1'))
        self.assertEqual((paused['who'], paused['decision']), (paused['signer'], 'done'))


rig.main()
