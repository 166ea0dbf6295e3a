"""A TCP proxy that is a bad network: between a client and a broker, say.

    with FaultProxy(broker_port) as proxy:      # clients connect to proxy.port
        proxy.down.rate = 1_250_000             # 10 Mbit/s towards the client
        proxy.up.delay = proxy.down.delay = 0.05
        proxy.down.reset_every = 2_000_000      # every connection is reset there
        ...
        proxy.down.hold()                       # nothing comes to the client, all goes to the broker
        proxy.down.go_on()

`up` is from the client to the broker, `down` the other way. Settings may change at any time and hold for all
connections, which share a direction's rate as they would share a cable. A direction has no queue of its own but what
its delay takes: what it is too slow for waits in the sender's socket. It runs on a thread of its own."""
import asyncio
import contextlib
import random
import socket
import struct
import threading
import time

CHUNK = 16384        # read at a time, and no more than...
CHUNK_S = 0.005      # ... the rate carries in this time
AHEAD_S = 0.02       # of the rate's time read ahead, so that a late timer leaves no gap
LOOK_S = 0.005       # how often a direction that is held looks whether it still is
SOCKET_BYTES = 65536


class Direction:
    def __init__(self, seed):
        self.rate = None         # bytes a second; None: no limit
        self.delay = 0.0         # seconds
        self.jitter = 0.0        # up to so many seconds more, each chunk; order is kept
        self.reset_every = None  # bytes after which a connection is reset (RST, to both ends); None: never
        self.bytes = 0           # passed on, in all
        self.held_until = 0.0    # monotonic
        self.random = random.Random(seed)
        self.free_at = 0.0

    def hold(self, seconds=float('inf')):
        """Nothing more passes, for so long, while the other direction goes on."""
        self.held_until = time.monotonic() + seconds

    def go_on(self):
        self.held_until = 0.0

    def held(self):
        return time.monotonic() < self.held_until

    def due(self, n):
        """When a chunk of n bytes that is there now arrives."""
        now = time.monotonic()
        self.free_at = max(now, self.free_at) + (n / self.rate if self.rate else 0)
        return self.free_at + self.delay + (self.random.uniform(0, self.jitter) if self.jitter else 0)


class Connection:
    """One client's; a task a direction reads, another one writes."""

    def __init__(self, proxy, client, broker):
        self.proxy, self.client, self.broker = proxy, client, broker
        self.tasks = []

    async def run(self):
        ways = ((self.proxy.up, self.client, self.broker), (self.proxy.down, self.broker, self.client))
        for direction, source, sink in ways:
            queue = asyncio.Queue()
            self.tasks += [asyncio.create_task(self.read(direction, source, queue)),
                           asyncio.create_task(self.write(direction, sink, queue))]
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.client.close()
        self.broker.close()

    async def read(self, direction, source, queue):
        loop, last = asyncio.get_running_loop(), 0.0
        try:
            while True:
                while direction.held():
                    await asyncio.sleep(LOOK_S)
                ahead = direction.free_at - time.monotonic() - AHEAD_S
                if ahead > 0:
                    await asyncio.sleep(ahead)
                    continue
                size = min(CHUNK, max(1, int(direction.rate * CHUNK_S))) if direction.rate else CHUNK
                data = await loop.sock_recv(source, size)
                last = max(last, direction.due(len(data)))
                queue.put_nowait((last, data))
                if not data:
                    return
        except OSError:
            queue.put_nowait((last, b''))

    async def write(self, direction, sink, queue):
        loop, passed = asyncio.get_running_loop(), 0
        while True:
            at, data = await queue.get()
            while (wait := at - time.monotonic()) > 0 or direction.held():
                await asyncio.sleep(LOOK_S if direction.held() else wait)
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            if direction.reset_every:
                data = data[:direction.reset_every - passed]
            direction.bytes += len(data)  # before it is sent: whoever got it finds it counted
            try:
                await loop.sock_sendall(sink, data)
            except OSError:
                self.end()
                return
            passed += len(data)
            if direction.reset_every and passed >= direction.reset_every:
                self.proxy.resets += 1
                self.reset()
                return

    def half_close(self, direction):
        """Its sink gets an end of file; what the other end sends is lost from now on."""
        way = 0 if direction is self.proxy.up else 2
        for task in self.tasks[way:way + 2]:
            task.cancel()
        with contextlib.suppress(OSError):
            (self.broker if way == 0 else self.client).shutdown(socket.SHUT_WR)

    def reset(self):
        for s in (self.client, self.broker):
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.end()

    def end(self):
        for task in self.tasks:
            task.cancel()


class FaultProxy:
    def __init__(self, broker_port, port=0, seed=1):
        self.broker_port = broker_port
        self.up, self.down = Direction(seed), Direction(seed + 1)
        self.refusing = False  # new connections are reset at once
        self.connections, self.resets = 0, 0
        self.open = set()
        self.listener = socket.create_server(('127.0.0.1', port))
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        self._call(self.main.cancel)
        self.thread.join(10)

    def reset(self):
        """All connections that there are, now."""
        self._call(lambda: [c.reset() for c in list(self.open)])

    def half_close(self, direction):
        self._call(lambda: [c.half_close(direction) for c in list(self.open)])

    def _call(self, function):
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.main = self.loop.create_task(self._accept())
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.main)
        for c in list(self.open):
            c.end()
        rest = asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self.listener.close()
        self.loop.close()

    async def _accept(self):
        while True:
            client, _ = await self.loop.sock_accept(self.listener)
            self.loop.create_task(self._serve(client))

    async def _serve(self, client):
        self.connections += 1
        broker = socket.socket()
        connection = Connection(self, client, broker)
        for s in (client, broker):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        try:
            if self.refusing:
                raise ConnectionRefusedError
            await self.loop.sock_connect(broker, ('127.0.0.1', self.broker_port))
        except OSError:
            connection.reset()
            client.close()
            broker.close()
            return
        self.open.add(connection)
        try:
            await connection.run()
        finally:
            self.open.discard(connection)
