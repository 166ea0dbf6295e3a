# build: plain
"""No raw image byte crosses: all traffic of a handover holds no 64-byte window of any training image.

The same search is run over the traffic of a device that is made to leak one image (by a client that publishes
it in its name): it must find that one, or it proves nothing."""
import array
import base64
import hashlib
import json
import statistics
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from recorder import WINDOW, Recorder, hits, windows_of

SECRET = 'Someone-Nobody-Knows'
PUBLIC = 9


def rows_of_outputs(weights):
    """Of tiny.cfg, the last layer: what each output's row is, as bytes. Ten biases, then ten rows of weights."""
    inputs = 4 * 7 * 7
    tail = weights[-4 * 10 * (inputs + 1):]
    return [tail[4 * k:4 * k + 4] + tail[40 + 4 * inputs * k:40 + 4 * inputs * (k + 1)] for k in range(10)]


class Privacy(rig.Case):
    def folders(self, name, n, seed, names, mix=None):
        """Drawn digits as one folder of images a class."""
        images, labels, rows, cols = rig.read_idx(self.digits(name + '-idx', n, seed, mix=mix), 'train')
        for i, (image, label) in enumerate(zip(images, labels)):
            path = self.work / 'data' / name / names[label] / f'{i}.pgm'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'P5 %d %d 255\n' % (cols, rows) + image)
        return self.work / 'data' / name

    def handed_over(self, private_rows, encoding='raw', privacy=None):
        """A whole handover of a device with a class of its own: topics and payloads of all that crossed, and the
        weights that the device has while its offer stands, and in the end."""
        public = [f'digit{i}' for i in range(PUBLIC)]
        (self.work / 'classes.txt').write_text('\n'.join(public) + '\n')
        (self.work / 'mine.txt').write_text(SECRET + '\n')
        edge = self.class_folders('edge', 300, 1, public, mix=','.join(['1'] * 9 + ['0']))
        cam = self.class_folders('cam', 150, 2, [*public, SECRET])
        self.fleet.start_broker()
        recorder = Recorder(self.fleet.port)
        listener = self.fleet.listen('trainer/+/in/+/ack', 'device/+/offer')
        model = {'model': {'classes': self.work / 'classes.txt'}}
        self.quick_trainer('edge-1', edge, model)
        self.quick_agent('cam-1', cam, rig.merge(model, {'model': {'private_classes': self.work / 'mine.txt'},
                                                         'handover': {'private_rows': private_rows},
                                                         'transfer': {'encoding': encoding}, 'privacy': privacy or {}}))
        self.fleet.start_agent('cam-1')
        listener.wait('offer', lambda m: m['topic'].endswith('cam-1/offer'), rig.WAIT)
        own = self.weights_of('cam-1')  # before there is a trainer: what the offer was made from is still there
        self.fleet.start_trainer('edge-1')
        self.decided(listener, 'cam-1')
        recorder.stop()
        return recorder.topics, recorder.data, own + self.weights_of('cam-1')

    def weights_of(self, device):
        found = []
        for path in self.fleet.work.glob(f'{device}/state/checkpoints/*/weights'):
            try:
                found.append(path.read_bytes())
            except FileNotFoundError:
                pass  # not needed any more
        return found

    def sent_files(self, topics, data):
        """The checkpoints that the device sent, put together from their blocks."""
        files = {}
        for topic, payload in zip(topics, data):
            parts = topic.split('/')
            if parts[3] == 'trainer' and 'block' in parts:
                files.setdefault(parts[-2], {})[int(parts[-1])] = payload
        return {name: b''.join(blocks[k] for k in sorted(blocks)) for name, blocks in files.items()}

    def private_crossed(self, private_rows):
        """(whether the name, whether non-zero rows crossed), by two ways for the rows."""
        topics, data, own = self.handed_over(private_rows)
        files = self.sent_files(topics, data)
        self.assertTrue(files)
        forms = (SECRET.encode(), SECRET.encode().hex().encode(), base64.b64encode(SECRET.encode())[:-4])
        named = any(f in payload for payload in [*data, *(t.encode() for t in topics)] for f in forms)
        state = self.fleet.work / 'cam-1/state'
        self.assertEqual((state / 'private-classes.txt').read_text(), SECRET + '\n')
        windows = {row[i:i + WINDOW] for w in own for row in rows_of_outputs(w)[PUBLIC:]
                   for i in range(0, len(row) - WINDOW, 4)}
        windows = {w for w in windows if any(w)}
        self.assertGreater(len(windows), 100)
        found = any(payload[i:i + WINDOW] in windows for payload in [*data, *files.values()]
                    for i in range(len(payload) - WINDOW + 1))
        rows = any(any(row) for f in files.values() for row in rows_of_outputs(f)[PUBLIC:])
        self.assertTrue(all(any(row) for f in files.values() for row in rows_of_outputs(f)[:PUBLIC]))
        self.assertEqual(found, rows)
        reports = self.device_reports('cam-1')
        self.assertTrue(any(c['class'] == PUBLIC and c['n'] for r in reports.values() for c in r['per_class']))
        return named, rows

    def test_private_class_stays(self):
        self.assertEqual(self.private_crossed('keep'), (False, False))

    def test_private_class_stays_in_any_form(self):
        """What a trainer makes of a coded payload: the worker of the device has made the same. With noise, which leaves the zeros alone,
        and counts in the account."""
        topics, data, own = self.handed_over('keep', 'auto', {'noise': 0.01, 'clip': 1, 'budget': 1000000})
        sent = self.sent_files(topics, data)
        self.assertTrue(sent)
        self.assertFalse(any(SECRET.encode() in payload for payload in data))
        offers = {o['id']: o['source'] for o in (json.loads(d) for t, d in zip(topics, data) if t.endswith('cam-1/offer'))}
        received = [p for p in self.fleet.work.glob('edge-1/state/store/checkpoints/*/weights') if p.parent.name in offers]
        self.assertTrue(received)
        self.assertTrue(all(len(f) < received[0].stat().st_size for f in sent.values()))
        for rows in (rows_of_outputs(p.read_bytes()) for p in received):
            self.assertTrue(all(any(row) for row in rows[:PUBLIC]))
            self.assertFalse(any(any(row) for row in rows[PUBLIC:]))
        whole = {hashlib.sha256(w).hexdigest(): w for w in own}
        pairs = [(p.read_bytes(), whole[offers[p.parent.name]]) for p in received if offers[p.parent.name] in whole]
        self.assertTrue(pairs)
        for pair in pairs:
            differences = [a - b for a, b in zip(*(array.array('f', w[20:]) for w in pair)) if a]
            self.assertGreater(statistics.pstdev(differences), 0.005)
            self.assertLess(sum(d == 0 for d in differences), len(differences) / 100)
        accounts = [r['privacy'] for _, r in sorted(self.device_reports('cam-1').items())]
        self.assertEqual((accounts[0]['handovers'], accounts[0]['epsilon']), (0, 0))
        self.assertEqual((accounts[-1]['handovers'], accounts[-1]['delta'], accounts[-1]['budget']), (1, 1e-5, 1000000))
        self.assertTrue(20000 < accounts[-1]['epsilon'] < 22000, accounts[-1])

    def test_private_rows_are_found_where_they_are_sent(self):
        self.assertEqual(self.private_crossed('send'), (False, True))

    def test_nothing_crosses(self):
        for name, n, seed in (('edge', 300, 1), ('cam', 150, 2)):
            self.digits(name, n, seed)
        images = rig.read_idx(self.work / 'data/cam', 'train')[0]
        files = [(self.work / f'data/cam/{f}').read_bytes()[16:] for f in ('train-images-idx3-ubyte', 't10k-images-idx3-ubyte')]
        windows = windows_of(images) | windows_of([f[:100000] for f in files])
        self.assertGreater(len(windows), 10000)
        self.fleet.start_broker()
        recorder = Recorder(self.fleet.port)
        listener = self.fleet.listen('trainer/+/in/+/ack')
        self.quick_trainer('edge-1', self.work / 'data/edge')
        self.quick_agent('cam-1', self.work / 'data/cam')
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        self.decided(listener, 'cam-1')
        recorder.settle()
        traffic = list(recorder.data)
        self.assertTrue(any('/block/' in t for t in recorder.topics), 'no block was seen: nothing was recorded')
        self.assertEqual(hits(traffic, windows), 0)
        # The device made to leak: one image, raw and then in base64, inside an ordinary message of its.
        for leak in (images[7], base64.b64encode(images[7]), images[7].hex().encode()):
            before = len(recorder.data)
            self.fleet.publish('device/cam-1/report', leak)
            recorder.settle()
            self.assertGreater(hits(recorder.data[before:], windows), 0)
        recorder.stop()


rig.main()
