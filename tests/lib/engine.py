"""An engine for containers, for the tests of tests/rig: the one that runs, else one of their own.

Its own is dockerd in a network and mount namespace that the whole test moves to: bridges, rules, ports and mounts are nobody
else's, and are gone with it; images are in a folder of this run. It has no way out, so what images are made of is fetched before.
"""
import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import rig

INSIDE = 'TASUKI_TEST_NAMESPACE'  # set in the program that has moved
START_S = 60


def answers():
    return bool(shutil.which('docker')) and not subprocess.run(['docker', 'info'], capture_output=True).returncode


def move():
    """Begins this program anew in namespaces of its own."""
    os.execvpe('unshare', ['unshare', '--net', '--mount', sys.executable, *sys.argv], {**os.environ, INSIDE: '1'})


def loopback_up():
    SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
    with socket.socket() as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', IFF_UP | IFF_RUNNING))


@contextlib.contextmanager
def own():
    folder = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-engine-', dir='/var/tmp'))  # overlays want a disk
    loopback_up()
    with open(folder / 'log', 'w') as log:
        daemon = subprocess.Popen(
            ['dockerd', '--data-root', folder / 'data', '--exec-root', folder / 'exec', '--pidfile', folder / 'pid',
             '--host', f'unix://{folder}/socket'], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=rig.die_with_parent)
    os.environ['DOCKER_HOST'] = f'unix://{folder}/socket'
    try:
        rig.wait_for('dockerd', lambda: answers() or daemon.poll() is not None, START_S, every=0.5)
        if daemon.poll() is not None:
            rig.skip(f'no engine for containers can be had here, dockerd ended:\n{(folder / "log").read_text()[-3000:]}')
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(fetch):
    """An engine that DOCKER_HOST leads to; `fetch` is called while there is still a network."""
    # Whoever stops the test means what it has started, too.
    for signo in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, lambda number, frame: sys.exit(128 + number))
    if answers():
        yield
        return
    if os.geteuid():
        rig.skip(f'no engine for containers answers, and user {os.geteuid()} may not start one (root may)')
    for tool in ('dockerd', 'unshare', 'iptables', 'docker', 'debootstrap'):
        if not shutil.which(tool):
            rig.skip(f'no engine for containers answers, and {tool} is missing to start one (deploy/lib/packages engine, rig)')
    if os.environ.get(INSIDE) != '1':
        fetch()
        move()
    with own():
        yield
