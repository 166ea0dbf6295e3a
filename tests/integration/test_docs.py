# build: plain
"""What the documents say can be typed or set is there: each command and option of README.md and docs/, each key of a
configuration, each --help; and the commands of the README are run."""
import os
import re
import shutil
import subprocess
import sys
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
EXAMPLES = {'agent': 'device-agent', 'trainer': 'edge-trainer', 'dashboard': 'dashboard'}
KEY = re.compile(r'^#?(\w+) =', re.M)
SECTION = re.compile(r'^#?\[(\w+)\]$', re.M)


def programs():
    """Name -> argv, of all that is built to be run by people."""
    found = {p.name: [str(p)] for p in rig.BUILD.glob('*/tasuki*') if os.access(p, os.X_OK) and p.is_file() and '.' not in p.name}
    found |= {p.name: [str(p)] for p in rig.BUILD.glob('dashboard/gateway/tasuki-*') if os.access(p, os.X_OK) and p.is_file()}
    # All but what only the tests themselves run, or images of deploy/compose in themselves.
    for line in subprocess.run(['git', 'ls-files', '-s', 'deploy', 'tests'], cwd=ROOT, capture_output=True, text=True).stdout.splitlines():
        mode, path = line.split()[0], line.split('\t')[1]
        if mode == '100755' and not re.match(r'tests/(fuzz|unit)/make_|tests/integration/|tests/rig/|deploy/compose/', path):
            found[path] = [str(ROOT / path)]
    return found


def ask_help(argv):
    return subprocess.run([*argv, '--help'], capture_output=True, text=True, timeout=60, cwd='/')


def commands_in(text):
    """What a document says can be typed: lines of indented blocks, and what stands in backquotes."""
    text = re.sub(r'\\\n\s*', ' ', text)
    blocks = re.findall(r'^    (\S.*)$', text, re.M)
    blocks += [re.sub(r'\s+', ' ', t) for t in re.findall(r'`([^`]+)`', text)]
    for line in blocks:
        for part in re.split(r'&&|\||;', line.split('  #')[0]):
            words = part.split()
            while words and (re.match(r'\w+=', words[0]) or words[0] in ('sudo', 'exec')):
                words.pop(0)
            if words:
                yield words


class Help(unittest.TestCase):
    def test_every_program_and_command_has_help(self):
        for name, argv in programs().items():
            with self.subTest(program=name):
                r = ask_help(argv)
                self.assertEqual((r.returncode, r.stderr), (0, ''))
                self.assertGreater(len(r.stdout), 80)
        for command in self.tasuki():
            with self.subTest(command=command):
                r = ask_help([*programs()['tasuki'], command])
                self.assertEqual((r.returncode, r.stderr), (0, ''))
                self.assertIn(command, r.stdout)

    def tasuki(self):
        return re.findall(r'^  (\w+)  +\S', ask_help(programs()['tasuki']).stdout, re.M)

    def test_documents_name_what_is_there(self):
        """Each command and each option that a document says can be typed is in the --help of its program."""
        known, helps, seen = programs(), {}, 0
        commands = self.tasuki()
        for page in PAGES:
            for words in commands_in(page.read_text()):
                argv = known.get(words[0])
                if not argv:
                    self.assertFalse(re.match(r'(deploy|tests)/[\w/]+$', words[0]) and len(words) > 1 and not (ROOT / words[0]).exists(),
                                     f'{page.name}: {" ".join(words)}: no such program')
                    continue
                if words[0] == 'tasuki' and len(words) > 1 and re.match(r'[a-z]', words[1]):
                    self.assertIn(words[1], commands, f'{page.name}: {" ".join(words)}')
                    argv = [*argv, words[1]]
                options = [w.split('=')[0].strip('.,)') for w in words[1:] if re.match(r'--[a-z]', w)]
                if not options:
                    continue
                key = tuple(argv)
                if key not in helps:  # of `tasuki` alone: what any command has
                    helps[key] = ask_help(argv).stdout + ''.join(
                        ask_help([*argv, c]).stdout for c in commands if argv == known['tasuki'])
                for option in options:
                    seen += 1
                    self.assertRegex(helps[key], re.escape(option) + r'\b', f'{page.name}: {" ".join(words)}')
        self.assertGreater(seen, 20)


class Links(unittest.TestCase):
    @staticmethod
    def anchors(page):
        """Of its headings, as they are made of them where documents are shown."""
        return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in re.findall(r'(?m)^#+ (.*)$', page.read_text())}

    def test_links_lead_somewhere(self):
        for page in PAGES:
            for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
                if '://' in link:
                    continue
                path, _, anchor = link.partition('#')
                target = page.parent / path if path else page
                self.assertTrue(target.exists(), f'{page.name}: {link}')
                if anchor:
                    self.assertIn(anchor, self.anchors(target), f'{page.name}: {link}')


