# build: gcc
"""deploy/pki: what it makes, what it refuses, and what is left when it is stopped."""
import re
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import forge
import rig

TOOL = rig.ROOT / 'deploy/pki'
ROLES = ('device', 'trainer', 'operator', 'dashboard', 'broker')


class PkiTool(rig.Case):
    def setUp(self):
        super().setUp()
        self.folder, self.out = self.work / 'pki', self.work / 'machine'
        self.out.mkdir()
        self.run_pki('init', self.folder)

    def run_pki(self, *args):
        r = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stderr, '')
        return r.stdout.strip()

    def refused(self, words, *args, code=1):
        before = self.snapshot()
        r = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, timeout=60)
        self.assertEqual((r.returncode, r.stdout), (code, ''), args)
        self.assertIn(words, r.stderr)
        self.assertEqual(self.snapshot(), before, args)

    def snapshot(self):
        return {p: p.read_bytes() for p in self.work.rglob('*') if p.is_file()}

    def issue(self, role, name, *more):
        return rig.pathlib.Path(self.run_pki('issue', self.folder, role, self.run_pki('request', role, name, self.out), *more))

    def verify(self, role, crt, *how):
        authority = self.folder / f'authorities/{role}'
        r = subprocess.run(['openssl', 'verify', '-x509_strict', '-crl_check', '-CAfile', f'{authority}.crt', '-CRLfile', f'{authority}.crl',
                            *how, crt], capture_output=True, text=True)
        return r.returncode == 0 or r.stdout + r.stderr

    def shown(self, crt, what):
        return forge.openssl('x509', '-in', crt, '-noout', *what).decode()

    def states(self):
        return [(l.split()[0], l.split()[1], l.split()[2]) for l in self.run_pki('list', self.folder).splitlines()]

    def test_keys(self):
        """Each is readable by its owner alone, and none has left where it was made."""
        crt = self.issue('device', 'cam-1')
        keys = [self.out / 'cam-1.key', *(self.folder / r / 'key.pem' for r in ROLES)]
        secrets = []
        for key in keys:
            self.assertEqual(key.stat().st_mode & 0o777, 0o600, key)
            self.assertIn(b'ED25519', forge.openssl('pkey', '-in', key, '-noout', '-text'))
            secrets.append(key.read_text().splitlines()[1])
        for path, content in self.snapshot().items():
            if path not in keys:
                self.assertFalse([s for s in secrets if s.encode() in content], path)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(sorted(p.name for p in (self.folder / 'authorities').iterdir()),
                         sorted(f'{r}.{kind}' for r in ROLES for kind in ('crt', 'crl')))
        self.assertEqual(self.shown(crt, ['-pubkey']), forge.openssl('pkey', '-in', keys[0], '-pubout').decode())

    def test_certificates(self):
        for role in ROLES[:4]:
            crt = self.issue(role, 'some_one.x-1', '--days', 30)
            self.assertIs(self.verify(role, crt, '-purpose', 'sslclient'), True)
            for other in ROLES:
                if other != role:
                    self.assertIsNot(self.verify(other, crt), True)
            self.assertIsNot(self.verify(role, crt, '-purpose', 'sslserver'), True)
            self.assertEqual(self.shown(crt, ['-subject']).strip(), 'subject=CN = some_one.x-1')
            for days, still in ((29, True), (31, False)):
                r = subprocess.run(['openssl', 'x509', '-in', crt, '-noout', '-checkend', str(days * 86400)], capture_output=True)
                self.assertEqual(r.returncode == 0, still)
            for file in self.out.glob('some_one.x-1.*'):
                file.unlink()
        crt = self.issue('broker', 'broker.example', '--also', '192.0.2.7', '--also', '2001:db8::7', '--also', 'other.example')
        self.assertIs(self.verify('broker', crt, '-purpose', 'sslserver'), True)
        self.assertIs(self.verify('broker', crt, '-purpose', 'sslclient'), True)  # a bridge
        names = self.shown(crt, ['-ext', 'subjectAltName'])
        self.assertIn('DNS:broker.example, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7, DNS:other.example', names)

    def test_refused(self):
        r, i = 'request', 'issue'
        self.issue('device', 'cam-1')
        csr = self.out / 'cam-1.csr'
        for name in ('', '.', '..', 'a/b', 'a b', '+', '#', 'cam-1\n', 'ä', 'x' * 65, '*.example'):
            self.refused('expected 1 to 64 of', r, 'device', name, self.out, code=2)
        self.refused('is there already', r, 'device', 'cam-1', self.out)
        self.refused('found no folder', r, 'device', 'cam-2', self.out / 'nowhere')
        self.refused('is there already', 'init', self.folder)
        self.refused("role: found 'robot'", i, self.folder, 'robot', csr, code=2)
        self.refused('has a certificate until', i, self.folder, 'device', csr)
        self.refused('not of a trainer', i, self.folder, 'trainer', csr)
        self.refused('has no certificate', 'renew', self.folder, 'trainer', csr)
        self.refused('has no certificate', 'revoke', self.folder, 'device', 'cam-2')
        self.refused('found no file', i, self.folder, 'device', self.out / 'none.csr')
        self.refused('found no', i, self.out, 'device', csr)
        self.refused('only brokers', i, self.folder, 'trainer', csr, '--also', 'x', code=2)
        self.refused('--days', i, self.folder, 'trainer', csr, '--days', '0', code=2)
        self.refused('expected --days', i, self.folder, 'trainer', csr, '--day', '9', code=2)
        self.refused("found 'sign'", 'sign', code=2)
        self.refused('found no command', code=2)
        self.refused('arguments', i, self.folder, code=2)
        # Requests that others made.
        key = self.out / 'cam-1.key'
        for subject in ('/CN=cam-1/CN=cam-2', '/O=x/CN=cam-2', '/O=x', '/CN=a+CN=b', '/CN=cam 2', '/CN=#', '/CN=..\\/x'):
            bad = self.out / 'bad.csr'
            forge.openssl('req', '-new', '-key', key, '-subj', subject, *(['-multivalue-rdn'] if '+' in subject else []), '-out', bad)
            self.refused('expected CN=ID alone', i, self.folder, 'device', bad)
        for kind in (['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], ['ED448']):
            other = self.out / 'other.key'
            forge.openssl('genpkey', '-algorithm', *kind, '-out', other)
            forge.openssl('req', '-new', '-key', other, '-subj', '/CN=cam-2', '-out', self.out / 'bad.csr')
            self.refused('another kind of key', i, self.folder, 'device', self.out / 'bad.csr')
        der = bytearray(forge.openssl('req', '-in', csr, '-outform', 'DER'))
        der[-1] ^= 1  # of the signature: whoever asks has the key
        (self.out / 'bad.csr').write_text(forge.pem('CERTIFICATE REQUEST', bytes(der)))
        self.refused('no valid certificate request', i, self.folder, 'trainer', self.out / 'bad.csr')
        (self.out / 'bad.csr').write_bytes(b'\0' * 100)
        self.refused('no valid certificate request', i, self.folder, 'trainer', self.out / 'bad.csr')
        self.assertEqual(self.states(), [('device', 'cam-1', 'valid')])

    def test_what_a_request_asks_for_is_not_given(self):
        conf = self.out / 'greedy.cnf'
        conf.write_text('[req]\ndistinguished_name=n\nreq_extensions=e\nprompt=no\n[n]\nCN=cam-1\n'
                        '[e]\nbasicConstraints=critical,CA:true\nsubjectAltName=DNS:broker.example\nextendedKeyUsage=serverAuth\n')
        forge.openssl('genpkey', '-algorithm', 'ED25519', '-out', self.out / 'k')
        forge.openssl('req', '-new', '-config', conf, '-key', self.out / 'k', '-out', self.out / 'greedy.csr')
        crt = self.run_pki('issue', self.folder, 'device', self.out / 'greedy.csr')
        text = self.shown(crt, ['-text'])
        self.assertIn('CA:FALSE', text)
        self.assertNotIn('Alternative', text)
        self.assertNotIn('Server', text)

    def test_life_of_a_certificate(self):
        crt = self.issue('device', 'cam-1')
        old = self.out / 'old.crt'
        old.write_bytes(crt.read_bytes())
        csr = crt.with_suffix('.csr')
        self.run_pki('renew', self.folder, 'device', csr)
        self.assertNotEqual(crt.read_bytes(), old.read_bytes())
        self.assertTrue(self.verify('device', crt) is True and self.verify('device', old) is True)
        # The authority itself.
        before = (self.folder / 'authorities/device.crt').read_bytes()
        self.run_pki('renew', self.folder, 'device', '--days', 9000)
        self.assertNotEqual((self.folder / 'authorities/device.crt').read_bytes(), before)
        self.assertIs(self.verify('device', crt), True)
        # One, then all.
        self.run_pki('revoke', self.folder, old)
        self.assertIn('revoked', self.verify('device', old))
        self.assertIs(self.verify('device', crt), True)
        self.refused('revoked already', 'revoke', self.folder, old)
        self.issue('trainer', 'edge-1')
        self.run_pki('revoke', self.folder, 'device', 'cam-1')
        self.assertIn('revoked', self.verify('device', crt))
        self.assertEqual(self.states(), [('device', 'cam-1', 'revoked'), ('device', 'cam-1', 'revoked'), ('trainer', 'edge-1', 'valid')])
        self.assertIs(self.verify('trainer', self.out / 'edge-1.crt'), True)
        self.refused('others', 'revoke', self.folder, self.folder / 'authorities/device.crt')
        # A revoked id starts anew by `issue`; it is not renewed.
        self.refused('has no certificate', 'renew', self.folder, 'device', csr)
        self.refused('found the key of a certificate that was revoked', 'issue', self.folder, 'device', csr)
        for kind in ('key', 'csr'):
            (self.out / f'cam-1.{kind}').unlink()
        again = self.issue('device', 'cam-1')
        self.assertIs(self.verify('device', again), True)
        self.run_pki('crl', self.folder)
        self.assertIs(self.verify('device', again), True)
        self.assertIn('revoked', self.verify('device', old))
        # Lists last as long as authorities: Mosquitto lets nobody in by one that has run out.
        for role in ROLES:
            text = forge.openssl('crl', '-in', self.folder / f'authorities/{role}.crl', '-noout', '-nextupdate').decode()
            self.assertGreaterEqual(int(re.search(r'(\d{4}) GMT', text).group(1)), rig.time.gmtime().tm_year + 9)

    def test_stopped(self):
        """Whatever openssl had done when it was stopped, the same command ends it."""
        crl = self.folder / 'authorities/device.crl'
        empty = crl.read_bytes()
        crts = [self.issue('device', f'cam-{i}') for i in range(2)]
        for crt, what in zip(crts, ((self.folder, crts[0]), (self.folder, 'device', 'cam-1'))):
            self.run_pki('revoke', *what)
            crl.write_bytes(empty)  # as before the list was written
            self.run_pki('revoke', *what)
            self.assertIn('revoked', self.verify('device', crt))
            self.refused('revoked', 'revoke', *what)
        index = self.folder / 'device/index.txt'
        index.rename(index.with_suffix('.txt.new'))
        self.assertEqual([s for _, _, s in self.states()], ['revoked', 'revoked'])

    def test_links(self):
        """Whoever can write where requests lie does not choose which file is written."""
        precious = self.work / 'precious'
        precious.write_text('precious')
        for end in ('key.new', 'csr.new', 'crt.new'):
            (self.out / f'cam-1.{end}').symlink_to(precious)
        crt = self.issue('device', 'cam-1')
        self.assertEqual(precious.read_text(), 'precious')
        self.assertFalse(any(p.is_symlink() for p in (crt, crt.with_suffix('.key'), crt.with_suffix('.csr'))))

    def test_at_once(self):
        """Ten at a time: each is in the list, with a serial number of its own."""
        requests = [self.run_pki('request', 'device', f'cam-{i}', self.out) for i in range(10)]
        at_once = [subprocess.Popen([TOOL, 'issue', self.folder, 'device', r], stdout=subprocess.DEVNULL) for r in requests]
        self.assertEqual([p.wait(rig.WAIT) for p in at_once], [0] * 10)
        self.assertEqual(len(self.states()), 10)
        self.assertEqual(len({self.shown(self.out / f'cam-{i}.crt', ['-serial']) for i in range(10)}), 10)

    def test_help(self):
        text = self.run_pki('--help')
        for command in ('init', 'request', 'issue', 'renew', 'revoke', 'crl', 'list'):
            self.assertIn(f'deploy/pki {command}', text)


rig.main()
