"""For tests of what downloads packages through apt: an archive in a folder, and a machine whose apt is told about it."""
import email.utils
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import rig


def sums(files):
    return ''.join(f' {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n' for name, data in files.items())


def release(indexes):
    return f'Suite: test\nDate: {email.utils.formatdate(usegmt=True)}\nSHA256:\n' + sums(indexes)


class Case(unittest.TestCase):
    script = None
    entry = 'deb [trusted=yes] copy:{} ./'

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='tasuki-test-'))
        self.addCleanup(shutil.rmtree, self.work)
        self.work.chmod(0o755)  # apt fetches as a user of its own
        self.archive = self.work / 'archive'

    def run_script(self, *args, entry=None, sources='', env=None, path=None):
        """On a machine whose apt is configured with these entries."""
        etc = self.work / 'etc'
        (etc / 'sources.list.d').mkdir(parents=True, exist_ok=True)
        (etc / 'sources.list').write_text((self.entry if entry is None else entry).format(self.archive) + '\n')
        (etc / 'sources.list.d/machine.sources').write_text(sources.format(self.archive))
        conf = self.work / 'apt.conf'
        (self.work / 'lists/partial').mkdir(parents=True, exist_ok=True)
        conf.write_text(f'Dir::Etc::sourcelist "{etc}/sources.list"; Dir::Etc::sourceparts "{etc}/sources.list.d";\n'
                        f'Dir::State::lists "{self.work}/lists";\n'
                        f'APT::Update::Post-Invoke {{ "touch {self.work}/hook"; }};\n')
        before = self.state()
        r = subprocess.run([self.script, *args], capture_output=True, text=True, timeout=rig.WAIT,
                           env={**os.environ, 'APT_CONFIG': str(conf), **({'PATH': str(path)} if path else {}), **(env or {})})
        self.assertEqual(self.state(), before)
        self.assertFalse((self.work / 'hook').exists())
        self.assertFalse(list(self.work.glob('*/new.*')))
        return r

    def state(self):
        """What apt is told and keeps on the machine."""
        return [(p, p.stat().st_mtime_ns) for d in ('etc', 'lists') for p in sorted((self.work / d).rglob('*'))]

    def ok(self, *args, **kw):
        r = self.run_script(*args, **kw)
        self.assertEqual((r.returncode, r.stderr), (0, ''))

    def refused(self, status, *words, args=(), **kw):
        r = self.run_script(*args, **kw)
        self.assertEqual(r.returncode, status, r.stderr)
        self.assertEqual(len(r.stderr.splitlines()), 1, r.stderr)
        for word in words:
            self.assertIn(word, r.stderr)