class Keys(unittest.TestCase):
    @staticmethod
    def example(name):
        """{(section, key)} of an example; what is commented out counts."""
        found, section = set(), None
        for line in (ROOT / f'deploy/examples/{name}.conf').read_text().splitlines():
            if m := SECTION.match(line):
                section = m.group(1)
            elif m := KEY.match(line):
                found.add((section, m.group(1)))
        return found

    @staticmethod
    def asked_for(folders):
        """{(section, key)} that sources ask a configuration for."""
        found = set()
        for folder in folders:
            for path in (ROOT / folder).rglob('*.c'):
                found |= set(re.findall(r'conf_\w+\(\s*\w+,\s*"(\w+)",\s*"(\w+)"', path.read_text()))
        return found

    def test_examples_have_every_key(self):
        for name, folder in EXAMPLES.items():
            with self.subTest(example=name):
                self.assertTrue(self.asked_for([folder]))
                self.assertEqual(self.asked_for([folder]) - self.example(name), set())
        known = set().union(*map(self.example, EXAMPLES))
        self.assertEqual(self.asked_for(['common']) - known, set())

    def test_documents_name_keys_that_are_there(self):
        keys = set().union(*(self.example(n) for n in EXAMPLES if (ROOT / f'deploy/examples/{n}.conf').exists()))
        sections, seen = {s for s, _ in keys}, 0
        for page in PAGES:
            for section, key in re.findall(r'`\[(\w+)\] (\w+)', page.read_text()):
                seen += 1
                self.assertIn(section, sections, f'{page.name}: [{section}] {key}')
                self.assertIn((section, key), keys, f'{page.name}')
        self.assertGreater(seen, 20)


class Examples(rig.Case):
    """Each key of an example is one that the program asks for: misspelt, it is refused by name."""

    def test_each_key_is_known(self):
        self.digits('cam', 60, 1)
        (self.work / 'model.cfg').write_text(rig.TINY.read_text())
        (self.work / 'classes.txt').write_text('\n'.join('0123456789') + '\n')
        (self.work / 'data/cam').rename(self.work / 'images')
        for name, folder in (('agent', 'device-agent'), ('trainer', 'edge-trainer')):
            text = (ROOT / f'deploy/examples/{name}.conf').read_text().replace('path = data', 'path = images')
            program = [rig.BUILD / folder / f'tasuki-{name}', '--check-config']
            self.assertEqual(self.said(program, text)[0], 0, self.said(program, text))
            for m in re.finditer(r'^(\w+) =', text, re.M):
                with self.subTest(example=name, key=m.group(1)):
                    code, said = self.said(program, text[:m.start()] + 'x_' + text[m.start():])
                    self.assertEqual(code, 1, said)
                    self.assertRegex(said, f'x_{m.group(1)}|{m.group(1)}')

    def said(self, program, text):
        path = self.work / 'tried.conf'
        path.write_text(text)
        r = subprocess.run([*program, path], capture_output=True, text=True, timeout=60)
        return r.returncode, r.stdout + r.stderr


class Typed(rig.Case):
    """What README.md and docs/operations.md say to type, typed."""

    def block(self, page, first):
        """The indented block of a page that begins with these words."""
        text = (ROOT / page).read_text()
        at = text.index(f'    {first}')
        lines = []
        for line in text[at:].splitlines():
            if not line.startswith('    '):
                break
            lines.append(line[4:].split('  #')[0].rstrip())
        return lines

    def test_readme_without_a_network(self):
        here = self.work / 'readme'
        (here / 'deploy').mkdir(parents=True)
        shutil.copytree(ROOT / 'deploy/models', here / 'deploy/models')
        env = {**os.environ, 'PATH': f'{rig.BUILD}/cli:{os.environ["PATH"]}'}
        for line in self.block('README.md', 'tasuki dataset digits'):
            if 'A.weights' in line:
                for name in 'AB':
                    shutil.copy(here / 'digits.weights', here / f'{name}.weights')
            if 'IMAGE...' in line:
                subprocess.run(['tasuki', 'dataset', 'sheet', '--data', 'digits', '--out', 'sheet.png'], env=env, cwd=here)
                line = line.replace('IMAGE...', self.image(here))
            with self.subTest(line=line):
                r = subprocess.run(line, shell=True, env=env, cwd=here, capture_output=True, text=True, timeout=300)
                self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertTrue((here / 'C.weights').exists())

    @staticmethod
    def image(here):
        pixels = bytes(28 * 28)
        (here / 'image.pgm').write_bytes(b'P5 28 28 255\n' + pixels)
        return 'image.pgm'

    def test_commands_of_operations(self):
        for name, n, seed in (('edge', 150, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        self.fleet.start_broker()
        listener = self.fleet.listen('trainer/+/in/+/ack')
        self.quick_trainer('edge-1', self.work / 'data/edge')
        self.quick_agent('cam-1', self.work / 'data/cam', {'train': {'rounds': 0, 'step_ms': 5}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        self.decided(listener, 'cam-1')
        active = (self.work / 'cam-1/state/active').resolve().name
        lines = [line for line in self.block('docs/operations.md', 'tasuki cmd cam-1 handover\n') if line.startswith('tasuki')]
        self.assertGreater(len(lines), 6)
        for line in lines:
            with self.subTest(line=line):
                words = line.replace('HASH', active).split()[1:]
                r = self.fleet.run_tasuki(*words, check=False)
                # A handover that goes on already, or nothing to go back to, is an answer as well.
                self.assertRegex(r.stdout + r.stderr, r'cam-1', r.stderr)
                self.assertNotRegex(r.stderr, r'unknown|usage')


if __name__ == '__main__':
    rig.main()
