import json
import logging

import epoch
import pytest
from _worker import PHASES, WorkerError


def answer(seconds, peak):
    epochs = [{'wall': dict.fromkeys(PHASES, second), 'processor': dict.fromkeys(PHASES, second / 2),
               'memory': {'peak': peak, 'now': peak}, 'figures': {'recall': 0.1}} for second in seconds]
    ready = {'seconds': 1.5, 'memory_import': 10, 'memory': {'peak': 20, 'now': 20}, 'description': {'flags': 'none'}}
    return {'ready': ready, 'epochs': epochs}


ANSWERS = {'ours, tied': answer([1.0, 2.0, 9.0], 500_000_000), 'released': answer([10.0, 30.0, 20.0], 2_000_000_000)}


def test_condense_takes_medians_and_ratios():
    systems = epoch.condense(ANSWERS)
    ours, released = systems['ours, tied'], systems['released']
    assert ours['wall_seconds']['denoiser']['median'] == 2.0 and ours['wall_seconds']['epoch']['median'] == 8.0
    assert ours['times_faster'] == {'wall': 10.0, 'processor': 10.0}
    assert ours['memory_share'] == 0.25 and ours['first_epoch_seconds'] == 4.0
    assert 'times_faster' not in released


def test_no_ratio_without_released():
    assert 'times_faster' not in epoch.condense({'ours, tied': ANSWERS['ours, tied']})['ours, tied']


def test_report(tmp_path, monkeypatch):
    monkeypatch.setattr(epoch, 'measure', lambda args: ANSWERS)
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


@pytest.mark.parametrize('flags, message', [
    (['--threads', '0'], '--threads: got 0'),
    (['--epochs', '-1'], '--epochs: got -1'),
    (['--set', 'model.layers'], "--set: got 'model.layers', accepted is KEY=VALUE"),
    (['--denoisers'], 'nothing to measure'),
    (['--released', 'nowhere'], '--released: nowhere is not a folder'),
])
def test_bad_usage(flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        epoch.parse_arguments(['--root', '.', *flags])
    assert error.value.code == 2 and message in capsys.readouterr().err
