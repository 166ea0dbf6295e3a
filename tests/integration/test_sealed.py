# build: plain
"""Everything that crosses the broker in secure handovers, both ways: no piece of any weights or payload, of any image, no name
of a private class, no secret, no nonce twice. What listens is a client that may read everything, as a hostile broker does.

The same search is run over a block that is sent in plain, which it must find, or it proves nothing; and that changes nothing."""
import base64
import json
import os
import sqlite3
import sys
import threading
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from recorder import Recorder, hits, windows_of

SECRET = 'Someone-Nobody-Knows'
PUBLIC = 9
RUN = 32
NONCE, TAG = 12, 16
DEVICES = {'cam-1': 'raw', 'cam-2': 'auto'}


class Keeper:
    """Copies of all weights and payloads that are in a store at any time, and of the secrets of handovers."""

    def __init__(self, work):
        self.work, self.files, self.secrets = work, {}, {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def look(self):
        for path in self.work.glob('*/state/**/checkpoints/*/*'):
            key = (path.parts[-5], path.parent.name, path.name)
            if path.name in ('weights', 'payload') and key not in self.files:
                try:
                    self.files[key] = path.read_bytes()
                except FileNotFoundError:
                    pass  # not needed any more
        for path in self.work.glob('*/state/state.json'):
            with open(path) as f:
                secret = json.load(f).get('seal', {}).get('secret')
                if secret:
                    self.secrets[secret] = os.fstat(f.fileno()).st_mode & 0o777

    def look_through(self):
        try:
            self.look()
            return True
        except FileNotFoundError:
            return False  # a folder that went while it was looked into: again

    def run(self):
        while not self.ended.wait(0.05):
            self.look_through()

    def stop(self):
        self.ended.set()
        self.thread.join()
        while not self.look_through():
            pass


def runs_of(files):
    """All runs of 32 bytes, wherever they begin, but for those of one value: these are in what has nothing to do with weights
    (padding, zeros), and say of weights no more than how many of them are 0, as biases are before they are trained."""
    found = set()
    for data in files:
        found |= {data[i:i + RUN] for i in range(len(data) - RUN + 1)}
    return {w for w in found if len(set(w)) > 1}


class Sealed(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=True)

    def start(self):
        public = [f'digit{i}' for i in range(PUBLIC)]
        (self.work / 'classes.txt').write_text('\n'.join(public) + '\n')
        (self.work / 'mine.txt').write_text(SECRET + '\n')
        model = {'model': {'classes': self.work / 'classes.txt'}}
        edge = self.class_folders('edge', 300, 1, public, mix=','.join(['1'] * 9 + ['0']))
        cam = self.class_folders('cam', 150, 2, [*public, SECRET])
        self.fleet.start_broker()
        recorder, keeper = Recorder(self.fleet.port), Keeper(self.fleet.work)
        listener = self.fleet.listen('trainer/+/in/+/ack')
        self.quick_trainer('edge-1', edge, rig.merge(model, {'queue': {'block_size': 1024}, 'transfer': {'encoding': 'raw'}}))
        self.fleet.start_trainer('edge-1')
        for device, encoding in DEVICES.items():
            self.quick_agent(device, cam, rig.merge(model, {'model': {'private_classes': self.work / 'mine.txt'},
                                                            'handover': {'private_rows': 'keep', 'block_size': 1024},
                                                            'transfer': {'encoding': encoding}}))
            self.fleet.start_agent(device)
        return recorder, keeper, listener

    def images(self):
        return [p.read_bytes().split(b' 255\n', 1)[1] for p in (self.work / 'data').glob('*/*/*.pgm')]

    def blocks(self, recorder):
        return [(t.split('/')[3:], d) for t, d in zip(recorder.topics, recorder.data) if '/block/' in t]

    def assert_sealed(self, recorder, keeper):
        traffic, topics = list(recorder.data), list(recorder.topics)
        files = list(keeper.files.values())
        self.assertTrue(any(k[2] == 'payload' for k in keeper.files), 'nothing travelled in another form than raw')
        runs, images = runs_of(files), windows_of(self.images())
        self.assertGreater(len(runs), 10000)
        self.assertGreater(len(images), 10000)
        self.assertEqual(hits(traffic, runs), 0, 'weights crossed')
        self.assertEqual(hits(traffic, images), 0, 'an image crossed')
        names = [SECRET.encode(), base64.b64encode(SECRET.encode())[:-4], SECRET.encode().hex().encode()]
        secrets = [s.encode() for s in keeper.secrets] + [bytes.fromhex(s) for s in keeper.secrets]
        self.assertEqual(set(keeper.secrets.values()), {0o600}, 'modes of state.json while a secret is in it')
        for piece in (*names, *secrets):
            self.assertFalse(any(piece in d for d in traffic) or any(piece in t.encode() for t in topics), piece)
        return runs

    def assert_nonces(self, recorder):
        blocks = self.blocks(recorder)
        for device in DEVICES:  # both ways
            self.assertTrue(any(t[0] == 'trainer' and t[3] == device for t, _ in blocks))
            self.assertTrue(any(t[:2] == ['device', device] for t, _ in blocks))
        self.assertTrue(all(len(d) > NONCE + TAG for _, d in blocks))
        nonces = {d[:NONCE] for _, d in blocks}
        self.assertEqual(len(nonces), len(blocks), 'a nonce came twice')
        rig.figure(f'{len(blocks)} blocks, {sum(len(d) for d in recorder.data)} bytes crossed')

    def over(self):
        """No key is left at either end."""
        with sqlite3.connect(f'file:{self.fleet.work}/edge-1/state/trainer.db?mode=ro', uri=True) as db:
            if db.execute('SELECT count(*) FROM jobs WHERE state <> "done"').fetchone()[0]:
                return False
            self.assertEqual(db.execute('SELECT count(*) FROM jobs WHERE seal_secret IS NOT NULL OR seal_theirs IS NOT NULL')
                             .fetchone()[0], 0)
        return all('seal' not in json.loads((self.fleet.work / d / 'state/state.json').read_text()) for d in DEVICES)

    def test_nothing_crosses_in_the_open(self):
        recorder, keeper, listener = self.start()
        for device in DEVICES:
            self.decided(listener, device)
        rig.wait_for('the end of the handovers', self.over, rig.WAIT)
        keeper.stop()
        recorder.settle()
        runs = self.assert_sealed(recorder, keeper)
        self.assert_nonces(recorder)
        self.assertEqual((self.fleet.work / 'edge-1/state/trainer.db').stat().st_mode & 0o777, 0o600)
        # One block in plain: it is found.
        (_, name, _), weights = next((k, v) for k, v in keeper.files.items() if k[2] == 'weights')
        before = len(recorder.data)
        self.fleet.publish(f'device/cam-1/in/block/{name}/0', weights[:1024], qos=0)
        rig.wait_for('it to be found', lambda: hits(recorder.data[before:], runs) > 900, rig.WAIT)
        recorder.stop()


rig.main()
