"""Tables in words, and the documents that they go into."""
import json
import pathlib
import shutil
import sys

import figures
import pictures
import plans
import tables

METHOD_NAMES = {'paper': "the paper's method", 'ours': 'ours'}
HEAD = ('', '(1) device, handed over', '(2) the same at the edge', '(3) after the edge, there', '(4) the same on the device',
        '(5) device alone meanwhile', 'in use, return judged', 'in use at the end')
PART_NAMES = {'all': '', 'private': ', the private class', 'others': ', the others'}


def plus_minus(s, unit=' %', digits=1):
    if not s:
        return '-'
    return f'{s["mean"]:.{digits}f} ± {s["sd"]:.{digits}f}{unit}' if s['n'] > 1 else f'{s["mean"]:.{digits}f}{unit}'


def between(s, unit=' points', digits=1):
    if not s:
        return '-'
    text = f'{s["mean"]:+.{digits}f}{unit}'
    return text + (f' (95 % interval {s["low"]:+.{digits}f} to {s["high"]:+.{digits}f}, {s["n"]} folds)' if 'low' in s else '')


def columns_table(g):
    e = plans.EXPERIMENTS[g['experiment']]
    rows = [['the paper', *e.paper, '', '']] if e.paper else []
    for m, f in g['methods'].items():
        for part, found in f['columns'].items():
            rows.append([METHOD_NAMES[m] + PART_NAMES[part], *(plus_minus(found[c]) for c in figures.COLUMNS)])
    return tables.table(HEAD, rows)


def method_text(name, f, experiment):
    same = [s for s in f['same_at_both_ends'] if s is not None]
    text = [f'{METHOD_NAMES[name].capitalize()}: ']
    if same:
        text.append(f'both checkpoints score the same at both ends, to the image, in {sum(same)} of {len(same)} folds; ')
    elif experiment.private:
        text.append('the weights of the private class stay on the device, so (2) and (3) are of other weights than (1) and (4); ')
    used = ', '.join(f'{f["in_use_when_judged"].count(o)} {o}' for o in dict.fromkeys(f['in_use_when_judged']))
    text.append(f'in use once the return was judged: {used}; ')
    if f['activated']:
        text.append(f'an own checkpoint was taken back after the edge\'s in {f["taken_back"]} of {f["folds"]}; ')
    s = f['seconds']
    text.append(f'the return came after {plus_minus(s["returned"], " s", 0)}, was judged after {plus_minus(s["judged"], " s", 0)}, the run '
                f'ended after {plus_minus(s["end"], " s", 0)} of its clock; the device had trained {plus_minus(f["device_steps"]["steps_before"], "", 0)} '
                f'steps before and {plus_minus(f["device_steps"]["steps_meanwhile"], "", 0)} meanwhile, the edge {f["edge"]["steps"]["mean"]:.0f}: '
                f'a device step cost {plus_minus(f["ratio"], "", 1)} edge steps.')
    return ''.join(text)


def comparison_text(c):
    t = c['time']
    lines = [f'Ours against the best that the paper\'s method has in use when the return is judged: {between(c["judged"])}; at the end: '
             f'{between(c["end"])}.']
    if t['ours']:
        lines.append(f'Time to the accuracy that the paper\'s method ends with: {plus_minus(t["paper"], " s", 0)} with it, '
                     f'{plus_minus(t["ours"], " s", 0)} with ours'
                     + (f', {"sooner" if t["less"]["mean"] >= 0 else "later"} by {abs(t["less"]["mean"]):.0f} s' if t['less'] else '')
                     + (f'; ours did not reach it in {t["never"]} folds' if t['never'] else '') + '.')
    if 'private_kept' in c:
        lines.append(f'Of the private class\'s recall before the handover, {plus_minus(c["private_kept"])} is there once the return is '
                     f'judged; the others against the edge\'s own result: {between(c["others"])}.')
    return ' '.join(lines)


def cost_text(g):
    f = next(iter(g['methods'].values()))
    b, e = f['bytes'], f['edge']
    job = e['job_s']['mean']
    return (f'Moved by the broker: {b["broker"]["mean"] / 1e6:.1f} MB a handover (checkpoint {b["checkpoint"] / 1e6:.1f} MB, there and back); the device\'s '
            f'images are {b["images"]["mean"] / 1e6:.1f} MB as they are, {b["crops"]["mean"] / 1e6:.1f} MB as the network sees them. A job takes the edge '
            f'{job:.0f} s and {e["cpu_s"]["mean"]:.0f} CPU seconds: a trainer with one such processor serves {86400 / job:,.0f} handovers a day '
            f'at this scale, {86400 / job * g["scale"]:,.0f} at the paper\'s.')


