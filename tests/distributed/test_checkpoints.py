"""Checkpoints in pieces: written by some processes, read by other numbers of them; processes that
are killed.
"""

import shutil
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


def test_a_process_is_killed_and_fewer_go_on(tmp_path, uninterrupted):
    processes = launched(4, scenarios.main, tmp_path, ['killed'])
    done = [process.wait() for process in processes]
    assert done[-1].returncode == -9 and all(one.returncode for one in done)
    assert 'another process has ended' in done[0].stderr
    folder = tmp_path / 'later_epochs'
    shutil.copytree(tmp_path / 'killed', folder / 'LightGCN')
    assert load_checkpoint(folder / 'LightGCN' / 'checkpoints' / 'last.pt')['epoch'] == 0
    data = scenarios.graph()
    model = scenarios.make('LightGCN', data, **scenarios.MODELS['LightGCN'])
    result = scenarios.fit(model, data, scenarios.ALONE, folder / 'LightGCN', True, epochs=3)
    assert_same_training(uninterrupted['LightGCN'], result)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.train import main
loss = LightGCN.loss
def fail(self, batch):
    first, last = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0', os.environ['RANK'] == '1'
    if first and last and Path('run/checkpoints/last.pt').exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, batch)
LightGCN.loss = fail
sys.exit(main(sys.argv[1:]))
"""


def test_torchrun_starts_again_where_the_run_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    (tmp_path / 'program.py').write_text(PROGRAM)
    flags = ['--model', 'LightGCN', '--epochs', '3', '--device', 'cpu', '--references', 'false']
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node',
            '2',
            '--max_restarts',
            '1',
            'program.py',
            '--distributed',
            'grid',
            '--checkpoint',
            'sharded',
            '--output',
            'run',
            *flags,
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = run_command('train', '--output', 'alone', *flags, folder=tmp_path)
    assert alone.returncode == 0, alone.stderr[-3000:]
    one, other = (
        load_checkpoint(tmp_path / name / 'checkpoints' / 'last.pt') for name in ('alone', 'run')
    )
    assert one['epoch'] == other['epoch'] == 2
    for name, value in one['model'].items():
        torch.testing.assert_close(other['model'][name], value, rtol=1e-4, atol=1e-5)
