#!/usr/bin/env python3
"""Writes the seeds of fuzz_encoding: tests/fuzz/corpus/encoding/, by the encoder of a built tasuki-worker: make_payloads.py BUILD

As make_corpus.py does for the other targets, which need no program for it."""
import pathlib
import struct
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'lib'))
from worker import Worker  # noqa: E402

CFG = '''[net]
width=4
height=4
channels=1
batch=1
subdivisions=1
[convolutional]
batch_normalize=1
filters=2
size=3
stride=1
pad=1
activation=leaky
[connected]
output=3
activation=linear
[softmax]
'''
FLOATS = 125
FORMS = ('zstd', 'f16', 'int8', 'delta')  # in the order of enum encoding, after raw


def weights(values):
    return struct.pack('<iiiQ', 0, 2, 0, 640) + struct.pack(f'<{FLOATS}f', *values)


def main():
    build = pathlib.Path(sys.argv[1])
    corpus = HERE / 'corpus/encoding'
    corpus.mkdir(parents=True, exist_ok=True)
    kinds = {'smooth': [0.5 + 0.01 * (k % 7 - 3) for k in range(FLOATS)], 'zeros': [0.0] * FLOATS,
             'wide': [0.5 + (1000.0 if k == 124 else 0.001 * k) for k in range(FLOATS)]}
    with tempfile.TemporaryDirectory() as tmp, Worker(build / 'common/engine/tasuki-worker') as w:
        tmp = pathlib.Path(tmp)
        (tmp / 'tiny.cfg').write_text(CFG)
        (tmp / 'base').write_bytes(weights([0.5] * FLOATS))
        w.ask('open', cfg=str(tmp / 'tiny.cfg'))
        for kind, values in kinds.items():
            (tmp / 'weights').write_bytes(weights(values))
            for number, form in enumerate(FORMS):
                r = w.ask('encode', weights=str(tmp / 'weights'), out=str(tmp / 'payload'), decoded=str(tmp / 'decoded'),
                          encoding=form, bases=[str(tmp / 'base')])
                assert r['encoding'] == form, r
                (corpus / f'{form}-{kind}').write_bytes(bytes([number]) + (tmp / 'payload').read_bytes())


main()
