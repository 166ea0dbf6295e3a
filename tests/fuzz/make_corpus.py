#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: tests/fuzz/corpus/<target>/.

The files it writes are kept in the repository, so that tests need no Python; run it again after a
change of a format. Inputs that once failed go into corpus/<target>/found-*, which it leaves alone.
"""

import base64
import gzip
import hashlib
import json
import os
import struct
import zlib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
H1 = "0123456789abcdef" * 4
H2 = "f" * 64
AT = "2024-11-23T12:00:00.123Z"


def put(target, name, data):
    folder = os.path.join(ROOT, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)


def compact(obj):
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False)


# ---- messages, manifests, JSON, topics ----

SCORE = {"n": 100, "correct": 44, "accuracy": 0.44, "loss": 1.5}
MANIFEST = {
    "id": H1, "parents": [H2], "model": H2, "origin": "edge", "device": "d1", "trainer": "t1",
    "epoch": 3, "images_seen": 1000, "classes": 10, "size": 70000, "block_size": 32768,
    "created": AT, "encoding": "raw",
}

# The order of tests/codecs.h: a, b, c ...
MESSAGES = [
    ("presence", {"online": True, "boot": 7}),
    ("status", {
        "boot": 7, "agent": "0.1.0", "model": H1, "phase": "training", "reason": "caf\u00e9",
        "epoch": 3, "report_seq": 12, "report_first": 3, "log": "Ab3dEf9h",
        "active": {"checkpoint": H2, "origin": "blend", "accuracy": 0.5, "pinned": False},
        "skipped_images": 2, "at": AT, "progress": 0.25, "loss": 2.5, "images_per_second": 165.5,
        "handover": "granted", "trainer": "t1", "moved_bytes": 2000000, "data_bytes": 3000000,
        "disk_free_bytes": 4000000, "audit_seq": 812, "audit_head": H2}),
    ("report", {
        "seq": 1, "log": "Ab3dEf9h", "checkpoint": H1, "source": H2, "origin": "local", "snapshot": H2, "split": "test", **SCORE,
        "per_class": [{"class": 0, "n": 60, "correct": 40}, {"class": 9, "n": 40, "correct": 4}],
        "decision": "kept", "why": "unsure",
        "test": {"name": "mcnemar", "contenders": 4, "won": 7, "lost": 3, "p": 0.25}, "against": {"checkpoint": H2, "accuracy": 0.65},
        "privacy": {"epsilon": 2.5, "delta": 1e-05, "budget": 8, "handovers": 3}, "audit_seq": 812,
        "audit_head": H2, "epoch": 3, "at": AT}),
    ("offer", {**MANIFEST, "last_trainer": "t2", "bases": [H1, H2], "validation": SCORE,
               "test": SCORE}),
    ("claim", {"trainer": "t1", "checkpoint": H1, "fence": 0, "claim": 41, "busy": True, "lacks": H2,
               "retry_ms": 5000, "reason": "another model", "phase": "queued", "progress": 0.5, "seal": H2,
               "sequence": 7}),
    ("grant", {"checkpoint": H1, "granted": True, "fence": 9, "claim": 41,
               "lease_ms": 60000, "reason": "again", "seal": H2, "sequence": 7}),
    ("result", {**MANIFEST, "fence": 9, "before": SCORE, "after": SCORE, "snapshot": H2,
                "images_trained": 5000, "duration_ms": 60000}),
    ("want", {"trainer": "t1", "checkpoint": H1, "blocks": [0, 5, 1048575],
              "reports": {"from": 1, "to": 100}}),
    ("ack", {"trainer": "t1", "checkpoint": H1, "fence": 9, "decision": "refused",
             "reason": "old fence", "validation": SCORE, "test": SCORE,
             "local_validation": SCORE, "local_test": SCORE}),
    ("trainer-status", {"boot": 7, "version": "0.1.0", "model": H1, "queued": 1, "active": 2,
                        "capacity": 2, "devices": 20, "handovers": 55, "load": 1.5,
                        "strategy": "merge", "refused": 3, "members": 40, "window": ["d1", "d2"], "quarantined": 5,
                        "quarantine": [{"device": "d3", "since": AT, "until": AT, "why": "norm out of line"}],
                        "audit_seq": 812, "audit_head": H2,
                        "reason": "full", "at": AT}),
    ("job", {"device": "d1", "checkpoint": H1, "fence": 9, "phase": "training", "progress": 0.5,
             "epoch": 1, "epochs": 20, "window": 12, "loss": 0.25, "images_per_second": 1947, "before": SCORE,
             "after": SCORE, "at": AT}),
    ("command", {"cmd": "evaluate", "id": "a1", "expires": AT, "checkpoint": H1,
                 "split": "test"}),
    ("fleet-offer", {**MANIFEST, "parents": [], "origin": "fleet", "sequence": 9, "share": 10, "halted": True, "reason": "worse",
                     "starts_in_ms": 2000, "spread_ms": 10000, "test": SCORE}),
    ("key", {"trainer": "t1", "sequence": 9, "seal": H1, "key": "00112233445566778899aabb" * 5}),
    ("history", {"at": AT, "points": [[1732363200, 3, "local", 100, 44, 1, H1[:12]], [1732363260, 3, "edge", 100, 60, 0, H2[:12]]],
                 "confusion": {"checkpoint": H1, "classes": 2, "counts": [40, 16, 40, 4]}}),
]


def messages():
    for i, (name, obj) in enumerate(MESSAGES):
        letter = chr(ord("a") + i)
        put("message", name, letter + compact(obj))
    put("message", "status-bare", "b" + compact(
        {"boot": 0, "agent": "", "model": H1, "phase": "idle", "reason": "", "epoch": 0,
         "report_seq": 0, "active": None, "at": "1970-01-01T00:00:00Z"}))
    put("message", "key-wish", chr(ord("a") + [name for name, _ in MESSAGES].index("key")) + compact({"trainer": "t1", "sequence": 9, "seal": H1}))
    put("message", "want-reports", "h" + compact({"reports": {"from": 3, "to": 3}}))


def commands():
    for name, obj in (
            ("plain", dict(MESSAGES)["command"]),
            ("set", {"cmd": "set", "id": "a2", "key": "train.rate", "value": "0.1"}),
            ("train", {"cmd": "train", "id": "a3", "epochs": 5}),
            ("critical", {"cmd": "ping", "id": "a4", "critical": ["id", "color"], "color": 1}),
            ("unknown", {"cmd": "reboot", "id": "a5"})):
        put("command", name, compact(obj))


def manifests():
    put("manifest", "whole", compact({
        **MANIFEST, "source": H2[:-1] + "e", "expires": "2034-11-23T12:00:00Z",
        "root": "0" * 64, "sequence": 1790000000000, "critical": ["id", "fence"], "fence": 1, "color": "red"}))
    put("manifest", "root", compact({
        **{k: v for k, v in MANIFEST.items() if k != "trainer"}, "parents": [],
        "origin": "local"}))
    put("manifest", "old", compact({**MANIFEST, "created": "1969-12-31T23:59:59Z",
                                    "expires": "1970-01-01T00:00:00Z"}))
    put("manifest", "ancient", compact({**MANIFEST, "created": "0099-01-01T00:00:00Z"}))
    put("manifest", "huge", compact({**MANIFEST, "size": 2 ** 53, "block_size": 1024}))
    put("manifest", "encoding", compact({**MANIFEST, "encoding": "zip"}))
    put("manifest", "lineage", compact({**MANIFEST,
                                        "parents": ["%064x" % i for i in range(8)]}))


def jsons():
    put("json", "types", '{"a":1,"b":-0.5,"c":"x","d":[true,false,null],"e":{"f":[]}}')
    put("json", "numbers", "[0,-0,1e5,1E-5,1.5e+3,9007199254740991,0.1,1e308,5e-324]")
    put("json", "strings", '["","\\u00e9","\\ud83d\\ude00","\\\\\\"\\/\\b\\n","\u00e9\U0001f600"]')
    put("json", "blanks", ' \t\r\n{ "a" : [ 1 , 2 ] } \n')
    put("json", "deep", "[" * 16 + "]" * 16)
    put("json", "too-deep", "[" * 17 + "]" * 17)
    put("json", "twice", '{"a":1,"a":2}')
    put("json", "nul", '{"a":"\\u0000"}')
    put("json", "surrogate", '["\\ud800"]')
    put("json", "infinite", "[1e999]")
    put("json", "not-utf8", b'["\xc0\x80"]')


def topics():
    base = "tasuki/v1/site/"
    for name, text in {
            "status": "device/d1/status", "history": "device/d1/history", "result": "device/d1/in/offer",
            "block": f"device/d1/in/block/{H1}/0",
            "trainer-block": f"trainer/t.1/in/d1/block/{H1}/1048575",
            "grant": "trainer/t.1/in/d1/grant", "job": "trainer/t.1/job/d1",
            "key": "device/d1/in/key", "key-wish": "trainer/t.1/in/d1/key", "fleet": "fleet/cmd", "reply": "reply/me/a/1", "wild": "device/+/status",
            "dots": "device/../status", "leading-zero": f"device/d1/in/block/{H1}/01"}.items():
        put("topic", name, base + text)
    put("topic", "id", "cam-1._X")


# ---- configuration ----

def confs():
    put("conf", "whole", "# comment\n[broker]\nhost = 127.0.0.1\nport = 8883\n\n[device]\n"
        "id = cam-1\n[data]\npath = data/a b\nshare = 0.25\nflip = yes\nspeed = fast\n")
    put("conf", "least", "[device]\nid=x\n")
    put("conf", "typing-error", "[device]\nid=x\n[broker]\nhsot=x\n")
    put("conf", "twice", "[device]\nid=x\nid=y\n")
    put("conf", "no-section", "id=x\n")
    put("conf", "no-line", "[device]\nid\n")
    put("conf", "range", "[device]\nid=x\n[broker]\nport=65536\n")
    put("conf", "crlf", "[device]\r\nid = x ; note\r\n")
    put("conf", "long", "[device]\nid=x\n[broker]\nhost=" + "h" * 1200 + "\n")


NET = "[net]\nwidth=8\nheight=8\nchannels=1\nbatch=4\nsubdivisions=1\n"


def cfgs():
    put("cfg", "small", NET + "[convolutional]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=1\n"
        "pad=1\nactivation=leaky\n[maxpool]\nsize=2\nstride=2\n[dropout]\nprobability=.5\n"
        "[connected]\noutput=2\nactivation=linear\n[softmax]\ngroups=1\n")
    put("cfg", "avgpool", NET + "policy=steps\nsteps=10,20\nscales=.1,.1\nlearning_rate=0.1\n"
        "[convolutional]\nfilters=2\nsize=1\nactivation=relu\n[avgpool]\n[softmax]\n")
    put("cfg", "more", NET + "[convolutional]\nfilters=4\nsize=3\npad=1\n[convolutional]\nfilters=4\n"
        "size=3\npad=1\ngroups=2\n[shortcut]\nfrom=-2\nactivation=linear\n[route]\nlayers=-1,0\n"
        "[convolutional]\nfilters=2\nsize=3\npad=1\n[local]\nfilters=2\nsize=3\npad=1\n[activation]\nactivation=relu\n"
        "[upsample]\nstride=2\n[crop]\ncrop_width=4\ncrop_height=4\n[connected]\noutput=2\n"
        "[cost]\ntype=sse\n")
    put("cfg", "too-large", NET + "[connected]\noutput=99999999999\n")
    put("cfg", "overflow", NET + "[convolutional]\nfilters=8192\nsize=8191\npadding=8000\n")
    put("cfg", "no-net", "[connected]\noutput=2\n")
    put("cfg", "unknown-layer", NET + "[lstm]\noutput=2\n")
    put("cfg", "batchnorm", NET + "[convolutional]\nfilters=2\n[batchnorm]\n[softmax]\n")
    put("cfg", "first-maxpool", NET + "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=2\n[softmax]\n")
    put("cfg", "crop-route", NET + "[crop]\ncrop_width=4\ncrop_height=4\n[dropout]\n[convolutional]\nfilters=2\n"
        "[route]\nlayers=-1,0\n[softmax]\n")
    put("cfg", "crop", NET + "[crop]\ncrop_width=4\ncrop_height=4\nnoadjust=1\n[dropout]\n[convolutional]\nfilters=2\n"
        "[reorg]\nstride=1\n[l2norm]\n[lrn]\nsize=3\n[connected]\noutput=2\n[softmax]\n[cost]\n")
    put("cfg", "middle-loss", NET + "[connected]\noutput=9\n[softmax]\n[connected]\noutput=2\n[softmax]\n")
    put("cfg", "no-subdivisions", NET.replace("subdivisions=1", "subdivisions=0") + "[connected]\n[softmax]\n")
    put("cfg", "steps-without-scales", NET + "policy=steps\nsteps=1,2,3\nscales=.1,.1\n[connected]\n[softmax]\n")
    put("cfg", "rates", NET + "policy=exp\ngamma=-1\nmomentum=1\ndecay=-1\nlearning_rate=1e39\n[connected]\n[softmax]\n")
    put("cfg", "comment", "# a\n; b\n" + NET + "\n[connected] \n output = 3\n[softmax]\n")


# ---- weights: for the tiny model of fuzz_weights.c ----

def weights(values=None, seen=640, version=(0, 2, 0), extra=b""):
    v = [0.01 * (i % 17 - 8) for i in range(125)]
    v[6:8] = [0.5, 0.25]  # variances
    for i, x in (values or {}).items():
        v[i] = x
    return struct.pack("<iiiQ", *version, seen) + struct.pack("<125f", *v) + extra


def weight_files():
    put("weights", "good", weights())
    put("weights", "zero", weights({i: 0.0 for i in range(125)}))
    put("weights", "nan", weights({124: float("nan")}))
    put("weights", "infinite", weights({20: float("-inf")}))
    put("weights", "variance", weights({7: -1.0}))
    put("weights", "minus-zero", weights({7: -0.0}))
    put("weights", "seen", weights(seen=2 ** 63))
    put("weights", "version", weights(version=(0, 1, 0)))
    put("weights", "truncated", weights()[:-1])
    put("weights", "long", weights(extra=b"\0"))
    put("weights", "header", weights()[:20])
    # For the encoders (bit 2), in steps of a whole deviation and of two.
    odd = [0.0 if 40 <= i < 72 else (i * 37 % 101 - 50) / 25 for i in range(125)]
    odd[6:8], odd[100:102] = [0.5, 0.25], [3e38, -65519.9]
    put("encoding", "weights-normal", bytes([4 | 4 << 3]) + struct.pack("<125f", *(0.5 + i * 37 % 101 / 500 for i in range(125))))
    put("encoding", "weights-odd", bytes([4 | 8 << 3]) + struct.pack("<125f", *odd))


# ---- images ----

def idx_pair(n, rows, cols, labels=None, pixels=None, packed=False):
    if labels is None:
        labels = bytes(i % 10 for i in range(n))
    if pixels is None:
        pixels = bytes(i * 7 % 256 for i in range(n * rows * cols))
    one = struct.pack(">II", 0x801, n) + labels
    two = struct.pack(">IIII", 0x803, n, rows, cols) + pixels
    if packed:
        one, two = gzip.compress(one, mtime=0), gzip.compress(two, mtime=0)
    return struct.pack(">H", len(one)) + one + two


def idx_files():
    put("idx", "plain", idx_pair(3, 4, 5))
    put("idx", "packed", idx_pair(3, 4, 5, packed=True))
    put("idx", "counts-differ", struct.pack(">H", 10) + struct.pack(">II", 0x801, 2) + b"\1\2" +
        struct.pack(">IIII", 0x803, 1, 2, 2) + b"abcd")
    put("idx", "truncated", idx_pair(3, 4, 5)[:-1])
    put("idx", "long", idx_pair(3, 4, 5) + b"x")
    put("idx", "claims", idx_pair(2, 65535, 65535, pixels=b"abcd"))
    put("idx", "none", idx_pair(0, 4, 5))
    put("idx", "packed-torn", idx_pair(3, 4, 5, packed=True)[:-6])


def chunk(kind, data):
    return (struct.pack(">I", len(data)) + kind + data +
            struct.pack(">I", zlib.crc32(kind + data)))


def png(width, height, depth, colour, row, lace=0, more=b""):
    rows = b"".join(b"\0" + row for _ in range(height))
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace)) +
            more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


# 9 x 7 images by libjpeg-turbo: Python's own library has no encoder.
JPEG_GREY = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+"
    "MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//wAALCAAHAAkBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAEC"
    "AwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAk"
    "M2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJ"
    "ipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3"
    "+Pn6/9oACAEBAAA/ACO0M8smm6dDHlWaJ4Yz5cakblIdvvORwCBhSPQ1n/atJ/56aP8A+Ak/+Nf/2Q==")
JPEG_COLOUR = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+"
    "MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAHAAkDASIAAhEBAxEB/8QAHwAAAQUBAQEB"
    "AQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKB"
    "kaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1"
    "dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl"
    "5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcF"
    "BAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5"
    "OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0"
    "tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwCMqg0xBCAh"
    "lh59M+XMo+nCitD7QaKK3w/wv5/m/wDIzxC1b82vusf/2Q==")
JPEG_PROGRESSIVE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+"
    "MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wgARCAAHAAkDAREAAhEBAxEB/8QAFQABAQAAAAAA"
    "AAAAAAAAAAAAAgT/xAAVAQEBAAAAAAAAAAAAAAAAAAABBP/aAAwDAQACEAMQAAABI0UT/wD/xAAWEAADAAAA"
    "AAAAAAAAAAAAAAAAEkP/2gAIAQEAAQUCmx//xAAZEQADAAMAAAAAAAAAAAAAAAABAxIQUcH/2gAIAQMBAT8B"
    "YKZA33H/xAAZEQACAwEAAAAAAAAAAAAAAAABAhAyQdH/2gAIAQIBAT8BSxY5wR//xAAYEAACAwAAAAAAAAAA"
    "AAAAAAABECFBwf/aAAgBAQAGPwKLGFf/xAAZEAABBQAAAAAAAAAAAAAAAAARARAxwdH/2gAIAQEAAT8hCDHF"
    "pn//2gAMAwEAAgADAAAAECf/xAAZEQEAAgMAAAAAAAAAAAAAAAABECFRYdH/2gAIAQMBAT8QbaAwW7H/xAAa"
    "EQABBQEAAAAAAAAAAAAAAAABEBFRkaHB/9oACAECAQE/EHkhCy81P//EABkQAQADAQEAAAAAAAAAAAAAAAEA"
    "ESFRcf/aAAgBAQABPxBEwPbl0PMEtP/Z")


def images():
    put("image", "grey.png", png(5, 4, 8, 0, bytes(range(5))))
    put("image", "colour.png", png(3, 4, 8, 2, bytes(range(9))))
    put("image", "alpha.png", png(3, 2, 8, 6, bytes(range(0, 240, 20))))
    put("image", "deep.png", png(2, 2, 16, 0, b"\x12\x34\xff\xff"))
    put("image", "palette.png", png(4, 2, 2, 3, b"\x1b", more=chunk(
        b"PLTE", bytes(range(12))) + chunk(b"tRNS", b"\0\x80")))
    put("image", "bits.png", png(9, 2, 1, 0, b"\xa5\x80"))
    put("image", "torn.png", png(5, 4, 8, 0, bytes(range(5)))[:-20])
    put("image", "claims.png", png(5, 4, 8, 0, bytes(range(5))).replace(
        struct.pack(">II", 5, 4), struct.pack(">II", 2 ** 31 - 1, 2 ** 31 - 1)))
    put("image", "grey.jpg", base64.b64decode(JPEG_GREY))
    put("image", "colour.jpg", base64.b64decode(JPEG_COLOUR))
    put("image", "progressive.jpg", base64.b64decode(JPEG_PROGRESSIVE))
    put("image", "torn.jpg", base64.b64decode(JPEG_COLOUR)[:-90])
    put("image", "raw.pgm", b"P5\n# c\n3 2\n255\n" + bytes(range(6)))
    put("image", "text.pgm", "P2 3 2 15\n0 1 2\n3 4 15\n")
    put("image", "deep.pgm", b"P5 2 1 65535\n" + bytes(range(4)))
    put("image", "claims.pgm", "P5 99999 99999 255\nx")
    put("image", "over.pgm", "P2 1 1 15\n16\n")


# ---- signatures, blocks ----

def changes(*each):
    """tests/fuzz/changes.h"""
    return bytes([len(each)]) + b"".join(struct.pack(">HB", where, bits) for where, bits in each)


def signatures():
    text = b'{"a":1}'
    put("signed", "whole", b"\1" + changes() + text)
    put("signed", "changed", b"\1" + changes((3, 1)) + text)
    put("signed", "cut", b"\1" + changes((3, 0)) + text)
    put("signed", "certificate", b"\2" + changes())
    put("signed", "certificate-changed", b"\2" + changes((64, 1)))
    put("signed", "role", b"\5" + changes() + text)
    put("signed", "topic", b"\x09" + changes() + text)
    put("signed", "device", b"\x11" + changes() + text)
    put("signed", "unsigned", '\0{"a":1,"certificate":"AAAA","signature":"00"}')


def sealed():
    put("sealed", "whole", bytes([1, 0]) + changes())
    put("sealed", "last", bytes([1, 4]) + changes())
    put("sealed", "no-such", bytes([1, 7]) + changes())
    put("sealed", "changed", bytes([1, 1]) + changes((32, 1)))
    put("sealed", "cut", bytes([1, 1]) + changes((32, 0)))
    put("sealed", "by-peer", bytes([2, 1, 1]) + changes())
    put("sealed", "other", bytes([2, 1, 2]) + changes())
    put("sealed", "path", bytes([2, 3, 3]) + changes((0, 1)))
    put("sealed", "weak", b"\3" + b"0" * 64 + b"\0abcd")
    put("sealed", "answer", b"\4" + changes() + b"\0")
    put("sealed", "answer-changed", b"\4" + changes((64, 1)))
    put("sealed", "raw", b"\0\1" + bytes(range(100)))


def block(i, short=0):
    return bytes([1, i, short])


def check_sum(data):
    """common/transfer/part.c"""
    lanes, total = [0xcbf29ce484222325, 1, 2, 3], len(data)
    for at in range(0, len(data), 32):
        words = struct.unpack("<4Q", data[at:at + 32].ljust(32, b"\0"))
        lanes = [(h ^ w) * 0x100000001b3 % 2 ** 64 for h, w in zip(lanes, words)]
    for h in lanes:
        total = (total ^ h) * 0x100000001b3 % 2 ** 64
    return total or 1


def blocks():
    """Scripts of fuzz_block.c."""
    size, wishes, end = 3 * 1024 + 100, bytes([0, 9]), bytes([4])
    payload = bytes((i * 7 + i // 1024) % 256 for i in range(size))
    sums = [check_sum(payload[at:at + 1024]) for at in range(0, size, 1024)]
    header = b"TasukiP2" + struct.pack("<QII", size, 1024, 0) + hashlib.sha256(payload).hexdigest().encode()

    def with_map(data):
        return b"\1" + struct.pack(">H", len(data)) + data
    whole, part = (header + struct.pack("<4Q", *s) for s in (sums, (sums[0], 0, sums[2] ^ 1, sums[3])))
    put("block", "whole", b"\0" + wishes + block(0) + block(1) + wishes + block(2) + block(3) + end)
    put("block", "odd", b"\0" + wishes + block(7) + block(0, 3) + block(3, 255) + bytes([2, 1, 5]) + 2 * block(0) +
        bytes([5, 50, 6]) + wishes + block(2) + wishes + block(3) + end)
    put("block", "torn", b"\0" + wishes + block(0) + block(1) + bytes([3, 0, 5, 9, 7]) + wishes + block(0) + wishes +
        block(2) + block(3) + bytes([3, 0x80, 90, 1, 7, 8, 2]) + end)
    put("block", "map", with_map(whole) + end)
    put("block", "map-part", with_map(part) + wishes + block(1) + block(2) + end)
    put("block", "map-short", with_map(whole[:60]) + wishes + block(1) + bytes([7]) + end)
    put("block", "map-none", with_map(b"") + end)


# ---- what daemons left ----

STATE = {
    "version": 1, "model": H1, "log": "Ab3dEf9h", "boot": 3, "report_seq": 17, "paused": True, "pinned": True,
    "private_classes": 2, "base": H1, "base_before": H2, "first": H1, "local": H2, "undecided": [H1, H2],
    "rounds": {
        "epoch": 9, "images_seen": 900, "rounds_done": 2, "round_epoch": 1, "round_wanted": 4, "offer_epoch": 6,
        "offer_ordered": True, "best": SCORE, "best_snapshot": H1, "best_epoch": 8, "train_snapshot": H2,
        "adopted_epoch": 5, "top": SCORE},
    "link": {"day": 20717, "bytes": 12345},
    "handover": {"phase": 0, "checkpoint": H1, "fence": 4, "trainer": "t1", "granted": H1, "lease_ms": 5000, "open": True,
                 "decided": [{"trainer": "t2", "ack": compact(dict(MESSAGES)["ack"])}]},
    "scores": [{**SCORE, "checkpoint": H1, "split": "test", "snapshot": H2}],
    "spent": [{"id": "a1", "until": 1790000000000}],
    "commands": [{"id": "a1", "reply": '{"id":"a1","ok":true}'}],
    "pending": {"activate": H1, "seq": 17, "report": '{"seq":17}'},
}


def kept():
    result = compact(dict(MESSAGES)["result"])
    offer = compact(dict(MESSAGES)["fleet-offer"])
    candidates = [{"kind": k, "percent": p, "checkpoint": c, "out": k == "returned", "early": False}
                  for k, p, c in (("local", 0, H2), ("returned", 0, H1), ("blend", 25, H2), ("tuned", 0, ""))]
    put("state", "judging", compact({
        **STATE, "handover": {**STATE["handover"], "phase": 4, "result": result},
        "judgement": {"result": H1, "candidates": candidates}}))
    put("state", "fleet", compact({**STATE, "fleet": {"sequence": 9, "offer": offer}}))
    later = ("log", "private_classes", "first", "link", "spent")
    put("state", "old", compact({k: v for k, v in STATE.items() if k not in later}))
    put("fleet", "offered", compact({
        "version": 1, "seen": 9, "offer": offer, "position": 3, "phase": 1, "share": 10, "begun_ms": 1790000000000,
        "activated": 1, "gain": 0.25, "counted": ["d1", "d2"]}))
    put("fleet", "heard", compact({"version": 1, "seen": 4, "counted": []}))
    put("reports", "three", "".join(compact({"seq": i, "kind": "x"}) + "\n" for i in (1, 2, 3)))
    put("reports", "torn", '{"seq":4}\n{"seq":5}\n{"seq":6')
    put("reports", "gap", '{"seq":4}\n{"seq":6}\n')
    put("reports", "behind", '{"seq":1}\n')


def audit_log(first=1, n=3):
    prev, log = "0" * 64, ""
    for seq in range(first, first + n):
        line = compact({"seq": seq, "at": f"2024-11-23T12:00:0{seq % 10}.000Z", "event": "offered", "who": "d1", "prev": prev})
        prev = hashlib.sha256(line.encode()).hexdigest()
        log += line + "\n"
    return log


def audit_logs():
    log = audit_log()
    put("audit", "three", log)
    put("audit", "one", audit_log(n=1))
    put("audit", "torn", log[:-20])
    put("audit", "changed", log.replace("d1", "d2", 1))
    put("audit", "later", audit_log(first=8))
    put("audit", "last", audit_log(first=2 ** 53 - 1, n=1))
    put("audit", "none", "not a log\n")


# ---- a worker ----

def worker_lines():
    ready = {"images": {"train": 80, "validation": 20, "test": 0}, "snapshot": {"train": H1, "validation": H2, "test": ""},
             "stay": 0, "classes": 10, "model": H1, "skipped": 1, "skipped_names": ["torn.png"], "engine": "onednn",
             "precision": "float32", "threads": 2, "changed": True}
    put("worker", "ready", compact({"id": 1, "ok": True, "result": ready}))
    put("worker", "progress", compact({"id": 7, "event": "progress", "step": 3, "steps": 10, "images_per_second": 165.5, "loss": None}))
    put("worker", "failed", compact({"id": 7, "ok": False, "code": -5, "category": "data", "error": "caf\u00e9"}))
    put("worker", "event", compact({"id": 7, "event": "lunch"}))


# ---- a browser ----

def browser_packets():
    def text(s):
        return struct.pack(">H", len(s)) + s.encode()

    def packet(first, body):
        return bytes([first, len(body)]) + body  # below 128 bytes

    site = "tasuki/v1/s/"
    connect = packet(0x10, text("MQTT") + b"\5\2\0\x3c\x0d\x11\0\0\0\0\x21\0\x14\x27\0\1\0\0" + text("mqttjs"))
    subscribe = packet(0x82, b"\0\1\0" + b"".join(text(site + t) + b"\1" for t in ("device/+/status", "device/cam-1/history", "trainer/+/job/+")))
    put("browser", "looks-on", b"\0" + connect + subscribe + b"\xc0\0" + b"\x40\2\0\7" + packet(0xa2, b"\0\2\0" + text(site + "device/+/status"))
        + b"\xe0\0")
    put("browser", "publish", b"\1" + connect + packet(0x32, text(site + "device/d/in/cmd") + b"\0\1\0{}"))
    put("browser", "will", b"\2" + packet(0x10, text("MQTT") + b"\5\6\0\x3c\0" + text("c") + b"\0" + text("t") + text("x")))
    put("browser", "everything", b"\3" + connect + packet(0x82, b"\0\1\0" + text("#") + b"\1"))


for write in (messages, commands, manifests, jsons, topics, confs, cfgs, weight_files, idx_files, images, signatures, sealed, blocks, kept, audit_logs, worker_lines, browser_packets):
    write()