def handover_text(g):
    e, i = plans.EXPERIMENTS[g['experiment']], g['images']
    lines = [f'{e.title[0].upper()}{e.title[1:]}. Images: {i["device"]} on the device, {i["edge"]} at the edge, {i["validation"]} for validation, '
             f'{i["test"]} for tests (fold 0); ratio {g["ratio"]:g}.', '', columns_table(g), '']
    lines += [method_text(m, f, e) + '\n' for m, f in g['methods'].items()]
    if g['compared']:
        lines += [comparison_text(g['compared']), '']
    return '\n'.join([*lines, cost_text(g)])


def many_text(g):
    head = ('', *(f'{of}, {which}' for what, of in (('in_use', 'in use'), ('returned', 'returned last'))
                  for which in ('own mix: mean', 'worst', 'all classes: mean', 'worst')), 'returns a device')
    rows = [[m, *(plus_minus(f[f'{name} {what} {which}']) for what in ('in_use', 'returned') for which in ('own', 'all') for name in ('mean', 'worst')),
             plus_minus(g['returns'][m], '', 1)] for m, f in g['strategies'].items()]
    worst = g['worst_agnostic_over_merge']
    return (f'{plans.MANY_DEVICES} devices, each with mostly three of ten classes; {g["epochs"]} epochs each, a checkpoint offered every {g["every"]}. '
            'Own mix: recall by class weighed by the classes\' shares on the device; all classes: alike.\n\n'
            f'{tables.table(head, rows)}\n\nThe worst device under agnostic against the worst under merge, own mix: in use {between(worst["in_use"])}, '
            f'returned last {between(worst["returned"])}.')


def cpu_text(g):
    rows = [[f'{t["percent"]} %', plus_minus(t['handover'], ' s', 0), plus_minus(t['all_at_the_edge'], ' s', 0), between(t['less'], ' s', 0)] for t in g['targets']]
    return (f'CPU seconds of the edge to an accuracy on the test images: going on from what the device hands over ({plus_minus(g["start"])}) with the images '
            'that it has in experiment 2-1, beside training from nothing on these and the device\'s. A mean is over the folds that get there; '
            f'after {g["steps"]} steps: {plus_minus(g["end"]["handover"])} and {plus_minus(g["end"]["all_at_the_edge"])}.\n\n'
            + tables.table(('accuracy', 'handed over', 'all at the edge', 'less'), rows))


TEXTS = {'many': many_text, 'cost': cpu_text}


def group_text(g):
    head = (f'**{g["experiment"]}** on {g["data"]}: scale {g["scale"]:g}; mean ± standard deviation over {g["folds"]} folds; '
            f'commit {", ".join(g["commits"])}. ')
    return head + TEXTS.get(g['experiment'], handover_text)(g) + '\n'


def load(work):
    found = []
    for p in sorted((work / 'results').glob('*.json')):
        try:
            found.append(json.loads(p.read_text()))
        except ValueError as e:
            raise SystemExit(f'{p}: {e}; delete it, and it is run again') from None
    return found


def name_of(g):
    return f'{g["experiment"]}-{g["data"]}-scale{g["scale"]:g}'


def chosen(args):
    """Groups that the command line asks for: all of them when it names none."""
    return [g for g in figures.groups(load(args.work)) if not args.names or g['experiment'] in args.names]


def public(g):
    return {k: v for k, v in g.items() if k != 'results'}


def draw(args, g):
    drawn = g['experiment'] in plans.EXPERIMENTS and shutil.which('gnuplot')
    return pictures.draw(g, args.work / 'pictures', name_of(g)) if drawn else None


def into_document(document, found):
    """Of each experiment and data set what stands on most folds, then on the largest scale; the pictures beside it."""
    for g in sorted(found, key=lambda g: (g['folds'], g['scale'])):
        part, text = f'{g["experiment"]} {g["data"]}', group_text(g)
        if f'<!-- measured: {part} -->' not in document.read_text():
            print(f'{document}: no place for {part}', file=sys.stderr)
            continue
        if g['picture']:
            target = document.parent / f'experiment-{g["experiment"]}-{g["data"]}.png'
            shutil.copy(g['picture'], target)
            text += f'\n![Accuracy on the device against time since the handover]({target.name})\n'
        tables.rewrite(document, part, text)


def show(args):
    found = chosen(args)
    if not found:
        print(f'tests/experiments/run: no results{" of " if args.names else ""}{", ".join(args.names)} in {args.work}/results', file=sys.stderr)
    for g in found:
        g['picture'] = str(draw(args, g) or '')
    if args.markdown:
        into_document(args.markdown, found)
    for g in found if not args.markdown else ():
        print(f'\n{group_text(g)}' + (f'\nPicture: {g["picture"]}\n' if g['picture'] else ''), file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print(json.dumps({'experiments': [public(g) for g in found]}))
