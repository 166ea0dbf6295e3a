"""Figures as Prometheus scrapes them, and alert rules tried on series that are made of such scrapes."""
import re
import subprocess
import time
import urllib.error
import urllib.request

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
OF_TIME = re.compile(r'_timestamp_seconds$|^process_start_time_seconds$')
BEGAN = time.time()


def get(port, path='/metrics', method='GET', host=None):
    """(status, body)."""
    request = urllib.request.Request(f'http://127.0.0.1:{port}{path}', method=method,
                                     headers={'Host': host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def scrape(port, job):
    """{(name, labels): value} of one scrape, with `up` as Prometheus would have it."""
    own = (('instance', f'127.0.0.1:{port}'), ('job', job))
    try:
        status, text = get(port)
    except OSError:
        status, text = 0, ''
    out = {('up', own): float(status == 200)}
    for line in text.splitlines() if status == 200 else ():
        if line.startswith('#'):
            continue
        name, labels, value = SAMPLE.match(line).groups()
        # Prometheus's clock begins at 0 in its tests.
        out[name, (*own, *LABEL.findall(labels or ''))] = float(value) - (BEGAN if OF_TIME.search(name) else 0)
    return out


def value(sample, name, **labels):
    """The sum of those that have these labels."""
    found = [v for (n, ls), v in sample.items() if n == name and labels.items() <= dict(ls).items()]
    assert found, f'{name} {labels}: no such figure'
    return sum(found)


def series(scrapes):
    """scrapes: [(scrape, so many times)]. Lines of input_series."""
    names = list(dict.fromkeys(k for s, _ in scrapes for k in s))
    out = []
    for name, labels in names:
        text = name + '{' + ','.join(f'{k}="{v}"' for k, v in labels) + '}'
        values = ' '.join(f'{s[name, labels]:.17g}x{n - 1}' if (name, labels) in s else f'_x{n}' for s, n in scrapes)
        out += [f"      - series: '{quoted(text)}'", f"        values: '{values}'"]
    return out


def quoted(text):
    return text.replace("'", "''")


def firing(alert, instance=None):
    who = f',instance="{instance}"' if instance else ''
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"{who}}})' if alert else f'ALERTS{{alertstate="firing"{who}}}'


def test(interval, scrapes, checks):
    """A group of promtool's tests. scrapes: a list for series() for each instance; checks: [(minutes, expression, value or None)]."""
    out = [f'  - interval: {interval}', '    input_series:']
    for s in scrapes:
        out += series(s)
    out += ['    promql_expr_test:']
    for minutes, expression, expected in checks:
        out += [f"      - expr: '{quoted(expression)}'", f'        eval_time: {minutes}m']
        out += ['        exp_samples: []'] if expected is None else ['        exp_samples:', f'          - value: {expected}']
    return '\n'.join(out) + '\n'


def run(work, rules, groups, interval):
    path = work / 'rules-test.yml'
    path.write_text(f'rule_files: [{rules}]\nevaluation_interval: {interval}\ntests:\n' + ''.join(groups))
    r = subprocess.run(['promtool', 'test', 'rules', str(path)], capture_output=True, text=True, timeout=600)
    return r.returncode, r.stdout + r.stderr
