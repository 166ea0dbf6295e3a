"""Results of runs made into figures: means, spread, intervals, comparisons. Pure: no files, no clock."""
import statistics

import plans

COLUMNS = ('device_before', 'edge_before', 'edge_after', 'device_after', 'local_meanwhile', 'at_judged', 'at_end')
# Two-sided 95 % points of Student's t by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def accuracy(score, of='all'):
    """Percent of all images, of those of classes that only the device has, or of the others; None: no such score."""
    if not score or not score.get('n'):
        return None
    own = score.get('private')
    if of == 'private':
        return 100 * own['correct'] / own['n'] if own and own['n'] else None
    n, correct = score['n'], score['correct']
    if of == 'others' and own:
        n, correct = n - own['n'], correct - own['correct']
    return 100 * correct / n


def spread(values):
    """{mean, sd, n} of what is there; None when nothing is."""
    values = [v for v in values if v is not None]
    if not values:
        return None
    return {'mean': statistics.mean(values), 'sd': statistics.stdev(values) if len(values) > 1 else 0.0, 'n': len(values)}


def interval(differences):
    """Mean of paired differences with its 95 % interval (Student's t over folds)."""
    d = [x for x in differences if x is not None]
    s = spread(d)
    if s and len(d) > 1:
        half = T95[len(d) - 1] * s['sd'] / len(d) ** 0.5
        s.update(low=s['mean'] - half, high=s['mean'] + half)
    return s


def column(result, name):
    return result[name] if name in ('at_judged', 'at_end') else result['columns'][name]


def in_use(result, seconds):
    """The test score of what was in use at a time of the run's clock."""
    scores = [u['test'] for u in result['use'] if u['s'] <= seconds]
    return scores[-1] if scores else None


def first_at(result, percent):
    """When what was in use first scored at least so much; None: never."""
    return next((u['s'] for u in result['use'] if u['test'] and accuracy(u['test']) >= percent), None)


def same_at_both_ends(result):
    """Whether each checkpoint scores the same on the images that both ends have: None where the ends had
    different checkpoints of it (rows of private classes stay at home)."""
    def same(here, there):
        own = here.get('private', {'n': 0, 'correct': 0})
        return here['n'] - own['n'] == there['n'] and here['correct'] - own['correct'] == there['correct']
    c = result['columns']
    if result['classes'][1] and result['method'] != 'paper':
        return None
    return same(c['device_before'], c['edge_before']) and same(c['device_after'], c['edge_after'])


def taken_back(result):
    """Whether the device, after it had taken the edge's, came back to one that it trained itself."""
    after = [u['origin'] for u in result['use'] if u['s'] > 0]
    return 'edge' in after and 'local' in after[after.index('edge'):]


def of_method(results):
    """Figures of one method over the folds."""
    parts = ('all', 'private', 'others') if results[0]['classes'][1] else ('all',)
    return {
        'folds': len(results),
        'columns': {p: {c: spread([accuracy(column(r, c), p) for r in results]) for c in COLUMNS} for p in parts},
        'same_at_both_ends': [same_at_both_ends(r) for r in results],
        'activated': sum(r['decision'] == 'activated' for r in results),
        'taken_back': sum(taken_back(r) for r in results),
        'in_use_when_judged': [r['in_use_when_judged'] for r in results],
        'ratio': spread([r['ratio_achieved'] for r in results]),
        'seconds': {k: spread([r['seconds'][k] for r in results]) for k in ('returned', 'judged', 'end')},
        'edge': {k: spread([r['edge'][k] for r in results]) for k in ('steps', 'job_s', 'cpu_s')},
        'device_steps': {k: spread([r['device'][k] for r in results]) for k in ('steps_before', 'steps_meanwhile')},
        'bytes': {
            'broker': spread([r['broker_bytes'] for r in results]), 'checkpoint': results[0]['checkpoint_bytes'],
            'images': spread([r['bytes_of']['device'] + r['bytes_of']['validation'] for r in results]),
            'crops': spread([(r['images']['device'] + r['images']['validation']) * r['input_bytes'] for r in results])},
    }


def private_kept(result):
    """Of the private classes' recall before the handover, the share that is left once the return is judged, in percent."""
    before, after = (accuracy(column(result, c), 'private') for c in ('device_before', 'at_judged'))
    return 100 * after / before if before else None


