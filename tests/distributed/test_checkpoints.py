"""Checkpoints in pieces: written by some processes, read by other numbers of them; processes that
are killed.
"""

import shutil
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from helpers import grid_scenarios as scenarios
from helpers.forked import ROOT, run_command
from helpers.processes import assert_same_training, in_processes, launched

from genrec_pyg.training import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available(), reason='this torch has no distributed package'),
]


@pytest.fixture(scope='module')
def uninterrupted():
    data = scenarios.graph()
    return {
        name: scenarios.fit(
            scenarios.make(name, data, **scenarios.MODELS[name]), data, scenarios.ALONE, epochs=3
        )
        for name in ('GenRec', 'LightGCN')
    }


def test_pieces_of_four_processes_are_read_by_two_and_by_one(tmp_path, uninterrupted):
    in_processes(4, scenarios, tmp_path, 'first_epoch')
    for name in ('GenRec', 'LightGCN'):
        folder = tmp_path / 'first_epoch' / name / 'checkpoints'
        (pieces,) = folder.glob('shards-*')  # the best and the last state are the same
        assert sorted(path.name for path in pieces.iterdir()) == [f'{rank}.pt' for rank in range(4)]
        raw = load_checkpoint(folder / 'last.pt', pieces=True)
        whole = load_checkpoint(folder / 'last.pt')
        table = 'embedding.user' if name == 'LightGCN' else 'encoder.user_embedding'
        assert isinstance(raw['model'][table], dict) and whole['model'][table].shape == (61, 6)
    shutil.copytree(tmp_path / 'first_epoch', tmp_path / 'later_epochs')
    results = in_processes(2, scenarios, tmp_path, 'later_epochs')['later_epochs']
    alone = dict(scenarios.later_epochs(scenarios.ALONE, tmp_path / 'first_epoch'))
    for result in (*results, alone):
        for name, expected in uninterrupted.items():
            assert_same_training(expected, result[name])
    for folder in tmp_path.glob('*/*/checkpoints'):
        load_checkpoint(folder / 'best.pt')  # its pieces stay, those of the epochs between are gone
        assert len(list(folder.glob('shards-*'))) <= 2


@pytest.fixture(scope='module')
def of_three(tmp_path_factory):
    """The folder of a run of three processes, one of which was killed in its second epoch."""
    folder = tmp_path_factory.mktemp('of_three')
    processes = launched(3, scenarios.main, folder, ['killed'])
    done = [process.wait() for process in processes]
    assert done[-1].returncode == -9 and all(one.returncode for one in done)
    assert 'another process has ended' in done[0].stderr
    assert load_checkpoint(folder / 'killed' / 'checkpoints' / 'last.pt')['epoch'] == 0
    return folder / 'killed'


@pytest.mark.parametrize('number', [1, 2, 4])
def test_fewer_or_more_processes_go_on_where_one_was_killed(
    number, of_three, tmp_path, uninterrupted
):
    shutil.copytree(of_three, tmp_path / 'go_on')
    results = (
        [dict(scenarios.go_on(scenarios.ALONE, tmp_path / 'go_on'))]
        if number == 1
        else in_processes(number, scenarios, tmp_path, 'go_on')['go_on']
    )
    for result in results:
        assert_same_training(uninterrupted['LightGCN'], result['LightGCN'])


#: Trains; a process of the first start ends in the second epoch, the one with rank 1 or, with its
#: launcher, the one that the environment names.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.train import main
loss = LightGCN.loss
def fail(self, batch):
    chosen = os.environ.get('KILL_LAUNCHER', os.environ['RANK']) == '1'
    if chosen and not Path('failed').exists() and Path('run/checkpoints/last.pt').exists():
        Path('failed').touch()
        if 'KILL_LAUNCHER' in os.environ:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)
LightGCN.loss = fail
code = main(sys.argv[1:])
if code == 0:
    print('processes', os.environ['WORLD_SIZE'], flush=True)
sys.exit(code)
"""
FLAGS = ['--model', 'LightGCN', '--epochs', '3', '--device', 'cpu', '--references', 'false']


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Starts launchers of the program in a folder, each with flags of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    (tmp_path / 'program.py').write_text(PROGRAM)
    run = ['--distributed', 'grid', '--checkpoint', 'sharded', '--output', 'run']

    def start(*flags):
        return subprocess.Popen(
            [sys.executable, '-m', 'torch.distributed.run', *flags, 'program.py', *run, *FLAGS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope='module')
def of_one(tmp_path_factory):
    """The last checkpoint of the program in one process without interruption."""
    folder = tmp_path_factory.mktemp('of_one')
    done = run_command('train', '--output', 'alone', *FLAGS, folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_checkpoint(folder / 'alone' / 'checkpoints' / 'last.pt')


def assert_same_end(one, folder):
    other = load_checkpoint(folder / 'run' / 'checkpoints' / 'last.pt')
    assert one['epoch'] == other['epoch'] == 2
    for name, value in one['model'].items():
        torch.testing.assert_close(other['model'][name], value, rtol=1e-4, atol=1e-5)


def test_torchrun_starts_again_where_the_run_was(program, tmp_path, of_one):
    launcher = program('--standalone', '--nproc_per_node', '2', '--max_restarts', '1')
    output, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, errors[-3000:]
    assert (tmp_path / 'failed').exists() and output.count('processes 2') == 2
    assert_same_end(of_one, tmp_path)


def test_torchrun_goes_on_without_a_machine_that_is_gone(program, tmp_path, of_one, monkeypatch):
    """Two launchers as two machines; one is killed with its process."""
    monkeypatch.setenv('KILL_LAUNCHER', '0')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    flags = [
        *('--nnodes', '1:2', '--nproc_per_node', '1', '--max_restarts', '3'),
        *('--rdzv_backend', 'c10d', '--rdzv_endpoint', f'127.0.0.1:{port}', '--rdzv_id', 'run1'),
        *('--local_addr', '127.0.0.1'),
    ]
    # the first one has the meeting point
    first = program(*flags, '--rdzv_conf', 'last_call_timeout=20,is_host=1')
    monkeypatch.setenv('KILL_LAUNCHER', '1')
    second = program(*flags, '--rdzv_conf', 'last_call_timeout=20,is_host=0')
    output, errors = first.communicate(timeout=300)
    second.communicate(timeout=60)
    assert second.returncode == -9 and first.returncode == 0, errors[-3000:]
    assert (tmp_path / 'failed').exists() and output.count('processes 1') == 1
    assert_same_end(of_one, tmp_path)
