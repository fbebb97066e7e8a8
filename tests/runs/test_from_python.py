"""A training that was started in Python leaves a folder that every command takes."""

import json
import shutil

import pytest
import torch
import yaml

from genrec_pyg.compare import main as compare
from genrec_pyg.config.build import load_run
from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.nn.models import BM3, EASE, MFBPR, LightGCN, Popularity, Recommender
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train
from genrec_pyg.training import Trainer

QUIET = dict(progress=False, device='cpu', batch_size=256)


class Held(Recommender):
    """A model with an argument that no YAML file can hold."""

    trainable = False

    def __init__(self, data, modalities=None, weight: torch.Tensor = None):
        super().__init__(data, modalities)
        self.weight = weight

    def score(self, user):
        return self.weight.expand(user.numel(), -1)


@pytest.fixture
def run(demo_data, tmp_path):
    torch.manual_seed(3)
    model = BM3(demo_data, modalities=['text'], hidden_channels=16, dropout=0.25)
    result = Trainer(epochs=2, seed=7, lr=0.01, ks=(5, 20), output=tmp_path / 'run', **QUIET).fit(
        model, demo_data
    )
    return tmp_path / 'run', model, result


def test_model_and_data_are_built_again(run, demo_data):
    folder, model, _ = run
    found = load_run(str(folder), device='cpu')
    assert (found.config.model, found.config.seed, found.config.modalities) == ('BM3', 7, ['text'])
    assert found.model.arguments == model.arguments and found.model.arguments['dropout'] == 0.25
    assert found.config.trainer['lr'] == 0.01 and found.config.trainer['ks'] == [5, 20]
    user = torch.arange(model.num_users)
    assert torch.equal(found.model.score(user), model.score(user))


def test_every_command_takes_it(run, demo_data, tmp_path, capsys):
    folder, _, result = run
    folder = shutil.move(folder, tmp_path / 'moved')  # the graph moves with it
    assert evaluate([str(folder), '--ks', '5', '20']) == 0
    assert (
        json.loads((folder / 'evaluation-test.json').read_text())['recall@20']
        == result.test['recall@20']
    )
    assert recommend([str(folder), '--users', '0', '--k', '3']) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('0,')
    Trainer(output=tmp_path / 'ease', **QUIET).fit(EASE(demo_data), demo_data)
    assert compare([str(tmp_path / 'ease'), str(folder)]) == 0
    assert (
        train(
            ['--resume', str(folder), '--epochs', '3', '--references', 'false', '--device', 'cpu']
        )
        == 0
    )
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['epoch'] for line in lines] == [0, 1, 2]
    flags = ['--references', 'false', '--device', 'cpu', '--output', str(tmp_path / 'final')]
    assert train(['--final', str(folder), *flags]) == 0


def test_a_resumed_training_in_python_goes_on_there(demo_data, tmp_path):
    Trainer(epochs=1, output=tmp_path, **QUIET).fit(MFBPR(demo_data), demo_data)
    before = (tmp_path / 'config.yaml').read_text()
    Trainer(epochs=2, output=tmp_path, **QUIET).fit(MFBPR(demo_data), demo_data, resume=True)
    assert (tmp_path / 'config.yaml').read_text() == before and load_run(
        str(tmp_path)
    ).config.model == 'MFBPR'


def test_settings_in_data_classes_are_kept(demo_data, tmp_path):
    model = LightGCN(demo_data, item_side={'kind': 'id+frozen'})
    Trainer(epochs=1, output=tmp_path, **QUIET).fit(model, demo_data)
    found = load_run(str(tmp_path), device='cpu').model
    user = torch.arange(3)
    assert torch.equal(found.score(user), model.score(user))


def test_a_model_of_another_module_is_named_by_its_place(demo_data, tmp_path):
    from helpers.trainer_cases import Factors

    Trainer(epochs=1, output=tmp_path, **QUIET).fit(Factors(demo_data), demo_data)
    assert (
        yaml.safe_load((tmp_path / 'config.yaml').read_text())['model']
        == 'helpers.trainer_cases:Factors'
    )
    assert type(load_run(str(tmp_path)).model) is Factors


@pytest.mark.parametrize(
    'make,message',
    [
        (
            lambda data: Held(data, weight=torch.rand(data['item'].num_nodes)),
            "argument 'weight' is no plain value",
        ),
        (
            lambda data: type('Local', (Popularity,), {'__module__': '__main__'})(data),
            'cannot be imported from elsewhere',
        ),
    ],
)
def test_what_cannot_be_built_again_is_trained_all_the_same(
    demo_data, tmp_path, make, message, caplog
):
    result = Trainer(output=tmp_path, **QUIET).fit(make(demo_data), demo_data)
    assert (
        result.test['recall@20'] > 0
        and message in caplog.text
        and not (tmp_path / 'config.yaml').exists()
    )
