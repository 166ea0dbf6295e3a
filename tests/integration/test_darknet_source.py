# build: plain
"""deploy/lib/darknet-source against a package archive of the test's own, in a folder, that apt is told about."""
import contextlib
import hashlib
import io
import pathlib
import shutil
import socket
import sys
import tarfile
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import apt_rig
import rig
from apt_rig import release, sums

VERSION = '1.0-1'
PATCH = '--- a/src/parser.c\n+++ b/src/parser.c\n@@ -1 +1 @@\n-int upstream;\n+int debian;\n'


def tar_xz(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:xz') as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


class DarknetSource(apt_rig.Case):
    script = rig.ROOT / 'deploy/lib/darknet-source'

    def setUp(self):
        super().setUp()
        self.cache, self.dir = self.work / 'cache', self.work / 'build/source'
        self.write_archive()

    def write_archive(self, patch=PATCH):
        files = {f'darknet_{VERSION[:-2]}.orig.tar.xz': tar_xz({'darknet/src/parser.c': 'int upstream;\n', 'darknet/Makefile': 'all:\n'}),
                 f'darknet_{VERSION}.debian.tar.xz': tar_xz({'debian/patches/series': '# first\nfix.patch\n', 'debian/patches/fix.patch': patch})}
        head = f'Format: 3.0 (quilt)\n%s: darknet\nBinary: darknet\nArchitecture: any\nVersion: {VERSION}\nMaintainer: Nobody <n@example>\n'
        md5 = 'Files:\n' + ''.join(f' {hashlib.md5(d).hexdigest()} {len(d)} {n}\n' for n, d in files.items())
        dsc = (head % 'Source' + 'Checksums-Sha256:\n' + sums(files) + md5).encode()
        files[f'darknet_{VERSION}.dsc'] = dsc
        self.archive.mkdir(exist_ok=True)
        for name, data in files.items():
            (self.archive / name).write_bytes(data)
        index = (head % 'Package' + 'Directory: .\nChecksums-Sha256:\n' + sums(files) + '\n').encode()
        (self.archive / 'Sources').write_bytes(index)
        (self.archive / 'Release').write_text(release({'Sources': index}))

    def refused(self, status, *words, args=(), **kw):
        super().refused(status, *words, args=args or (self.cache, self.dir), **kw)
        self.assertFalse(self.dir.exists())

    def test_download_unpack_and_keep(self):
        self.ok(self.cache, self.dir)
        self.assertEqual((self.dir / 'src/parser.c').read_text(), 'int debian;\n')
        made = (self.dir / 'src/parser.c').stat()
        # The archive is not needed any more, for another folder; for this one, nothing is.
        shutil.rmtree(self.archive)
        self.ok(self.cache, self.work / 'other')
        self.assertEqual((self.work / 'other/src/parser.c').read_text(), 'int debian;\n')
        shutil.rmtree(self.cache)
        self.ok(self.cache, self.dir)
        again = (self.dir / 'src/parser.c').stat()
        self.assertEqual((again.st_ino, again.st_ctime_ns), (made.st_ino, made.st_ctime_ns))

    def test_entry_as_a_stanza_beside_one_that_is_gone(self):
        self.ok(self.cache, entry=f'deb [trusted=yes] copy:{self.work}/gone ./', sources='# A comment\nTypes: deb\nURIs: copy:{}\nSuites: ./\nTrusted: yes\n')
        self.assertEqual(len(list(self.cache.glob('*.xz'))), 2)

    def test_a_folder_of_ones_own(self):
        shutil.copytree(self.archive, self.cache)
        self.ok(self.cache, self.dir, entry='# none')
        self.assertEqual((self.dir / 'src/parser.c').read_text(), 'int debian;\n')

    def test_torn_file_is_had_again(self):
        self.ok(self.cache)
        torn = self.cache / f'darknet_{VERSION}.debian.tar.xz'
        torn.write_bytes(torn.read_bytes()[:-1])
        self.ok(self.cache, self.dir)
        torn.write_bytes(b'')
        shutil.rmtree(self.dir)
        self.refused(3, 'holds no source package', entry='# none')

    def test_no_mirror(self):
        self.refused(3, 'no entry for packages', str(self.cache), entry='# none')
        # A port where nobody listens; its login is not repeated.
        with self.nobody() as port:
            self.refused(3, f'http://127.0.0.1:{port}/debian', 'onnection refused',
                         entry=f'deb [trusted=yes] http://me:secret@127.0.0.1:{port}/debian stable main')

    def test_login_is_not_told(self):
        with self.nobody() as port:
            r = self.run_script(self.cache, entry=f'deb [trusted=yes] http://me:secret@127.0.0.1:{port}/debian stable main')
        self.assertNotIn('secret', r.stderr)

    @contextlib.contextmanager
    def nobody(self):
        """Such a port, which no other test that runs meanwhile gets."""
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            yield s.getsockname()[1]

    def test_not_signed(self):
        self.refused(3, 'is not signed', entry='deb copy:{} ./')

    def test_not_what_the_index_says(self):
        orig = self.archive / 'darknet_1.0.orig.tar.xz'
        orig.write_bytes(orig.read_bytes()[:-1] + b'x')
        self.refused(3, 'ismatch')
        self.assertFalse(list(self.cache.glob('*.xz')))

    def test_no_such_package(self):
        index = (self.archive / 'Sources').read_bytes().replace(b': darknet\n', b': another\n')
        (self.archive / 'Sources').write_bytes(index)
        (self.archive / 'Release').write_text(release({'Sources': index}))
        self.refused(3, 'Unable to find a source package for darknet')

    def test_patch_that_does_not_apply(self):
        self.write_archive(PATCH.replace('upstream', 'elsewhere'))
        self.refused(1, 'fix.patch does not apply')
        self.assertFalse((self.work / 'build/source.tmp').exists())

    def test_a_tool_is_missing(self):
        tools = self.work / 'bin'
        tools.mkdir()
        for folder in ('/usr/sbin', '/usr/bin', '/sbin', '/bin'):
            for f in pathlib.Path(folder).iterdir():
                if not (tools / f.name).exists() and f.name not in ('patch', 'apt-get'):
                    (tools / f.name).symlink_to(f)
        self.refused(3, "'apt-get' is missing", path=tools)
        shutil.copytree(self.archive, self.cache, dirs_exist_ok=True)
        self.refused(1, "'patch' is missing", 'deploy/lib/packages device', path=tools)

    def test_usage(self):
        self.assertEqual(self.run_script().returncode, 2)


rig.main()
