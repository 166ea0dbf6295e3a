# build: gcc
"""What agent and trainer tell Prometheus; each alert of deploy/prometheus/alerts.yml, made to fire by real daemons in real trouble; and
that alerts, Grafana's page and docs/operations.md name nothing that is not there."""
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import promtool
import rig
from promtool import firing, value
from rig import ROOT, WAIT, merge, wait_for

RULES = ROOT / 'deploy/prometheus/alerts.yml'
GRAFANA = ROOT / 'deploy/grafana/tasuki.json'
EVERY = 5  # minutes between two points of a series
DAY = 24 * 60
# From here on nothing is wrong: counters and gauges of before are as they were, for two hours.
WELL = 2 * 60 // EVERY


def alerts():
    return re.findall(r'^ +- alert: (\S+)$', RULES.read_text(), re.M)


def names(text):
    return set(re.findall(r'\b(?:tasuki_(?:agent|trainer)|process)_[a-z_]+', text))


WATCHED = names(RULES.read_text()) | {'up'}


def used(sample):
    """What the alerts look at."""
    return {k: v for k, v in sample.items() if k[0] in WATCHED}


class Metrics(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=True)
        self.ports = {}

    def metrics(self, name):
        self.ports[name] = self.ports.get(name) or rig.free_port()
        return {'metrics': {'listen': f'127.0.0.1:{self.ports[name]}'}}

    def agent(self, name, data, conf=None, **kw):
        self.quick_agent(name, data, merge({'handover': {'lease_s': 5}, **self.metrics(name)}, conf))
        return self.fleet.start_agent(name, **kw)

    def trainer(self, conf=None):
        self.quick_trainer('edge-1', self.work / 'data/edge', merge({'queue': {'lease_s': 5}, **self.metrics('edge-1')}, conf))
        p = self.fleet.start_trainer('edge-1')
        wait_for('the trainer', lambda: p.text().count('worker ready') or 'ready' in p.text(), WAIT)
        return p

    def scrape(self, name):
        return promtool.scrape(self.ports[name], 'tasuki-trainer' if name.startswith('edge') else 'tasuki-agent')

    def until(self, name, condition, what):
        """The first scrape for which it holds."""
        def look():
            s = self.scrape(name)
            return s if value(s, 'up') and condition(s) else None
        return wait_for(what, look, WAIT, every=0.2)

    # What is told, and to whom.
    def test_told(self):
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site)
        self.fleet.start_broker()
        self.digits('edge', 200, 1)
        trainer = self.trainer()
        agent = self.agent('cam-1', self.digits('cam-1', 200, 2))
        self.until('cam-1', lambda s: value(s, 'tasuki_agent_handovers_total') >= 1, 'a handover')
        for name, program in (('cam-1', agent), ('edge-1', trainer)):
            port = self.ports[name]
            status, text = promtool.get(port)
            self.assertEqual(status, 200)
            r = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True)
            self.assertEqual((r.returncode, r.stdout + r.stderr), (0, ''))
            for secret in (str(self.work), 'zero', 'cam-2'):
                self.assertNotIn(secret, text)
            if name == 'edge-1':
                self.assertNotIn('cam-1', text)
            # Nothing else is answered.
            self.assertEqual(promtool.get(port, '/')[0], 404)
            self.assertEqual(promtool.get(port, '/metrics/..')[0], 404)
            self.assertEqual(promtool.get(port, method='POST')[0], 405)
            self.assertEqual(promtool.get(port, host='evil.example')[0], 403)
            self.assertEqual(promtool.get(port, host=f'evil.example:{port}')[0], 403)
            self.assertEqual(promtool.get(port, host='localhost:1')[0], 200)
            self.assertEqual(promtool.get(port, host='[::1]')[0], 200)
            with open(f'/proc/{program.pid}/net/tcp') as f:
                self.assertNotIn(f'00000000:{port:04X} ', f.read())
        # Whoever holds all connections open holds up nothing but the others that want to look, for seconds.
        port = self.ports['cam-1']
        idle = [socket.create_connection(('127.0.0.1', port)) for _ in range(9)]
        idle[0].sendall(b'GET /metr')
        self.assertEqual(self.fleet.command('cam-1', 'ping')['device'], 'cam-1')
        self.assertEqual(promtool.get(port)[0], 200)
        for s in idle:
            s.close()
        self.named()
        self.refusals()

    def refusals(self):
        for listen in ('0.0.0.0:9464', '192.168.1.7:9464', '[::]:9464', 'localhost:9464', '127.0.0.1', '127.0.0.1:0', ':9464', '127.0.0.1:65536',
                       '127.0.0.1:9464x', '[::1]:', '9464'):
            for name, program, file in (('cam-1', self.fleet.agent_program, 'agent.conf'), ('edge-1', self.fleet.trainer_program, 'trainer.conf')):
                path = self.work / name / file
                path.write_text(re.sub(r'^listen = .*$', f'listen = {listen}', path.read_text(), flags=re.M))
                r = subprocess.run([str(program), '--check-config', str(path)], capture_output=True, text=True)
                self.assertEqual(r.returncode, 1, listen)
                self.assertRegex(r.stderr, rf'{file}:\d+: \[metrics\] listen: found .*, expected nothing, or a loopback address')
        # One that somebody else has.
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            s.listen()
            path = self.work / 'cam-1/agent.conf'
            path.write_text(re.sub(r'^listen = .*$', f'listen = 127.0.0.1:{s.getsockname()[1]}', path.read_text(), flags=re.M))
            self.fleet.programs['cam-1'].stop()
            p = self.fleet.start_agent('cam-1')
            self.assertEqual(p.process.wait(WAIT), 1)
            self.assertIn(f'[metrics] listen = 127.0.0.1:{s.getsockname()[1]}: Address already in use', p.text())

    # Alerts.
    def test_alerts(self):
        self.fleet.start_broker()
        self.well()
        self.ill = {}  # alert -> (instance's name, scrapes when all was well, scrapes in trouble)
        self.trainer_in_trouble()
        self.devices_in_trouble()
        self.gone()
        self.assertEqual(sorted(self.ill), sorted(alerts()), 'each alert is made to fire')
        groups = [self.all_well(), *[self.fires(alert, *how) for alert, how in sorted(self.ill.items())]]
        code, text = promtool.run(self.work, RULES, groups, f'{EVERY}m')
        self.assertEqual(code, 0, text[-3000:])

    def well(self):
        """A trainer and a device that hand over."""
        self.digits('edge', 600, 1)
        self.trainer({'train': {'epochs': 6}})
        # One candidate: what was in use before it is much worse.
        self.agent('cam-1', self.digits('cam-1', 300, 2), {'select': {'tune_steps': 0, 'blends': ''}})
        self.ok = {'cam-1': [self.until('cam-1', lambda s: True, 'figures')]}
        self.ok['cam-1'].append(self.until('cam-1', lambda s: value(s, 'tasuki_agent_handovers_total', outcome='activated') >= 1 and
                                           value(s, 'tasuki_agent_phase', phase='idle') == 1, 'a result in use'))
        self.ok['edge-1'] = [self.scrape('edge-1')]

    def note(self, alert, name, *trouble, before=None):
        self.ill[alert] = (name, before or self.ok[name][-1], trouble)

    def poisoned(self):
        """Its third poisoned checkpoint within a day, see test_poison.py."""
        script = self.work / 'poison/worker'
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec python3 "{ROOT}/tests/lib/poison_worker.py" "{script.parent}" times10 '
                          f'"{rig.BUILD}/common/engine/tasuki-worker"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        with contextlib.closing(sqlite3.connect(self.work / 'edge-1/state/trainer.db')) as db:
            db.execute('INSERT INTO standing VALUES(?, -1, 2, ?, 0, 0, 0, "")', ('bad', time.time_ns() // 1000000))
            db.commit()
        return {'worker': {'program': script, 'readable': script.parent}}

    def trainer_in_trouble(self):
        self.fleet.programs['edge-1'].stop()
        poison = self.poisoned()
        # One of so few places is for devices that it knows well; training takes for ever.
        self.trainer({'train': {'epochs': 50, 'step_ms': 2000}, 'queue': {'capacity': 4}})
        self.agent('bad', self.digits('bad', 200, 3), poison)
        s = self.until('edge-1', lambda s: value(s, 'tasuki_trainer_quarantined_devices') == 1, 'quarantine')
        self.note('TasukiQuarantine', 'edge-1', s)
        self.note('TasukiScreenedOut', 'edge-1', s)
        self.fleet.programs['bad'].stop()
        # Three that it takes, the others wait.
        for i in range(2, 7):
            self.agent(f'cam-{i}', self.digits(f'cam-{i}', 200, 10 + i), self.special(i))
        self.note('TasukiQueueFull', 'edge-1', self.until('edge-1', lambda s: value(s, 'tasuki_trainer_waiting_offers') > 0, 'somebody waits'))
        before = self.until('edge-1', lambda s: value(s, 'tasuki_trainer_active_jobs') == 1 and
                            value(s, 'tasuki_trainer_grants_total') >= 3, 'grants')
        self.note('TasukiLeasesRunOut', 'edge-1', wait_for('leases that ran out', lambda: self.stands_still('edge-1', before), WAIT), before=before)

    def stands_still(self, name, before):
        """For longer than a lease lasts. How many it holds just then is not known: false until enough have run out."""
        trainer = self.fleet.programs[name]
        trainer.kill(signal.SIGSTOP)
        time.sleep(5.5)
        trainer.kill(signal.SIGCONT)

        def enough():
            s = self.scrape(name)
            return value(s, 'up') and value(s, ran_out) > value(before, ran_out) + 2 and s
        ran_out = 'tasuki_trainer_leases_run_out_total'
        with contextlib.suppress(TimeoutError):
            return wait_for('enough of them', enough, 10)
        return None

    def special(self, i):
        if i == 2:  # its certificate ends in days
            folder = self.fleet.pki.own / 'device'
            request = self.fleet.pki.run('request', 'device', 'cam-2', folder).strip()
            self.fleet.pki.run('issue', self.fleet.pki.folder, 'device', request, '--days', 5)
        if i == 3:  # without validation images nothing becomes active; and one image is none
            data = self.class_folders('broken', 60, 13, [str(k) for k in range(10)])
            (data / '0/bad.pgm').write_text('no image')
            return {'data': {'path': data, 'validation_share': 0}}
        return None

    def devices_in_trouble(self):
        s = self.until('cam-2', lambda s: True, 'figures')
        self.note('TasukiCertificateEnds', 'cam-2', s, before=self.as_if('cam-2'))
        self.note('TasukiNoHandover', 'cam-2', s, before=s)
        s = self.until('cam-3', lambda s: value(s, 'tasuki_agent_skipped_images') > 0 and value(s, 'tasuki_agent_active') == 0, 'bad images')
        self.note('TasukiNothingActive', 'cam-3', s, before=self.as_if('cam-3'))
        self.note('TasukiImagesUnreadable', 'cam-3', s, before=self.as_if('cam-3'))
        self.worker_dies('cam-4')
        self.restarts('cam-3')
        self.disk_full()
        # Whoever reaches the broker says what nobody has signed.
        self.say('device/cam-1/in/claim', *['{"trainer":"edge-1"}'] * 40)
        self.note('TasukiMessagesRefused', 'cam-1', self.until(
            'cam-1', lambda s: value(s, 'tasuki_agent_refused_messages_total', reason='unsigned') >= 40, 'refusals'))
        # A person goes back to what was worse.
        self.fleet.command('cam-1', 'rollback')
        best = value(self.ok['cam-1'][-1], 'tasuki_agent_active_accuracy_ratio', split='validation')
        self.note('TasukiAccuracyDropped', 'cam-1', self.until(
            'cam-1', lambda s: value(s, 'tasuki_agent_active_accuracy_ratio', split='validation') < best - 0.1, 'a worse one in use'))

    def say(self, topic, *messages):
        subprocess.run(['mosquitto_pub', '-V', '5', *self.fleet.client(), '-q', '1', '-t', self.fleet.topic(topic), '-l'],
                       input='\n'.join(messages), text=True, check=True, timeout=30)

    def as_if(self, name):
        """What was scraped from a device that is well, under the name of one that never was."""
        own = {'instance': f'127.0.0.1:{self.ports[name]}'}
        return {(n, tuple((k, own.get(k, v)) for k, v in labels)): v for (n, labels), v in self.ok['cam-1'][-1].items()}

    def worker_dies(self, name):
        before = self.until(name, lambda s: value(s, 'tasuki_agent_worker_ready') == 1, 'a worker')
        agent = self.fleet.programs[name]
        # After each it waits longer for the next one: sooner or later that is seen.
        for n in itertools.count(1):
            os.kill(wait_for('a worker', lambda: rig.children(agent.pid), WAIT)[0], signal.SIGKILL)
            s = self.until(name, lambda s: value(s, 'tasuki_agent_worker_deaths_total') >= n, 'its death')
            if value(s, 'tasuki_agent_worker_ready') == 0:
                self.note('TasukiNoWorker', name, s, before=before)
            if n > 2 and 'TasukiNoWorker' in self.ill:
                break
        self.note('TasukiWorkerDies', name, s, before=before)

    def restarts(self, name):
        scrapes = []
        for _ in range(4):
            self.fleet.restart(name)
            scrapes.append(self.until(name, lambda s: True, 'figures'))
        self.note('TasukiRestarts', name, *scrapes, before=self.as_if(name))

    def disk_full(self):
        """On a file system of 8 MB of its own, which somebody else fills."""
        folder = self.work / 'cam-7/state'
        folder.mkdir(parents=True)
        mount = f'mount -t tmpfs -o size=8m tmpfs "{folder}" && exec "$@"'
        unshare = ['unshare', '-m'] if os.geteuid() == 0 else ['unshare', '-rm']
        wrap = [*unshare, 'sh', '-c', mount, 'sh']
        if subprocess.run([*wrap, 'true'], capture_output=True).returncode != 0:
            self.skipTest('no mount namespaces here (unshare -m): a disk cannot be filled')
        agent = self.agent('cam-7', self.work / 'data/cam-1', {'handover': {'every_epochs': 0}}, wrap=wrap)
        self.until('cam-7', lambda s: value(s, 'tasuki_agent_phase', phase='idle') == 1 and value(s, 'tasuki_agent_active') == 1, 'an end of training')
        with contextlib.suppress(OSError), open(f'/proc/{agent.pid}/root{folder}/filler', 'wb') as f:
            while True:
                os.write(f.fileno(), bytes(4096))
        # As many as fill the last page of the audit log, too.
        self.say('device/cam-7/in/cmd', *[json.dumps({'cmd': 'pause', 'id': f'p{i}'}) for i in range(40)])
        s = self.until('cam-7', lambda s: value(s, 'tasuki_agent_saving_failed') == 1 and value(s, 'tasuki_agent_audit_log_writable') == 0 and
                       value(s, 'tasuki_agent_disk_free_bytes') < 1e6, 'a full disk')
        for alert in ('TasukiDiskNearlyFull', 'TasukiCannotSave', 'TasukiAuditLogBroken'):
            self.note(alert, 'cam-7', s, before=self.as_if('cam-7'))

    def gone(self):
        self.fleet.programs['broker'].stop()
        self.note('TasukiBrokerLost', 'cam-1', self.until('cam-1', lambda s: value(s, 'tasuki_agent_broker_connected') == 0, 'no broker'))
        self.fleet.programs['cam-1'].kill()
        s = self.scrape('cam-1')
        self.assertEqual(value(s, 'up'), 0)
        self.note('TasukiDown', 'cam-1', s)

    def all_well(self):
        """Nothing fires where nothing is wrong, a day long."""
        first, last = self.ok['cam-1']
        scrapes = [[(first, 2), (last, DAY // EVERY)], [(self.ok['edge-1'][0], DAY // EVERY)]]
        return promtool.test(f'{EVERY}m', [[(used(s), k) for s, k in one] for one in scrapes], [(m, firing(None), None) for m in (30, 2 * 60, 12 * 60, DAY)])

    def fires(self, alert, name, before, trouble):
        """Before the trouble it does not fire; then it does, within its time, for that instance alone."""
        instance = f'127.0.0.1:{self.ports[name]}'
        *changes, last = trouble
        begins = WELL + len(changes)
        at = begins * EVERY + self.patience(alert)
        n = at // EVERY + 1
        well = self.ok['edge-1' if name != 'edge-1' else 'cam-1'][-1]
        scrapes = [[(before, WELL), *[(s, 1) for s in changes], (last, n - begins)], [(well, n)]]
        return promtool.test(f'{EVERY}m', [[(used(s), k) for s, k in one] for one in scrapes], [
            (WELL * EVERY - EVERY, firing(alert), None), (at, firing(alert, instance), 1), (at, firing(alert), 1)])

    def patience(self, alert):
        """Minutes: its `for`, and two evaluations more."""
        text = RULES.read_text().split(f'- alert: {alert}\n')[1].split('- alert:')[0]
        found = re.search(r'for: (\d+)([mhd])', text)
        return (int(found[1]) * {'m': 1, 'h': 60, 'd': DAY}[found[2]] if found else 0) + 2 * EVERY

    # What is written about them.
    def named(self):
        """All that alerts and pages name is told, each figure is in the documents, and each alert has its row there."""
        told = names(''.join(re.findall(r'^# TYPE (\S+ )', ''.join(promtool.get(p)[1] for p in self.ports.values()), re.M)))
        # Of a secured site alone.
        told |= {f'tasuki_{who}_certificate_expiry_timestamp_seconds' for who in ('agent', 'trainer')}
        operations = (ROOT / 'docs/operations.md').read_text()
        self.assertEqual(names(RULES.read_text()) - told, set())
        self.assertEqual(names(json.dumps(json.loads(GRAFANA.read_text()))) - told, set())
        table = operations.split('\n## Alerts\n')[1].split('\n## ')[0]
        self.assertEqual(re.findall(r'^\| `(Tasuki\w+)` \|', table, re.M), alerts())
        figures = names(operations.split('\n## Metrics\n')[1].split('\n## ')[0])
        self.assertEqual(figures ^ told, set(), 'each figure is in the documents, and no other')
        for tool in (['check', 'rules', RULES], ['check', 'config', RULES.with_name('prometheus.yml')]):
            r = subprocess.run(['promtool', *map(str, tool)], capture_output=True, text=True)
            self.assertEqual(r.returncode, 0, r.stderr)


if __name__ == '__main__':
    rig.main()
