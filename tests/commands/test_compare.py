import json

import numpy as np
import pytest

from genrec_pyg.blend import main as blend
from genrec_pyg.compare import main
from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.evaluation import holm, paired_comparison, read_per_user
from genrec_pyg.train import main as train


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('compare')
    for name, flags in {
        'ease': ['--model', 'EASE'],
        'popularity': ['--model', 'Popularity'],
        'bpr0': ['--model', 'MFBPR', '--epochs', '1'],
        'bpr1': ['--model', 'MFBPR', '--epochs', '1', '--seed', '1'],
        'other': ['--model', 'EASE', '--split', 'random:0.1,0.1'],
    }.items():
        assert (
            train(
                [*flags, '--output', str(folder / name), '--references', 'false', '--device', 'cpu']
            )
            == 0
        )
    return folder


def paths(runs, *names):
    return [str(runs / name) for name in names]


def test_runs_of_a_training_are_compared(runs, capsys):
    assert main([*paths(runs, 'ease', 'bpr0', 'bpr1', 'popularity'), '--format', 'json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['base'] == 'EASE' and found['systems']['MFBPR']['seeds'] == [0, 1]
    written = json.loads((runs / 'bpr1' / 'metrics.json').read_text())['test']['recall@20']
    assert found['systems']['MFBPR']['means']['recall@20'][1] == pytest.approx(written, abs=1e-12)
    values = {
        name: read_per_user(runs / name, 'test').users['recall@20']
        for name in ('ease', 'bpr0', 'bpr1')
    }
    expected = paired_comparison(np.mean([values['bpr0'], values['bpr1']], axis=0), values['ease'])
    one = next(
        entry
        for entry in found['comparisons']
        if (entry['system'], entry['metric']) == ('MFBPR', 'recall@20')
    )
    assert one['p'] == expected.p and one['effect'] == expected.effect
    p = {(entry['metric'], entry['system']): entry['p'] for entry in found['comparisons']}
    assert holm(p)['recall@20', 'MFBPR'] == one['p_corrected']


@pytest.mark.parametrize(
    'suffix,begin', [('md', '# demo: EASE'), ('tex', '% demo: EASE'), ('html', '<!DOCTYPE html>')]
)
def test_format_by_suffix(runs, tmp_path, suffix, begin):
    file = tmp_path / f'table.{suffix}'
    assert (
        main(
            [
                *paths(runs, 'ease', 'popularity'),
                '--output',
                str(file),
                '--test',
                'wilcoxon',
                '--base',
                'Popularity',
            ]
        )
        == 0
    )
    assert file.read_text().startswith(begin) and 'Against Popularity' in file.read_text()


def test_runs_of_different_splits_are_refused(runs, capsys):
    assert main(paths(runs, 'ease', 'other')) == 2
    assert 'other has other training interactions' in capsys.readouterr().err


def test_other_lengths_come_from_evaluate(runs, capsys):
    assert main([*paths(runs, 'popularity'), '--metrics', 'recall@5']) == 2
    assert 'python -m genrec_pyg.evaluate --ks writes other lengths' in capsys.readouterr().err
    assert evaluate([str(runs / 'popularity'), '--ks', '5', '10', '20']) == 0
    assert main([*paths(runs, 'popularity'), '--metrics', 'recall@5', '--split', 'test']) == 0
    assert '| Popularity | 1 |' in capsys.readouterr().out


def test_a_blend_is_a_run(runs, tmp_path, capsys):
    assert blend([*paths(runs, 'ease', 'popularity'), '--output', str(tmp_path / 'blend')]) == 0
    assert main([*paths(runs, 'ease'), str(tmp_path / 'blend')]) == 0
    assert '| Blend | recall@20 |' in capsys.readouterr().out


@pytest.mark.parametrize(
    'flags,message', [(['--groups', '0'], '--groups: got 0'), (['--base', 'x'], "--base: got 'x'")]
)
def test_bad_usage(runs, flags, message, capsys):
    assert main([*paths(runs, 'ease'), *flags]) == 2
    assert message in capsys.readouterr().err
