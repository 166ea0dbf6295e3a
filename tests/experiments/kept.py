"""What tests/experiments/run --work DIR --keep has left in DIR/runs: one handover of a device, its settings and its checkpoints."""
import configparser
import json
import pathlib
import re


class Unusable(Exception):
    pass


class Run:
    """Of the method `ours`."""

    def __init__(self, folder):
        self.folder, self.device = folder, folder / 'ours/device'
        self.name = re.sub(r'-[^-]+-[\d.]+-fold(\d+)$', r', fold \1', folder.name)  # without data set and scale
        conf = configparser.ConfigParser(interpolation=None)
        if not conf.read(self.device / 'agent.conf'):
            raise Unusable(f'{folder}: ours/device/agent.conf: not there; expected a run of tests/experiments/run --keep')
        self.conf = conf

    def weights(self, checkpoint):
        for p in self.folder.rglob(checkpoint):
            if (p / 'weights').is_file():
                return str(p / 'weights')
        raise Unusable(f'{self.folder}: checkpoint {checkpoint[:12]}: in no store')

    def opened(self, worker, conf=None):
        """Has the worker opened with these settings; the device's, unless told. Its seed."""
        conf = conf or self.conf
        model, data, augment = (conf[s] for s in ('model', 'data', 'augment'))
        worker.ask('open', cfg=model['cfg'], classes=model['classes'], threads=1, fold=augment.getint('fold'),
                   **({'private_classes': model['private_classes']} if 'private_classes' in model else {}),
                   augment={'shift_px': augment.getint('shift_px'), 'flip': augment.getboolean('flip'), 'blur': augment.getfloat('blur'),
                            'brightness': augment.getfloat('brightness')},
                   data={'path': data['path'], **({'validation_path': data['validation']} if 'validation' in data else {}),
                         'test_path': data['test'], 'center_crop': data.getint('center_crop')})
        self.n_public = len(pathlib.Path(model['classes']).read_text().split())
        return conf['train'].getint('seed')

    def state(self):
        return json.loads((self.device / 'state/state.json').read_text())

    def handed_over(self):
        """The device's own checkpoint at that moment, in no form."""
        return json.loads((self.folder / 'before/device/state/state.json').read_text())['local']
