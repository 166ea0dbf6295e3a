"""A clean Debian 12 in a folder, whose own systemd runs it, in namespaces of its own: without an engine, and without any network.

Needs root. Nothing of it outlives stop(), nor this process, but the folder.
"""
import os
import pathlib
import shlex
import shutil
import subprocess

from fleet import die_with_parent, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOOT_S = 90
PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
GROUP = 'tasuki-machine'

# $1: the tree, $2: an archive of packages. Mounts what a machine has; then $3... runs in it.
MOUNTS = r'''
set -e
tree=$1 archive=$2
shift 2
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sys "$tree/sys"
mount -t tmpfs -o mode=755 tmpfs "$tree/dev"
for d in null zero full random urandom tty; do
	: >"$tree/dev/$d"
	mount --bind /dev/$d "$tree/dev/$d"
done
mkdir "$tree/dev/pts" "$tree/dev/shm"
ln -s /proc/self/fd "$tree/dev/fd"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$tree/dev/pts"
ln -s pts/ptmx "$tree/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$tree/run"
mkdir -p "$tree/srv/archive"
mount --bind "$archive" "$tree/srv/archive"
cgroups() {
	mountpoint -q "$tree/sys/fs/cgroup" || mount -t tmpfs tmpfs "$tree/sys/fs/cgroup" 2>/dev/null || true
	mount -t cgroup2 cgroup2 "$tree/sys/fs/cgroup"
}
'''
# A group of its own, which is the root of all that systemd sees; "$0" is the group's name.
JOIN = r'''
set -e
hierarchy=$(mktemp -d)
mount -t cgroup2 none "$hierarchy"
mkdir "$hierarchy/$0"
echo $$ >"$hierarchy/$0/cgroup.procs"
umount "$hierarchy"
rmdir "$hierarchy"
exec "$@"
'''
LEAVE = r'''
hierarchy=$(mktemp -d)
mount -t cgroup2 none "$hierarchy"
find "$hierarchy/$0" -depth -type d -exec rmdir {} \; 2>/dev/null
umount "$hierarchy"
rmdir "$hierarchy"
'''


class Machine:
    def __init__(self, folder, tar, archive):
        self.tree, self.archive, self.process, self.pid = folder / 'root', archive, None, None
        self.group, self.console = f'{GROUP}-{os.getpid()}', folder / 'console.log'
        self.tree.mkdir(parents=True)
        subprocess.run(['tar', '-C', self.tree, '--numeric-owner', '-xf', tar], check=True)
        (self.tree / 'etc/apt/sources.list').write_text('deb [trusted=yes] file:/srv/archive bookworm main\n')
        # A service that a package brings is started by who needs it, not by its installation.
        policy = self.tree / 'usr/sbin/policy-rc.d'
        policy.write_text('#!/bin/sh\nexit 101\n')
        policy.chmod(0o755)

    def boot(self):
        enter = MOUNTS + 'cgroups\ncd "$tree"\npivot_root . mnt\numount -l /mnt\nexec "$@"\n'
        unshare = ['unshare', '--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup', '--fork', '--kill-child', '--propagation', 'private']
        init = ['env', '-i', 'container=tasuki-test', f'PATH={PATH}', '/lib/systemd/systemd', '--system', '--unit=multi-user.target']
        with open(self.console, 'wb') as log:
            self.process = subprocess.Popen(
                ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', JOIN, self.group, *unshare, 'sh', '-c', enter, 'sh', self.tree,
                 self.archive, *init], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)

        def up():
            if self.process.poll() is not None:
                raise RuntimeError(f'the machine ended: {self.console.read_text(errors="replace")[-2000:]}')
            child = pathlib.Path(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read_text().split()
            if not child or pathlib.Path(f'/proc/{child[0]}/comm').read_text() != 'systemd\n':
                return False
            self.pid = int(child[0])
            return self.sh('systemctl is-system-running', check=False).stdout.strip() in ('running', 'degraded')
        wait_for('systemd', up, BOOT_S, every=0.3)
        self.sh('ip link set lo up || true; test -w /dev/null && test -c /dev/null')
        return self

    def sh(self, command, check=True, timeout=300, **env):
        """A command line in it, as root; before boot() and after stop() in the tree alone, where no systemd runs."""
        env = ['env', '-i', f'PATH={PATH}', 'LC_ALL=C.UTF-8', 'HOME=/root', 'DEBIAN_FRONTEND=noninteractive', *(f'{k}={v}' for k, v in env.items()),
               'sh', '-c', f'umask 022\n{command}']
        if self.pid:
            argv = ['nsenter', '-t', str(self.pid), '-m', '-p', '-u', '-i', '-n', '-C', *env]
        else:
            argv = ['unshare', '--mount', '--pid', '--net', '--fork', '--kill-child', '--propagation', 'private', 'sh', '-c', MOUNTS + 'exec chroot "$tree" "$@"\n', 'sh',
                    str(self.tree), str(self.archive), *env]
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', stdin=subprocess.DEVNULL,
                           timeout=timeout)
        if check and r.returncode:
            raise RuntimeError(f'{command}: {r.returncode}\n{r.stdout[-3000:]}')
        return r

    def install(self, *packages):
        self.sh(f'apt-get -q update && apt-get -q install -y --no-install-recommends {shlex.join(packages)}', timeout=600)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = self.pid = None
            subprocess.run(['unshare', '--mount', 'sh', '-c', LEAVE, self.group])

    def remove(self):
        self.stop()
        shutil.rmtree(self.tree, ignore_errors=True)
