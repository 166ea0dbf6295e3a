"""The containers of deploy/compose: found, made, watched and taken away. The only place that calls docker.

A Site is one Compose project. Nothing about it is kept here: what runs, and of which release, is asked of the engine, so that
several calls of deploy/rig, docker-compose by hand and a test agree.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

from fleet import ROOT, Listener, wait_for

FILE = ROOT / 'deploy/compose/docker-compose.yml'
LOG = ROOT / '.cache/rig.log'
BASE = 'debian:bookworm-slim'
OURS = 'org.tasuki.base'  # label of a base image that was made here: packages come from the archive beside it
RELEASE = 'org.tasuki.release'  # label of an agent's image
IMAGES = 'tasuki-rig/'
BUILT = ('setup', 'broker', 'edge-1', 'cam-1', 'dashboard', 'prometheus')  # one service of each image
IN_IMAGES = ('mosquitto', 'mosquitto-clients', 'prometheus')  # packages, beside those that programs are built with
DEVICES = tuple(f'cam-{n}' for n in range(1, 7))
LATER = 'cam-7'
TRAINERS = ('edge-1', 'edge-2')
FIGURES = '-figures'  # of a trainer: what reads its figures, on its loopback
STATE = '/var/lib/tasuki/state'
UP_S = 180  # until all that was started is healthy


class Trouble(RuntimeError):
    """What a person is told in one line."""


def docker_program():
    """The first docker in PATH that builds with BuildKit: of 23 and later only one with buildx does."""
    found = [pathlib.Path(d) / 'docker' for d in os.environ.get('PATH', '').split(os.pathsep) if (pathlib.Path(d) / 'docker').exists()]
    for path in found:
        version = re.search(r'(\d+)\.', subprocess.run([path, '--version'], capture_output=True, text=True).stdout)
        if version and int(version[1]) < 23 or not subprocess.run([path, 'buildx', 'version'], capture_output=True).returncode:
            return path
    raise Trouble(f"found {', '.join(map(str, found)) or 'no docker'}, expected one of Debian 12's docker.io, or one with buildx "
                  '(deploy/lib/packages engine)')


def bundle():
    """The dashboard's page, which no image has the tools to make."""
    folder, page = ROOT / '.cache/page', ROOT / 'dashboard/page'
    for tool in ('node', 'npm'):
        if not shutil.which(tool):
            raise Trouble(f"'{tool}' is missing, which the dashboard's page is made with; deploy/lib/packages page installs it")
    step(page / 'modules', page / 'package-lock.json', folder)
    step(page / 'bundle', folder / 'node_modules', folder / 'www')


