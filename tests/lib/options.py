"""What programs that measure share at their command line. Types of arguments: what is wrong is refused by argparse,
before anything is built or started."""
import argparse
import pathlib
import signal
import sys


def end_in_order(name):
    """Ctrl-C and SIGTERM end the program, and with it all that it has started, in a line."""
    for signo in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signo, lambda *_: sys.exit(f'{name}: stopped'))


def number(kind, least, most=float('inf')):
    """At least so much, and at most (or, where no most is given, finite)."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = float('nan')
        if not (least <= value <= most and value < float('inf')):
            up_to = f' to {most}' if most < float('inf') else ' or more'
            raise argparse.ArgumentTypeError(f'found {text!r}, expected {"a whole number" if kind is int else "a number"}, {least}{up_to}')
        return value
    return parse


def file(text):
    path = pathlib.Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f'found {text!r}, expected a file that is there')
    return path


def folder(text):
    path = pathlib.Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f'found {text!r}, expected a folder that is there')
    return path
