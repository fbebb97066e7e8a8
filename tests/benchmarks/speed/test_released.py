import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.common.worker import PHASES, Worker
from benchmarks.speed.released import prepare_checkout

# A stand-in with the module and function names that the harness relies on; it fails without the
# changes from outside.
STAND_IN = {
    'Params.py': """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument('--data')
args = parser.parse_args()
""",
    'DataHandler.py': """
import pickle
import torch
from Params import args


class DataHandler:
    def LoadData(self):
        folder = f'./Datasets/{args.data}/'
        with open(folder + 'trnMat.pkl', 'rb') as file:
            self.dense = torch.tensor(pickle.load(file).A).cuda()  # what the adapter must make run on a CPU
        self.trnLoader = torch.utils.data.DataLoader(self.dense, batch_size=2)
        self.diffusionLoader = torch.utils.data.DataLoader(self.dense, batch_size=2)
""",  # noqa: E501
    'Model.py': '',
    'Main.py': """
import time
import setproctitle
import torch
from DataHandler import DataHandler


def seed_it(seed):
    torch.manual_seed(seed)


class Coach:
    def __init__(self, handler):
        self.handler = handler

    def prepareModel(self):
        self.model = torch.nn.Linear(1, 1).cuda()

    def trainEpoch(self, epoch):
        print('progress')
        for loader, pause in ((self.handler.diffusionLoader, 0.01), (self.handler.diffusionLoader, 0.03),
                              (self.handler.trnLoader, 0.02)):
            assert len(loader) == 2 and len(loader.dataset) == 4
            for batch in loader:
                time.sleep(pause)

    def testEpoch(self):
        return {'Recall': 0.5}
""",  # noqa: E501
}


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / 'checkout'
    (folder / 'Datasets' / 'sports').mkdir(parents=True)
    for name, text in STAND_IN.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / 'tiny'
    folder.mkdir()
    for name in ('trnMat.pkl', 'tstMat.pkl'):
        (folder / name).write_bytes(pickle.dumps(sp.coo_matrix(np.eye(4))))
    for name in ('image', 'audio'):
        np.save(folder / f'{name}_feat.npy', np.ones((4, 2)))
    return folder


def test_run(checkout, data, tmp_path):
    before = {path: path.read_bytes() for path in checkout.rglob('*') if path.is_file()}
    folder = tmp_path / 'copy'
    folder.mkdir()
    flags = prepare_checkout(checkout, data, ['image', 'audio'], folder)
    assert flags == ['--data', 'sports']
    target = folder / 'Datasets' / 'sports'
    assert (target / 'text_feat.npy').read_bytes() == (data / 'audio_feat.npy').read_bytes()

    worker = Worker('benchmarks.speed.released', ['1', '0', *flags], 1, folder)
    try:
        assert worker.ready['description']['flags'] == '--data sports'
        for _ in range(2):
            answer = worker.epoch()
            assert answer['figures'] == {'recall@20': 0.5}
            wall = answer['wall']
            assert set(wall) == set(PHASES)
            assert (
                0.02 <= wall['denoiser'] < wall['rebuild']
                and 0.04 <= wall['recommender'] < wall['rebuild']
            )
    finally:
        worker.close()
    assert {path: path.read_bytes() for path in checkout.rglob('*') if path.is_file()} == before


def test_three_modalities_use_the_other_switch(checkout, data, tmp_path):
    np.save(data / 'text_feat.npy', np.ones((4, 3)))
    folder = tmp_path / 'copy'
    folder.mkdir()
    assert prepare_checkout(checkout, data, ['image', 'text', 'audio'], folder) == [
        '--data',
        'tiktok',
    ]
    assert (folder / 'Datasets' / 'tiktok' / 'audio_feat.npy').is_file()


def test_errors(checkout, data, tmp_path):
    with pytest.raises(ValueError, match='--modalities: got 1'):
        prepare_checkout(checkout, data, ['image'], tmp_path / 'copy')
    with pytest.raises(ValueError, match='tiny lacks text_feat.npy'):
        prepare_checkout(checkout, data, ['image', 'text'], tmp_path / 'copy')
    (checkout / 'Main.py').unlink()
    with pytest.raises(ValueError, match='the checkout lacks Main.py'):
        prepare_checkout(checkout, data, ['image', 'audio'], tmp_path / 'copy')
