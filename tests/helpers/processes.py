"""Several processes that meet each other, and what the scenarios of a grid gave in them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE / 'grid_scenarios.py'


def started(number, *command):
    """Processes started as a launcher does, which is slow to start itself."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        rendezvous = {
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(free.getsockname()[1]),
            'WORLD_SIZE': str(number),
            'LOCAL_WORLD_SIZE': str(number),
        }
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get('PYTHONPATH', '')])
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'PYTHONPATH': path,
                **rendezvous,
                'RANK': str(rank),
                'LOCAL_RANK': str(rank),
            },
        )
        for rank in range(number)
    ]


def in_processes(number, folder, *names):
    """Results of scenarios in each of ``number`` processes."""
    processes = started(number, SCENARIOS, folder, *names)
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert not any(process.returncode for process in processes), '\n'.join(
        error[-3000:] for error in errors
    )
    return {
        name: [
            torch.load(folder / f'{name}-{rank}.pt', weights_only=True) for rank in range(number)
        ]
        for name in names
    }


def assert_same_training(one, other):
    """Equality of losses, figures and states within the rounding of float64."""
    assert len(one['loss']) == len(other['loss'])
    for a, b in zip(one['loss'], other['loss']):
        assert b == pytest.approx(a, rel=1e-9, abs=1e-11)
    assert other['test'] == pytest.approx(one['test'], rel=1e-5, abs=1e-6)
    assert set(one['state']) == set(other['state'])
    for name, value in one['state'].items():
        torch.testing.assert_close(other['state'][name], value, rtol=1e-9, atol=1e-10)
