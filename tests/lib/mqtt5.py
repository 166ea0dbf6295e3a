"""A small MQTT 5 client (OASIS standard), over TLS or not, for tests that ask a broker many things on one connection."""
import socket
import ssl
import struct


WINDOW = 32  # publishes on their way: fewer than brokers allow (Receive Maximum)


class Refused(Exception):
    """The connection did not come about, or ended."""


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack('>H', len(data)) + data


def varint(n):
    out = bytearray()
    while True:
        out.append(n & 127 | (128 if n > 127 else 0))
        n >>= 7
        if not n:
            return bytes(out)


class Buffered:
    """Of a socket, as many bytes as are wanted."""
    buffer = b''

    def _take(self, n):
        while len(self.buffer) < n:
            try:
                more = self.socket.recv(65536)
            except ConnectionError as e:
                raise Refused(str(e)) from None
            if not more:
                raise Refused('the other end closed the connection')
            self.buffer += more
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken


class Client(Buffered):
    def __init__(self, port, identity=None, client_id='', username=None, will=None, clean=True, host='127.0.0.1', expiry=0):
        """`identity`: as Pki.identity() has it. `will`: (topic, payload), retained."""
        self.messages, self.packet = [], 0
        try:
            self.socket = self.connect(host, port)
            if identity is not None:
                context = ssl.create_default_context(cafile=str(identity['authorities'] / 'broker.crt'))
                if identity.get('certificate'):
                    context.load_cert_chain(identity['certificate'], identity['key'])
                self.socket = context.wrap_socket(self.socket, server_hostname=host)
            properties = b'' if not expiry else b'\x11' + struct.pack('>I', expiry)
            flags = 2 * clean | (0x2c if will else 0) | (0x80 if username is not None else 0)
            body = text('MQTT') + bytes([5, flags]) + struct.pack('>H', 60) + varint(len(properties)) + properties + text(client_id)
            if will:
                body += b'\0' + text(will[0]) + text(will[1])
            if username is not None:
                body += text(username)
            self.send(0x10, body)
            kind, answer = self.read()
        except (OSError, Refused) as e:
            self.close()
            raise Refused(str(e)) from None
        self.reason = answer[1] if kind == 0x20 else -1
        if self.reason != 0:
            self.close()
            raise Refused(f'CONNACK {self.reason:#x}')

    def connect(self, host, port):
        s = socket.create_connection((host, port), 60)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def send(self, first, body):
        try:
            self.socket.sendall(bytes([first]) + varint(len(body)) + body)
        except ConnectionError as e:
            raise Refused(str(e)) from None

    def read(self):
        """(first byte, body) of the next packet."""
        first, n, shift = self._take(1)[0], 0, 0
        while True:
            byte = self._take(1)[0]
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self._take(n)

    def _until(self, wanted):
        """The body of the next packet of that kind; what is published meanwhile is kept, and acknowledged."""
        while True:
            first, body = self.read()
            if first & 0xf0 == 0x30:
                n = struct.unpack('>H', body[:2])[0]
                topic, rest = body[2:2 + n].decode(), body[2 + n:]
                if first & 6:
                    self.send(0x40, rest[:2])
                    rest = rest[2:]
                self.messages.append((topic, rest[1 + rest[0]:].decode(), first & 1))
            elif first & 0xf0 == 0xe0:
                raise Refused(f'DISCONNECT {body[0] if body else 0:#x}')
            elif first & 0xf0 == wanted:
                return body

    def _next(self):
        self.packet = self.packet % 65535 + 1
        return struct.pack('>H', self.packet)

    def publish(self, topic, payload, retain=False):
        """QoS 1; the reason code of the answer."""
        return self.publish_all([topic], payload, retain)[0]

    def publish_all(self, topics, payload, retain=False):
        """The same to each of them, many on their way at a time; the reason codes."""
        codes = []
        for i in range(0, len(topics), WINDOW):
            for topic in topics[i:i + WINDOW]:
                self.send(0x32 | retain, text(topic) + self._next() + b'\0' + payload.encode())
            for _ in topics[i:i + WINDOW]:
                answer = self._until(0x40)
                codes.append(answer[2] if len(answer) > 2 else 0)
        return codes

    def subscribe(self, *filters):
        """QoS 1; the reason codes."""
        self.send(0x82, self._next() + b'\0' + b''.join(text(f) + b'\x01' for f in filters))
        return list(self._until(0x90)[3:])

    def unsubscribe(self, *filters):
        self.send(0xa2, self._next() + b'\0' + b''.join(text(f) for f in filters))
        self._until(0xb0)

    def received(self):
        """(topic, payload, retained) of all that the broker has sent by now."""
        self.send(0xc0, b'')
        self._until(0xd0)
        got, self.messages = self.messages, []
        return got

    def close(self):
        try:
            self.socket.close()
        except (AttributeError, OSError):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
