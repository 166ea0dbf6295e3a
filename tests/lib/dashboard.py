"""The gateway with the real page, beside a fleet of deploy/lib/fleet.py, for tests that look at it with a browser."""
import subprocess
import urllib.request

from fleet import free_port, wait_for

NAME = 'dashboard'
PASSWORD = 'a sash for everybody'


def start_dashboard(fleet, classes=None, operator=False):
    """Its program; `url` is where the page is."""
    port, conf = free_port(), {'dashboard': {'classes': classes}} if classes else {}
    if operator:
        password = subprocess.run(['openssl', 'passwd', '-6', '-stdin'], input=PASSWORD, text=True, capture_output=True, check=True).stdout
        conf |= fleet.operator_conf(NAME, password.strip())
    fleet.dashboard_conf(NAME, fleet.build / 'dashboard/page/www', port, conf)
    program = fleet.start_dashboard(NAME)
    program.url = f'http://127.0.0.1:{port}/'

    def up():
        if not program.running():
            raise RuntimeError(f'the gateway did not start:\n{program.tail()}')
        try:
            return urllib.request.urlopen(program.url + 'site.json', timeout=5).status == 200
        except OSError:  # also one that comes while it waits for the answer
            return False
    wait_for('gateway', up, 60)
    return program
