"""A whole site in containers on this machine: broker, two trainers, six devices, dashboard, console and Prometheus.

  fetch             downloads what images are made of (as root; `up` does it, too, where there is none): no network is needed then
  up                brings it up: images, certificates and data are made as they are missing
  down              takes containers, networks and volumes away; --images: images, too
  status            what runs, and what the devices say
  cut DEVICE        from its network (a trainer, too); it goes on offline
  heal NAME         connects it again, or starts it again after kill
  kill NAME         at once, as when the power goes
  scenario NAME     does something to the site, and looks whether what is expected comes: ends with `ok` or `FAILED`
  password          of the operator's form on the dashboard
  tasuki ARGS...    the operator's commands, such as `deploy/rig tasuki devices`

It needs an engine that runs (docker info), and docker-compose 1.29 or Compose v2. docs/operations.md, "The rig", has more.
Exit status: 0; 1, with a message; 2 on bad usage.
"""
import argparse
import os
import sys
import time

from containers import Site, Trouble, bundle, fetch
from fleet import interrupt_once
from scenarios import SCENARIOS, first_handovers

FIRST_S = 600  # until every device has decided about a first result


def options():
    names = '\n'.join(f'  {name:17} {" ".join(f.__doc__.split())}' for name, f in SCENARIOS.items())
    p = argparse.ArgumentParser(prog='deploy/rig', description=f'{__doc__}\nscenarios:\n{names}',
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--project', default=os.environ.get('TASUKI_RIG', 'tasuki-rig'),
                   help='name of the Compose project (tasuki-rig, or TASUKI_RIG)')
    commands = p.add_subparsers(dest='command', required=True, metavar='COMMAND')
    commands.add_parser('fetch')
    commands.add_parser('up').add_argument('--handover', action='store_true',
                                           help='and wait until each device has decided about a first result')
    commands.add_parser('down').add_argument('--images', action='store_true', help='images, too')
    commands.add_parser('status')
    commands.add_parser('password')
    for name in ('cut', 'heal', 'kill'):
        commands.add_parser(name).add_argument('name', metavar='NAME')
    commands.add_parser('scenario').add_argument('name', metavar='NAME', choices=SCENARIOS)
    commands.add_parser('tasuki').add_argument('args', nargs=argparse.REMAINDER)
    return p.parse_args()


class Tool:
    def __init__(self, args):
        self.args, self.began = args, time.monotonic()
        self.site = Site(args.project, self.say)

    def say(self, text):
        print(f'{time.monotonic() - self.began:6.1f} s  {text}', flush=True)

    def up(self):
        self.site.up()
        self.say('all healthy; dashboard on http://127.0.0.1:{}, Prometheus on http://127.0.0.1:{}; look: deploy/rig status'.format(
            os.environ.get('TASUKI_DASHBOARD_PORT', 8080), os.environ.get('TASUKI_PROMETHEUS_PORT', 9090)))
        if self.args.handover:
            first_handovers(self.site, self.site.devices(), self.say, FIRST_S)
            self.say('every device has had a handover')
        return 0

    def down(self):
        self.site.down(self.args.images)
        self.say('nothing is left' if self.args.images else 'nothing is left but images (--images)')
        return 0

    def status(self):
        services = self.site.services()
        if not services:
            raise Trouble(f'nothing of {self.args.project} is up (deploy/rig up)')
        for name, c in sorted(services.items()):
            state = c['State']
            health = state.get('Health', {}).get('Status', '')
            cut = ' cut' if self.site.may_be_cut(name) and self.site.is_cut(name) else ''
            print(f'{name:12} {state["Status"]:10} {health}{cut}')
        if services.get('console', {}).get('State', {}).get('Running'):
            print()
            print(self.site.tasuki('devices').stdout, end='')
        return 0

    def password(self):
        print(self.site.docker('exec', self.site.container('console'), 'cat', '/var/lib/tasuki/password'))
        return 0

    def cut(self):
        self.site.cut(self.args.name)
        self.say(f'{self.args.name} is cut; deploy/rig heal {self.args.name}')
        return 0

    def heal(self):
        self.site.heal(self.args.name)
        self.say(f'{self.args.name} runs and is connected')
        return 0

    def kill(self):
        self.site.kill(self.args.name)
        self.say(f'{self.args.name} is killed; deploy/rig heal {self.args.name}')
        return 0

    def scenario(self):
        name = self.args.name
        function = SCENARIOS[name]
        self.say(f'{name}: expected: {" ".join(function.__doc__.split())}')
        self.site.container('console')
        try:
            function(self.site, self.say)
        except Trouble as e:
            self.say(f'{name}: FAILED: {e}')
            return 1
        self.say(f'{name}: ok')
        return 0

    def tasuki(self):
        r = self.site.tasuki(*self.args.args, check=False)
        print(r.stdout, end='')
        print(r.stderr, end='', file=sys.stderr)
        return r.returncode


def main():
    args = options()
    interrupt_once()
    try:
        if args.command == 'fetch':
            bundle()
            print(fetch())
            return 0
        tool = Tool(args)
        return getattr(tool, args.command)()
    except KeyboardInterrupt:
        print(f'\nInterrupted: what `{args.command}` had broken is mended; what is up stays up (deploy/rig status, deploy/rig down).',
              file=sys.stderr)
        return 130
    except (Trouble, OSError) as e:
        print(f'deploy/rig: {e}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
