# build: none
# alone
"""The rig of deploy/compose, driven as a person would: deploy/rig up, every scenario, a device cut for a while, down."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'lib'))
import engine  # noqa: E402
import rig  # noqa: E402
from containers import DEVICES, TRAINERS, Site  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402

TOOL = rig.ROOT / 'deploy/rig'
PROJECT = f'tasuki-test-{os.getpid()}'
SITE = ('field', 'edge', 'desk')


def tool(*args, timeout=900):
    r = subprocess.run([TOOL, '--project', PROJECT, *args], capture_output=True, text=True, timeout=timeout)
    print(r.stdout + r.stderr, flush=True)
    return r


class Rig(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for port in ('TASUKI_PROMETHEUS_PORT', 'TASUKI_DASHBOARD_PORT'):
            os.environ[port] = str(rig.free_port())
        cls.addClassCleanup(tool, 'down')
        began = time.monotonic()
        r = tool('up', '--handover')
        assert r.returncode == 0, r.stderr
        cls.site = Site(PROJECT)
        rig.figure(f'from `deploy/rig up` to a first completed handover of all six devices: {time.monotonic() - began:.0f} s, '
                   f'images built in {re.search(r"^ *([0-9.]+) s  starting the site", r.stdout, re.M)[1]} s of these')

    def test_secure_by_default(self):
        """What each container may do, and who can reach whom."""
        for name, c in self.site.services().items():
            host = c['HostConfig']
            with self.subTest(name):
                self.assertEqual(c['Config']['User'], 'tasuki')
                self.assertTrue(host['ReadonlyRootfs'])
                self.assertEqual(host['CapDrop'], ['ALL'])
                self.assertFalse(host['CapAdd'] or host['Privileged'])
                self.assertIn('no-new-privileges:true', host['SecurityOpt'])
                for bindings in (c['NetworkSettings']['Ports'] or {}).values():
                    for b in bindings or []:
                        self.assertEqual(b['HostIp'], '127.0.0.1')
                published = name in ('prometheus', 'dashboard')
                self.assertEqual(published, f'{PROJECT}_open' in c['NetworkSettings']['Networks'])
        for network in SITE:
            self.assertEqual(self.site.docker('network', 'inspect', '--format', '{{.Internal}}', f'{PROJECT}_{network}'), 'true')
        for name in (*DEVICES, *TRAINERS):
            modes = self.site.docker('exec', self.site.container(name), 'stat', '-c', '%a %U', f'/var/lib/tasuki/{name}.key')
            self.assertEqual(modes, '600 tasuki')
            self.assertEqual(self.site.docker('exec', self.site.container(name), 'sh', '-c', 'ls /site /var/lib/tasuki/*.key'
                                              ' 2>/dev/null || true'), f'/var/lib/tasuki/{name}.key')
        refused = self.site.run(self.site.program, 'exec', self.site.container('console'), 'mosquitto_sub', '-h', 'broker', '-p', '8885',
                                '--cafile', '/var/lib/tasuki/authorities/broker.crt', '-t', '#', '-W', '5', check=False)
        self.assertNotEqual(refused.returncode, 0)

    def test_images_do_not_tell_where_packages_came_from(self):
        for image in self.site.docker('image', 'ls', '-q', 'tasuki-rig/*').split():
            sources = self.site.docker('run', '--rm', '--network', 'none', '--entrypoint', 'sh', image, '-c',
                                       'cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/auth.conf 2>/dev/null || true')
            self.assertNotIn('@', sources)
            self.assertNotIn('/packages', sources)

    def test_a_cut_device_trains_on_and_catches_up(self):
        device = 'cam-4'
        before = self.site.reports(device)
        self.assertEqual(tool('cut', device).returncode, 0)
        rig.wait_for('training while it is cut', lambda: len(self.site.reports(device)) >= len(before) + 4, rig.WAIT, every=1)
        self.assertIn(f'{device}        running    healthy cut', tool('status').stdout)
        heard = self.site.listen(f'device/{device}/status', f'device/{device}/report')
        try:
            offline = self.site.reports(device)
            self.assertEqual(tool('heal', device).returncode, 0)
            rig.wait_for('what it did offline to be told', lambda: any(
                m['topic'].endswith('/status') and json.loads(m['payload'])['report_seq'] >= offline[-1]['seq']
                for m in heard.all()), rig.WAIT)
        finally:
            heard.stop()
        self.assertEqual(self.site.reports(device)[:len(offline)], offline)

    def test_commands(self):
        self.assertEqual(tool('tasuki', 'cmd', 'cam-1', 'ping').returncode, 0)
        self.assertEqual(tool('kill', 'cam-2').returncode, 0)
        rig.wait_for('cam-2 to be gone', lambda: re.search(r'cam-2 +exited', tool('status').stdout), rig.WAIT, every=1)
        self.assertEqual(tool('heal', 'cam-2').returncode, 0)
        rig.wait_for('cam-2 to run', lambda: self.site.services()['cam-2']['State']['Running'], rig.WAIT)
        for bad in (('cut', 'cam-99'), ('cut', 'broker'), ('kill', 'nobody'), ('heal', 'nobody')):
            r = tool(*bad)
            self.assertEqual(r.returncode, 1)
            self.assertIn('expected', r.stderr)
        self.assertEqual(tool('scenario', 'nothing').returncode, 2)
        self.assertEqual(tool().returncode, 2)

    def test_prometheus(self):
        """The figures of both trainers come, and the rules are loaded."""
        def ask(path):
            with urllib.request.urlopen(f'http://127.0.0.1:{os.environ["TASUKI_PROMETHEUS_PORT"]}/api/v1/{path}', timeout=10) as answer:
                return json.load(answer)['data']
        rig.wait_for('figures of both trainers', lambda: {t for r in ask('query?query=up==1')['result']
                     for t in [r['metric'].get('trainer')] if t} == set(TRAINERS), rig.WAIT, every=1)
        self.assertTrue(ask('rules')['groups'])

    def test_dashboard(self):
        """The page comes; with the operator's password, and not without it, a command is answered."""
        url = f'http://127.0.0.1:{os.environ["TASUKI_DASHBOARD_PORT"]}'
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

        def post(path, what):
            request = urllib.request.Request(url + path, json.dumps(what).encode(), {'Content-Type': 'application/json', 'Origin': url})
            try:
                with browser.open(request, timeout=30) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as e:
                return e.code, b''
        with browser.open(url + '/site.json', timeout=10) as answer:
            site = json.load(answer)
        self.assertEqual((site['site'], site['operator'], len(site['classes'])), ('home', True, 10))
        with browser.open(url + '/app.js', timeout=10) as answer:
            self.assertGreater(len(answer.read()), 10000)
        self.assertEqual(post('/command', {'device': 'cam-1', 'cmd': 'ping'})[0], 403)
        self.assertEqual(post('/login', {'password': 'guessed'})[0], 403)
        password = tool('password').stdout.strip()
        self.assertEqual(post('/login', {'password': password})[0], 204)
        status, text = post('/command', {'device': 'cam-1', 'cmd': 'ping'})
        self.assertEqual(status, 200)
        self.assertTrue(json.loads(text)['answers'][0]['ok'], text)


def scenario_test(name):
    def test(self):
        r = tool('scenario', name)
        self.assertEqual(r.returncode, 0)
        self.assertRegex(r.stdout.splitlines()[-1], f'{name}: ok$')
    return test


for name in SCENARIOS:
    setattr(Rig, f'test_scenario_{name.replace("-", "_")}', scenario_test(name))


class RigDown(unittest.TestCase):
    """After Rig: unittest takes classes in the order of their names."""

    def test_down_leaves_nothing(self):
        site = Site(PROJECT)
        for kind in ('container', 'network', 'volume'):
            self.assertEqual(site.of_project(kind), [])
        self.assertIn('deploy/rig up', tool('status').stderr)


if __name__ == '__main__':
    with engine.running(lambda: subprocess.run([TOOL, 'fetch'], check=True)):
        program = unittest.main(exit=False, verbosity=2)
    sys.exit(0 if program.result.wasSuccessful() else 1)
