"""Who gets which image, decided once before anything is handed out.

Every choice follows from a seeded hash of an image's content, class by class, so that all parts have the classes in
the same shares: fold k of the test images, then validation, then what the device and the edge train on. Images of equal content
count as one. Photos become folders of symbolic links, digits IDX files.
"""
import gzip
import hashlib
import os
import pathlib
import shutil
import struct

import plans


class Image:
    """source: the path of a photo, or the pixels of a digit."""
    __slots__ = ('sha', 'source')

    def __init__(self, sha, source):
        self.sha, self.source = sha, source


def hashed(seed, sha):
    return hashlib.sha256(f'{seed}:{sha}'.encode()).digest()


def in_order(images, seed):
    """Each content once, in an order that only seed and content decide."""
    return [i for _, i in sorted({i.sha: i for i in images}.items(), key=lambda x: hashed(seed, x[0]))]


class Sharer:
    """Cuts lists into shares whose sizes come out right over all lists: what is rounded off of one goes to the next."""

    def __init__(self, share):
        self.share, self.owed = share, 0.0

    def take(self, images, of=None):
        """(its share, the rest); of: how many the share is of, where not of `images`."""
        self.owed += self.share * (len(images) if of is None else of)
        n = min(len(images), int(self.owed + 0.5))
        self.owed -= n
        return images[:n], images[n:]


def deal(classes, experiment, fold, private=(), folds=plans.FOLDS, test=None, device_share=None):
    """{part: {class: [Image]}} of `classes`; parts: test, validation, device, edge (none of private classes).
    test: {class: [Image]} of images that are tests already: then none is held out for it."""
    parts = {p: {} for p in ('test', 'validation', 'device', 'edge')}
    validation = Sharer(plans.VALIDATION_SHARE)
    device = Sharer(experiment.device_share if device_share is None else device_share)
    for c, images in classes.items():
        order = in_order(images, 'fold')
        held = test[c] if test else order[fold::folds]
        tested = {i.sha for i in held}
        rest = in_order([i for i in order if i.sha not in tested], f'share {fold}')
        own, rest = validation.take(rest, len(order))
        mine, others = device.take(rest)
        parts['test'][c], parts['validation'][c], parts['device'][c] = held, own, mine
        if c not in private:
            parts['edge'][c] = rest if device.share == 1 else others
    return parts


# Where images are read from.
class Unusable(RuntimeError):
    """These images."""


def is_idx(folder):
    return any(pathlib.Path(folder).glob('*-idx?-ubyte*'))


def read_folder(folder):
    found = {}
    for c in sorted(p for p in pathlib.Path(folder).iterdir() if p.is_dir() and not p.name.startswith('.')):
        files = sorted(p for p in c.iterdir() if p.is_file() and not p.name.startswith('.'))
        found[c.name] = [Image(hashlib.sha256(p.read_bytes()).hexdigest(), p.resolve()) for p in files]
    if not found:
        raise Unusable(f'{folder}: found neither folders of images nor IDX files')
    return found


def read_idx(folder, stem):
    def load(kind, head):
        for path in (folder / f'{stem}-{kind}', folder / f'{stem}-{kind}.gz'):
            if path.exists():
                data = path.read_bytes()
                data = gzip.decompress(data) if path.suffix == '.gz' else data
                return struct.unpack(f'>{head}I', data[:4 * head])[1:], data[4 * head:]
        raise Unusable(f'{folder}: {stem}-{kind} is not there')
    (n, rows, cols), pixels = load('images-idx3-ubyte', 4)
    _, labels = load('labels-idx1-ubyte', 2)
    size = rows * cols
    found = {str(c): [] for c in range(max(labels) + 1)}
    for i in range(n):
        image = pixels[i * size:(i + 1) * size]
        found[str(labels[i])].append(Image(hashlib.sha256(image).hexdigest(), image))
    return found


def some(classes, n, seed, fold=0, folds=1):
    """About n images in all: of each class the same share, fold by fold other ones."""
    sharer = Sharer(min(1 / folds, n / max(1, sum(map(len, classes.values())))))
    out = {}
    for c, images in classes.items():
        order = in_order(images, seed)
        out[c] = sharer.take(order[fold * len(order) // folds:], len(order))[0]
    return out


# How parts are handed out: the worker's cage follows no links out of its folder of images.
def place(source, to):
    try:
        os.link(source, to)
    except OSError:  # on another file system
        shutil.copyfile(source, to)


def write_folders(part, folder):
    for c, images in part.items():
        if images:
            (folder / c).mkdir(parents=True)
        for i in images:
            place(i.source, folder / c / f'{i.sha[:16]}{i.source.suffix}')


def write_idx(part, folder, names, side=28):
    folder.mkdir(parents=True)
    # Mixed, as a reader that takes the first so many would else get one class only.
    rows = sorted((hashed('order', i.sha), names.index(c), i.source) for c, images in part.items() for i in images)
    (folder / 'train-images-idx3-ubyte').write_bytes(
        struct.pack('>IIII', 0x803, len(rows), side, len(rows[0][2]) // side) + b''.join(r[2] for r in rows))
    (folder / 'train-labels-idx1-ubyte').write_bytes(
        struct.pack('>II', 0x801, len(rows)) + bytes(r[1] for r in rows))


def count(part):
    return sum(map(len, part.values()))


class Parts:
    """What an experiment's fold has on disk; `public` and `private`: names of classes in the order of outputs."""

    def __init__(self, folder, photos, public, private, counts, bytes_):
        self.folder, self.photos, self.public, self.private = folder, photos, public, private
        self.counts, self.photo_bytes = counts, bytes_

    def path(self, part):
        return self.folder / part


def lay_out(data, private_data, experiment, fold, folder, images=None, pooled=False):
    """Splits `data` (a folder) for a fold and writes DIR/test, edge-test (without private classes), validation,
    device, edge, classes.txt and private-classes.txt into `folder`, anew; pooled: also pool, what device and edge have."""
    photos, test, share, private = not is_idx(data), None, None, []
    if photos:
        classes = read_folder(data)
        if experiment.private:
            more = read_folder(private_data)
            private = sorted(more)
            classes.update(more)
    else:
        share = plans.DIGITS_SHARE if experiment.device_share == 1 else experiment.device_share
        classes = some(read_idx(data, 'train'), images or plans.DIGITS_IMAGES, 'pool', fold, plans.FOLDS)
        test = some(read_idx(data, 't10k'), plans.DIGITS_TEST, 'test')
        private = [max(classes, key=int)] if experiment.private else []
    public = [c for c in classes if c not in private]
    parts = deal({c: classes[c] for c in [*public, *private]}, experiment, fold, private, test=test, device_share=share)
    parts['edge-test'] = {c: v for c, v in parts['test'].items() if c not in private}
    if pooled:
        parts['pool'] = {c: [*parts['device'][c], *parts['edge'][c]] for c in public}
    for p, content in parts.items():
        if not count(content):
            raise Unusable(f'{data}: too few images: none is left for {p}')
    shutil.rmtree(folder, ignore_errors=True)
    for p, content in parts.items():
        write_folders(content, folder / p) if photos else write_idx(content, folder / p, [*public, *private])
    for name, names in (('classes.txt', public), ('private-classes.txt', private)):
        (folder / name).write_text(''.join(f'{c}\n' for c in names))
    size = {p: sum(os.stat(i.source).st_size if photos else len(i.source) for v in c.values() for i in v)
            for p, c in parts.items()}
    return Parts(folder, photos, public, private, {p: count(c) for p, c in parts.items()}, size)
