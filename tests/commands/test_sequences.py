"""Models over histories from the command line: trained, resumed, evaluated and asked for lists."""

import json

import pytest
import torch
import yaml

from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A dataset in which users go through the items in order, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    lines = [
        f'u{user}\ti{(start + place) % 15:02d}\t{place}.0'
        for user, start in enumerate(torch.randint(15, (40,)).tolist())
        for place in range(8)
    ]
    (tmp_path / 'data' / 'mine').mkdir(parents=True)
    header = 'user_id:token\titem_id:token\ttimestamp:float'
    (tmp_path / 'data' / 'mine' / 'mine.inter').write_text('\n'.join([header, *lines]) + '\n')
    return tmp_path


SMALL = [
    '--dataset',
    'mine',
    '--device',
    'cpu',
    '--references',
    'false',
    '--hparams.hidden_channels',
    '16',
    '--trainer.batch_size',
    '16',
    '--trainer.lr',
    '0.01',
    '--trainer.steps_per_epoch',
    '10',
]


def metrics(run):
    return json.loads((run / 'metrics.json').read_text())


@pytest.mark.parametrize('model', ['SASRec', 'ComiRecSA'])
def test_a_run_from_training_to_lists(folder, capsys, model):
    flags = ['--model', model, '--split', 'leave-one-out', *SMALL]
    if model == 'ComiRecSA':
        flags += [
            '--hparams.selection',
            'p',
            '--hparams.multi_loss',
            'true',
            '--hparams.num_negatives',
            '10',
        ]
    assert train([*flags, '--epochs', '6', '--output', 'whole']) == 0
    assert train([*flags, '--epochs', '3', '--output', 'parts']) == 0
    assert train(['--resume', 'parts', '--epochs', '6']) == 0
    found = metrics(folder / 'whole')
    assert found['test'] == metrics(folder / 'parts')['test']
    assert found['test']['num_users'] == found['validation']['num_users'] == 40
    assert (
        yaml.safe_load((folder / 'whole' / 'config.yaml').read_text())['split'] == 'leave-one-out'
    )
    assert evaluate(['whole', '--device', 'cpu']) == 0
    again = json.loads((folder / 'whole' / 'evaluation-test.json').read_text())
    assert again['recall@10'] == pytest.approx(found['test']['recall@10'])
    capsys.readouterr()
    assert (
        recommend(['whole', '--users', 'u3', '--k', '4', '--exclude', 'seen', '--device', 'cpu'])
        == 0
    )
    rows = [line.split(',') for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 4 and all(row[0] == 'u3' for row in rows)


@pytest.mark.parametrize('split', ['temporal', 'users', 'random', 'leave_one_out'])
def test_splits_by_name(folder, split):
    assert (
        train(['--model', 'SASRec', *SMALL, '--epochs', '1', '--split', split, '--output', 'run'])
        == 0
    )
    config = yaml.safe_load((folder / 'run' / 'config.yaml').read_text())
    assert config['split'] == split
    users = metrics(folder / 'run')['test']['num_users']
    assert users == {'users': 4, 'leave_one_out': 40}.get(split, users)
    assert evaluate(['run', '--device', 'cpu']) == 0
    assert (
        recommend(['run', '--users', 'all', '--k', '2', '--device', 'cpu', '--output', 'lists.csv'])
        == 0
    )


def test_mistakes_are_named(capsys):
    for flags, message in (
        (['--split', 'last'], "split: got 'last', accepted are leave_one_out"),
        (['--hparams.loss', 'x'], "loss: got 'x'"),
    ):
        assert train(['--model', 'SASRec', *SMALL, *flags]) == 2
        assert message in capsys.readouterr().err
    assert train(['--model', 'SASRec', '--dataset', 'demo']) == 1
    assert "has no 'time', from which sequences are made" in capsys.readouterr().err
