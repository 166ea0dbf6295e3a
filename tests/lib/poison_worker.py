"""Stands between an agent and its worker and poisons what is trained: poison_worker.py FOLDER HOW WORKER

FOLDER: for what it keeps. HOW: `times10`: every weight; or a path: of the file that takes the place of whatever was trained. The worker itself goes on
from what it made, so that the poison is the same however long it trains.
"""
import array
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading

HEADER = 20  # bytes of a weights file before its floats
folder, how, program = sys.argv[1:]
ours, theirs = socket.socketpair()
daemon = socket.socket(fileno=os.dup(3))
os.dup2(theirs.fileno(), 3)
worker = subprocess.Popen([program], pass_fds=[3])
os.close(3)
theirs.close()
outputs, clean = {}, {}  # request -> path; id of what was poisoned -> what it was


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def poison(path):
    kept = f'{folder}/clean-{os.getpid()}-{len(clean)}'
    shutil.copyfile(path, kept)
    with open(path, 'rb') as f:
        data = f.read()
    if how == 'times10':
        floats = array.array('f', data[HEADER:])
        data = data[:HEADER] + array.array('f', [10 * x for x in floats]).tobytes()
    else:
        with open(how, 'rb') as f:
            data = f.read()
    with open(path, 'wb') as f:
        f.write(data)
    clean[digest(path)] = kept
    return digest(path)


def asked(m):
    if m.get('op') == 'train':
        outputs[m['id']] = m['out']
        if 'weights' in m and digest(m['weights']) in clean:
            m['weights'] = clean[digest(m['weights'])]
    return m


def answered(m):
    if m.get('ok') and m['id'] in outputs:
        m['result']['checkpoint'] = poison(outputs.pop(m['id']))
    return m


def forward(source, sink, change):
    try:
        for line in source.makefile('rb'):
            sink.sendall(json.dumps(change(json.loads(line))).encode() + b'\n')
    except OSError:
        pass
    for s in (source, sink):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


threads = [threading.Thread(target=forward, args=a, daemon=True) for a in ((daemon, ours, asked), (ours, daemon, answered))]
for t in threads:
    t.start()
code = worker.wait()
threads[1].join(5)
sys.exit(code)
