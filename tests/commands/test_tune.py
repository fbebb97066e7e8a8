import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from genrec_pyg.config import parse_train_arguments, resolve_config
from genrec_pyg.config.build import make_data
from genrec_pyg.graph import has_split
from genrec_pyg.train import main as train
from genrec_pyg.tune import main, tune
from genrec_pyg.tuning import session
from genrec_pyg.tuning.session import Pruning, without_test

pytestmark = pytest.mark.slow

FLAGS = ['--model', 'MFBPR', '--dataset', 'demo', '--epochs', '2', '--device', 'cpu']


def trials(folder):
    rows = [
        line for line in (folder / 'report.md').read_text().splitlines() if line.startswith('| ')
    ]
    return [
        [cell.strip() for cell in row.split('|')[1:-1]]
        for row in rows
        if row.split('|')[1].strip().isdigit()
    ]


def test_stops_and_goes_on_with_the_same_trials(tmp_path, monkeypatch, capsys):
    assert main([*FLAGS, '--trials', '4', '--output', str(tmp_path / 'whole')]) == 0
    assert 'best on validation' in capsys.readouterr().out
    calls, run_trial = [], session.run_trial

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_trial(*arguments)

    monkeypatch.setattr(session, 'run_trial', interrupted)
    assert main([*FLAGS, '--trials', '4', '--output', str(tmp_path / 'parts')]) == 130
    assert len(trials(tmp_path / 'parts')) == 2
    assert main([*FLAGS, '--trials', '4', '--output', str(tmp_path / 'parts')]) == 0
    assert len(calls) == 5  # two, the interrupted one, and two more
    whole, parts = (tmp_path / name for name in ('whole', 'parts'))
    assert [row[:4] + row[6:] for row in trials(whole)] == [
        row[:4] + row[6:] for row in trials(parts)
    ]
    assert (whole / 'best.yaml').read_text() == (parts / 'best.yaml').read_text()


def test_best_setting_is_what_train_takes(tmp_path, capsys):
    value = tune(
        [*FLAGS, '--trials', '2', '--trainer.lr=0.02', '--output', str(tmp_path / 'study')]
    )
    report = (tmp_path / 'study' / 'report.md').read_text()
    assert f'{value:.4f}' in report and len(trials(tmp_path / 'study')) == 2
    best = yaml.safe_load((tmp_path / 'study' / 'best.yaml').read_text())
    assert best['trainer']['lr'] == 0.02 and '`trainer.lr`' not in report  # given, so not tuned
    assert best['trainer']['max_seconds'] is None and best['output'] is None
    capsys.readouterr()
    assert (
        train(
            [
                '--config',
                str(tmp_path / 'study' / 'best.yaml'),
                '--references',
                'false',
                '--output',
                str(tmp_path / 'run'),
            ]
        )
        == 0
    )
    assert f'{value:.4f}' in capsys.readouterr().out


def test_models_in_closed_form_are_searched_without_trials(tmp_path):
    value = tune(['--model', 'ItemKNN', '--output', str(tmp_path / 'study')])
    rows = trials(tmp_path / 'study')
    assert len(rows) > 5 and max(float(row[1]) for row in rows) == pytest.approx(value, abs=1e-4)
    assert (
        train(
            [
                '--config',
                str(tmp_path / 'study' / 'best.yaml'),
                '--references',
                'false',
                '--output',
                str(tmp_path / 'run'),
            ]
        )
        == 0
    )


def test_trials_do_not_see_the_test_split():
    data = make_data(resolve_config(dataset='demo'))
    assert has_split(data, 'test') and not has_split(without_test(data), 'test')
    assert has_split(data, 'test')  # the graph itself is as it was
    record = session.run_trial(FLAGS, {}, None, None)
    assert (
        set(record) == {'value', 'seconds', 'epochs', 'stopped', 'curve'}
        and record['value'] == record['curve'][-1][1]
    )


def test_median_rule():
    curves = [
        [(0, 0.1), (4, 0.2)],
        [(0, 0.1), (4, 0.3)],
        [(0, 0.1), (4, 0.4), (9, 0.8)],
        [(0, 0.1), (4, 0.5)],
    ]
    # the median of 0.2 to 0.5
    assert Pruning(curves).is_hopeless(4, 0.34) and not Pruning(curves).is_hopeless(4, 0.35)
    assert not Pruning(curves).is_hopeless(3, 0.0)  # too early
    assert not Pruning(curves[:3]).is_hopeless(4, 0.0)  # too few to compare with
    assert Pruning(curves).is_hopeless(9, 0.35)  # 0.2, 0.3, 0.8, 0.5


def test_hopeless_trials_end_early():
    flags = ['--model', 'MFBPR', '--dataset', 'demo', '--epochs', '8', '--device', 'cpu']
    record = session.run_trial(flags, {}, None, Pruning([[(0, 1.0)]] * 4))
    assert record['stopped'] == 'pruned' and record['epochs'] == 5
    assert session.run_trial(flags, {}, None, Pruning([[(0, 0.0)]] * 4))['stopped'] == 'epochs'


@pytest.mark.parametrize(
    'flags,message',
    [
        (['--trials', '0'], '--trials: got 0'),
        (['--hours', '-1'], '--hours: got -1'),
        (['--jobs', '0'], '--jobs: got 0'),
        (['--resume', 'x'], '--resume: is no flag of a study'),
        (['--protocol', 'published'], '--protocol: got'),
        (['--hparams.depth', '3'], 'unrecognized'),
        (['--model', 'Nothing'], "got 'Nothing'"),
    ],
)
def test_bad_flags(flags, message, tmp_path, capsys):
    assert main([*FLAGS, '--output', str(tmp_path / 'study'), *flags]) == 2
    assert message in capsys.readouterr().err


def test_another_study_is_refused_and_time_ends(tmp_path, capsys):
    output = ['--output', str(tmp_path / 'study')]
    assert main([*FLAGS, '--trials', '9', '--hours', '1e-9', *output]) == 1
    assert '--hours' in capsys.readouterr().err
    assert main([*FLAGS, '--trials', '1', '--epochs', '1', *output]) == 2
    assert 'holds a study with epochs 2, now it is 1' in capsys.readouterr().err


@pytest.mark.slow
def test_killed_with_several_jobs_it_goes_on(tmp_path):
    folder = tmp_path / 'study'
    command = [
        sys.executable,
        '-m',
        'genrec_pyg.tune',
        *FLAGS,
        '--trials',
        '4',
        '--jobs',
        '2',
        '--output',
        str(folder),
    ]
    process = subprocess.Popen(command, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    deadline = time.monotonic() + 120
    while (
        not (folder / 'report.md').exists()
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials(folder)
    assert main([*FLAGS, '--trials', '4', '--jobs', '1', '--output', str(folder)]) == 0
    after = trials(folder)
    # Of two trials at a time the later may end first: number and best so far follow the start.
    before, kept = ([[row[1], *row[3:]] for row in rows] for rows in (before, after))
    assert before and [row for row in kept if row in before] == before and len(kept) == 4
    default = parse_train_arguments(FLAGS).config
    assert any(f'`trainer.lr` {default.trainer["lr"]:.4g}' in row[6] for row in after)