def step(*argv):
    r = subprocess.run(list(map(str, argv)), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if r.returncode:
        raise Trouble(tail(r.stderr))
    return r.stdout.strip()


def fetch():
    """What the images are made of, by this machine's own apt; then they need no network. Prints nothing; the tree's tar."""
    names = step(ROOT / 'deploy/lib/packages', 'images', 'names').split()
    step(ROOT / 'deploy/lib/darknet-source', ROOT / '.cache/darknet')
    return step(ROOT / 'deploy/lib/bookworm', *names, *IN_IMAGES)


def tail(text, lines=15):
    return '\n'.join(text.strip().splitlines()[-lines:])


class Site:
    def __init__(self, project, say=print):
        self.project, self.say = project, say
        self.program = docker_program()
        # Compose 1.29 calls docker, too: this one.
        self.env = {**os.environ, 'DOCKER_BUILDKIT': '1', 'COMPOSE_DOCKER_CLI_BUILD': '1',
                    'PATH': f'{self.program.parent}{os.pathsep}{os.environ.get("PATH", "")}'}
        v2 = not subprocess.run([self.program, 'compose', 'version'], capture_output=True).returncode
        if not v2 and not shutil.which('docker-compose'):
            raise Trouble("found neither 'docker compose' nor 'docker-compose', expected one (deploy/lib/packages engine)")
        self.compose_argv = [self.program, 'compose'] if v2 else ['docker-compose']
        r = self.run(self.program, 'info', '--format', '{{.ServerVersion}}', check=False)
        if r.returncode:
            raise Trouble(f'found no engine that answers at {os.environ.get("DOCKER_HOST", "its usual socket")}, expected one: '
                          'start dockerd, or set DOCKER_HOST')

    # Commands.
    def run(self, *argv, check=True, env=None, timeout=1800):
        """In a session of its own: Ctrl-C reaches this program, which then ends or mends what it does in order."""
        with subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, errors='replace', env={**self.env, **(env or {})}, start_new_session=True) as p:
            try:
                out, err = p.communicate(timeout=timeout)
            except BaseException:
                p.terminate()
                raise
        if check and p.returncode:
            self.log(argv, out, err)
            raise Trouble(f'{" ".join(map(str, argv[:6]))} ...: {tail(err or out)}\n(the whole of it: {LOG})')
        return subprocess.CompletedProcess(argv, p.returncode, out, err)

    @staticmethod
    def log(argv, out, err):
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text(f'{" ".join(map(str, argv))}\n{out}\n{err}\n')

    def docker(self, *args, **kw):
        return self.run(self.program, *args, **kw).stdout.strip()

    def compose(self, *args, release=None, **kw):
        env = {'TASUKI_RELEASE': str(release or self.release() or 1)}
        return self.run(*self.compose_argv, '-p', self.project, '-f', FILE, '--profile', 'added', *args, env=env, **kw).stdout

    # What there is.
    def of_project(self, kind):
        listing = {'container': ('ps', '-a', '--format', '{{.ID}}'), 'network': ('network', 'ls', '-q'), 'volume': ('volume', 'ls', '-q')}[kind]
        return self.docker(*listing, '--filter', f'label=com.docker.compose.project={self.project}').split()

    def services(self):
        """name -> what `docker inspect` says of its container."""
        ids = self.of_project('container')
        found = json.loads(self.docker('inspect', *ids, check=False) or '[]') if ids else []
        return {c['Config']['Labels']['com.docker.compose.service']: c for c in found}

    def container(self, name):
        found = self.services().get(name)
        if not found:
            raise Trouble(f'found no container {name}, expected one of: {", ".join(sorted(self.services())) or "none is up (deploy/rig up)"}')
        return found['Id']

    def devices(self):
        return sorted(s for s in self.services() if s.startswith('cam-'))

    def release(self):
        """The newest among the agents that are there."""
        return max((int(c['Config']['Labels'].get(RELEASE, 1)) for s, c in self.services().items() if s.startswith('cam-')), default=None)

    # Up and down.
    def base(self):
        """The image that all stand on; made here where a person may, else the engine's registry has it."""
        label = self.docker('image', 'inspect', '--format', f'{{{{index .Config.Labels "{OURS}"}}}}', BASE, check=False)
        there = not self.run(self.program, 'image', 'inspect', BASE, check=False).returncode
        if there and label != 'bookworm':
            return
        if not there and not (os.getuid() == 0 and shutil.which('debootstrap')):
            self.say(f'{BASE} is to come from the registry (as root, and with debootstrap, it would be made here)')
            return
        tar = fetch()
        if not there:
            self.say(f'making {BASE} from {tar}')
            self.docker('import', '-c', f'LABEL {OURS}=bookworm', tar, BASE)

    def build(self, *services, release=None):
        began = ['build', *(['--build-arg', f'RELEASE={release}'] if release else []), *services]
        self.compose(*began, release=release)

    def up(self):
        self.base()
        bundle()
        self.say('building images (the first time some minutes)')
        release = self.release()
        self.build(*BUILT, release=release)
        self.say('starting the site')
        self.compose('up', '-d', '--no-build', *[s for s in self.wanted()])
        self.await_healthy(UP_S)

    def wanted(self):
        return ['broker', *TRAINERS, *DEVICES, 'console', 'dashboard', 'prometheus', *(f'{t}{FIGURES}' for t in TRAINERS),
                *([LATER] if LATER in self.services() else [])]

    def await_healthy(self, timeout):
        """Everything that has a health check passes it, and runs."""
        def well():
            self.bad = [s for s, c in self.services().items() if s != 'setup' and (
                not c['State']['Running'] or c['State'].get('Health', {}).get('Status', 'healthy') != 'healthy')]
            return not self.bad
        try:
            wait_for('all healthy', well, timeout, every=1)
        except TimeoutError:
            logs = '\n'.join(f'--- {s}\n{self.logs(s, 6)}' for s in self.bad)
            raise Trouble(f'not healthy after {timeout} s: {", ".join(self.bad)}\n{logs}') from None

    def logs(self, name, lines):
        r = self.run(self.program, 'logs', '--tail', lines, self.container(name), check=False)
        return (r.stdout + r.stderr).strip()

    def down(self, images=False):
        self.compose('down', '-v', '--remove-orphans', '-t', '10')
        left = {kind: self.of_project(kind) for kind in ('container', 'network', 'volume')}
        if images:
            found = self.docker('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', f'{IMAGES}*').split()
            if found:
                self.docker('image', 'rm', *found)
        if any(left.values()):
            raise Trouble(f'left over: {left}')

    # To its parts.
    def network_of(self, name):
        if self.may_be_cut(name):
            return f"{self.project}_{'edge' if name in TRAINERS else 'field'}"
        raise Trouble(f'found {name!r}, expected a device or trainer: {", ".join((*DEVICES, *TRAINERS))}')

    @staticmethod
    def may_be_cut(name):
        return name in (*DEVICES, LATER, *TRAINERS)

    def is_cut(self, name):
        return self.network_of(name) not in self.services()[name]['NetworkSettings']['Networks']

    def cut(self, name):
        container = self.container(name)
        if not self.is_cut(name):
            self.docker('network', 'disconnect', '-f', self.network_of(name), container)

    def heal(self, name):
        container = self.container(name)
        if self.may_be_cut(name) and self.is_cut(name):
            self.docker('network', 'connect', '--alias', name, self.network_of(name), container)
        if not self.services()[name]['State']['Running']:
            self.docker('start', container)
            if name + FIGURES in self.services():  # it was on the loopback of the one that is gone
                self.docker('restart', '-t', '5', self.container(name + FIGURES))

    def kill(self, name):
        self.docker('kill', self.container(name))

    def fresh(self, device):
        """As on its first day: certificate and images stay, the state folder goes."""
        self.compose('stop', '-t', '10', device)
        self.compose('run', '--rm', '--no-deps', '--entrypoint', 'rm', device, '-rf', STATE)
        self.compose('up', '-d', '--no-build', '--no-deps', device)

    # What they say.
    def tasuki(self, *args, check=True):
        return self.run(self.program, 'exec', self.container('console'), 'tasuki', *args, check=check)

    def reports(self, device):
        """All that it has made, oldest first, also while nobody hears of it."""
        text = self.docker('exec', self.container(device), 'cat', f'{STATE}/reports.jsonl', check=False)
        found = []
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # its last line is being written
                break
        return found

    def listen(self, *filters, seconds=1200):
        """As a dashboard; in the container it ends by itself, whatever happens here."""
        own = '/var/lib/tasuki'
        client = ['-h', 'broker', '-p', '8886', '--cafile', f'{own}/authorities/broker.crt', '--cert', f'{own}/observer.crt',
                  '--key', f'{own}/observer.key', '-W', str(seconds)]
        return Listener(client, *[f'tasuki/v1/home/{f}' for f in filters], run=(str(self.program), 'exec', self.container('console')))
