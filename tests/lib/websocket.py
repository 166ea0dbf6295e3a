"""A small WebSocket client (RFC 6455), over TLS or not, and MQTT 5 through it, for tests that say anything to a server."""
import base64
import os
import socket
import struct

from mqtt5 import Buffered, Client, Refused


class WebSocket(Buffered):
    """The socket of a server's WebSocket: what is sent and received is the content of binary frames."""

    def __init__(self, host, port, path='/mqtt', protocol='mqtt', origin=None, tls=None, source=None, timeout=10, headers=(), receive_buffer=None):
        self.content, self.closed = b'', None
        self.socket = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((host, port))
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        if origin is None:
            origin = f'{"https" if tls else "http"}://{host}:{port}'
        lines = [f'GET {path} HTTP/1.1', f'Host: {host}:{port}', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13',
                 f'Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}', *headers]
        lines += [f'Origin: {origin}'] if origin else []
        lines += [f'Sec-WebSocket-Protocol: {protocol}'] if protocol else []
        try:
            self.socket.sendall('\r\n'.join([*lines, '', '']).encode())
            head = b''
            while b'\r\n\r\n' not in head:
                more = self.socket.recv(4096)
                if not more:
                    raise Refused(f'no answer to the upgrade: {head!r}')
                head += more
            head, self.buffer = head.split(b'\r\n\r\n', 1)
            if b' 101 ' not in head.split(b'\r\n')[0] + b' ':
                raise Refused(head.decode(errors='replace'))
        except (OSError, Refused) as e:
            self.socket.close()
            raise Refused(str(e)) from None

    def send_frame(self, opcode, data, final=True, masked=True):
        n, mask = len(data), os.urandom(4)
        head = bytes([0x80 * final | opcode])
        bit = 0x80 * masked
        head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack('>H', n) if n < 65536 else \
            bytes([bit | 127]) + struct.pack('>Q', n)
        if masked:
            data = mask + bytes(b ^ mask[i & 3] for i, b in enumerate(data))
        self.socket.sendall(head + data)

    def sendall(self, data):
        self.send_frame(2, data)

    def recv(self, n):
        """Content of the next data frame; b'' after the server's close, whose code is `closed` then."""
        while not self.content:
            first, second = self._take(2)
            length = second & 127
            if length > 125:
                length = struct.unpack('>H' if length == 126 else '>Q', self._take(2 if length == 126 else 8))[0]
            data = self._take(length)
            if first & 15 == 8:
                self.closed = struct.unpack('>H', data[:2])[0] if data else 1005
                return b''
            if first & 15 == 9:
                self.send_frame(10, data)
            elif first & 15 in (0, 1, 2):
                self.content += data
        taken, self.content = self.content[:n], self.content[n:]
        return taken

    def close(self):
        self.socket.close()


class BrowserClient(Client):
    """MQTT 5 as the page speaks it; options as those of WebSocket and Client."""

    def __init__(self, host, port, tls=None, source=None, receive_buffer=None, **kw):
        self.how = {'tls': tls, 'source': source, 'receive_buffer': receive_buffer}
        super().__init__(port, host=host, **kw)

    def connect(self, host, port):
        return WebSocket(host, port, **self.how)
