# build: none
"""The packages, on a clean Debian with its own systemd: installed, a first handover by the packaged services at a secured broker,
upgraded with state kept, removed, purged."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from machine import Machine
from rig import ROOT, WAIT, wait_for

BUILD = ROOT / 'build-package'
SERVICES = ('tasuki-agent', 'tasuki-trainer')
PACKAGES = ('tasuki-common', 'tasuki-agent', 'tasuki-trainer', 'tasuki-tools', 'libtasuki0', 'libtasuki-dev')
WITH_PAGE = ('tasuki-dashboard',)  # where the build has one
BESIDE = ('systemd', 'mosquitto', 'iproute2', 'procps')
# Where any package leaves something, or this test does.
ELSEWHERE = r'^(proc|sys|dev|run|tmp|srv|root|var/log|var/cache|var/lib/(dpkg|apt|systemd))(/|$)'


def build(version, out):
    r = subprocess.run([ROOT / 'deploy/package', '--version', version, '--out', out, '--build', BUILD], capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError(r.stdout + r.stderr)
    return r.stdout.split()


def depends(deb):
    text = subprocess.run(['dpkg-deb', '-f', deb, 'Depends'], capture_output=True, text=True, check=True).stdout
    return {re.match(r'\S+', d)[0] for d in text.strip().split(', ')} - {*PACKAGES, *WITH_PAGE}


def debian(*packages):
    """Its tar and archive, with these in it."""
    r = subprocess.run([ROOT / 'deploy/lib/bookworm', *packages], capture_output=True, text=True)
    if r.returncode == 3:
        rig.skip(r.stderr)
    if r.returncode:
        raise RuntimeError(r.stderr)
    tar = pathlib.Path(r.stdout.strip())
    return tar, tar.parent / 'packages'


class Packages(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-test-'))
        began = time.monotonic()
        self.old, self.new = build('0.1.0', self.work / 'old'), build('0.1.1', self.work / 'new')
        self.assertEqual({pathlib.Path(d).name.split('_')[0] for d in self.old} - set(WITH_PAGE), set(PACKAGES))
        rig.figure(f'two sets of packages built in {time.monotonic() - began:.0f} s')
        needed = sorted({p for d in self.old for p in depends(d)} | set(BESIDE))
        self.machine = Machine(self.work, *debian(*needed))
        for name, debs in (('old', self.old), ('new', self.new)):
            folder = self.machine.tree / 'srv' / name
            folder.mkdir()
            for deb in debs:
                shutil.copy(deb, folder)

    def tearDown(self):
        if self.machine.pid and self._outcome.result.errors + self._outcome.result.failures:
            print(self.machine.sh('journalctl --no-pager -n 60', check=False).stdout)
        self.machine.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    def files(self):
        return {p for p in self.machine.sh("find / -xdev -printf '%P\\n'").stdout.splitlines() if not re.match(ELSEWHERE, p)}

    def properties(self, service, *names):
        text = self.machine.sh(f'systemctl show {service} {" ".join("-p " + n for n in names)}').stdout
        return dict(line.split('=', 1) for line in text.splitlines())

    def journal(self, service):
        return self.machine.sh(f'journalctl --no-pager -o cat -u {service}').stdout

    def agent(self, name):
        return self.machine.tree / 'var/lib/tasuki-agent' / name

    def status(self):
        """What it says at its broker, by the packaged tool."""
        r = self.machine.sh('tasuki show cam-1 --json 2>/dev/null', check=False, **self.operator)
        return json.loads(r.stdout.splitlines()[0]).get('status', {}) if r.returncode == 0 else {}

    # ---- what is done, in this order ----

    def without_systemd(self):
        """Scripts of packages do their work where no systemd runs, twice."""
        m = self.machine
        m.install(*BESIDE)
        before = self.files()
        m.install(*(f'/srv/old/{pathlib.Path(d).name}' for d in self.old))
        m.sh('tasuki-agent --version && tasuki-trainer --version && tasuki --version && tasuki-pki --help')
        self.assertRegex(m.sh('tasuki-agent --check-config /usr/share/tasuki/examples/agent.conf', check=False).stdout,
                         r"agent.conf:\d+: \[\w+\] \w+: ")  # it is read, and wants what is not there yet
        for name in SERVICES:
            m.sh(f'for i in 1 2; do /var/lib/dpkg/info/{name}.postinst configure; done; test "$(stat -c %U:%a /var/lib/{name})" = {name}:750')
            m.sh(f'! systemctl is-enabled {name}')
        m.sh('apt-get -q purge -y "tasuki-*" "libtasuki*"')
        self.gone(before)
        m.sh(f'cd /srv/old && dpkg-deb -e tasuki-agent_*.deb /tmp/scripts && /tmp/scripts/postrm purge && /tmp/scripts/postrm purge; rm -r /tmp/scripts')
        return before

    def gone(self, before):
        """What the packages that they need have left is not ours."""
        self.assertEqual(sorted(p for p in self.files() - before if 'tasuki' in p), [])
        self.assertEqual(self.machine.sh('getent passwd tasuki-agent tasuki-trainer; getent group tasuki-agent tasuki-trainer', check=False).stdout, '')
        self.assertEqual(self.machine.sh("dpkg-query -W -f '${Package} ${Status}\\n' 'tasuki-*'", check=False).stdout.count('ok'), 0)

    def install(self):
        m = self.machine
        m.boot()
        m.install(*(f'/srv/old/{pathlib.Path(d).name}' for d in self.old))
        for name in SERVICES:
            self.assertIn('disabled', m.sh(f'systemctl is-enabled {name}', check=False).stdout)
            verified = m.sh(f'SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no {name}.service').stdout
            self.assertEqual(verified, '')
            exposure = m.sh(f'systemd-analyze security --no-pager --offline=true --threshold=20 {name}.service').stdout
            rig.figure(re.search(r'Overall exposure level for \S+: [\d.]+', exposure)[0])
            # Not yet configured: that is no failure.
            m.sh(f'systemctl start {name}')
            self.assertEqual(self.properties(name, 'ActiveState', 'ConditionResult'), {'ActiveState': 'inactive', 'ConditionResult': 'no'})

    def configure(self):
        """As docs/operations.md says, with what is packaged."""
        m = self.machine
        m.sh('''set -e
            tasuki-pki init /root/pki
            cp -r /root/pki/authorities /etc/tasuki
            cp -r /root/pki/authorities /usr/share/tasuki/broker/*.acl /etc/mosquitto
            cp /usr/share/tasuki/broker/production.conf /etc/mosquitto/mosquitto.conf
            give() { # ROLE ID FOLDER OWNER
                tasuki-pki request $1 $2 $3 && tasuki-pki issue /root/pki $1 $3/$2.csr && chown $4 $3/$2.key
            }
            give device cam-1 /etc/tasuki tasuki-agent
            give trainer edge-1 /etc/tasuki tasuki-trainer
            give operator ann /root root
            give broker 127.0.0.1 /etc/mosquitto mosquitto
            mv /etc/mosquitto/127.0.0.1.key /etc/mosquitto/broker.key
            mv /etc/mosquitto/127.0.0.1.crt /etc/mosquitto/broker.crt
            sed -i 's/20000/1000/' /etc/mosquitto/mosquitto.conf
            mkdir -p /srv/tasuki
            tasuki dataset digits --out /srv/tasuki/images --n 200 --seed 1
            seq 0 9 >/etc/tasuki/classes.txt
            for c in agent trainer; do
                sed -e '/^port = /d' -e 's/^#\\(\\[identity\\]\\|certificate\\|key\\|authorities\\)/\\1/' \\
                    -e 's/^round_epochs = .*/round_epochs = 2/;s/^rounds = .*/rounds = 1/;s/^every_epochs = .*/every_epochs = 2/' \\
                    -e 's/^epochs = .*/epochs = 1/;s/^threads = .*/threads = 1/;s/^validation_share = 0.2/validation_share = 0.4/' \\
                    -e 's|digits.cfg|demo.cfg|' /usr/share/tasuki/examples/$c.conf >/etc/tasuki/$c.conf
                tasuki-$c --check-config /etc/tasuki/$c.conf
            done
            systemctl restart mosquitto''')
        self.operator = {'TASUKI_CERTIFICATE': '/root/ann.crt', 'TASUKI_KEY': '/root/ann.key', 'TASUKI_AUTHORITIES': '/etc/tasuki/authorities',
                         'TASUKI_BROKER': '127.0.0.1:8885'}
        # So short that the test sees it bite.
        for name in SERVICES:
            m.sh(f'mkdir -p /run/systemd/system/{name}.service.d && printf "[Service]\\nWatchdogSec=5\\nRestartSec=100ms\\n" '
                 f'>/run/systemd/system/{name}.service.d/test.conf')
        m.sh('systemctl daemon-reload')

    def handover(self, count):
        def decided():
            path = self.agent('reports.jsonl')
            reports = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            return len({r['checkpoint'] for r in reports if 'decision' in r and r['origin'] == 'edge'}) >= count
        wait_for(f'{count} handovers', decided, WAIT)

    def serve(self):
        m = self.machine
        began = time.monotonic()
        m.sh('systemctl enable --now ' + ' '.join(SERVICES))
        self.handover(1)
        rig.figure(f'first handover {time.monotonic() - began:.0f} s after the services were started')
        for name in SERVICES:
            p = self.properties(name, 'ActiveState', 'MainPID', 'StatusText', 'NRestarts', 'Type')
            self.assertEqual((p['ActiveState'], p['NRestarts'], p['Type']), ('active', '0', 'notify'))
            self.assertIn('connected', p['StatusText'])
            pid = p['MainPID']
            self.assertEqual(m.sh(f'stat -c %U /proc/{pid}').stdout.strip(), name)
            self.assertEqual(m.sh(f'grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/{pid}/status').stdout.split(),
                             ['CapEff:', '0' * 16, 'CapBnd:', '0' * 16, 'NoNewPrivs:', '1', 'Seccomp:', '2'])
            # What there is to see of the machine within that: load, memory, processors, temperatures, batteries.
            m.sh(f'nsenter -t {pid} -m sh -c "cat /proc/loadavg /proc/meminfo && ls /sys/devices/system/cpu/online /sys/class/thermal '
                 '/sys/class/power_supply && ! touch /etc/x && ! touch /usr/x && ! ls /home/* /root/pki"')
            self.assertNotRegex(self.journal(name), 'forbidden system call|Permission denied|Operation not permitted')
        self.cage()
        self.watchdog()
        self.reload()

    def cage(self):
        """The worker's cage is as tight within a unit as outside."""
        m = self.machine
        whole = m.sh('tasuki train --sandbox require --cfg /usr/share/tasuki/models/demo.cfg --data /srv/tasuki/images --steps 1 --out /root/x.weights',
                     check=False)
        for name in SERVICES:
            if whole.returncode == 0:
                self.assertRegex(self.journal(name), 'confined="no-new-privileges, capabilities, limits, landlock [0-9]+, seccomp"')
                self.assertNotIn('not confined by', self.journal(name))
            worker = m.sh(f'pgrep -u {name} -x tasuki-worker').stdout.split()[0]
            filters = [int(m.sh(f'sed -n "s/^Seccomp_filters:.//p" /proc/{pid}/status').stdout)
                       for pid in (worker, self.properties(name, 'MainPID')['MainPID'])]
            self.assertEqual(filters[0], filters[1] + 1, 'its own on top of the unit\'s')
        if whole.returncode:
            rig.figure(f'not looked at: {whole.stdout.strip()}')

    def watchdog(self):
        """One that stands still is killed, and comes back."""
        m, pid = self.machine, self.properties('tasuki-trainer', 'MainPID')['MainPID']
        time.sleep(6)
        self.assertEqual(self.properties('tasuki-trainer', 'NRestarts', 'MainPID'), {'NRestarts': '0', 'MainPID': pid})
        m.sh(f'kill -STOP {pid}')
        wait_for('a new trainer', lambda: self.properties('tasuki-trainer', 'NRestarts', 'ActiveState') == {'NRestarts': '1', 'ActiveState': 'active'}, 60)
        self.assertIn('Watchdog timeout', self.journal('tasuki-trainer'))

    def reload(self):
        m = self.machine
        m.sh('''sed -i 's/^rounds = 1/rounds = 2/' /etc/tasuki/agent.conf && systemctl reload tasuki-agent''')
        wait_for('what was read again', lambda: '[train] rounds: changed' in self.journal('tasuki-agent'), 30)
        self.handover(2)
        m.sh('echo nonsense >>/etc/tasuki/agent.conf && systemctl reload tasuki-agent')
        wait_for('what is refused', lambda: 'nothing is changed: /etc/tasuki/agent.conf:' in self.journal('tasuki-agent'), 30)
        m.sh("sed -i '$d' /etc/tasuki/agent.conf")
        self.assertEqual(self.properties('tasuki-agent', 'ActiveState')['ActiveState'], 'active')

    def at_rest(self):
        """Asked of itself, not of the broker, which may have an older one: it waits for nothing any more."""
        r = self.machine.sh('tasuki cmd cam-1 status --json 2>/dev/null', check=False, **self.operator)
        status = json.loads(r.stdout)['answers'][0] if r.returncode == 0 else {}
        return status.get('phase') == 'idle' and not status.get('handover') and status

    def upgrade(self):
        m = self.machine
        before = wait_for('rest', self.at_rest, WAIT)
        active = os.readlink(self.agent('active'))
        m.sh('echo "# ours" >>/etc/tasuki/agent.conf')
        conf = (m.tree / 'etc/tasuki/agent.conf').read_bytes()
        pids = {name: self.properties(name, 'MainPID') for name in SERVICES}
        m.install(*(f'/srv/new/{pathlib.Path(d).name}' for d in self.new))
        self.assertEqual(m.sh("dpkg-query -W -f '${Version}' tasuki-agent").stdout, '0.1.1')
        for name in SERVICES:
            self.assertEqual(self.properties(name, 'ActiveState')['ActiveState'], 'active')
            self.assertNotEqual(self.properties(name, 'MainPID'), pids[name])
            m.sh(f'systemctl is-enabled {name}')
        after = wait_for('the new one', lambda: (s := self.status()).get('boot') == before['boot'] + 1 and s, WAIT)
        self.assertEqual((after['epoch'], after['active'], os.readlink(self.agent('active'))), (before['epoch'], before['active'], active))
        self.assertEqual((m.tree / 'etc/tasuki/agent.conf').read_bytes(), conf)
        m.sh("sed -i 's/^rounds = 2/rounds = 3/' /etc/tasuki/agent.conf && systemctl reload tasuki-agent")
        self.handover(3)

    def leave(self, before):
        m = self.machine
        m.sh('apt-get -q remove -y "tasuki-*" "libtasuki*"')
        self.assertEqual(m.sh('systemctl is-active ' + ' '.join(SERVICES), check=False).stdout.split(), ['inactive'] * 2)
        m.sh('test -f /var/lib/tasuki-agent/state.json && test -f /var/lib/tasuki-trainer/trainer.db && test -f /etc/tasuki/agent.conf && '
             'getent passwd tasuki-agent && ! pgrep -u tasuki-agent,tasuki-trainer')
        # Back again: where it was.
        m.install(*(f'/srv/new/{pathlib.Path(d).name}' for d in self.new))
        m.sh('systemctl start ' + ' '.join(SERVICES))
        wait_for('its status', lambda: self.status().get('epoch', 0) >= 6, WAIT)
        m.sh('apt-get -q purge -y "tasuki-*" "libtasuki*"')
        m.sh('rm -r /run/systemd/system/tasuki-*; systemctl daemon-reload')
        self.assertEqual(m.sh('find /etc/tasuki -type f | sort').stdout.split()[-1], '/etc/tasuki/edge-1.key')  # of its owner
        m.sh('rm -r /etc/tasuki')
        self.gone(before)
        self.assertEqual(m.sh("systemctl list-unit-files 'tasuki*' --no-legend", check=False).stdout, '')

    def test_life(self):
        before = self.without_systemd()
        self.install()
        self.configure()
        self.serve()
        self.upgrade()
        self.leave(before)


if __name__ == '__main__':
    if os.geteuid() != 0:
        rig.skip('a clean Debian is a tree of files of many users: that takes root')
    for tool in ('debootstrap', 'dpkg-shlibdeps', 'unshare', 'nsenter'):
        if not shutil.which(tool):
            rig.skip(f'{tool} is missing; deploy/lib/packages rig installs it')
    unittest.main(verbosity=2)
