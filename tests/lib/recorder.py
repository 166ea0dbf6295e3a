"""All that crosses a broker, as it is; and whether pieces of something are in it."""
import base64
import re
import socket
import struct
import threading
import time

WINDOW = 64
SETTLE_S = 60
DISTINCT = 16  # windows of an image with fewer distinct values say nothing


class Recorder:
    """A subscriber to '#' of our own, so that binary payloads come through as they are (MQTT 3.1.1)."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port))
        ident = b'recorder'
        self.packet(0x10, b'\x00\x04MQTT\x04\x02\x00\x00' + struct.pack('>H', len(ident)) + ident)
        assert self.read()[0] == 0x20
        self.packet(0x82, b'\x00\x01\x00\x01#\x00')
        assert self.read()[0] == 0x90
        self.data, self.topics, self.answers = [], [], 0
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
                elif kind == 0xd0:
                    self.answers += 1
        except (ConnectionError, OSError):
            pass

    def settle(self):
        """All that the broker had sent to anybody before is recorded after this: it answers in order."""
        answers, end = self.answers, time.monotonic() + SETTLE_S
        self.packet(0xc0, b'')
        while self.answers == answers and self.thread.is_alive():
            assert time.monotonic() < end, 'the broker does not answer'
            time.sleep(0.01)

    def stop(self):
        self.settle()
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
    """How often what crossed has one of these windows, which are of one length: as it is, and decoded from base64 and hex."""
    found, length = 0, len(next(iter(windows)))
    for payload in traffic:
        forms = [payload]
        # Text that hides in a message begins anywhere: every alignment is decoded.
        text = re.sub(rb'[^A-Za-z0-9+/]', b'', payload)
        forms += [base64.b64decode(text[i:len(text) - (len(text) - i) % 4]) for i in range(4)]
        digits = re.sub(rb'[^0-9a-fA-F]', b'', payload)
        forms += [bytes.fromhex(digits[i:len(digits) - (len(digits) - i) % 2].decode()) for i in range(2)]
        for form in forms:
            found += sum(form[i:i + length] in windows for i in range(len(form) - length + 1))
    return found
