# alone
# build: plain
"""The proxy that other tests trust for their faults: each of them is really produced, and nothing else is."""
import socket
import sys
import threading
import time
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from fault_proxy import FaultProxy


def read_all(s, n):
    data = b''
    while len(data) < n:
        got = s.recv(min(65536, n - len(data)))
        if not got:
            break
        data += got
    return data


class Proxy(unittest.TestCase):
    def setUp(self):
        self.server = socket.create_server(('127.0.0.1', 0))
        self.proxy = FaultProxy(self.server.getsockname()[1])
        self.sockets = []

    def tearDown(self):
        self.proxy.stop()
        for s in [*self.sockets, self.server]:
            s.close()
        self.assertFalse(self.proxy.thread.is_alive())

    def pair(self):
        client = socket.create_connection(('127.0.0.1', self.proxy.port))
        self.server.settimeout(10)
        broker, _ = self.server.accept()
        for s in (client, broker):
            s.settimeout(10)
        self.sockets += [client, broker]
        return client, broker

    def timed(self, sender, receiver, n):
        """Seconds that n bytes take."""
        data = bytes(i * 7 % 251 for i in range(n))
        writer = threading.Thread(target=sender.sendall, args=(data,))
        began = time.monotonic()
        writer.start()
        got = read_all(receiver, n)
        seconds = time.monotonic() - began
        writer.join()
        self.assertEqual(got, data)
        return seconds

    def test_passes_on(self):
        client, broker = self.pair()
        self.timed(client, broker, 1_000_000)
        self.timed(broker, client, 2_000_000)
        self.assertEqual((self.proxy.up.bytes, self.proxy.down.bytes), (1_000_000, 2_000_000))
        client.shutdown(socket.SHUT_WR)  # an end of file is one at the other side, and no more
        self.assertEqual(broker.recv(1), b'')
        self.timed(broker, client, 10_000)

    def test_rate(self):
        client, broker = self.pair()
        self.proxy.down.rate = 1_250_000
        seconds = self.timed(broker, client, 1_250_000)
        self.assertGreater(seconds, 0.93)  # never faster, but for what is read ahead
        self.assertLess(self.timed(client, broker, 1_000_000), 0.5 * seconds + 0.5)  # the other way is free
        # Two connections share it.
        other, other_broker = self.pair()
        began, threads = time.monotonic(), []
        for c, b in ((client, broker), (other, other_broker)):
            threads.append(threading.Thread(target=self.timed, args=(b, c, 400_000)))
            threads[-1].start()
        for t in threads:
            t.join()
        self.assertGreater(time.monotonic() - began, 0.58)

    def test_delay_and_jitter(self):
        client, broker = self.pair()
        self.proxy.up.delay = 0.1
        times = [self.timed(client, broker, 10) for _ in range(5)]
        self.assertGreaterEqual(min(times), 0.1)
        self.proxy.up.jitter = 0.1
        times = [self.timed(client, broker, 10) for _ in range(20)]
        self.assertGreaterEqual(min(times), 0.1)
        self.assertGreater(max(times) - min(times), 0.04)
        self.timed(client, broker, 500_000)  # in order
        # A delay is no limit to the rate.
        self.proxy.up.jitter, self.proxy.up.delay = 0, 0.3
        self.assertLess(self.timed(client, broker, 3_000_000), 3)

    def test_hold(self):
        client, broker = self.pair()
        self.proxy.down.hold()
        broker.sendall(b'late')
        self.timed(client, broker, 100_000)  # the other way goes on
        client.settimeout(0.3)
        self.assertRaises(TimeoutError, client.recv, 1)
        client.settimeout(10)
        self.proxy.down.go_on()
        self.assertEqual(client.recv(10), b'late')
        began = time.monotonic()
        self.proxy.down.hold(0.5)
        self.timed(broker, client, 10)
        self.assertGreaterEqual(time.monotonic() - began, 0.5)

    def test_reset_every(self):
        self.proxy.down.reset_every = 100_000
        for n in (1, 2):
            client, broker = self.pair()
            threading.Thread(target=self.send_what_goes, args=(broker,)).start()
            got = 0
            with self.assertRaises(ConnectionResetError):
                while True:
                    got += len(client.recv(65536))
            self.assertLessEqual(got, 100_000)
            self.assertEqual(self.proxy.down.bytes, n * 100_000)
            self.assertEqual(self.proxy.resets, n)

    def send_what_goes(self, s):
        try:
            s.sendall(bytes(10_000_000))
        except OSError:
            pass

    def test_reset_now_and_refuse(self):
        client, broker = self.pair()
        self.timed(client, broker, 10)
        self.proxy.reset()
        self.assertRaises(ConnectionResetError, client.recv, 1)
        self.assertRaises(ConnectionResetError, broker.recv, 1)
        self.proxy.refusing = True
        with socket.create_connection(('127.0.0.1', self.proxy.port)) as s:
            s.settimeout(10)
            self.assertRaises(ConnectionResetError, s.recv, 1)

    def test_half_close(self):
        client, broker = self.pair()
        self.timed(client, broker, 10)
        self.proxy.half_close(self.proxy.up)
        self.assertEqual(broker.recv(1), b'')
        client.sendall(b'into nothing')
        self.timed(broker, client, 100_000)


if __name__ == '__main__':
    rig.main()
