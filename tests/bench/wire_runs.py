"""One transfer at a time, ours (wire_end) or Mosquitto's own tools', through a broker; for tests/bench/wire."""
import json
import os
import pathlib
import random
import subprocess
import time

CFG_HEAD = '[net]\nbatch=1\nsubdivisions=1\nheight=28\nwidth=28\nchannels=1\n'
# A single message of 100 MB: what development.conf forbids.
BROKER = '''listener 1883 127.0.0.1
allow_anonymous true
max_inflight_messages 64
max_queued_messages 2000
max_queued_bytes 16777216
log_dest none
'''


def make_checkpoint(folder, megabytes):
    """A network of about that size, with weights that pass every check: its cfg and weights."""
    cfg, weights = folder / f'{megabytes}.cfg', folder / f'{megabytes}.weights'
    wanted = int(megabytes * 1e6 / 4)
    wide = min(4096, wanted // 1000)
    narrow = (wanted - 785 * wide) // (wide + 11)
    layers = ''.join(f'[connected]\noutput={n}\nactivation=leaky\n' for n in (wide, narrow, 10))
    cfg.write_text(f'{CFG_HEAD}{layers}[softmax]\ngroups=1\n[cost]\ntype=sse\n')
    floats = wide * 785 + narrow * (wide + 1) + 10 * (narrow + 1)
    # The upper bit of the exponent is 0, so each is finite.
    noise = bytearray(random.Random(1).randbytes(4 * floats))
    noise[3::4] = bytes(b & 0xbf for b in noise[3::4])
    weights.write_bytes(bytes.fromhex('000000000200000000000000' '0000000000000000') + noise)
    return cfg, weights


def identity(pki, role, name):
    """As wire_end has it."""
    who = pki.identity(role, name)
    return [who[key] for key in ('certificate', 'key', 'authorities')]


class Sender:
    """The device's end; serves until closed. `pki`: TLS and sealed blocks, over the port for devices."""

    def __init__(self, build, port, weights, block_size, pki=None):
        self.who = identity(pki, 'trainer', 'edge') if pki else []
        self.process = subprocess.Popen([build / 'tests/bench/wire_end', 'send', str(port), weights, str(block_size),
                                         *(identity(pki, 'device', 'cam-sealed') if pki else [])],
                                        stdout=subprocess.PIPE, text=True)
        self.block_size = block_size
        self.id, self.size, self.root = self.process.stdout.readline().split()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def take(build, port, cfg, sender, store, timeout=600):
    """From the first want to the verified checkpoint in the store: what wire_end says of it."""
    r = subprocess.run([build / 'tests/bench/wire_end', 'take', str(port), cfg, store, sender.id, sender.size, sender.root,
                        str(sender.block_size), *sender.who], capture_output=True, text=True, timeout=timeout)
    if r.returncode:
        raise RuntimeError(f'wire_end take: {r.returncode} {r.stderr}')
    return json.loads(r.stdout)


def pub_to_sub(port, weights, out, sync):
    """Seconds from the start of `mosquitto_pub -f` until mosquitto_sub has written the file and ended; with
    `sync` until it is on the disk, too."""
    tools = ['-V', '5', '-h', '127.0.0.1', '-p', str(port), '-t', 'bench/file', '-q', '0']
    with open(out, 'wb') as f:
        sub = subprocess.Popen(['mosquitto_sub', *tools, '-C', '1', '-N'], stdout=f)
        time.sleep(0.3)  # subscribed; it says nothing of that
        began = time.perf_counter()
        subprocess.run(['mosquitto_pub', *tools, '-f', weights], check=True)
        if sub.wait(60):
            raise RuntimeError('mosquitto_sub failed')
        if sync:
            os.fsync(f.fileno())
        seconds = time.perf_counter() - began
    if pathlib.Path(out).stat().st_size != pathlib.Path(weights).stat().st_size:
        raise RuntimeError('mosquitto_sub: not the whole file came')
    return seconds
