# build: gcc
"""Two brokers, as broker-config/ has them for a site and a region, everyone with a certificate: a handover across, over a bridge
that is cut in the middle, and what MQTT must carry across for it."""
import socket
import subprocess
import sys
sys.path.insert(0, __file__.rsplit('/', 2)[0] + '/lib')
import rig
from fault_proxy import FaultProxy
from rig import WAIT, body, wait_for

RATE = 80000  # bytes a second between the brokers: a checkpoint takes a second


class Bridge(rig.Case):
    def setUp(self):
        super().setUp()
        self.fleet = rig.Fleet(self.work, rig.BUILD, site=self.site, secure=True)
        self.region = rig.Fleet(self.work / 'region', rig.BUILD, site=self.site, secure=True, pki=self.fleet.pki)
        self.addCleanup(self.region.stop)

    def start(self):
        for name, n, seed in (('edge', 300, 1), ('cam', 120, 2)):
            self.digits(name, n, seed, test=False)
        self.region.start_broker()
        self.link = FaultProxy(self.region.ports['broker'])
        self.addCleanup(self.link.stop)
        self.link.up.rate = self.link.down.rate = RATE
        self.fleet.start_broker(self.site_conf())
        self.there, self.here = self.region.listen('#'), self.fleet.listen('#')
        # Of its own network: one with enough blocks that a transfer has a middle.
        self.quick_trainer('edge-1', self.work / 'data/edge', {'broker': {'port': self.region.ports['trainer']},
                                                               'model': {'cfg': self.cfg()}, 'queue': {'block_size': 1024},
                                                               'transfer': {'encoding': 'raw'}})
        # As slow as the link: the reports of 50 epochs a second would fill it by themselves.
        self.quick_agent('cam-1', self.work / 'data/cam', {'model': {'cfg': self.cfg()}, 'train': {'rounds': 0, 'step_ms': 20},
                                                           'handover': {'block_size': 1024}, 'transfer': {'encoding': 'raw'}})
        self.fleet.start_trainer('edge-1')
        self.fleet.start_agent('cam-1')

    def site_conf(self):
        """With the bridge, this test's way to the region, and its patience."""
        return self.fleet.broker_conf(bridge=True).replace('region.example:8887', f'127.0.0.1:{self.link.port}') \
            .replace('restart_timeout 2 60', 'restart_timeout 1 2')

    def cfg(self):
        path = self.work / 'model.cfg'
        if not path.exists():
            path.write_text(rig.TINY.read_text().replace('filters=4', 'filters=32'))
        return path

    def status(self, listener):
        found = listener.all(lambda m: m['topic'].endswith('device/cam-1/status'))
        return body(found[-1]) if found else {}

    def retained(self, fleet, topic):
        """What a newcomer is told: (payload, user properties)."""
        r = subprocess.run(['mosquitto_sub', '-V', '5', '-p', str(fleet.port), '-t', fleet.topic(topic), '-C', '1', '-W', '5',
                            '-F', '%r %p\t%P'], capture_output=True, text=True)
        return r.stdout.strip() if r.stdout.startswith('1 ') else ''

    def test_handover_over_a_cut_bridge(self):
        self.start()
        self.decided(self.there, 'cam-1')
        self.carried()
        for way in ('trainer/edge-1/in/cam-1/block/', 'device/cam-1/in/block/'):
            self.cut_in(way)
            decided = len(self.decided(self.there, 'cam-1'))
            self.goes_on_alone()
            self.assertEqual(len(self.decided(self.there, 'cam-1')), decided)  # nothing ended across a cut link
            self.link.refusing = False
            self.decided(self.there, 'cam-1', decided + 1)
        self.never_at_once('edge-1')
        self.consistent('cam-1')
        self.fleet.command('cam-1', 'pause')
        self.reports_arrive()

    def blocks(self, way):
        """What has come at the region of each checkpoint: {id: {block, ...}}."""
        found = {}
        for m in self.there.all(lambda m: way in m['topic']):
            ident, n = m['topic'].split('/')[-2:]
            found.setdefault(ident, set()).add(int(n))
        return found

    def cut_in(self, way):
        """When some blocks of a checkpoint that is new have passed, and not all. Seen too late, another one is waited for."""
        wait_for(f'a cut in the middle ({way})', lambda: self.cut(way), WAIT)

    def cut(self, way):
        before = set(self.blocks(way))
        wait_for(f'blocks of another one ({way})', lambda: set(self.blocks(way)) - before, WAIT, every=0.001)
        self.link.refusing = True
        self.link.reset()
        rig.time.sleep(0.5)  # what has passed is told
        size = (self.fleet.work / 'cam-1/state/active.weights').stat().st_size
        blocks = self.blocks(way)
        if any(len(blocks[ident]) < size // 1024 for ident in set(blocks) - before):
            return True
        self.link.refusing = False
        return False

    def carried(self):
        """Retained messages, user properties, response topics and correlation data."""
        for fleet in (self.fleet, self.region):
            presence = self.retained(fleet, 'device/cam-1/presence')
            self.assertIn('"online":true', presence)
            self.assertRegex(presence, r'session:[0-9a-f]{16}\.[0-9a-f]{16}')
            self.assertIn('"phase"', self.retained(fleet, 'device/cam-1/status'))
            self.assertIn('"capacity"', self.retained(fleet, 'trainer/edge-1/status'))
        self.assertTrue(self.region.command('cam-1', 'ping')['ok'])
        reply = self.region.topic('reply/who')
        asker = self.region.listen('reply/who', extra=('-F', '{"topic":"%t","payload":"%D"}'))
        self.region.publish('device/cam-1/in/cmd', {'cmd': 'ping', 'id': 'bridge-1'}, response=reply,
                            extra=('-D', 'publish', 'correlation-data', 'which'))
        self.assertEqual(asker.wait('correlation data', lambda m: True, WAIT)['payload'], 'which')
        # Each once: nothing goes in circles.
        for listener in (self.here, self.there):
            def it(m):
                return m['topic'].endswith('in/cmd') and body(m)['id'] == 'bridge-1'
            listener.wait('the command', it, WAIT)  # each listener has its own time
            self.assertEqual(len(listener.all(it)), 1)

    def goes_on_alone(self):
        epoch = self.status(self.here)['epoch']
        wait_for('two more epochs while the link is down', lambda: self.status(self.here)['epoch'] >= epoch + 2, WAIT)
        self.assertTrue(self.fleet.command('cam-1', 'ping')['ok'])
        wait_for('the region to know', lambda: self.region_knows('0'), WAIT)

    def region_knows(self, state):
        r = subprocess.run(['mosquitto_sub', '-p', str(self.region.port), '-t', '$SYS/broker/connection/bridge-home/state',
                            '-C', '1', '-W', '2'], capture_output=True, text=True)
        return r.stdout.strip() == state

    def reports_arrive(self):
        def all_there():
            with self.trainer_db('edge-1') as db:
                rows = [r[0] for r in db.execute("SELECT seq FROM reports WHERE device = 'cam-1' ORDER BY seq")]
            return rows == sorted(self.device_reports('cam-1'))
        wait_for('all reports at the trainer', all_there, WAIT)

    def test_report_of_100_mb(self):
        """Ends its own connection before it is held in memory, and others are served."""
        self.fleet.start_broker()
        listener = self.fleet.listen('#')
        broker = self.fleet.programs['broker'].pid
        before = rig.rss_kib(broker)
        with socket.create_connection(('127.0.0.1', self.fleet.port), 10) as s:
            s.sendall(bytes([0x10, 18]) + b'\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05big-1')
            self.assertEqual(s.recv(100)[0], 0x20)  # CONNACK
            self.assertLess(self.send_100_mb(s), 10 << 20)
        self.assertLess(rig.rss_kib(broker) - before, 2000)
        self.fleet.publish('device/cam-1/report', 'a small one')
        listener.wait('a small one', lambda m: m['payload'] == 'a small one', WAIT)
        self.assertEqual(len(listener.all()), 1)

    def send_100_mb(self, s):
        """A PUBLISH of 100 MiB; how many bytes the broker took before it had enough."""
        size, sent = 100 << 20, 0
        topic = self.fleet.topic('device/big-1/report').encode()
        length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
        try:
            s.sendall(bytes([0x30]) + length + len(topic).to_bytes(2, 'big') + topic + b'\x00')
            while sent < size:
                s.sendall(b'x' * (1 << 16))
                sent += 1 << 16
        except ConnectionError:
            pass
        return sent

    def test_region_forgets(self):
        """The region's broker starts anew without a memory; what was retained there comes again, and a device that died
        meanwhile is known to have."""
        self.start()
        wait_for('the status at the region', lambda: self.status(self.there), WAIT)
        self.region.programs['broker'].stop()
        self.fleet.programs['cam-1'].kill()
        self.here.wait('the Will', lambda m: m['topic'].endswith('cam-1/presence') and not body(m).get('online'), WAIT)
        self.region.restart('broker')
        wait_for('the Will at the region', lambda: '"online":false' in self.retained(self.region, 'device/cam-1/presence'), WAIT)
        wait_for('the status at the region', lambda: '"phase"' in self.retained(self.region, 'device/cam-1/status'), WAIT)
        self.there = self.region.listen('#')
        self.fleet.start_agent('cam-1')
        self.decided(self.there, 'cam-1')


rig.main()
