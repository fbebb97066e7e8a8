import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import distributed_scenarios as scenarios
from helpers.processes import in_processes, launched

from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train
from genrec_pyg.training import Distributed, Trainer, load_checkpoint
from genrec_pyg.utils.collectives import Processes

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / 'tests' / 'helpers' / 'distributed_scenarios.py'
TOLERANCE = dict(rtol=1e-8, atol=1e-9)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason='this torch has no distributed package'),
]


def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path}


def torchrun(*command):
    return subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node',
            '2',
            *map(str, command),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    """Folder and results of two processes by scenario; the short ones share a start."""
    folder = tmp_path_factory.mktemp('two')
    results = {}

    def run(name):
        if name not in results:
            names = ('others', 'parts', 'first_epoch', 'memory', 'encoded')
            wanted = names if name in names else (name,)
            results.update(in_processes(2, scenarios, folder, *wanted))
        return folder / name, results[name]

    return run


def in_mode(result, mode):
    """The part of a result of two processes that a result of one is compared with; names begin with
    the mode.
    """
    return {
        'ddp' + name.removeprefix(mode): value
        for name, value in result.items()
        if name.startswith(mode)
    } or result


def assert_equal(one, two):
    """Equality within the rounding of float64 for figures, histories and states, whatever their
    nesting.
    """
    if isinstance(one, dict):
        assert set(one) == set(two)
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two):
            assert_equal(a, b)
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(two, one, **TOLERANCE)
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=1e-6, abs=1e-9)
    else:
        assert one == two


@pytest.mark.parametrize('name', ['genrec', 'others', 'parts', 'encoded'])
def test_two_processes_give_the_result_of_one(name, two, tmp_path):
    expected = dict(getattr(scenarios, name)(Distributed(), tmp_path))
    folder, results = two(name)
    for mode in ('ddp', 'sharded'):
        for result in results:
            assert_equal(expected, in_mode(result, mode))
        for path in (tmp_path / 'ddp').rglob('checkpoints/*.pt'):
            one, other = (
                load_checkpoint(p)
                for p in (path, folder / mode / path.relative_to(tmp_path / 'ddp'))
            )
            for key in ('model', 'optimizer', 'stopper', 'epoch'):
                assert_equal(one[key], other[key])


def test_any_number_of_processes_continues_a_checkpoint(two, tmp_path):
    alone = Distributed()
    scenarios.first_epoch(alone, tmp_path / 'one')
    for mode in ('ddp', 'sharded'):
        shutil.copytree(tmp_path / 'one' / 'ddp', tmp_path / 'later_epochs' / mode)
    expected = dict(scenarios.later_epochs(alone, tmp_path / 'one'))
    main_process, other = in_processes(2, scenarios, tmp_path, 'later_epochs')['later_epochs']
    for mode in ('ddp', 'sharded'):
        for process in (main_process, other):
            assert_equal(expected, in_mode(process, mode))
        shutil.copytree(two('first_epoch')[0] / mode, tmp_path / mode / 'ddp')
        assert_equal(expected, dict(scenarios.later_epochs(alone, tmp_path / mode)))


def test_sharded_tables_gradients_and_optimizer_state_are_split(two):
    first, second = two('memory')[1]
    whole = [rows * 8 for rows in (61, 40) for _ in range(4)]
    assert first['ddp held'] == second['ddp held'] == whole
    assert first['sharded held'] == [rows * 8 for rows in (31, 20) for _ in range(4)]
    assert [a + b for a, b in zip(first['sharded held'], second['sharded held'])] == whole
    assert all(
        result[f'{mode} restored'] for result in (first, second) for mode in ('ddp', 'sharded')
    )


def test_the_command_line_under_torchrun(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    flags = ['--epochs', '2', '--device', 'cpu', '--references', 'false']
    done = torchrun('-m', 'genrec_pyg.train', '--distributed', 'sharded', '--output', 'two', *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (
        done.stdout.count('chosen on validation') == 1 and done.stderr.count('run folder two') == 1
    )
    assert train(['--output', 'one', *flags]) == 0
    one, two = (
        [json.loads(line) for line in Path(name, 'metrics.jsonl').read_text().splitlines()]
        for name in ('one', 'two')
    )
    # float32 here: a rounding may swap two items of nearly equal score
    for a, b in zip(one, two, strict=True):
        assert b['loss'] == pytest.approx(a['loss'], rel=1e-4)
        assert b['val'] == pytest.approx(a['val'], abs=0.01, rel=0.01)
    assert (tmp_path / 'one' / 'config.yaml').read_text() == (
        tmp_path / 'two' / 'config.yaml'
    ).read_text()
    assert (
        evaluate(['two', '--ks', '20']) == 0 and recommend(['two', '--users', '3', '--k', '5']) == 0
    )
    figures = json.loads(Path('two', 'evaluation-test.json').read_text())
    assert figures['recall@20'] == pytest.approx(
        json.loads(Path('two', 'metrics.json').read_text())['test']['recall@20']
    )
    assert train(['--resume', 'two', '--epochs', '3']) == 0
    capfd.readouterr()


def test_evaluation_of_a_run_in_two_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(['--model', 'EASE', '--output', 'run', '--references', 'false']) == 0
    assert evaluate(['run']) == 0
    alone = json.loads(Path('run', 'evaluation-test.json').read_text())
    done = [process.wait() for process in launched(2, evaluate, ['run'])]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr[-3000:]
    assert [one.stdout.count('num_users') for one in done] == [1, 0]
    assert json.loads(Path('run', 'evaluation-test.json').read_text()) == pytest.approx(alone)


def test_failure_of_one_process_ends_all(tmp_path):
    begin = time.perf_counter()
    done = torchrun(SCENARIOS, tmp_path, 'failure')
    assert done.returncode != 0 and 'this process fails' in done.stderr
    assert time.perf_counter() - begin < 60 and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    'module, rank, number',
    [('train', 0, signal.SIGTERM), ('train', 1, signal.SIGTERM), ('evaluate', 0, signal.SIGINT)],
)
def test_a_process_that_waits_for_others_ends_on_a_signal(tmp_path, module, rank, number):
    """One of two processes, of which the other never starts."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    arguments = ['--model', 'MFBPR'] if module == 'train' else [str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, '-m', f'genrec_pyg.{module}', *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={
            **environment(),
            'RANK': str(rank),
            'WORLD_SIZE': '2',
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(port),
        },
    )
    try:
        lines = iter(process.stderr.readline, '')
        assert any(
            f'process {rank}: waiting for 2 processes at 127.0.0.1:{port}' in line for line in lines
        )
        time.sleep(1)  # now it waits inside torch
        process.send_signal(number)
        assert process.wait(timeout=10) == -number
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'call,message',
    [
        (lambda: Distributed('fsdp'), "distributed: got 'fsdp', accepted are 'ddp', 'sharded'"),
        (
            lambda: Distributed('ddp', Processes(1, 2, 1)).device(torch.device('cuda', 0)),
            "device: got 'cuda:0' for process 1",
        ),
    ],
)
def test_bad_usage(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_the_command_line_names_the_flag(capsys):
    assert train(['--distributed', 'ddp']) == 2
    assert "--distributed: got 'ddp' in a single process" in capsys.readouterr().err


def test_trainer_writes_only_in_the_main_process():
    assert not Trainer(device='cpu', distributed=Distributed('ddp', Processes(1, 2, 1))).progress
