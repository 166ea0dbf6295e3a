# build: plain
"""Man pages, completion and examples: well-formed, and not behind what the programs say and read."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from rig import BUILD, ROOT
sys.path.insert(0, str(ROOT / 'deploy/lib'))
import manual  # noqa: E402

BUILT = {name: what for name, what in manual.PROGRAMS.items() if (BUILD / what[0]).exists()}


def output(*argv, **kw):
    r = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, **kw)
    return r.stdout


class Manual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-test-'))
        subprocess.run([ROOT / 'deploy/lib/manual.py', '--build', BUILD, '--out', cls.work, '--version', '1.2.3', '--date', '2026-01-02'], check=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def page(self, name):
        return output('mandoc', '-Tutf8', '-O', 'width=200', self.work / 'man' / name, env={**os.environ, 'MANPAGER': 'cat', 'PAGER': 'cat'})

    def words(self, text):
        """What a reader sees, without how it is set."""
        return ' '.join(re.sub(r'.\x08', '', text).replace('’', "'").split())

    def test_well_formed(self):
        pages = sorted((self.work / 'man').iterdir())
        self.assertEqual({p.stem for p in pages}, set(BUILT) | {c for c, program in manual.CONFS.items() if program in BUILT})
        for page in pages:
            self.assertEqual(output('mandoc', '-Tlint', '-W', 'style', page), '', page.name)
            self.assertEqual(output('groff', '-ww', '-man', '-Tutf8', '-z', page), '', page.name)

    def test_pages_say_what_help_says(self):
        for name, (where, section, _) in BUILT.items():
            page = self.words(self.page(f'{name}.{section}'))
            for command, text in manual.helps(BUILD / where, name).items():
                said = [w for line in text.splitlines() for w in line.split()]
                self.assertGreater(len(said), 10)
                missing = [w for w in said if w not in page and w.lower() != 'usage:']
                self.assertEqual(missing, [], f'{name} {command}')

    def test_pages_have_each_key(self):
        for name, program in manual.CONFS.items():
            if program not in BUILT:
                continue
            page, text = self.words(self.page(f'{name}.5')), (ROOT / 'deploy/examples' / name).read_text()
            keys = re.findall(r'^#?([a-z_]+) =', text, re.M)
            self.assertGreater(len(keys), 10)
            for key in keys:
                self.assertIn(f' {key} =', page)
            for section in re.findall(r'^#?(\[[a-z]+\])$', text, re.M):
                self.assertIn(section, page)

    def test_examples_explain_each_key(self):
        for name in sorted(p.name for p in (ROOT / 'deploy/examples').glob('*.conf') if manual.CONFS.get(p.name) in BUILT):
            section = None
            for entry in manual.conf_entries((ROOT / 'deploy/examples' / name).read_text()):
                if entry[0] == 'section':
                    section = entry[1]
                elif entry[0] == 'about':
                    self.assertTrue(entry[1], f'{name}: [{section}] {entry[2][0][0]}: no comment says what it is')

    def complete(self, *words):
        """What bash offers after these."""
        name = words[0]
        script = f'source {self.work}/completions/{name}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _{name.replace("-", "_")}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return output('bash', '-euc', script, 'bash', *words).split()

    def test_completion(self):
        for name in BUILT:
            self.assertIn(f'complete -o default -F _{name.replace("-", "_")} {name}\n', (self.work / 'completions' / name).read_text())
            self.assertEqual(self.complete(name, '--hel'), ['--help'])
        commands = [c for c in manual.helps(BUILD / 'cli/tasuki', 'tasuki') if c]
        self.assertGreater(len(commands), 10)
        self.assertEqual(sorted(w for w in self.complete('tasuki', '') if not w.startswith('-')), sorted(commands))
        self.assertEqual(self.complete('tasuki', 'eval'), ['evaluate'])
        self.assertIn('--weights', self.complete('tasuki', 'evaluate', '--cfg', 'x', '--w'))
        self.assertNotIn('--broker', self.complete('tasuki', 'evaluate', '--'))
        self.assertEqual(self.complete('tasuki', 'dataset', 'dig'), ['digits'])
        self.assertEqual(self.complete('tasuki-agent', '--check'), ['--check-config'])
        self.assertEqual(self.complete('tasuki', 'nonsense', 'zz'), [])

    def test_package_help(self):
        text = output(ROOT / 'deploy/package', '--help', env={**os.environ, 'COLUMNS': '200'})
        for package in ('tasuki-common', 'tasuki-agent', 'tasuki-trainer', 'tasuki-tools'):
            self.assertIn(package, text)
        self.assertIn("found 'x', expected a Debian version", output(ROOT / 'deploy/package', '--version', 'x'))


if __name__ == '__main__':
    for tool in ('mandoc', 'groff'):
        if not shutil.which(tool):
            rig.skip(f'{tool} is missing; deploy/lib/packages test installs it')
    rig.main()
