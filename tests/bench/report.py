"""Tables, the document they go into, and the picture."""
import pathlib
import subprocess
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / 'lib'))
import tables  # noqa: E402
from tables import table  # noqa: E402

NOMINAL = ('GFLOP/s count what the direct algorithms would compute (from the multiply-adds: forward 2, training 6 less the first '
           'layer\'s input gradient, which nobody needs). Where the engine trains 3x3 convolutions by Winograd\'s algorithm, which '
           'needs about a quarter of the multiplications, they are nominal: the share of the matrix product can '
           'pass 100 % and is no measure of how busy the processor was.')

QUIET_SHARE = 0.05  # of the processors; beyond it the ratios say more of the neighbours


def times(x):
    return '-' if x is None else f'{x:.2f}'


def percent(x):
    return '-' if x is None else f'{100 * x:.0f} %'


def number(x):
    return f'{x:,.0f}' if x >= 100 else f'{x:.1f}'


def mega(x):
    return f'{x / 1e6:.0f}'


def machine_text(run):
    m, b = run['machine'], run['build']
    packages = ', '.join(f'{k} {v}' for k, v in sorted(m['packages'].items()))
    text = (f'Machine: {m["cpu"]} ({m["arch"]}), {m["cpus"]} CPUs, {", ".join(m["features"]) or "no vector features named"}, '
            f'{m["memory_bytes"] / 2**30:.0f} GiB, Debian {m["debian"]}; {packages}. Build: {b.get("buildtype")}, Darknet of the '
            f'{b.get("darknet", "system")}, commit {run["commit"]}. {run["threads"]} threads, {run["rounds"]} rounds of '
            f'{run["seconds"]:g} s by turns; medians.')
    if m['ignored_environment']:
        text += f' Not passed on to what is measured: {", ".join(m["ignored_environment"])}.'
    return text


def disturbance_text(d):
    text = f'Others took {percent(d["others"])} of the processors meanwhile, the host {percent(d["host"])}.'
    if d['others'] + d['host'] > QUIET_SHARE:
        text += (' **Not a quiet machine: do not compare.** Turns do not make up for it: threads that wait for each other, as '
                 'PyTorch\'s do, lose far more than their share.')
    return text


def missing_text(missing):
    seen = {}
    for m in missing:
        seen.setdefault((m['subject'], m['why']), []).append(f'{m["network"]} {m["mode"]}'.strip())
    return ''.join(f'Not measured: {s} ({", ".join(where)}): {why}\n' for (s, why), where in seen.items())


def speed_text(part):
    parts = []
    for b in part['blocks']:
        title = f'**{b["network"]}, {b["mode"]}** ({b["flops_per_image"] / 1e6:.1f} MFLOP an image'
        if b['limit_gflops']:
            title += f'; matrix product {b["limit_gflops"]:.0f} GFLOP/s, OpenBLAS core {b["limit_core"]}'
        rows = [[r['subject'] + (f' (batch {r["batch"]}, {r["rounds"]} round{"s" if r["rounds"] > 1 else ""})'
                                 if r['batch'] != b['rows'][-1]['batch'] else ''),
                 number(r['images_per_second']), percent(r['spread']), number(r['gflops']), percent(r['of_limit']),
                 times(r['to_stock']), times(r['to_pytorch']), mega(r['peak_bytes'])] for r in b['rows']]
        head = ['', 'images/s', 'spread', 'GFLOP/s', 'of the product', 'x Darknet', 'x PyTorch', 'peak MB']
        parts.append(f'{title}; batch {b["rows"][-1]["batch"]})\n\n{table(head, rows)}\n\n'
                     + (f'"x PyTorch" is beside {b["peer"]}. ' if b['peer'] else '') + disturbance_text(b['disturbance']) + '\n')
    notes = 'Spread: of the rounds, largest less smallest, by the median. Ratios are medians of each round\'s.'
    return '\n'.join(parts + [f'{NOMINAL} {notes}\n', missing_text(part['missing'])]).rstrip() + '\n'


