"""A fleet that is only said to be there: what its devices and trainers would have at the broker, made of a seed. For the dashboard's page."""
import datetime
import hashlib
import json
import random
import time

import mqtt5

ORIGINS = ('local', 'edge', 'tuned', 'blend', 'fleet')
PHASES = ('training', 'training', 'training', 'training', 'evaluating', 'transferring', 'waiting', 'idle', 'paused')
REASONS = ('outside of its time window', 'on battery', 'the link is metered', 'the processor is at 84 degrees')
JOB_PHASES = ('pulling', 'queued', 'evaluating', 'training', 'training', 'training', 'offering')
POINT_S = 900
RETAINED = 0x31  # a PUBLISH of QoS 0


def hash_of(*what):
    return hashlib.sha256(repr(what).encode()).hexdigest()


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')


class MadeUpFleet:
    def __init__(self, port, site, devices, trainers=2, seed=1, classes=10):
        self.client, self.prefix, self.rng, self.classes = mqtt5.Client(port), f'tasuki/v1/{site}/', random.Random(seed), classes
        self.model = hash_of('model')
        self.devices = [f'cam-{i + 1}' for i in range(devices)]
        self.trainers = [f'edge-{i + 1}' for i in range(trainers)]
        self.jobs = {}

    def close(self):
        self.client.close()

    def say(self, topic, message, first=RETAINED):
        self.client.send(first, mqtt5.text(self.prefix + topic) + b'\0' + json.dumps(message).encode())

    def settle(self):
        """All that was said is at the broker."""
        return self.client.received()

    def status(self, device, now, **more):
        rng = random.Random(hash_of(device, int(now) // 5))
        phase = rng.choice(PHASES)
        handover = rng.choice(('offering', 'granted', 'pulling', 'judging')) if rng.random() < 0.15 else ''
        data = 4_000_000 + int(hash_of(device)[:6], 16)
        return {
            'boot': 1 + int(hash_of(device)[6:8], 16) % 9, 'agent': '0.1.0', 'model': self.model, 'phase': phase,
            'reason': rng.choice(REASONS) if phase == 'waiting' else '', 'epoch': rng.randrange(1, 400), 'report_seq': rng.randrange(1, 900), 'report_first': 1,
            'log': 'abcdefgh', 'active': {'checkpoint': hash_of(device, 'active'), 'origin': rng.choice(ORIGINS[:3]), 'accuracy': round(rng.betavariate(14, 2), 4),
                                          'pinned': rng.random() < 0.02},
            'at': rfc3339(now), **({'progress': round(rng.random(), 3), 'loss': round(rng.random(), 4), 'images_per_second': rng.randrange(80, 900)} if phase == 'training' else {}),
            **({'handover': handover} if handover else {}), **({'trainer': rng.choice(self.trainers)} if handover not in ('', 'offering') else {}),
            'moved_bytes': int(data * rng.uniform(0.02, 0.6)), 'data_bytes': data * 3, 'disk_free_bytes': rng.randrange(2, 60) * 10 ** 9, **more}

    def history(self, device, now, points=120):
        rng, out, best, accuracy = random.Random(hash_of(device)), [], 0, 0.35
        for i in range(points):
            accuracy += (0.955 - accuracy) * rng.uniform(0, 0.06)
            origin = 'edge' if i % 12 == 11 else 'tuned' if i % 24 == 13 else 'fleet' if i == 70 else 'local'
            correct = int(400 * min(0.99, max(0, accuracy + rng.gauss(0.03 if origin == 'edge' else 0, 0.012))))
            swap = correct > best
            best = max(best, correct)
            out.append([int(now) - POINT_S * (points - i), 2 * i + 2, origin, 400, correct, int(swap), hash_of(device, i)[:12]])
        k = self.classes
        counts = [(38 - rng.randrange(8) if t == a else rng.choice((0, 0, 0, 1, 2, 5)) if abs(t - a) in (1, 5) or rng.random() < 0.1 else 0) for t in range(k) for a in range(k)]
        return {'at': rfc3339(now), 'points': out, 'confusion': {'checkpoint': hash_of(device, 'active'), 'classes': k, 'counts': counts}}

    def settled_device(self, device):
        """One whose status, history and job agree with each other."""
        now = time.time()
        history = self.history(device, now)
        last = [p for p in history['points'] if p[5]][-1]
        self.say(f'device/{device}/history', history)
        self.say(f'device/{device}/presence', {'online': True, 'boot': 1})
        self.say(f'device/{device}/status', self.status(device, now, phase='training', reason='', progress=0.62, loss=0.0812, images_per_second=412, epoch=history['points'][-1][1], handover='granted',
                 trainer=self.trainers[0], active={'checkpoint': hash_of(device, 'active'), 'origin': last[2], 'accuracy': last[4] / last[3], 'pinned': False}))
        self.say(f'trainer/{self.trainers[0]}/job/{device}', self.job(device, self.trainers[0], 0.55, now), first=RETAINED)
        self.settle()

    def trainer_status(self, trainer, now):
        rng = random.Random(hash_of(trainer, int(now) // 5))
        return {'boot': 2, 'version': '0.1.0', 'model': self.model, 'queued': rng.randrange(12), 'active': rng.randrange(1, 9), 'capacity': 8,
                'devices': len(self.devices), 'handovers': 1311, 'load': round(rng.uniform(0.2, 3), 2), 'reason': '', 'at': rfc3339(now), 'strategy': 'resume', 'refused': 2,
                'refused_messages': 0, 'quarantined': 0}

    def job(self, device, trainer, progress, now):
        phase = JOB_PHASES[min(int(progress * len(JOB_PHASES)), len(JOB_PHASES) - 1)]
        n = 2000
        return {'device': device, 'checkpoint': hash_of(device, 'handed over'), 'fence': 4, 'phase': phase, 'progress': round(progress, 3), 'epoch': int(progress * 6), 'epochs': 6,
                'loss': 0.21, 'images_per_second': 912.5, 'before': {'n': n, 'correct': 1700, 'accuracy': 0.85, 'loss': 0.5}, 'at': rfc3339(now)}

    def retained(self, offline=0):
        """What a broker has of the fleet: presence and status of all, a rollout."""
        now = time.time()
        for i, d in enumerate(self.devices):
            self.say(f'device/{d}/presence', {'online': i >= offline, 'boot': 1})
            self.say(f'device/{d}/status', self.status(d, now - self.rng.randrange(300)))
        for t in self.trainers:
            self.say(f'trainer/{t}/presence', {'online': True, 'boot': 2})
            self.say(f'trainer/{t}/status', self.trainer_status(t, now))
        self.say('fleet/offer', {'id': hash_of('fleet'), 'parents': [], 'model': self.model, 'origin': 'fleet', 'device': self.trainers[0], 'trainer': self.trainers[0], 'epoch': 12,
                                 'images_seen': 52000, 'classes': self.classes, 'size': 16_400_000, 'block_size': 131072, 'created': rfc3339(now - 3600), 'sequence': int(now),
                                 'encoding': 'raw', 'share': 10, 'spread_ms': 30000})
        self.settle()

    def live(self, a_second, until, jobs=6):
        """Statuses of devices in turn, so many a second, and jobs that go on; until `until` (monotonic)."""
        began, said, turn = time.monotonic(), 0, 0
        while time.monotonic() < until:
            now, due = time.time(), (time.monotonic() - began) * a_second
            while said < due:
                d = self.devices[self.rng.randrange(len(self.devices))]
                self.say(f'device/{d}/status', self.status(d, now))
                said += 1
            if turn % 10 == 0:
                for i in range(jobs):
                    d, t = self.devices[i], self.trainers[i % len(self.trainers)]
                    self.jobs[d] = (self.jobs.get(d, i / jobs) + 0.01) % 1
                    self.say(f'trainer/{t}/job/{d}', self.job(d, t, self.jobs[d], now), first=0x30)
                for t in self.trainers:
                    self.say(f'trainer/{t}/status', self.trainer_status(t, now))
            turn += 1
            time.sleep(0.05)
        self.settle()
        return said
