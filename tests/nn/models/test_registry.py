import csv

import pytest
import torch
from helpers.forked import run_command

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, get_model

#: A package of a user's, with one model, one function, and a name of an entry point for the model.
SOURCE = '''
from genrec_pyg.nn.models.pairwise import PairwiseRecommender


class Bias(PairwiseRecommender):
    r"""Rows as they are.

    Args:
        data: Graph.
        modalities: Unused.
        hidden_channels: Width.
        scale: Factor of the user rows.
    """

    def __init__(self, data, modalities=None, hidden_channels: int = 8, scale: float = 2.0):
        super().__init__(data, modalities, hidden_channels, 1e-4, 'xavier', 'batch')
        self.scale = scale

    def embed(self):
        return self.scale * self.embedding.user, self.embedding.item


def function():
    pass
'''


def write_package(folder):
    """Writes the package ``shop_models`` and the metadata of its installation into ``folder``."""
    package = folder / 'shop_models'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('')
    (package / 'bias.py').write_text(SOURCE)
    (package / 'broken.py').write_text('import no_such_package_at_all\n')
    metadata = folder / 'shop_models-1.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: shop_models\nVersion: 1.0\n')
    (metadata / 'entry_points.txt').write_text(
        '[genrec_pyg.models]\nShopBias = shop_models.bias:Bias\n'
    )
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(write_package(tmp_path / 'site')))


def test_registered_names():
    assert get_model('MFBPR').__name__ == 'MFBPR'


@pytest.mark.parametrize('name', ['shop_models.bias:Bias', 'ShopBias'])
def test_models_of_other_packages(name, package):
    model = get_model(name)
    assert (model.__module__, model.__name__) == ('shop_models.bias', 'Bias') and name not in MODELS


@pytest.mark.parametrize(
    'name, message',
    [
        ('NoModel', 'MFBPR.*ShopBias or package.module:Class'),
        ('', 'or package.module:Class'),
        ('shop_models.bias:', 'or package.module:Class'),
        ('../shop:Bias', 'or package.module:Class'),
        ('shop_models.bias:Absent', 'cannot be imported .*Absent'),
        ('shop_models.absent:Bias', 'cannot be imported .*shop_models.absent'),
        ('shop_models.broken:Bias', 'cannot be imported .*no_such_package_at_all'),
        ('shop_models.bias:function', 'accepted is a subclass of'),
        ('collections:OrderedDict', 'accepted is a subclass of'),
    ],
)
def test_other_names_are_refused(name, message, package):
    with pytest.raises(ConfigError, match=f'model: got {name!r}.*{message}'):
        get_model(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['shop_models.bias:Bias', 'ShopBias'])
def test_a_model_of_another_package_is_trained_evaluated_and_recommends_by_command(name, tmp_path):
    write_package(tmp_path / 'site')

    def run(command, *arguments):
        done = run_command(command, *arguments, folder=tmp_path, path=[tmp_path / 'site'])
        assert done.returncode == 0, done.stderr
        return done.stdout

    run('train', '--model', name, '--epochs', '2', '--references', 'false', '--hparams.scale', '3')
    folder = f'runs/{name.rpartition(":")[2]}-demo-seed0'
    assert 'recall@20' in run('evaluate', folder)
    run('recommend', folder, '--users', 'all', '--k', '5', '--output', 'lists.csv')
    with open(tmp_path / 'lists.csv') as file:
        rows = list(csv.reader(file))
    assert len(rows) > 5
    state = torch.load(tmp_path / folder / 'checkpoints' / 'best.pt', weights_only=True)
    assert any(key.endswith('embedding.user') for key in state['model'])
