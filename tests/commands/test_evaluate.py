import json
import shutil

import pytest

from genrec_pyg.evaluate import main
from genrec_pyg.exceptions import OutputError
from genrec_pyg.train import main as train


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('evaluate') / 'run'
    assert (
        train(
            [
                '--output',
                str(folder),
                '--epochs',
                '1',
                '--references',
                'false',
                '--hparams.denoiser.rank',
                '32',
                '--hparams.debias.clusters',
                '5',
                '--device',
                'cpu',
                '--trainer.batch_size',
                '4096',
            ]
        )
        == 0
    )
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / 'run')


def replace(run, old, new):
    text = (run / 'config.yaml').read_text()
    assert old in text
    (run / 'config.yaml').write_text(text.replace(old, new))


def test_repeats_the_figures_of_the_run(run, capsys):
    assert main([str(run), '--ks', '10', '20', '50']) == 0
    written = json.loads((run / 'evaluation-test.json').read_text())
    metrics = json.loads((run / 'metrics.json').read_text())
    assert all(
        written[name] == value
        for name, value in metrics['test'].items()
        if not name.startswith('recall_')
    )
    assert 'recall@50' in capsys.readouterr().out
    assert main([str(run), '--split', 'val']) == 0
    assert (
        json.loads((run / 'evaluation-val.json').read_text())['recall@20']
        == metrics['validation']['recall@20']
    )


@pytest.mark.parametrize(
    'damage,code,message',
    [
        (lambda run: (run / 'config.yaml').unlink(), 2, 'holds no config.yaml'),
        (lambda run: (run / 'checkpoints' / 'best.pt').unlink(), 1, 'no such checkpoint'),
        (
            lambda run: (run / 'checkpoints' / 'best.pt').write_bytes(b'x'),
            1,
            'not a readable checkpoint',
        ),
        (lambda run: replace(run, 'hidden_channels: 64', 'hidden_channels: 32'), 1, 'does not fit'),
        (lambda run: replace(run, 'modalities: null', 'modalities: [text]'), 1, 'another'),
    ],
)
def test_damaged_runs(run, damage, code, message, capsys):
    damage(run)
    assert main([str(run)]) == code
    assert message in capsys.readouterr().err


def test_metrics_beyond_accuracy_are_chosen_by_name(run, capsys):
    assert (
        main(
            [
                str(run),
                '--ks',
                '5',
                '--metrics',
                'gini',
                'genrec_pyg.evaluation.metrics.popularity:novelty',
            ]
        )
        == 0
    )
    written = json.loads((run / 'evaluation-test.json').read_text())
    assert {'gini@5', 'novelty@5'} <= set(written) and 'personalization@5' not in written
    assert main([str(run), '--metrics', 'gin']) == 2
    assert 'accepted are gini, personalization' in capsys.readouterr().err


def test_bad_usage():
    assert main(['nowhere', '--split', 'train']) == 2 and main(['nowhere']) == 2


def test_figures_are_printed_where_they_cannot_be_kept(run, capsys, caplog, monkeypatch):
    def refuse(path, write):
        raise OutputError(f'{path}: cannot be written (Read-only file system)')

    monkeypatch.setattr('genrec_pyg.utils.files.write_atomically', refuse)
    assert main([str(run)]) == 0
    assert 'recall@20' in capsys.readouterr().out
    assert (
        'the figures are printed only' in caplog.text
        and not (run / 'evaluation-test.json').exists()
    )


def test_names_and_figures_stand_apart(run, capsys):
    assert main([str(run), '--ks', '1000', '--metrics']) == 0  # none beyond accuracy
    lines = capsys.readouterr().out.splitlines()[1:]
    written = json.loads((run / 'evaluation-test.json').read_text())
    assert (
        all(f'{written[name]:.4f}' == value for name, value in map(str.split, lines))
        and len(lines) == 10
    )


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp('published') / 'run'
    assert (
        train(
            [
                '--output',
                str(folder),
                '--model',
                'MFBPR',
                '--epochs',
                '2',
                '--references',
                'false',
                '--protocol',
                'published',
                '--trainer.lr',
                '0.01',
            ]
        )
        == 0
    )
    return folder


def test_a_run_chosen_on_test_is_called_that_everywhere(published, capsys):
    assert main([str(published)]) == 0
    assert 'protocol published, chosen on test' in capsys.readouterr().out.splitlines()[0]
    assert (
        json.loads((published / 'evaluation-test.json').read_text())['selection']
        == 'chosen on test'
    )
    assert main([str(published), '--protocol', 'validation']) == 2
    assert (
        "--protocol: got 'validation' for a run whose epoch was chosen on test"
        in capsys.readouterr().err
    )
    assert json.loads((published / 'evaluation-test.json').read_text())['protocol'] == 'published'


def test_the_masks_of_the_published_protocol_do_not_change_how_the_epoch_was_chosen(run, capsys):
    assert main([str(run), '--protocol', 'published']) == 0
    assert 'protocol published, chosen on validation' in capsys.readouterr().out
    assert (
        json.loads((run / 'evaluation-test.json').read_text())['selection']
        == 'chosen on validation'
    )


def test_a_configuration_that_claims_another_protocol_is_refused(published, tmp_path, capsys):
    copy = shutil.copytree(published, tmp_path / 'run')
    replace(copy, 'protocol: published', 'protocol: validation')
    assert main([str(copy)]) == 1
    assert (
        "chosen under protocol 'published', but config.yaml says 'validation'"
        in capsys.readouterr().err
    )


def test_the_checkpoint_of_another_run_is_refused(published, tmp_path, capsys):
    copy, other = shutil.copytree(published, tmp_path / 'run'), tmp_path / 'other'
    assert (
        train(['--config', str(published / 'config.yaml'), '--seed', '1', '--output', str(other)])
        == 0
    )
    shutil.copy(other / 'checkpoints' / 'best.pt', copy / 'checkpoints' / 'best.pt')
    assert main([str(copy)]) == 1
    assert 'checkpoint of another run' in capsys.readouterr().err
