"""The dashboard's gateway, over HTTP and WebSockets as a browser and as an attacker would, with a real broker: plain, and secured."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import select
import socket
import ssl
import subprocess
import sys
import time
import unittest
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import mqtt5
import rig
from rig import free_port, wait_for
from websocket import BrowserClient, Refused, WebSocket

PASSWORD = 'open-sesame'
HASH = '$y$j9T$XMCmiggm/BtyVSUcpYzOB1$xzqM3T1F03vRTIX3xpcFXZgi3l9j/p6CDRHXKlxg4m9'
HEADER_S, SEND_S, CONNECT_S = 10, 15, 10  # GATEWAY_HEADER_S ... in gateway.h
CONNECT = b'\x10\x0f\0\4MQTT\5\2\0\x3c\0\0\2me'


class Dashboard(rig.Case):
    site = 'home'
    secure = False

    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=self.secure)
        self.page = self.work / 'page'
        (self.page / 'js').mkdir(parents=True)
        (self.page / 'index.html').write_text('<!doctype html><title>Tasuki</title>')
        (self.page / 'js/app.js').write_text('0;' * 50000)
        (self.work / 'secret.js').write_text('secret')
        self.port = free_port()
        self.tls = None

    def serve(self, conf=None, operator=True, broker=True):
        if broker:
            self.fleet.start_broker()
        self.fleet.dashboard_conf('dash-1', self.page, self.port, rig.merge(
            self.fleet.operator_conf('dash-1', HASH) if operator else {}, conf))
        # What a sanitizer keeps of freed memory is not the program's.
        options = os.environ.get('ASAN_OPTIONS', '')
        self.program = self.fleet.start_dashboard('dash-1', {'ASAN_OPTIONS': f'{options}:quarantine_size_mb=1'})
        wait_for('the dashboard', self.listens, 30)

    def listens(self):
        self.assertTrue(self.program.running(), self.program.tail())
        with socket.socket() as s:
            return s.connect_ex(('127.0.0.1', self.port)) == 0

    def ask(self, method, path, body=None, headers=None, **kw):
        """(status, headers, body) of one request."""
        address = kw.get('address', '127.0.0.1')
        c = http.client.HTTPSConnection(address, self.port, timeout=30, context=self.tls) if self.tls else \
            http.client.HTTPConnection(address, self.port, timeout=30, source_address=kw.get('source'))
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()
        finally:
            c.close()

    def post(self, path, content, cookie=None, **headers):
        """(status, headers, JSON) of a POST as the page makes it; a header that is None is left out."""
        origin = f'{"https" if self.tls else "http"}://127.0.0.1:{self.port}'
        h = {'Origin': origin, 'Content-Type': 'application/json', 'Cookie': cookie, **{k.replace('_', '-'): v for k, v in headers.items()}}
        body = content if isinstance(content, (bytes, str)) else json.dumps(content)
        status, got, answer = self.ask('POST', path, body, {k: v for k, v in h.items() if v is not None})
        return status, got, json.loads(answer) if answer else None

    def login(self):
        status, headers, _ = self.post('/login', {'password': PASSWORD})
        self.assertEqual(status, 204)
        return headers['set-cookie'].split(';')[0]

    def raw(self, data, source=None):
        s = socket.create_connection(('127.0.0.1', self.port), 30, source_address=source)
        s.sendall(data)
        return s

    def browser(self, **kw):
        return BrowserClient('127.0.0.1', self.port, tls=self.tls, **{'client_id': 'me', **kw})

    def says(self, text):
        wait_for(f'{text!r} in the log', lambda: text in self.program.text(), 60)


def until_closed(s):
    """(all that came, how long it took)."""
    began, got = time.monotonic(), b''
    try:
        while more := s.recv(65536):
            got += more
    except (ConnectionResetError, BrokenPipeError):
        pass
    s.close()
    return got, time.monotonic() - began


class Page(Dashboard):
    def test_files(self):
        classes = self.work / 'classes.txt'
        classes.write_text('cat\n"dog"\n')
        self.serve({'dashboard': {'classes': classes}}, operator=False)
        status, headers, body = self.ask('GET', '/')
        self.assertEqual((status, body), (200, b'<!doctype html><title>Tasuki</title>'))
        self.assertEqual(headers['content-type'], 'text/html; charset=utf-8')
        self.assertIn("default-src 'self'", headers['content-security-policy'])
        self.assertIn("frame-ancestors 'none'", headers['content-security-policy'])
        self.assertEqual((headers['x-content-type-options'], headers['referrer-policy'], headers['cache-control']),
                         ('nosniff', 'no-referrer', 'no-cache'))
        self.assertNotIn('server', {k.lower() for k in headers})
        status, headers, body = self.ask('GET', '/js/app.js?v=1')
        self.assertEqual((status, len(body), headers['content-type']), (200, 100000, 'text/javascript; charset=utf-8'))
        status, kept, body = self.ask('GET', '/js/app.js', headers={'If-None-Match': headers['etag']})
        self.assertEqual((status, body), (304, b''))
        status, headers, body = self.ask('GET', '/site.json')
        self.assertEqual((status, headers['cache-control'], json.loads(body)),
                         (200, 'no-store', {'site': 'home', 'classes': ['cat', '"dog"'], 'operator': False, 'version': '0.1.0'}))
        for path in ('/login', '/command', '/logout'):
            self.assertEqual(self.post(path, {})[0], 404)
        self.not_reached()
        self.other_methods()
        self.other_names()
        self.unknown_upgrade()
        self.assertEqual(self.program.stop(), 0)
        self.assertIn('stopping', self.program.text())

    def not_reached(self):
        for path in ('/../secret.js', '/js/../../secret.js', '/%2e%2e/secret.js', '/..%2fsecret.js', '/js/%2e%2e/%2e%2e/secret.js', '//etc/passwd',
                     '/....//secret.js', '/js/', '/js', '/INDEX.HTML', '/index.html%00.js', '/\\..\\secret.js', '/secret.js', '/' + 'a' * 3000):
            got, _ = until_closed(self.raw(f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'.encode()))
            self.assertNotIn(b' 200 ', got.split(b'\r\n')[0], path)
            self.assertNotIn(b'secret', got.split(b'\r\n\r\n', 1)[-1], path)
            self.assertNotIn(b'root:', got)

    def other_methods(self):
        for method in ('HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'):
            try:
                self.assertIn(self.ask(method, '/')[0], (403, 404, 405), method)
            except (http.client.HTTPException, ConnectionError):
                pass  # not even answered
        for data in (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', b'GET / HTTP/1.1\r\n' + b'X: ' + b'y' * 70000 + b'\r\n\r\n', b'\0' * 5000,
                     b'GET /\r\n\r\n', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
                     b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n'):
            s = self.raw(data)
            s.settimeout(HEADER_S + 30)
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed there already
            self.assertNotIn(b'101 Switching', until_closed(s)[0])

    def other_names(self):
        """A page from elsewhere whose name leads to the loopback."""
        for host, expected in ((f'127.0.0.1:{self.port}', 200), ('localhost', 200), ('[::1]:80', 200), ('evil.example', 421), ('127.0.0.1.evil.example', 421),
                               (f'evil.example:{self.port}', 421), ('localhost.evil.example', 421), ('', 421)):
            self.assertEqual(self.ask('GET', '/site.json', headers={'Host': host})[0], expected, host)
        self.assertEqual(self.refusal(headers=('Host: evil.example',), origin='http://evil.example'), 'gone')

    def unknown_upgrade(self):
        """On a connection that lives on libwebsockets 4.1 asks about it when it has freed the request (CVE-2025-11677)."""
        get = b'GET /site.json HTTP/1.1\r\nHost: localhost\r\n'
        for after in (b'', get + b'\r\n'):
            s = self.raw(get + b'\r\n')
            self.assertIn(b' 200 ', s.recv(65536))
            s.sendall(get + b'Connection: Upgrade\r\nUpgrade: else\r\n\r\n' + after)
            until_closed(s)
            self.assertTrue(self.program.running(), self.program.tail())
            self.assertEqual(self.ask('GET', '/site.json')[0], 200)

    def refusal(self, **kw):
        try:
            WebSocket('127.0.0.1', self.port, tls=self.tls, **kw).close()
            return None
        except Refused:
            return 'gone'

    def test_insecure_under_a_name(self):
        """Told to be insecure, it has any name, or, where one is written, no other."""
        self.serve({'dashboard': {'insecure': True, 'host': 'fleet.example'}}, operator=False, broker=False)
        for host, expected in (('fleet.example', 200), ('localhost', 200), ('evil.example', 421)):
            self.assertEqual(self.ask('GET', '/site.json', headers={'Host': host})[0], expected, host)

    def test_refused_at_start(self):
        """Where others could listen: only with TLS, or by the word that it is wanted."""
        def start(conf):
            self.fleet.dashboard_conf('dash-2', self.page, self.port, conf)
            return subprocess.run([self.fleet.dashboard_program, '--check-config', self.work / 'dash-2/dashboard.conf'], capture_output=True, text=True)
        r = start({'dashboard': {'listen': f'0.0.0.0:{self.port}'}})
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r'dashboard.conf:\d+: \[dashboard\] listen: found 0.0.0.0:\d+, which others reach')
        r = start({'dashboard': {'listen': f'0.0.0.0:{self.port}', 'insecure': True}})
        self.assertEqual((r.returncode, r.stderr), (0, ''))
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            s.listen()
            port = s.getsockname()[1]
            self.fleet.dashboard_conf('dash-2', self.page, port)
            r = subprocess.run([self.fleet.dashboard_program, self.work / 'dash-2/dashboard.conf'], capture_output=True, text=True, timeout=30)
            self.assertEqual(r.returncode, 1)
            self.assertIn(f'[dashboard] listen: cannot listen at 127.0.0.1:{port}', r.stderr)


class Mqtt(Dashboard):
    def test_looks_on(self):
        self.serve()
        topic = self.fleet.topic('device/cam-1/status')
        control = mqtt5.Client(self.fleet.port)
        control.publish(topic, 'kept', retain=True)
        one, other = self.browser(), self.browser()  # of one client id
        for b in (one, other):
            self.assertEqual(b.subscribe(self.fleet.topic('device/+/status')), [1])
            self.assertEqual(b.received(), [(topic, 'kept', 1)])
        control.publish(topic, 'x' * 60000)
        for b in (one, other):
            self.assertEqual(b.received(), [(topic, 'x' * 60000, 0)])
        one.unsubscribe(self.fleet.topic('device/+/status'))
        control.publish_all([topic] * 300, 'y')
        self.all_of(other, 300)
        self.assertEqual(one.received(), [])
        self.hostile(control)
        self.assertEqual(other.received(), [])  # it has been there all the time
        one.send(0xe0, b'')
        self.assertEqual(one.socket.recv(1), b'')
        self.assertEqual(len(re.findall('looks on as client=dashboard-[0-9a-f]{16}$', self.program.text(), re.M)),
                         len(set(re.findall('client=(dashboard-[0-9a-f]{16})$', self.program.text(), re.M))))

    def all_of(self, b, n):
        got = []
        while len(got) < n:  # so many at a time as the broker has on their way
            got += b.received()
        self.assertEqual(len(got), n)

    def hostile(self, control):
        control.subscribe('#')
        control.received()
        def sub(topic, qos=1):
            body = b'\0\1\0' + mqtt5.text(topic) + bytes([qos])
            return CONNECT + b'\x82' + mqtt5.varint(len(body)) + body
        cases = {
            'publish': CONNECT + b'\x30\5\0\1t\0x', 'publish without connect': b'\x30\5\0\1t\0x', 'will': b'\x10\x16\0\4MQTT\5\6\0\x3c\0\0\2me\0\0\1t\0\1x',
            'user': b'\x10\x12\0\4MQTT\5\x82\0\x3c\0\0\2me\0\1u', 'old session': b'\x10\x0f\0\4MQTT\5\0\0\x3c\0\0\2me', 'everything': sub('#'),
            'share': sub('$share/trainers/' + self.fleet.topic('device/+/offer')), 'commands': sub(self.fleet.topic('device/+/in/cmd')),
            'weights': sub(self.fleet.topic('trainer/+/in/+/block/+/+')), 'another site': sub('tasuki/v1/other/device/+/status'),
            'qos 2': sub(self.fleet.topic('device/+/status'), 2), 'too long': CONNECT + b'\x82\xff\xff\xff\x7f', 'auth': CONNECT + b'\xf0\0',
            'twice': CONNECT * 2, 'rubbish': bytes(range(256)) * 20,
        }
        for what, data in cases.items():
            with self.subTest(what=what):
                s = WebSocket('127.0.0.1', self.port)
                for i in range(0, len(data), 1000):
                    try:
                        s.sendall(data[i:i + 1000])
                    except OSError:
                        break
                try:
                    while s.recv(65536):
                        pass
                    self.assertEqual(s.closed, 1008)
                except (Refused, OSError):  # what it had sent was not read any more
                    pass
                s.close()
        self.assertEqual(control.received(), [])
        self.assertIn('refused: found PUBLISH', self.program.text())
        self.frames()
        self.upgrades()

    def frames(self):
        def ended(*frames, **kw):
            s = WebSocket('127.0.0.1', self.port)
            for f in frames:
                s.send_frame(*f, **kw)
            try:
                while s.recv(65536):
                    pass
            except (Refused, OSError):
                pass
            s.close()
        ended((1, b'text'))
        ended((2, CONNECT), masked=False)
        ended((3, b'no such opcode'))
        ended((0, b'a part of nothing'))
        ended((9, b'x' * 126))  # a ping that is too long
        ended((8, b''))
        # In the smallest parts: as good as any.
        s = WebSocket('127.0.0.1', self.port)
        for i, byte in enumerate(CONNECT):
            s.send_frame(2 if i == 0 else 0, bytes([byte]), final=i == len(CONNECT) - 1)
        self.assertEqual(s.recv(1), b'\x20')
        s.close()

    def upgrades(self):
        for kw in ({'path': '/'}, {'path': '/mqtt/x'}, {'path': '/mqtt/../mqtt2'}, {'protocol': None}, {'protocol': 'chat'}, {'protocol': 'http'}, {'protocol': 'loop'},
                   {'origin': ''}, {'origin': 'http://evil.example'}, {'origin': 'null'}, {'origin': f'http://127.0.0.1:{self.port + 1}'},
                   {'origin': f'http://127.0.0.1:{self.port}.evil.example'}, {'origin': f'file://127.0.0.1:{self.port}'}):
            with self.subTest(**kw), self.assertRaises(Refused):
                WebSocket('127.0.0.1', self.port, **kw)
        self.assertIn('a page of another origin', self.program.text())

    def test_broker_away(self):
        """The page is there, and is told; when the broker is back, so is what it says."""
        self.serve(broker=False)
        self.assertEqual(self.ask('GET', '/')[0], 200)
        with self.assertRaisesRegex(Refused, 'CONNACK 0x88'):
            self.browser()
        self.says('Connection refused')
        cookie = self.login()
        self.assertEqual(self.post('/command', {'device': 'cam-1', 'cmd': 'ping'}, cookie)[0], 503)
        self.fleet.start_broker()
        b = self.browser()
        b.subscribe(self.fleet.topic('device/+/status'))
        self.fleet.programs['broker'].kill()
        with self.assertRaises(Refused):
            b._until(0)
        self.assertEqual(b.socket.closed, 1013)
        with self.assertRaisesRegex(Refused, 'CONNACK 0x88'):
            self.browser()
        # A broker that takes the connection and says nothing.
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            silent.bind(('127.0.0.1', self.fleet.port))
            silent.listen()
            s = WebSocket('127.0.0.1', self.port)
            s.sendall(CONNECT)
            s.socket.settimeout(1)
            with self.assertRaises(OSError):
                s.recv(1)
            self.assertEqual(self.ask('GET', '/')[0], 200)
            s.close()


class Limits(Dashboard):
    def test_who_is_slow_or_many(self):
        """Each of them costs the others nothing, and itself its connection, in its time."""
        self.serve({'dashboard': {'connections': 40, 'connections_per_address': 20}})
        control = mqtt5.Client(self.fleet.port)
        good = self.browser(source='127.0.0.2')
        good.subscribe(self.fleet.topic('device/+/report'))
        slow = self.browser(source='127.0.0.3', receive_buffer=4096)
        slow.subscribe(self.fleet.topic('device/+/report'))
        quiet = self.browser(source='127.0.0.4')
        began, before = time.monotonic(), self.resident()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waits = {
                'a head that does not come': pool.submit(until_closed, self.raw(b'GET / HT')),
                'nothing at all': pool.submit(until_closed, self.raw(b'')),
                'a head byte by byte': pool.submit(self.drip, b'GET / HTTP/1.1\r\nX: ' + b'y' * 4000),
                'a body byte by byte': pool.submit(self.drip, self.head(4000) + b'{' + b' ' * 4000),
                'a body that does not come': pool.submit(until_closed, self.raw(self.head(100))),
                'a WebSocket that says nothing': pool.submit(self.mute),
            }
            topic = self.fleet.topic('device/cam-1/report')
            for _ in range(60):
                control.publish_all([topic] * 10, 'x' * 50000)
                self.assertEqual(len(good.received()), 10)
            grown = self.resident() - before
            self.many()
            for what, wait in waits.items():
                with self.subTest(what=what):
                    self.assertLess(wait.result(60)[1], max(HEADER_S, CONNECT_S) + 15)  # half of what an idle one has
        self.assertEqual(self.ask('GET', '/')[0], 200)
        wait_for('the end of the slow one', lambda: f'browser=127.0.0.3 dropped: it took nothing for {SEND_S} s' in self.program.text(), 60)
        self.assertGreater(time.monotonic() - began, SEND_S - 1)
        time.sleep(max(0, began + SEND_S + 2 - time.monotonic()))
        self.assertEqual(quiet.received(), [])  # who is sent nothing is not one who takes nothing
        control.publish(topic, 'last')
        self.assertEqual([m[1] for m in good.received()], ['last'])
        self.assertLess(grown, 16e6, '30 MB for one that does not read were not to be kept')
        rig.figure(f'{grown / 1e6:.1f} MB more in memory with 30 MB on their way to one that does not read (with sanitizers)')

    def resident(self):
        return int(re.search(r'VmRSS:\s+(\d+)', pathlib.Path(f'/proc/{self.program.pid}/status').read_text()).group(1)) * 1024

    def head(self, length):
        cookie = self.login()
        return (f'POST /command HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: http://127.0.0.1:{self.port}\r\nCookie: {cookie}\r\n'
                f'Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n').encode()

    def drip(self, data):
        s = self.raw(data[:data.find(b'{') + 1] if b'{' in data else data[:1])
        began = time.monotonic()
        try:
            for byte in data[-4000:]:
                s.sendall(bytes([byte]))
                time.sleep(0.5)
        except OSError:
            pass
        s.close()
        return b'', time.monotonic() - began

    def mute(self):
        s, began = WebSocket('127.0.0.1', self.port, timeout=60), time.monotonic()
        try:
            while s.recv(100):
                pass
        except (Refused, OSError):
            pass
        s.close()
        return b'', time.monotonic() - began

    def many(self):
        held = [socket.create_connection(('127.0.0.1', self.port), 30, source_address=('127.0.0.9', 0)) for _ in range(60)]
        ended = wait_for('40 refusals', lambda: (found := select.select(held, [], [], 0)[0])[39:] and found, 30)
        self.assertEqual(len(ended), 40)
        for s in ended:
            held.remove(s)
            s.close()
        # Others get in, and so does this one when the others have gone.
        self.assertEqual(self.ask('GET', '/', source=('127.0.0.10', 0))[0], 200)
        for s in held:
            s.close()
        wait_for('room', lambda: self.get_from('127.0.0.9'), 60)
        self.assertIn('browser=127.0.0.9 refused: found', self.program.text())

    def get_from(self, source):
        try:
            return self.ask('GET', '/', source=(source, 0))[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class Operator(Dashboard):
    def agent(self, conf=None):
        self.quick_agent('cam-1', self.digits('cam', 60, 2), rig.merge({'train': {'rounds': 1}}, conf))
        return self.fleet.start_agent('cam-1')

    def answer(self, cookie, until='ok', **wish):
        """The one answer to a command that is repeated until the device is there."""
        def asked():
            status, _, answer = self.post('/command', wish, cookie)
            return answer['answers'] if status == 200 and answer['answers'] else None
        found, = wait_for(f'answer to {wish}', asked, rig.WAIT, every=0.5)
        return found

    def test_commands(self):
        self.serve()
        self.agent()
        self.assertTrue(json.loads(self.ask('GET', '/site.json')[2])['operator'])
        self.assertEqual(self.post('/command', {'device': 'cam-1', 'cmd': 'ping'})[0], 403)
        status, headers, answer = self.post('/login', {'password': PASSWORD})
        self.assertEqual((status, answer), (204, None))
        self.assertRegex(headers['set-cookie'], rf'^tasuki-{self.port}=[0-9a-f]{{64}}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict$')
        cookie = headers['set-cookie'].split(';')[0]
        found = self.answer(cookie, device='cam-1', cmd='ping')
        self.assertEqual((found['ok'], found['device']), (True, 'cam-1'))
        self.assertTrue(self.answer(cookie, device='cam-1', cmd='set', key='rounds', value='2')['ok'])
        refused = self.answer(cookie, device='cam-1', cmd='set', key='nonsense', value='2')
        self.assertEqual(refused['ok'], False)
        self.assertIn('nonsense', refused['error'])
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            nobody = pool.submit(self.post, '/command', {'device': 'cam-9', 'cmd': 'ping'}, cookie)
            fleet = pool.submit(self.post, '/command', {'device': '*', 'cmd': 'ping'}, cookie)
            status, _, answer = nobody.result()
            self.assertEqual((status, answer), (200, {'answers': [], 'error': 'cam-9: no answer within 5 s; the command has expired'}))
            status, _, answer = fleet.result()
            self.assertEqual((status, [a['device'] for a in answer['answers']]), (200, ['cam-1']))
        self.assertLess(time.monotonic() - began, 15)
        self.says('browser=127.0.0.1 commands device=cam-1 cmd=ping')
        self.one_behind_another(cookie)
        self.wrong(self.login())  # a session may command so often
        self.forged(cookie)
        # One that does not wait for its answer.
        s = self.raw(self.request(cookie, {'device': 'cam-9', 'cmd': 'ping'}))
        time.sleep(0.2)
        s.close()
        # Logout ends the session, not only the cookie.
        self.assertEqual(self.post('/logout', '', cookie, Origin='http://evil.example')[0], 403)
        status, headers, _ = self.post('/logout', '', cookie)
        self.assertEqual(status, 204)
        self.assertIn('Max-Age=0', headers['set-cookie'])
        self.assertEqual(self.post('/command', {'device': 'cam-1', 'cmd': 'ping'}, cookie)[0], 403)

    def request(self, cookie, wish, length=None):
        body = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
        return (f'POST /command HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: http://127.0.0.1:{self.port}\r\nCookie: {cookie}\r\n'
                f'Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n').encode() + body

    def one_behind_another(self, cookie):
        """Before the first is answered, libwebsockets 4.1 says without end that its body is there."""
        login = self.request('', {'password': 'x'}).replace(b'/command', b'/login')
        for requests in (login * 3, login + b'x' * 5000, self.request('', {}) * 3, self.request(cookie, {'device': 'cam-9', 'cmd': 'ping'}) * 3):
            s = self.raw(requests)
            began = time.monotonic()
            self.assertEqual(self.ask('GET', '/site.json')[0], 200)
            self.assertLess(time.monotonic() - began, 5)
            self.assertLess(until_closed(s)[1], 5)

    def wrong(self, cookie):
        ping = {'device': 'cam-1', 'cmd': 'ping'}
        for content, part in (('', 'JSON'), ('{', ''), ('[]', 'object'), ('"x"', ''), ('{}', 'device'), ('{"device":1,"cmd":"ping"}', 'device'),
                              ({'device': 'cam-1'}, 'cmd'), ({'device': 'a/b', 'cmd': 'ping'}, 'device'), ({'device': '+', 'cmd': 'ping'}, 'device'),
                              ({'device': 'fleet', 'cmd': 'ping'}, 'device'), ({'device': 'cam-1', 'cmd': 'pong'}, 'cmd'),
                              ({**ping, 'x': 1}, "'x='"), ({**ping, 'id': 'mine'}, "'id'"), ({**ping, 'expires': '2030-01-01T00:00:00Z'}, "'expires"),
                              ({'device': 'cam-1', 'cmd': 'train', 'epochs': 'x'}, 'epochs'), ({'device': 'cam-1', 'cmd': 'pin', 'checkpoint': 'x'}, 'checkpoint'),
                              (b'{"device":"cam-1","cmd":"ping","cmd":"pause"}', ''), (b'{"device":"\xff","cmd":"ping"}', ''), ('[' * 2000, '')):
            status, _, answer = self.post('/command', content, cookie)
            self.assertEqual(status, 400, content)
            self.assertIn(part, answer['error'])
        self.assertEqual(self.post('/command', 'x' * 5000, cookie)[0], 413)
        self.assertEqual(self.post('/command', ping, cookie, Content_Type='text/plain')[0], 415)
        self.assertEqual(self.post('/command', ping, cookie, Content_Type=None)[0], 415)
        self.assertEqual(self.post('/command', ping, cookie, Origin=None)[0], 403)
        self.assertEqual(self.post('/command', ping, cookie, Origin='http://evil.example')[0], 403)
        self.assertEqual(self.post('/command', ping, cookie, Origin='null')[0], 403)
        self.assertEqual(self.post('/nonsense', ping, cookie)[0], 404)
        head = self.request(cookie, ping).replace(b'Content-Length: ', b'X: ')
        self.assertNotIn(b' 200 ', until_closed(self.raw(head))[0])
        self.assertNotIn(b' 200 ', until_closed(self.raw(self.request(cookie, b'{', '99999999999999999999')))[0])
        self.assertNotIn(b' 200 ', until_closed(self.raw(self.request(cookie, b'{', '-1')))[0])
        # More than it said: the rest is another request, or none.
        self.assertNotIn(b'"ok":true', until_closed(self.raw(self.request(cookie, b'{}' + b'x' * 9000, 2)))[0])

    def forged(self, cookie):
        name, token = cookie.split('=')
        flipped = token[:-1] + ('0' if token[-1] != '0' else '1')
        for c in (f'{name}={flipped}', f'{name}={"0" * 64}', f'{name}={token[:-2]}', f'{name}={token}00', f'{name}=', f'{name}={token.upper()}x', name,
                  f'x{name}={token}', f'{name}={"x" * 1500}', ';' * 500, f'other={token}'):
            self.assertEqual(self.post('/command', {'device': 'cam-1', 'cmd': 'ping'}, c)[0], 403, c)
        self.assertEqual(self.post('/command', {'device': 'a/b', 'cmd': 'ping'}, f'other=1; {cookie}; more=2')[0], 400)

    def test_login_flood(self):
        self.serve(operator=True)
        for bad in ('', '{', {}, {'password': 1}, {'password': 'x' * 1000}):
            self.assertIn(self.post('/login', bad)[0], (400,), bad)
        codes = [self.post('/login', {'password': f'guess {i}'})[0] for i in range(12)]
        self.assertEqual(codes[-1], 429)
        self.assertEqual(set(codes), {403, 429})
        self.assertLessEqual(codes.count(403), 5)
        status, _, answer = self.post('/login', {'password': PASSWORD})  # also the right one
        self.assertEqual(status, 429)
        self.assertRegex(answer['error'], r'the next one in \d+ s')
        self.assertIn('login refused: wrong password', self.program.text())
        self.assertIn('login refused: too many attempts', self.program.text())
        self.assertNotIn(PASSWORD, self.program.text())
        self.assertNotIn('guess', self.program.text())


class Answers(Dashboard):
    def test_one_device_answers_without_end(self):
        """What is kept of it is bounded in bytes, not in answers alone."""
        self.serve()
        cookie = self.login()
        self.says(f'operator: broker 127.0.0.1:{self.fleet.port}: connected')
        device = mqtt5.Client(self.fleet.port)
        device.subscribe(self.fleet.topic('fleet/cmd'))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.post, '/command', {'device': '*', 'cmd': 'ping'}, cookie)
            _, command = device.read()
            reply, number = re.search(rb'tasuki/v1/home/reply/[0-9a-f]+', command)[0].decode(), re.search(rb'"id":"([0-9a-f]+)"', command)[1].decode()
            answer = {'id': number, 'ok': True, 'device': 'cam-1', 'more': [0] * 20000}
            device.publish_all([reply] * 80, json.dumps(answer, separators=(',', ':')))
            status, _, got = asked.result()
        device.close()
        self.assertEqual((status, got['answers'][0]), (200, answer))
        self.assertLess(len(got['answers']) * 40000, 1024 * 1024)  # OPERATOR_BYTES_MAX


class Secured(Operator):
    """Everybody with a certificate, HTTPS for browsers, commands signed."""
    secure = True

    def serve(self, conf=None, operator=True, broker=True):
        identity = self.fleet.pki.identity('broker', '127.0.0.1')  # any server's certificate will do
        self.tls = ssl.create_default_context(cafile=str(self.fleet.pki.authorities / 'broker.crt'))
        super().serve(rig.merge({'tls': {k: identity[k] for k in ('certificate', 'key')}}, conf), operator, broker)

    def test_commands(self):
        self.serve()
        self.agent({'device': {'commands': 'signed'}})
        status, headers, _ = self.post('/login', {'password': PASSWORD})
        self.assertTrue(headers['set-cookie'].endswith('; HttpOnly; SameSite=Strict; Secure'))
        cookie = headers['set-cookie'].split(';')[0]
        self.assertTrue(self.answer(cookie, device='cam-1', cmd='ping')['ok'])
        b = self.browser()
        b.subscribe(*[self.fleet.topic(t) for t in ('device/+/status', 'device/+/presence')])
        wait_for('its status', lambda: [m for m in b.received() if m[0].endswith('cam-1/status')], 30)
        self.assertIn("as dashboard-", self.fleet.programs['broker'].text())
        self.assertIn("u'dash-1'", self.fleet.programs['broker'].text())
        # Plain HTTP gets nothing here, and an origin of it is another one.
        got, _ = until_closed(self.raw(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'))
        self.assertNotIn(b'200', got)
        self.assertEqual(self.post('/command', {'device': 'cam-1', 'cmd': 'ping'}, cookie, Origin=f'http://127.0.0.1:{self.port}')[0], 403)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers('ALL:@SECLEVEL=0')
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            old.wrap_socket(socket.create_connection(('127.0.0.1', self.port), 30)).close()
        self.renewed(b)

    def renewed(self, b):
        """Certificates are read at each connection; who is revoked is told so."""
        self.fleet.pki.revoke('dashboard', 'dash-1')
        self.fleet.restart('broker')
        with self.assertRaises(Refused):
            self.browser()
        self.says('TLS')

    def test_login_flood(self):
        """A broker that is none of ours gets not a byte."""
        foreign = rig.Pki(self.work / 'foreign')
        for what, identity, part in (
                ('another name', self.fleet.pki.identity('broker', 'elsewhere.example'), "the server's certificate is for another name"),
                ('another authority', foreign.identity('broker', '127.0.0.1'), 'TLS: ')):
            with self.subTest(what=what):
                self.impostor(identity, part)

    def impostor(self, identity, part):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(identity['certificate'], identity['key'])
        heard = []
        with socket.socket() as listener, concurrent.futures.ThreadPoolExecutor(1) as pool:
            listener.bind(('127.0.0.1', 0))
            listener.listen()

            def serve():
                s, _ = listener.accept()
                try:
                    s = server.wrap_socket(s, server_side=True)
                    heard.append(s.recv(100))
                except OSError:
                    pass
                s.close()
            done = pool.submit(serve)
            self.port = free_port()
            self.serve({'broker': {'port': listener.getsockname()[1]}}, operator=False, broker=False)
            with self.assertRaisesRegex(Refused, 'CONNACK 0x88'):
                self.browser()
            done.result(10)
            self.says(part)
            self.program.stop()
        self.assertIn(heard, ([], [b'']))


if __name__ == '__main__':
    rig.main()
