"""Accuracy on the device's test images against time since the handover, as the paper draws it (its figures 7, 10, 11
and 13): trained here, returned by the edge, in use; a panel for each method, means over the folds, what is in use of each
fold thin beside it."""
import subprocess

import figures

POINTS = 160  # of a curve
TITLES = {'paper': "the paper's method", 'ours': 'ours'}


def at(steps, t):
    """The value of a step function, [(time, value)], at a time; None before the first."""
    found = [v for s, v in steps if s <= t + 1e-9 and v is not None]
    return found[-1] if found else None


def steps_of(result):
    """{local, in use: [(seconds, percent)]} and the returned one's (seconds, percent)."""
    local = [(p['s'], figures.accuracy(p['test'])) for p in result['series'] if p['origin'] == 'local']
    use = [(u['s'], figures.accuracy(u['test'])) for u in result['use']]
    return {'local': local, 'use': use}, (result['seconds']['returned'], figures.accuracy(result['columns']['device_after']))


def mean_at(curves, t):
    values = [v for v in (at(c, t) for c in curves) if v is not None]
    return sum(values) / len(values) if len(values) == len(curves) else None


def number(v):
    return 'NaN' if v is None else f'{v:.2f}'


def write_panel(path, results, end):
    """Columns: seconds, local, in use, then what is in use of each fold."""
    curves = [steps_of(r)[0] for r in results]
    with open(path, 'w') as f:
        for i in range(POINTS + 1):
            t = end * i / POINTS
            row = [t, mean_at([c['local'] for c in curves], t), mean_at([c['use'] for c in curves], t), *(at(c['use'], t) for c in curves)]
            f.write(' '.join(map(number, row)) + '\n')
        f.write('\n\n')
        for r in results:
            f.write(' '.join(map(number, steps_of(r)[1])) + '\n')


def panel(path, method, results, end):
    thin = ', '.join(f'"{path}" index 0 using 1:{4 + i} with steps lw 1 lc rgb "#bbbbbb" notitle' for i in range(len(results)))
    return (f'set title "{TITLES[method]}"\nset xrange [0:{end:.0f}]\nplot {thin}, \\\n'
            f'  "{path}" index 0 using 1:2 with steps lw 2 lc rgb "#4477aa" title "trained here", \\\n'
            f'  "{path}" index 0 using 1:3 with steps lw 3 lc rgb "#222222" title "in use", \\\n'
            f'  "{path}" index 1 using 1:2 with points pt 9 ps 1.2 lc rgb "#cc3311" title "returned by the edge"\n')


def draw(group, folder, name):
    """FOLDER/NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    results = group['results']
    panels, end = [], min(r['seconds']['end'] for rs in results.values() for r in rs)
    for method, rs in results.items():
        path = folder / f'{name}-{method}.dat'
        write_panel(path, rs, end)
        panels.append(panel(path, method, rs, end))
    script = f'''set terminal pngcairo size {480 * len(panels)},360 font "DejaVu Sans,9"
set output "{folder / name}.png"
set multiplot layout 1,{len(panels)}
set xlabel "seconds since the handover, on the run's clock"
set ylabel "percent of the test images"
set yrange [0:100]
set key bottom right
set grid ytics lc rgb "#dddddd"
set datafile missing "NaN"
''' + ''.join(panels)
    r = subprocess.run(['gnuplot'], input=script, text=True, capture_output=True)
    if r.returncode:
        raise SystemExit(f'gnuplot: {r.stderr.strip()}')
    return folder / f'{name}.png'
