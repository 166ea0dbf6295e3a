"""tasuki-worker, asked as a daemon asks it (common/engine/worker_protocol.h)."""
import json
import os
import socket
import subprocess

FD = 3  # WORKER_FD
HUNG_S = 600


class WorkerError(Exception):
    """What it answers to a request that fails, or that it is gone."""


class Worker:
    def __init__(self, program, env=None, hung_s=HUNG_S):
        ours, theirs = socket.socketpair()
        ours.settimeout(hung_s)
        self.lines, self.socket, self.id = ours.makefile('rw'), ours, 0
        self.process = subprocess.Popen([program], preexec_fn=lambda: os.dup2(theirs.fileno(), FD), pass_fds=[FD],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        theirs.close()

    def ask(self, op, **args):
        """Its result."""
        self.id += 1
        self.lines.write(json.dumps({'id': self.id, 'op': op, **args}) + '\n')
        self.lines.flush()
        for line in self.lines:
            answer = json.loads(line)
            if answer['id'] == self.id and 'ok' in answer:
                if not answer['ok']:
                    raise WorkerError(answer['error'])
                return answer.get('result', {})
        raise WorkerError(f'the worker ended with status {self.process.wait()}')

    def close(self):
        self.lines.close()
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
