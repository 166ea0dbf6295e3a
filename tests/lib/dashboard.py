"""The gateway with the page, beside a fleet of deploy/lib/fleet.py, for tests that look at it with a browser."""
import os
import subprocess
import urllib.error
import urllib.request

from fleet import free_port, wait_for, write_conf

PASSWORD = 'a sash for everybody'


def start_dashboard(fleet, classes=None, operator=False, page=None):
    """Its program; `url` is where the page is."""
    folder, port = fleet.work / 'dashboard', free_port()
    folder.mkdir(parents=True, exist_ok=True)
    conf = {'dashboard': {'site': fleet.site, 'listen': f'127.0.0.1:{port}', 'page': page or fleet.build / 'dashboard/page/www', **({'classes': classes} if classes else {})},
            'broker': {'host': '127.0.0.1', 'port': fleet.port}}
    if operator:
        with open(folder / 'password', 'w', opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            subprocess.run(['openssl', 'passwd', '-6', '-stdin'], input=PASSWORD, text=True, stdout=f, check=True)
        conf['operator'] = {'password_file': 'password'}
    write_conf(folder / 'dashboard.conf', conf)
    program = fleet._program('dashboard', [fleet.build / 'dashboard/gateway/tasuki-dashboard', folder / 'dashboard.conf'], folder).start()
    program.url = f'http://127.0.0.1:{port}/'

    def up():
        if not program.running():
            raise RuntimeError(f'the gateway did not start:\n{program.tail()}')
        try:
            return urllib.request.urlopen(program.url + 'site.json', timeout=5).status == 200
        except urllib.error.URLError:
            return False
    wait_for('gateway', up, 20)
    return program
