import json
import logging

import pytest

from benchmarks.common.worker import PHASES, WorkerError
from benchmarks.speed import epoch


def answer(seconds, peak, recall=(0.1, 0.3, 0.2)):
    epochs = [
        {
            'wall': dict.fromkeys(PHASES, second),
            'processor': dict.fromkeys(PHASES, second / 2),
            'memory': {'peak': peak, 'now': peak},
            'figures': {'recall@20': value},
        }
        for second, value in zip(seconds, recall)
    ]
    ready = {
        'seconds': 1.5,
        'memory_import': 10,
        'memory': {'peak': 20, 'now': 20},
        'description': {'flags': 'none'},
    }
    return {'ready': ready, 'epochs': epochs}


ANSWERS = {
    'ours, tied': answer([1.0, 2.0, 9.0], 500_000_000),
    'released': answer([10.0, 30.0, 20.0], 2_000_000_000),
}


def test_condense_takes_medians_and_ratios():
    systems = epoch.condense(ANSWERS)
    ours, released = systems['ours, tied'], systems['released']
    assert (
        ours['wall_seconds']['denoiser']['median'] == 2.0
        and ours['wall_seconds']['epoch']['median'] == 8.0
    )
    assert ours['times_faster'] == {'wall': 10.0, 'processor': 10.0}
    assert ours['memory_share'] == 0.25 and ours['first_epoch_seconds'] == 4.0
    assert 'times_faster' not in released


def test_no_ratio_without_released():
    assert 'times_faster' not in epoch.condense({'ours, tied': ANSWERS['ours, tied']})['ours, tied']


def test_time_to_quality_counts_epochs_of_median_length():
    answers = {
        'ours, default': answer([1.0, 9.0, 2.0], 1, recall=(0.25, 0.31, 0.4)),
        'released': answer([10.0, 40.0, 20.0], 1, recall=(0.1, 0.3, 0.2)),
    }
    systems = epoch.condense(answers)
    assert systems['released']['best'] == {'epoch': 2, 'recall@20': 0.3}
    # 4 phases, median 20 s
    assert systems['released']['time_to_quality'] == {'epoch': 2, 'wall': 160.0, 'processor': 80.0}
    assert systems['ours, default']['time_to_quality'] == {
        'epoch': 2,
        'wall': 16.0,
        'processor': 8.0,
    }
    assert systems['ours, default']['best'] == {'epoch': 3, 'recall@20': 0.4}
    answers['ours, default'] = answer([1.0], 1, recall=(0.25,))
    assert epoch.condense(answers)['ours, default']['time_to_quality'] is None


def test_long_runs_report_the_time_to_quality(tmp_path, monkeypatch):
    answers = {
        'ours, default': answer([1.0] * 10, 1, recall=[0.1] + [0.4] * 9),
        'ours, poor': answer([1.0] * 10, 1, recall=[0.1] * 10),
        'released': answer([20.0] * 10, 1, recall=[0.0] * 9 + [0.3]),
    }
    monkeypatch.setattr(epoch, 'measure', lambda args: [answers])
    (tmp_path / 'toy').mkdir()
    stem = tmp_path / 'long'
    assert epoch.main(['--root', str(tmp_path), '--dataset', 'toy', '--output', str(stem)]) == 0
    text = stem.with_suffix('.md').read_text()
    assert '| ours, default | 0.4000 | 2 | 2 | 8 | 100.0 |' in text
    assert '| ours, poor | 0.1000 | 1 | not reached |  |  |' in text
    assert '| released | 0.3000 | 10 | 10 | 800 | 1.0 |' in text


def test_report(tmp_path, monkeypatch):
    monkeypatch.setattr(epoch, 'measure', lambda args: [ANSWERS])
    (tmp_path / 'toy').mkdir()
    (tmp_path / 'toy' / 'x.npy').write_text('x')
    stem = tmp_path / 'results' / 'epoch-toy'
    assert epoch.main(['--root', str(tmp_path), '--dataset', 'toy', '--output', str(stem)]) == 0
    document = json.loads(stem.with_suffix('.json').read_text())
    assert document['systems']['ours, tied']['times_faster']['wall'] == 10.0
    text = stem.with_suffix('.md').read_text()
    assert '| ours, tied | 8.00 |' in text and '| 10.0 | 0.25 |' in text
    assert str(tmp_path) not in text and str(tmp_path) not in stem.with_suffix('.json').read_text()


def test_failed_system(tmp_path, monkeypatch, caplog):
    def fail(args):
        raise WorkerError('it ended with code 1')

    monkeypatch.setattr(epoch, 'measure', fail)
    with caplog.at_level(logging.ERROR):
        assert epoch.main(['--root', str(tmp_path)]) == 1
    assert 'it ended with code 1' in caplog.text


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--threads', '0'], '--threads: got 0'),
        (['--epochs', '-1'], '--epochs: got -1'),
        (['--set', 'model.layers'], "--set: got 'model.layers', accepted is KEY=VALUE"),
        (['--denoisers'], 'nothing to measure'),
        (['--released', 'nowhere'], '--released: nowhere is not a folder'),
    ],
)
def test_bad_usage(flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        epoch.parse_arguments(['--root', '.', *flags])
    assert error.value.code == 2 and message in capsys.readouterr().err
