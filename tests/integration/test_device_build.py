# build: device
"""Darknet from source, as for a small device: what an idle worker costs, and the numbers of the package's libdarknet."""
import array
import os
import socket
import subprocess
import sys
import time
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

IDLE_MAX_BYTES = 12_000_000
LIBRARIES_MAX = 30
SYSTEM = rig.BUILD.parent / 'build-plain'
# Largest difference of a weight after training, as a share of the largest weight: another compiler or -march may round
# otherwise; with the package's compiler and flags there is none.
TOLERANCE = 1e-4


def idle_worker(build):
    """(resident bytes, shared libraries) of a worker that waits for its first request."""
    ours, theirs = socket.socketpair()
    worker_fd = 3
    p = subprocess.Popen([build / 'common/engine/tasuki-worker'], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         preexec_fn=lambda: os.dup2(theirs.fileno(), worker_fd), pass_fds=[worker_fd, theirs.fileno()])
    try:
        theirs.close()
        ours.sendall(b'{"id": 1, "op": "nonsense"}\n')  # its answer says that it is up
        ours.settimeout(rig.WAIT)
        if not ours.recv(4096):
            raise AssertionError('the worker ended at once')
        time.sleep(0.5)  # whatever starts beside it
        with open(f'/proc/{p.pid}/maps') as maps:
            libraries = {line.split()[-1] for line in maps if '.so' in line}
        return rig.rss_kib(p.pid) * 1024, libraries
    finally:
        p.kill()
        p.wait()
        ours.close()


class DeviceBuild(rig.Case):
    def test_idle_worker(self):
        size, libraries = idle_worker(rig.BUILD)
        text = f'an idle worker: {size / 1e6:.1f} MB resident, {len(libraries)} shared libraries'
        if (SYSTEM / 'build.ninja').exists():
            before, many = idle_worker(SYSTEM)
            text += f'; with the package\'s libdarknet {before / 1e6:.1f} MB, {len(many)}'
        rig.figure(text)
        self.assertLess(size, IDLE_MAX_BYTES)
        self.assertLess(len(libraries), LIBRARIES_MAX)
        self.assertFalse([x for x in libraries if 'darknet' in x or 'opencv' in x])

    def trained(self, build, data):
        out = self.work / f'{build.name}.weights'
        subprocess.run([build / 'cli/tasuki', 'train', '--engine', 'darknet', '--cfg', rig.TINY, '--data', data, '--epochs', '2',
                        '--threads', '1', '--out', out], check=True, capture_output=True, timeout=rig.WAIT)
        return array.array('f', out.read_bytes()[20:])

    def test_same_numbers(self):
        if not (SYSTEM / 'build.ninja').exists():
            rig.skip(f'no build in {SYSTEM} (tests/run makes it)')
        data = self.digits('d', 600, 1)
        a, b = self.trained(rig.BUILD, data), self.trained(SYSTEM, data)
        self.assertEqual(len(a), len(b))
        worst = max(abs(x - y) for x, y in zip(a, b)) / max(map(abs, b))
        rig.figure(f'largest difference of a weight to the package\'s libdarknet after 2 epochs: {worst:.1g}')
        self.assertLess(worst, TOLERANCE)


rig.main()
