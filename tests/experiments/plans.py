"""The experiments as data: who has which images, how long each side trains, what the paper found; and the two
methods that are compared. Nothing here runs anything.

Times are in steps of 32 images, as in the paper: its epochs times their steps. Here an epoch of the device is
shorter, so that its accuracy is known more often: fewer visits of each image an epoch, and more epochs.
"""
import dataclasses

BATCH = 32
FOLD = 9  # visits of each image in an epoch of the edge: once as it is, then augmented
FOLDS = 5  # of all images: each is tested once
VALIDATION_SHARE = 0.1  # of all images; held apart, at hand to the device alone
HANDOVER_PERCENT = 43  # on the validation images: where the paper hands over
EPOCH_STEPS = 65  # of the device, about
EDGE_EPOCH_STEPS = 219  # of the edge, at most about so many


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str
    title: str
    device_share: float  # of what is neither test nor validation image; 1: both sides have all
    device_steps: int    # what the device trains for in the paper before it hands over
    edge_steps: int
    private: bool = False  # a class that only the device has
    until: float = 4  # the end, counted from the handover: so many times what the edge trains for
    paper: tuple = ()    # columns (1) to (5), in words


EXPERIMENTS = {e.name: e for e in (
    Experiment('1', 'the same images on both sides', 1, 10 * 219, 20 * 219,
               paper=('44 %', '44 %', '65 %', '65 %', '46 %')),
    Experiment('2-1', 'the device has 20 % of the images, the edge 80 %', 0.2, 50 * 45, 25 * 174,
               paper=('43 %', '43 %', '62 %', '62 %', 'levels off near 50 %: the edge\'s is kept')),
    Experiment('2-2', 'the device has 80 % of the images, the edge 20 %', 0.8, 12 * 174, 100 * 45, until=6,
               paper=('43 %', '43 %', '57 %', '57 %', 'reaches 64 %: its own is taken back')),
    Experiment('3', 'the device has one more class, which the edge must never see', 1, 6 * 252, 20 * 219, private=True,
               until=6, paper=('43 % (that one: 93 %)', '34 %', '64 %', '56 % (that one: 3 %)',
                                 'overtakes later: its own is taken back')),
    Experiment('3-digits', 'digits: the device has an eighth of the images, and one class that the edge must never see', 0.12, 6 * 252,
               20 * 219, private=True, until=6),
    Experiment('mnist', 'digits: the device has an eighth of the images', 0.12, 10 * 219, 20 * 219,
               paper=('', '', '96 %', '96 %', '')),
)}

DIGITS_IMAGES, DIGITS_TEST = 6700, 2000  # dealt out in a fold; tests
DIGITS_SHARE = 0.12  # of the device where on faces both sides have all: of digits there are so many that it has few

AUGMENT = {'photos': {'shift_px': 4, 'flip': True, 'blur': 0.8, 'brightness': 0.2},
           'digits': {'shift_px': 2, 'flip': False, 'blur': 0.8, 'brightness': 0.2}}
NETWORKS = {'photos': 'faces.cfg', 'digits': 'demo.cfg'}

# What makes the difference: sections of the agent's and of the trainer's configuration.
METHODS = {
    'paper': {
        'agent': {'select': {'selector': 'best', 'lineage': 'keep', 'blends': '', 'tune_steps': 0, 'previous': False},
                  'handover': {'private_rows': 'send'}, 'transfer': {'encoding': 'raw'}},
        'trainer': {'model': {'absent_classes': 'train'}, 'transfer': {'encoding': 'raw'}},
    },
    'ours': {'agent': {}, 'trainer': {}},  # the product's defaults
}

# Experiments of another kind, and what each compares.
OTHERS = {'cost': ['curves'], 'many': ['alone', 'resume', 'merge', 'agnostic']}
MOST_FOLDS = {'cost': 2, 'many': 3}  # of these, however many are asked for
MANY_DEVICES = 10


def fold_for(images, steps):
    return max(1, min(FOLD, round(steps * BATCH / images)))


def device_fold(images):
    """Visits of each image in an epoch of the device."""
    return fold_for(images, EPOCH_STEPS)


def edge_fold(images):
    """FOLD of faces, less of the many digits."""
    return fold_for(images, EDGE_EPOCH_STEPS)


def epoch_steps(images, fold):
    return -(-images * fold // BATCH)


def edge_epochs(experiment, images, scale):
    return max(1, round(scale * experiment.edge_steps / epoch_steps(images, edge_fold(images))))
