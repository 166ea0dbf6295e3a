"""A small fleet on the loopback of this machine: broker, trainers and devices as child processes.

The demo and the integration tests stand on it. Everything lives in one working folder:
WORK/<name>/ for each program (its configuration, state and log), WORK/broker/. Whatever was started
is stopped by stop(), also when the caller dies of an exception (use it as a context manager).
"""
import ctypes
import datetime
import getpass
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

from pki import ROLES, Pki

ROOT = pathlib.Path(__file__).resolve().parents[2]
BROKER = '127.0.0.1'
port_claims = []
OBSERVER = 'observer'
LISTEN_S = 30
PORTS = range(20000, 32000)


def die_with_parent():
    """In a child, before exec: it gets SIGTERM when whoever started it is gone, however that ended."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def interrupt_once():
    """Signals that ask for the end are KeyboardInterrupt from here on, once: asking again must not stop the cleaning up."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted(signo, frame):
        for s in signals:
            signal.signal(s, signal.SIG_IGN)
        raise KeyboardInterrupt
    for s in signals:
        signal.signal(s, interrupted)


def free_port():
    """One that, until this process ends, nobody else gets who asks here, though nobody listens there yet or for a while. Below
    those that connections take."""
    for port in random.sample(PORTS, len(PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f'\0tasuki-port-{port}')
            with socket.socket() as s:
                s.bind(('127.0.0.1', port))
        except OSError:  # somebody's, or somebody's soon
            claim.close()
            continue
        port_claims.append(claim)
        return port
    raise OSError(f'no port from {PORTS[0]} to {PORTS[-1]} is free')


def wait_for(what, condition, timeout, every=0.05):
    """Polls until condition() is true and returns its value; TimeoutError names what was awaited."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not within {timeout:g} s')
        time.sleep(every)


def percent(score):
    return f"{100 * score['correct'] / score['n']:.1f} %" if score and score.get('n') else '-'


def write_conf(path, sections):
    with open(path, 'w') as f:
        for name, keys in sections.items():
            f.write(f'[{name}]\n')
            for key, value in keys.items():
                if isinstance(value, bool):
                    value = 'yes' if value else 'no'
                f.write(f'{key} = {value}\n')
            f.write('\n')


def merge(base, extra):
    out = {name: dict(keys) for name, keys in base.items()}
    for name, keys in (extra or {}).items():
        out.setdefault(name, {}).update(keys)
    return out


class Program:
    """One child process with a log file; restartable."""

    def __init__(self, name, argv, folder, env=None, wrap=()):
        self.name, self.argv, self.folder, self.env = name, [*wrap, *map(str, argv)], folder, env
        self.log = folder / f'{name}.log'
        self.process = None

    def start(self):
        with open(self.log, 'ab') as log:
            # A group of its own: Ctrl-C reaches the fleet's owner, who stops things in order.
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={**os.environ, **(self.env or {})}, start_new_session=True,
                                            preexec_fn=die_with_parent)
        return self

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, signo=signal.SIGKILL):
        if self.running():
            self.process.send_signal(signo)
        if signo == signal.SIGKILL and self.process:
            self.process.wait()

    def stop(self, timeout=30):
        """Asks, then insists. Returns the exit code."""
        if self.process is None:
            return None
        if self.running():
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def text(self):
        return self.log.read_text(errors='replace') if self.log.exists() else ''

    def tail(self, lines=15):
        return '\n'.join(self.text().splitlines()[-lines:])


def received_at(m):
    """When mosquitto_sub had it, by what it says itself (tst of %j), not when we came to read that."""
    try:
        return datetime.datetime.strptime(m['tst'], '%Y-%m-%dT%H:%M:%S.%fZ%z').timestamp()
    except (KeyError, ValueError):
        return time.time()


class Listener:
    """mosquitto_sub in the background; every message as {'topic', 'payload', 'retain', 'at'}."""

    def __init__(self, client, *filters, client_id=None, qos=1, extra=(), run=()):
        """`run`: what stands before the command where it runs elsewhere, in a container say."""
        # What it says of itself (-d) tells when its subscription stands; a line at a time, else it would wait for the first message.
        argv = [*run, *([] if run else ['stdbuf', '-oL']), 'mosquitto_sub', '-d', '-V', '5', *client, '-q', str(qos), '-F', '%j']
        for f in filters:
            argv += ['-t', f]
        if client_id:
            argv += ['-i', client_id]
        self.process = subprocess.Popen([*argv, *extra], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, text=True, errors='replace',
                                        start_new_session=True, preexec_fn=die_with_parent)
        self.messages, self.condition, self.told = [], threading.Condition(), 0
        self.subscribed = threading.Event()  # or ended
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith('Subscribed '):
                self.subscribed.set()
            try:
                m = json.loads(line)
            except ValueError:
                continue
            with self.condition:
                self.messages.append({'topic': m['topic'], 'payload': m.get('payload', ''),
                                      'retain': m.get('retain', 0), 'at': received_at(m)})
                self.condition.notify_all()
        self.subscribed.set()

    def wait(self, what, match, timeout):
        """The first message for which match(message) is true."""
        end, seen = time.monotonic() + timeout, 0
        with self.condition:
            while True:
                for m in self.messages[seen:]:
                    if match(m):
                        return m
                seen = len(self.messages)
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f'{what}: no such message within {timeout:g} s')
                self.condition.wait(left)

    def all(self, match=lambda m: True):
        with self.condition:
            return [m for m in self.messages if match(m)]

    def news(self):
        """What has come since the last call: (the topic's parts below the site, the message's JSON, when it came)."""
        with self.condition:
            fresh, self.told = self.messages[self.told:], len(self.messages)
        return [(m['topic'].split('/')[3:], body(m), m['at']) for m in fresh]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(5)
        self.process.stdout.close()


def body(message):
    """A message's JSON, {} when it has none."""
    try:
        value = json.loads(message['payload'])
        return value if isinstance(value, dict) else {}
    except (ValueError, TypeError):
        return {}


class Fleet:
    """`secure`: everyone has a certificate and the broker is that of production.conf, a port for each role in `ports`;
    `port` is then of a further listener, plain and without an ACL, through which tests look on and act as anybody. Without it
    (`control=False`) the default of what listens is a dashboard that may read everything, and commands are an operator's.
    `pki`: of another fleet, to share."""

    def __init__(self, work, build, site='home', port=None, secure=False, control=True, pki=None):
        self.work, self.build, self.site = pathlib.Path(work), pathlib.Path(build), site
        self.secure, self.control = secure, control or not secure
        self.work.mkdir(parents=True, exist_ok=True)
        self.pki = (pki or Pki(self.work / 'pki')) if secure else None
        self.ports = {role: free_port() for role in ROLES} if secure else {}
        self.port = port or (free_port() if self.control else self.ports['dashboard'])
        self.programs, self.listeners = {}, []
        self.agent_program = self.build / 'device-agent/tasuki-agent'
        self.trainer_program = self.build / 'edge-trainer/tasuki-trainer'
        self.tasuki = self.build / 'cli/tasuki'
        self.dashboard_program = self.build / 'dashboard/gateway/tasuki-dashboard'

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        # A second Ctrl-C must not leave half of them behind.
        ignored = []
        if threading.current_thread() is threading.main_thread():
            ignored = [(s, signal.signal(s, signal.SIG_IGN)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            self._stop()
        finally:
            for s, handler in ignored:
                signal.signal(s, handler)

    def _stop(self):
        order = sorted(self.programs.values(), key=lambda p: p.name == 'broker')
        for p in order:  # all asked at once, then awaited one by one, the broker last
            if p.name != 'broker' and p.running():
                p.process.send_signal(signal.SIGCONT)
                p.process.terminate()
        for p in order:
            p.stop()
        for listener in self.listeners:
            listener.stop()
        self.programs, self.listeners = {}, []

    def _program(self, name, argv, folder, env=None, wrap=()):
        folder.mkdir(parents=True, exist_ok=True)
        old = self.programs.get(name)
        if old and old.running():
            raise RuntimeError(f'{name} runs already')
        self.programs[name] = Program(name, argv, folder, env, wrap)
        return self.programs[name]

    # The broker.
    def broker_conf(self, bridge=False):
        """The product's own, but for ports, site and folders."""
        if not self.secure:
            text = (ROOT / 'broker-config/development.conf').read_text()
            return re.sub(r'^listener 1883 \S+', f'listener {self.port} 127.0.0.1', text, flags=re.M)
        folder, broker = self.work / 'broker', self.pki.identity('broker', BROKER, also=['localhost'])
        folder.mkdir(parents=True, exist_ok=True)
        for acl in (ROOT / 'broker-config').glob('*.acl'):
            (folder / acl.name).write_text(acl.read_text().replace('/home/', f'/{self.site}/').replace('site.example', BROKER))
        if not self.control:
            with open(folder / 'dashboard.acl', 'a') as f:
                f.write(f'user {OBSERVER}\ntopic read tasuki/v1/{self.site}/#\n')
        text = (ROOT / 'broker-config/production.conf').read_text()
        if bridge:
            text += (ROOT / 'broker-config/bridge.conf').read_text().replace('/home/', f'/{self.site}/')
        for role, standard in zip(ROLES, range(8883, 8888)):
            text = text.replace(f'listener {standard}\n', f'listener {self.ports[role]} 127.0.0.1\n')
        for name, path in (('authorities/', f'{self.pki.authorities}/'), ('broker.crt', broker['certificate']),
                           ('broker.key', broker['key']), ('', f'{folder}/')):
            text = text.replace(f'/etc/mosquitto/{name}', str(path))
        text = text.replace('persistence true', 'persistence false') + f'user {getpass.getuser()}\n'
        return text + (f'listener {self.port} 127.0.0.1\nallow_anonymous true\n' if self.control else '')

    def start_broker(self, conf=None, guarded=False):
        """`guarded`: also ends when this process is killed with -9 (its pid is then that of a shell around it:
        mosquitto changes its user, which would make it forget die_with_parent)."""
        folder = self.work / 'broker'
        folder.mkdir(parents=True, exist_ok=True)
        text = re.sub(r'^listener 1883 \S+', f'listener {self.port} 127.0.0.1', conf, flags=re.M) if conf else \
            self.broker_conf()
        (folder / 'mosquitto.conf').write_text(text)
        mosquitto = shutil.which('mosquitto') or '/usr/sbin/mosquitto'
        argv = [mosquitto, '-c', folder / 'mosquitto.conf']
        if guarded:
            argv = ['sh', '-c', '"$@" & b=$!; trap "kill $b" TERM; wait $b; wait $b', 'sh', *argv]
        p = self._program('broker', argv, folder).start()
        self.await_broker(p)
        return p

    def await_broker(self, program):
        def up():
            if not program.running():
                raise RuntimeError(f'the broker did not start:\n{program.tail()}')
            with socket.socket() as s:
                return s.connect_ex(('127.0.0.1', self.port)) == 0
        wait_for('broker', up, 60)

    def client(self, role=None, name=None):
        """Options by which mosquitto_sub and mosquitto_pub connect as somebody; without a role: who may look at everything."""
        if not self.secure or (self.control and not role):
            return ['-h', '127.0.0.1', '-p', str(self.port)]
        role, name = (role, name or role) if role else ('dashboard', OBSERVER)
        return ['-h', '127.0.0.1', '-p', str(self.ports[role]), *self.pki.client(role, name)]

    def listen(self, *filters, role=None, name=None, **kw):
        """Nothing that is published from here on escapes it; where no broker answers, it is not waited for longer than that."""
        listener = Listener(self.client(role, name), *[self.topic(f) for f in filters], **kw)
        self.listeners.append(listener)
        listener.subscribed.wait(LISTEN_S)
        return listener

    def topic(self, rest):
        return rest if rest.startswith(('#', '$')) else f'tasuki/v1/{self.site}/{rest}'

    def publish(self, topic, payload, retain=False, response=None, qos=1, extra=(), role=None, name=None):
        argv = ['mosquitto_pub', '-V', '5', *self.client(role, name), '-q', str(qos), '-t', self.topic(topic), '-s']
        if retain:
            argv += ['-r']
        if response:
            argv += ['-D', 'publish', 'response-topic', response]
        data = payload if isinstance(payload, bytes) else \
            (payload if isinstance(payload, str) else json.dumps(payload)).encode()
        subprocess.run([*argv, *extra], input=data, check=True, timeout=30, stderr=subprocess.PIPE)

    # Devices and trainers. `conf` overrides sections and keys of what is written.
    def _conf(self, role, file, name, cfg, classes, data, conf):
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        base = {
            role: {'site': self.site, 'id': name, 'state': 'state'},
            'broker': {'host': '127.0.0.1', 'port': self.ports.get(role, self.port), 'reconnect_first_ms': 100,
                       'reconnect_cap_ms': 2000},
            'model': {'cfg': cfg, 'classes': classes},
            'data': {'path': data},
            'train': {'threads': 1},
            **({'identity': self.pki.identity(role, name)} if self.secure else {}),
        }
        write_conf(folder / file, merge(base, conf))
        return folder / file

    def agent_conf(self, name, cfg, classes, data, conf=None):
        return self._conf('device', 'agent.conf', name, cfg, classes, data, conf)

    def trainer_conf(self, name, cfg, classes, data, conf=None):
        return self._conf('trainer', 'trainer.conf', name, cfg, classes, data, conf)

    def start_agent(self, name, program=None, wrap=(), env=None):
        folder = self.work / name
        return self._program(name, [program or self.agent_program, folder / 'agent.conf'], folder, env, wrap).start()

    def start_trainer(self, name, program=None, wrap=(), env=None):
        folder = self.work / name
        return self._program(name, [program or self.trainer_program, folder / 'trainer.conf'], folder, env,
                             wrap).start()

    # The dashboard, at http://127.0.0.1:PORT unless `conf` has a section `tls`.
    def dashboard_conf(self, name, page, port, conf=None):
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        write_conf(folder / 'dashboard.conf', merge({
            'dashboard': {'site': self.site, 'listen': f'127.0.0.1:{port}', 'page': page},
            'broker': {'host': BROKER, 'port': self.ports.get('dashboard', self.port)},
            **({'identity': self.pki.identity('dashboard', name)} if self.secure else {}),
        }, conf))
        return folder / 'dashboard.conf'

    def operator_conf(self, name, password_hash):
        """Section [operator] for dashboard_conf()."""
        file = self.work / name / 'password'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(password_hash + '\n')
        file.chmod(0o600)
        identity = self.pki.identity('operator', name) if self.secure else {}
        return {'operator': {'password_file': file, 'port': self.ports.get('operator', self.port),
                             **{k: v for k, v in identity.items() if k != 'authorities'}}}

    def start_dashboard(self, name, env=None):
        folder = self.work / name
        return self._program(name, [self.dashboard_program, folder / 'dashboard.conf'], folder, env).start()

    def restart(self, name):
        p = self.programs[name]
        p.stop()
        p.start()
        if name == 'broker':
            self.await_broker(p)
        return p

    def tasuki_env(self, role='operator', name=None):
        """Environment by which `tasuki` finds the broker, and is somebody there."""
        env = {'TASUKI_BROKER': f'127.0.0.1:{self.ports.get(role, self.port)}', 'TASUKI_SITE': self.site}
        if self.secure:
            env |= {f'TASUKI_{k.upper()}': str(v) for k, v in self.pki.identity(role, name or role).items()}
        return env

    def run_tasuki(self, *args, check=True, timeout=600, env=None, role='operator', name=None):
        r = subprocess.run([str(self.tasuki), *map(str, args)], capture_output=True, text=True, timeout=timeout,
                           env={**os.environ, **self.tasuki_env(role, name), **(env or {})})
        if check and r.returncode != 0:
            raise RuntimeError(f'tasuki {" ".join(map(str, args))}: {r.stderr.strip()}')
        return r

    def command(self, device, cmd, timeout=60, expect_ok=True, **members):
        """Sends a command as any MQTT client would and returns the answer."""
        ident = members.pop('id', f'c{time.monotonic_ns()}')
        asker = {} if self.control else {'role': 'operator'}
        reply = self.topic(f'reply/operator/{ident}')
        listener = self.listen(f'reply/operator/{ident}', **asker)
        try:
            # The device may not be there yet; a repetition with the same id is carried out once only.
            end = time.monotonic() + timeout
            while True:
                self.publish('fleet/cmd' if device == 'fleet' else f'device/{device}/in/cmd',
                             {'cmd': cmd, 'id': ident, **members}, response=reply, **asker)
                try:
                    answer = body(listener.wait(f'answer to {cmd}', lambda m: body(m).get('id') == ident, 2))
                    break
                except TimeoutError:
                    if time.monotonic() > end:
                        raise
        finally:
            listener.stop()
            self.listeners.remove(listener)
        if expect_ok and not answer.get('ok'):
            raise RuntimeError(f'{cmd}: {answer}')
        return answer

    def active(self, device):
        """(id, manifest) behind the device's `active` link, or None."""
        state = self.work / device / 'state'
        try:
            folder = os.readlink(state / 'active')
        except OSError:
            return None
        manifest = json.loads((state / folder / 'manifest.json').read_text())
        return os.path.basename(folder), manifest