def compare(paper, ours):
    """{figure: interval} of ours against the paper's method, fold by fold."""
    pairs = [(p, o) for p in paper for o in ours if p['fold'] == o['fold']]
    if not pairs:
        return None

    def best_then(p, o):
        """The best that the paper's method has in use when its return is judged, or when ours is."""
        return max(accuracy(p['at_judged']), accuracy(in_use(p, o['seconds']['judged'])))

    def end(*both):
        return min(r['seconds']['end'] for r in both)
    targets = [(accuracy(p['at_end']), p, o) for p, o in pairs]
    times = [(first_at(p, a), first_at(o, a)) for a, p, o in targets]
    found = {
        'judged': interval([accuracy(o['at_judged']) - best_then(p, o) for p, o in pairs]),
        'end': interval([accuracy(in_use(o, end(p, o))) - accuracy(in_use(p, end(p, o))) for p, o in pairs]),
        'time': {'paper': spread([t for t, _ in times]), 'ours': spread([t for _, t in times]),
                 'less': interval([a - b for a, b in times if a is not None and b is not None]),
                 'never': sum(b is None for _, b in times)},
    }
    if ours[0]['classes'][1]:
        found['private_kept'] = spread([private_kept(o) for _, o in pairs])
        found['others'] = interval([accuracy(o['at_judged'], 'others') - accuracy(o['columns']['edge_after']) for _, o in pairs])
    return found


def group_key(r):
    return (r['experiment'], r['data_name'], r['scale'], r['ratio'])


def handover_figures(by_method):
    return {'images': next(iter(by_method.values()))[0]['images'], 'methods': {m: of_method(rs) for m, rs in by_method.items()},
            'compared': compare(by_method['paper'], by_method['ours']) if len(by_method) == 2 else None}


# Many devices.
def many_figures(by_method):
    """{strategy: {mean, worst: {in use, returned: {own, all: spread over folds}}}}, and agnostic's worst against merge's."""
    def over_folds(results, of, what, which):
        values = [[d[what][which] for d in r['devices'] if d[what]] for r in results]
        return spread([of(v) for v in values if v])
    table = {m: {f'{name} {what} {which}': over_folds(rs, of, what, which)
                 for what in ('in_use', 'returned') for which in ('own', 'all') for name, of in (('mean', statistics.mean), ('worst', min))}
             for m, rs in by_method.items()}

    def worst(result, what):
        return min((d[what]['own'] for d in result['devices'] if d[what]), default=None)

    def agnostic_over_merge(what):
        pairs = [(worst(a, what), worst(m, what)) for a in by_method.get('agnostic', []) for m in by_method.get('merge', [])
                 if a['fold'] == m['fold']]
        return interval([a - m for a, m in pairs if a is not None and m is not None])
    return {'strategies': table, 'worst_agnostic_over_merge': {w: agnostic_over_merge(w) for w in ('in_use', 'returned')},
            'returns': {m: spread([d['returns'] for r in rs for d in r['devices']]) for m, rs in by_method.items()},
            'epochs': next(iter(by_method.values()))[0]['epochs'], 'every': next(iter(by_method.values()))[0]['every']}


# What the edge pays.
TARGETS = (50, 60, 65, 70, 75, 80)  # percent of the test images


def cpu_to(curve, percent):
    return next((p['cpu_s'] for p in curve if accuracy(p['test']) >= percent), None)


def cost_figures(by_method):
    results = by_method['curves']
    return {'start': spread([accuracy(r['start']) for r in results]),
            'targets': [{'percent': t, **{k: spread([cpu_to(r[k], t) for r in results]) for k in ('handover', 'all_at_the_edge')},
                         'less': interval([a - h for r in results for a, h in [(cpu_to(r['all_at_the_edge'], t), cpu_to(r['handover'], t))]
                                           if a is not None and h is not None])} for t in TARGETS],
            'end': {k: spread([accuracy(r[k][-1]['test']) for r in results]) for k in ('handover', 'all_at_the_edge')},
            'steps': results[0]['handover'][-1]['steps']}


KINDS = {'many': many_figures, 'cost': cost_figures}


def groups(results):
    """Figures of each (experiment, data, scale, ratio), in the order of plans."""
    order = [*plans.EXPERIMENTS, *plans.OTHERS]
    out = []
    for key in sorted({group_key(r) for r in results}, key=lambda k: (order.index(k[0]), k[1:])):
        mine = sorted((r for r in results if group_key(r) == key), key=lambda r: r['fold'])
        by_method = {m: [r for r in mine if r['method'] == m] for m in plans.OTHERS.get(key[0], plans.METHODS)}
        by_method = {m: rs for m, rs in by_method.items() if rs}
        out.append({'experiment': key[0], 'data': key[1], 'scale': key[2], 'ratio': key[3], 'folds': max(map(len, by_method.values())),
                    'commits': sorted({r['commit'] for r in mine}), **KINDS.get(key[0], handover_figures)(by_method), 'results': by_method})
    return out
