# build: plain
"""No raw image byte crosses: all traffic of a handover holds no 64-byte window of any training image.

The same search is run over the traffic of a device that is made to leak one image (by a client that publishes
it in its name): it must find that one, or it proves nothing."""
import array
import base64
import hashlib
import json
import re
import socket
import statistics
import struct
import sys
import threading
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig

WINDOW = 64
DISTINCT = 16  # windows of fewer distinct values say nothing


class Recorder:
    """A subscriber to '#' of our own, so that binary payloads come through as they are (MQTT 3.1.1)."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port))
        ident = b'recorder'
        self.packet(0x10, b'\x00\x04MQTT\x04\x02\x00\x00' + struct.pack('>H', len(ident)) + ident)
        assert self.read()[0] == 0x20
        self.packet(0x82, b'\x00\x01\x00\x01#\x00')
        assert self.read()[0] == 0x90
        self.data, self.topics = [], []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def packet(self, kind, payload):
        length, out = len(payload), bytes([kind])
        while True:
            length, digit = length >> 7, length & 127
            out += bytes([digit | (128 if length else 0)])
            if not length:
                break
        self.socket.sendall(out + payload)

    def exactly(self, n):
        out = b''
        while len(out) < n:
            got = self.socket.recv(n - len(out))
            if not got:
                raise ConnectionError
            out += got
        return out

    def read(self):
        kind, length, shift = self.exactly(1)[0], 0, 0
        while True:
            b = self.exactly(1)[0]
            length |= (b & 127) << shift
            shift += 7
            if not b & 128:
                return kind, self.exactly(length)

    def run(self):
        try:
            while True:
                kind, payload = self.read()
                if kind & 0xf0 == 0x30:
                    n = struct.unpack('>H', payload[:2])[0]
                    self.topics.append(payload[2:2 + n].decode())
                    self.data.append(payload[2 + n:])
        except (ConnectionError, OSError):
            pass

    def stop(self):
        self.socket.close()


def windows_of(images):
    found = set()
    for pixels in images:
        for i in range(len(pixels) - WINDOW + 1):
            w = pixels[i:i + WINDOW]
            if len(set(w)) >= DISTINCT:
                found.add(w)
    return found


def hits(traffic, windows):
    """Windows found in what crossed: as it is, and decoded from base64 and hex."""
    found = 0
    for payload in traffic:
        forms = [payload]
        # Text that hides in a message begins anywhere: every alignment is decoded.
        text = re.sub(rb'[^A-Za-z0-9+/]', b'', payload)
        forms += [base64.b64decode(text[i:len(text) - (len(text) - i) % 4]) for i in range(4)]
        digits = re.sub(rb'[^0-9a-fA-F]', b'', payload)
        forms += [bytes.fromhex(digits[i:len(digits) - (len(digits) - i) % 2].decode()) for i in range(2)]
        for form in forms:
            for i in range(len(form) - WINDOW + 1):
                if form[i:i + WINDOW] in windows:
                    found += 1
    return found


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
        edge = self.folders('edge', 300, 1, public, mix=','.join(['1'] * 9 + ['0']))
        cam = self.folders('cam', 150, 2, [*public, SECRET])
        self.fleet.start_broker()
        recorder = Recorder(self.fleet.port)
        listener = self.fleet.listen('trainer/+/in/+/ack', 'device/+/offer')
        model = {'model': {'classes': self.work / 'classes.txt'}}
        self.quick_trainer('edge-1', edge, model)
        self.quick_agent('cam-1', cam, rig.merge(model, {'model': {'private_classes': self.work / 'mine.txt'},
                                                         'handover': {'private_rows': private_rows},
                                                         'transfer': {'encoding': encoding}, 'privacy': privacy or {}}))
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')
        listener.wait('offer', lambda m: m['topic'].endswith('cam-1/offer'), rig.WAIT)
        own = self.weights_of('cam-1')
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
        traffic = list(recorder.data)
        self.assertTrue(any('/block/' in t for t in recorder.topics), 'no block was seen: nothing was recorded')
        self.assertEqual(hits(traffic, windows), 0)
        # The device made to leak: one image, raw and then in base64, inside an ordinary message of its.
        for leak in (images[7], base64.b64encode(images[7]), images[7].hex().encode()):
            before = len(recorder.data)
            self.fleet.publish('device/cam-1/report', leak)
            rig.wait_for('the leak to cross', lambda: len(recorder.data) > before, 20)
            rig.time.sleep(0.3)
            self.assertGreater(hits(recorder.data[before:], windows), 0)
        recorder.stop()


rig.main()
