# build: plain
"""deploy/lib/sysroot against a package archive of the test's own, in a folder, that apt is told about."""
import hashlib
import os
import shutil
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import apt_rig
import rig
from apt_rig import release

LIBS = 'usr/lib/aarch64-linux-gnu'


class Sysroot(apt_rig.Case):
    script = rig.ROOT / 'deploy/lib/sysroot'
    entry = 'deb [trusted=yes] copy:{} test main'

    def setUp(self):
        super().setUp()
        self.dir, self.root = self.work / 'cache', self.work / 'cache/root'
        self.archive.mkdir()
        self.index = {}
        self.package('inner', {'lib/aarch64-linux-gnu/libinner.so.1': 'inner', f'{LIBS}/openblas-pthread/libopenblas.so.0': 'blas',
                               f'{LIBS}/openblas-pthread/pkgconfig/openblas.pc': 'pc', f'{LIBS}/pkgconfig/inner.pc': 'pc'})
        self.package('outer', {'usr/include/outer.h': '/* */', 'usr/share/doc/outer/copyright': 'who'}, 'Depends: inner\n',
                     {f'{LIBS}/libinner.so': '/lib/aarch64-linux-gnu/libinner.so.1', 'usr/include/here.h': 'outer.h'})
        self.package('other', {'usr/include/other.h': ''})

    def package(self, name, files, fields='', links=(), arch='arm64'):
        tree = self.work / 'package'
        for path, text in {**files, 'DEBIAN/control': f'Package: {name}\nVersion: 1\nArchitecture: {arch}\nMaintainer: Nobody '
                                                      f'<n@example>\n{fields}Description: {name}\n'}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        for path, to in dict(links).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).symlink_to(to)
        deb = self.archive / f'{name}_1_{arch}.deb'
        subprocess.run(['dpkg-deb', '--root-owner-group', '--build', tree, deb], check=True, capture_output=True)
        data = deb.read_bytes()
        self.index[name] = ((tree / 'DEBIAN/control').read_text() + f'Filename: ./{deb.name}\nSize: {len(data)}\n'
                            f'SHA256: {hashlib.sha256(data).hexdigest()}\n\n')
        shutil.rmtree(tree)
        self.write_index()

    def write_index(self):
        packages = ''.join(self.index.values()).encode()
        where = self.archive / 'dists/test/main/binary-arm64/Packages'
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(packages)
        (self.archive / 'dists/test/Release').write_text('Components: main\nArchitectures: arm64\n' +
                                                         release({'main/binary-arm64/Packages': packages}))

    def make(self, *packages, **kw):
        self.ok('arm64', self.dir, *(packages or ['outer']), **kw)

    def files(self):
        """What tells a file that was written again; not when it was read."""
        stats = {p: p.lstat() for p in self.dir.rglob('*') if p.name != 'lock'}
        return {p: (s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in stats.items()}

    def test_files_of_all_that_is_needed(self):
        self.make()
        self.assertEqual((self.root / LIBS / 'libinner.so').read_text(), 'inner')
        self.assertEqual((self.root / 'lib/aarch64-linux-gnu/libinner.so.1').read_text(), 'inner')
        self.assertEqual(os.readlink(self.root / 'lib'), 'usr/lib')
        self.assertEqual((self.root / 'usr/include/here.h').read_text(), '/* */')
        for link in self.root.rglob('*'):
            self.assertTrue(link.resolve().is_relative_to(self.root.resolve()), link)
        self.assertFalse((self.root / 'usr/share/doc').exists())
        self.assertFalse((self.root / 'usr/include/other.h').exists())
        self.assertEqual((self.dir / 'sysroot.ini').read_text(), f"[constants]\nsysroot = '{self.root}'\n")

    def test_openblas_is_the_one_to_link_with(self):
        self.make()
        self.assertEqual((self.root / LIBS / 'libopenblas.so.0').read_text(), 'blas')
        self.assertEqual((self.root / LIBS / 'pkgconfig/openblas.pc').read_text(), 'pc')

    def test_again_without_archive(self):
        self.make()
        shutil.rmtree(self.archive)
        before = self.files()
        self.make()
        self.assertEqual(self.files(), before)
        # What is there stays when another list cannot be had.
        self.refused(3, 'could not be downloaded', args=('arm64', self.dir, 'outer', 'other'))
        self.assertEqual((self.root / LIBS / 'libinner.so').read_text(), 'inner')
        self.make()

    def test_another_list(self):
        self.make('outer', 'other')
        shutil.copytree(self.archive, self.work / 'kept')
        shutil.rmtree(self.archive)
        self.make('other')  # is there
        self.assertTrue((self.root / 'usr/include/outer.h').exists())
        self.refused(3, 'for riscv64', args=('riscv64', self.dir, 'other'))
        (self.work / 'kept').rename(self.archive)
        self.make('other', 'inner')
        self.assertTrue((self.root / 'usr/include/other.h').exists())
        self.assertFalse((self.root / 'usr/include/outer.h').exists())

    def test_interrupted(self):
        self.make()
        (self.dir / 'packages').unlink()  # the last thing to be written
        self.make()
        self.assertEqual((self.root / LIBS / 'libinner.so').read_text(), 'inner')

    def test_moved(self):
        self.make()
        self.dir.rename(self.work / 'moved')
        self.dir, self.root = self.work / 'moved', self.work / 'moved/root'
        self.make(entry='# none')
        self.assertIn(str(self.root), (self.dir / 'sysroot.ini').read_text())

    def test_entries_for_this_machine_alone(self):
        self.make(entry='deb [arch=amd64 trusted=yes] copy:{} test main')
        shutil.rmtree(self.dir)
        self.make(entry='', sources='Types: deb deb-src\nURIs: copy:{}\nSuites: test\nComponents: main\nArchitectures: amd64\n'
                                    'Trusted: yes\n')

    def test_not_for_this_processor(self):
        self.package('outer', {'usr/include/outer.h': ''}, arch='riscv64')
        self.refused(3, 'the packages for arm64', str(self.archive), args=('arm64', self.dir, 'outer'))
        self.assertFalse(self.root.exists())

    def test_not_to_be_had(self):
        self.refused(3, 'no entry for packages', args=('arm64', self.dir, 'outer'), entry='# none')
        self.refused(3, 'is not signed', args=('arm64', self.dir, 'outer'), entry='deb copy:{} test main')
        self.refused(3, 'another', args=('arm64', self.dir, 'another'))
        deb = self.archive / 'inner_1_arm64.deb'
        deb.write_bytes(deb.read_bytes()[:-1] + b'x')
        self.refused(3, 'ismatch', args=('arm64', self.dir, 'outer'))
        self.assertFalse(self.root.exists())

    def test_package_that_is_none(self):
        deb = self.archive / 'inner_1_arm64.deb'
        deb.write_bytes(b'!<arch>\n')
        data = deb.read_bytes()
        head = self.index['inner'].split('Size:')[0]
        self.index['inner'] = head + f'Size: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n'
        self.write_index()
        self.refused(1, 'inner_1_arm64.deb cannot be unpacked', args=('arm64', self.dir, 'outer'))
        self.assertFalse(self.root.exists())

    def test_usage(self):
        self.assertEqual(self.run_script('arm64', self.dir).returncode, 2)


rig.main()
