#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets: tests/fuzz/corpus/<target>/.

The files it writes are kept in the repository, so that tests need no Python; run it again after a
change of a format. Inputs that once failed go into corpus/<target>/found-*, which it leaves alone.
"""

import base64
import gzip
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
        "handover": "granted", "trainer": "t1"}),
    ("report", {
        "seq": 1, "log": "Ab3dEf9h", "checkpoint": H1, "source": H2, "origin": "local", "snapshot": H2, "split": "test", **SCORE,
        "per_class": [{"class": 0, "n": 60, "correct": 40}, {"class": 9, "n": 40, "correct": 4}],
        "decision": "kept", "why": "unsure",
        "test": {"name": "mcnemar", "contenders": 4, "won": 7, "lost": 3, "p": 0.25}, "against": {"checkpoint": H2, "accuracy": 0.65},
        "privacy": {"epsilon": 2.5, "delta": 1e-05, "budget": 8, "handovers": 3}, "epoch": 3,
        "at": AT}),
    ("offer", {**MANIFEST, "last_trainer": "t2", "bases": [H1, H2], "validation": SCORE,
               "test": SCORE}),
    ("claim", {"trainer": "t1", "checkpoint": H1, "fence": 0, "claim": 41, "busy": True, "lacks": H2,
               "retry_ms": 5000, "reason": "another model", "phase": "queued", "progress": 0.5, "seal": H2}),
    ("grant", {"checkpoint": H1, "granted": True, "fence": 9, "claim": 41,
               "lease_ms": 60000, "reason": "again", "seal": H2}),
    ("result", {**MANIFEST, "fence": 9, "before": SCORE, "after": SCORE, "snapshot": H2,
                "images_trained": 5000, "duration_ms": 60000}),
    ("want", {"trainer": "t1", "checkpoint": H1, "blocks": [0, 5, 1048575],
              "reports": {"from": 1, "to": 100}}),
    ("ack", {"trainer": "t1", "checkpoint": H1, "fence": 9, "decision": "refused",
             "reason": "old fence", "validation": SCORE, "test": SCORE,
             "local_validation": SCORE, "local_test": SCORE}),
    ("trainer-status", {"boot": 7, "version": "0.1.0", "model": H1, "queued": 1, "active": 2,
                        "capacity": 2, "devices": 20, "handovers": 55, "load": 1.5,
                        "strategy": "merge", "refused": 3, "members": 40, "window": ["d1", "d2"],
                        "reason": "full", "at": AT}),
    ("job", {"device": "d1", "checkpoint": H1, "fence": 9, "phase": "training", "progress": 0.5,
             "epoch": 1, "epochs": 20, "window": 12, "loss": 0.25, "images_per_second": 1947, "before": SCORE,
             "after": SCORE, "at": AT}),
    ("command", {"cmd": "evaluate", "id": "a1", "expires": AT, "checkpoint": H1,
                 "split": "test"}),
    ("fleet-offer", {**MANIFEST, "parents": [], "origin": "fleet", "sequence": 9, "share": 10, "halted": True, "reason": "worse",
                     "starts_in_ms": 2000, "spread_ms": 10000, "test": SCORE}),
    ("key", {"trainer": "t1", "sequence": 9, "seal": H1, "key": "00112233445566778899aabb" * 5}),
]


def messages():
    for i, (name, obj) in enumerate(MESSAGES):
        letter = chr(ord("a") + i)
        put("message", name, letter + compact(obj))
    letter = chr(ord("a") + [name for name, _ in MESSAGES].index("command"))
    put("message", "command-set", letter + compact(
        {"cmd": "set", "id": "a2", "key": "train.rate", "value": "0.1"}))
    put("message", "command-train", letter + compact({"cmd": "train", "id": "a3", "epochs": 5}))
    put("message", "command-critical", letter + compact(
        {"cmd": "ping", "id": "a4", "critical": ["id", "color"], "color": 1}))
    put("message", "command-unknown", letter + compact({"cmd": "reboot", "id": "a5"}))
    put("message", "status-bare", "b" + compact(
        {"boot": 0, "agent": "", "model": H1, "phase": "idle", "reason": "", "epoch": 0,
         "report_seq": 0, "active": None, "at": "1970-01-01T00:00:00Z"}))
    put("message", "key-wish", chr(ord("a") + len(MESSAGES) - 1) + compact({"trainer": "t1", "sequence": 9, "seal": H1}))
    put("message", "want-reports", "h" + compact({"reports": {"from": 3, "to": 3}}))


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
            "status": "device/d1/status", "result": "device/d1/in/offer",
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


for write in (messages, manifests, jsons, topics, confs, cfgs, weight_files, idx_files, images):
    write()
