import json

import pytest

from genrec_pyg.evaluate import main
from genrec_pyg.train import main as train


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(['--output', 'run', '--epochs', '1', '--references', 'false', '--hparams.denoiser_rank', '32', '--hparams.clusters',
                  '5', '--device', 'cpu', '--trainer.batch_size', '4096']) == 0
    return tmp_path / 'run'


def test_repeats_the_figures_of_the_run(run, capsys):
    assert main([str(run), '--ks', '10', '20', '50']) == 0
    written = json.loads((run / 'evaluation-test.json').read_text())
    metrics = json.loads((run / 'metrics.json').read_text())
    assert all(written[name] == value for name, value in metrics['test'].items() if not name.startswith('recall_'))
    assert 'recall@50' in capsys.readouterr().out
    assert main([str(run), '--split', 'val']) == 0
    assert json.loads((run / 'evaluation-val.json').read_text())['recall@20'] == metrics['validation']['recall@20']


@pytest.mark.parametrize('damage,code,message', [
    (lambda run: (run / 'config.yaml').unlink(), 2, 'holds no config.yaml'),
    (lambda run: (run / 'checkpoints' / 'best.pt').unlink(), 1, 'no such checkpoint'),
    (lambda run: (run / 'checkpoints' / 'best.pt').write_bytes(b'x'), 1, 'not a readable checkpoint'),
    (lambda run: (run / 'config.yaml').write_text((run / 'config.yaml').read_text().replace('hidden_channels: 64',
                                                                                            'hidden_channels: 32')), 1, 'does not fit'),
    (lambda run: (run / 'config.yaml').write_text((run / 'config.yaml').read_text().replace('modalities: null',
                                                                                            'modalities: [text]')), 1, 'another'),
])
def test_damaged_runs(run, damage, code, message, capsys):
    damage(run)
    assert main([str(run)]) == code
    assert message in capsys.readouterr().err


def test_bad_usage():
    assert main(['nowhere', '--split', 'train']) == 2 and main(['nowhere']) == 2
