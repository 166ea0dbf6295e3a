"""A fleet's certificates in a folder of its own, made with deploy/pki as they are asked for."""
import pathlib
import subprocess

TOOL = pathlib.Path(__file__).resolve().parents[1] / 'pki'
ROLES = ('device', 'trainer', 'operator', 'dashboard', 'broker')  # in the order of their listeners' ports


class Pki:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.authorities = self.folder / 'authorities'
        self.own = self.folder.with_name(self.folder.name + '-keys')  # what would lie on each machine
        if not self.folder.exists():
            self.run('init', self.folder)

    def run(self, *args):
        r = subprocess.run([str(TOOL), *map(str, args)], capture_output=True, text=True, timeout=60)
        if r.returncode != 0:
            raise RuntimeError(r.stderr.strip())
        return r.stdout

    def identity(self, role, name, also=()):
        """The section [identity] of whoever has this role and name."""
        folder = self.own / role
        certificate = folder / f'{name}.crt'
        if not certificate.exists():
            folder.mkdir(parents=True, exist_ok=True)
            request = self.run('request', role, name, folder).strip()
            self.run('issue', self.folder, role, request, *[x for a in also for x in ('--also', a)])
        return {'certificate': certificate, 'key': folder / f'{name}.key', 'authorities': self.authorities}

    def revoke(self, role, name):
        self.run('revoke', self.folder, role, name)

    def client(self, role, name):
        """Options of mosquitto_sub and mosquitto_pub."""
        i = self.identity(role, name)
        return ['--cafile', str(self.authorities / 'broker.crt'), '--cert', str(i['certificate']), '--key', str(i['key'])]