def scaling_text(part):
    parts = []
    if part['images']:
        rows = [[r['times'], f'{r["images"]:,}', f'{r["seconds"]:.3f}', times(r['images_ratio']), times(r['time_ratio'])]
                for r in part['images']]
        parts.append('**Images**: one epoch of `tasuki train` on digits.cfg '
                     f'({part["images"][0]["engine"]}, f32)\n\n' +
                     table(['', 'images', 'seconds', 'x images', 'x time'], rows) + '\n')
    if part['filters']:
        rows = [[('training' if r['mode'] == 'train' else 'evaluation') + ' ' + r['precision'], r['times'],
                 f'{r["flops_per_image"] / 1e6:.1f}', number(r['images_per_second']),
                 number(r['flops_per_image'] * r['images_per_second'] / 1e9), times(r['flops_ratio']),
                 times(r['time_ratio'])] for r in part['filters']]
        parts.append('**Filters**: digits.cfg with so many times the filters in each convolution\n\n' +
                     table(['', 'x filters', 'MFLOP/image', 'images/s', 'GFLOP/s', 'x FLOP', 'x time'], rows) + '\n')
    parts.append(disturbance_text(part['disturbance']) + '\n')
    return '\n'.join(parts + [missing_text(part['missing'])]).rstrip() + '\n'


def feed_text(part):
    rows = [[f'{r["engine"]} {r["precision"]}', number(r['tensors']), number(r['images']), percent(r['ratio'])]
            for r in part['rows']]
    return (f'faces.cfg from {part["data"]}, `{part["augmentation"]}`, beside the same kernels on random tensors\n\n' +
            table(['', 'tensors, images/s', '`tasuki train`, images/s', 'ratio'], rows) + '\n\n' +
            disturbance_text(part['disturbance']) + '\n\n' + missing_text(part['missing'])).rstrip() + '\n'


def memory_text(part):
    rows = [[r['subject'], mega(r['peak_bytes']), times(r['to_pytorch'])] for r in part['rows']]
    return (f'faces.cfg, batch 32. The worker holds {part["data"]}, trains, evaluates and trains on; PyTorch '
            'trains on one batch of random images. "x PyTorch" is beside the leaner of its formats.\n\n' +
            table(['', 'peak MB', 'x PyTorch'], rows) + '\n\n' + missing_text(part['missing'])).rstrip() + '\n'


TEXTS = {'speed': speed_text, 'scaling': scaling_text, 'feed': feed_text, 'memory': memory_text}


def rewrite(path, part, run):
    """Puts a part's text between its markers in a document."""
    tables.rewrite(path, part, f'    {run["command"]}\n\n{machine_text(run)}\n\n{TEXTS[part](run[part])}')


def picture(part, folder):
    """Images a second relative to PyTorch as bars, a group for each network and mode."""
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [b for b in part['blocks'] if b['peer']]
    if not blocks:
        return None
    subjects = list(dict.fromkeys(r['subject'] for b in blocks for r in b['rows']))
    lines = ['"" ' + ' '.join(f'"{s}"' for s in subjects)]
    for b in blocks:
        found = {r['subject']: r['to_pytorch'] for r in b['rows']}
        lines.append(f'"{b["network"]}\\n{b["mode"]}" ' + ' '.join(f'{found[s]:.4f}' if s in found else '?' for s in subjects))
    (folder / 'speed.dat').write_text('\n'.join(lines) + '\n')
    colours = ['#9e9e9e', '#616161', '#ffb74d', '#f57c00', '#ffe0b2', '#e6a15c', '#64b5f6', '#0d47a1']
    # In a histogram bar i of a group lies at column + (i - middle) * its width; labels stand on each.
    n = len(subjects)
    plots = [f'"speed.dat" using {i + 2}:xtic(1) title columnheader({i + 2}) linecolor rgb "{colours[i % len(colours)]}"'
             for i in range(n)]
    labels = [f'"speed.dat" using ($0 + {(i - (n - 1) / 2) / (n + 1.5):.5f}):{i + 2}:(sprintf("%.1f", column({i + 2}))) '
              'with labels font ",8" offset 0,0.5 notitle' for i in range(n)]
    script = f'''set terminal pngcairo size {300 + 210 * len(blocks)},620 font "DejaVu Sans,10"
set output "speed.png"
set datafile missing "?"
set style data histogram
set style histogram cluster gap 1.5
set style fill solid 0.95 border -1
set ylabel "images a second, PyTorch float32 = 1"
set yrange [0:*]
set offsets 0, 0, 0.4, 0
set grid ytics
set key outside bottom center horizontal
set arrow from graph 0, first 1 to graph 1, first 1 nohead dashtype 2 linecolor "black" front
plot {", ".join(plots + labels)}
'''
    r = subprocess.run(['gnuplot'], input=script, cwd=folder, text=True, capture_output=True)
    if r.returncode:
        raise SystemExit(f'engine: gnuplot: {r.stderr.strip()}')
    return folder / 'speed.png'
