import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE / 'scenarios.py'


def started(number, *command, **environment):
    """Processes that meet each other, started as a launcher does, which is slow to start itself."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        rendezvous = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free.getsockname()[1]), 'WORLD_SIZE': str(number),
                      'LOCAL_WORLD_SIZE': str(number)}
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get('PYTHONPATH', '')])
    return [subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.PIPE, text=True, env={
        **os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path, **rendezvous, 'RANK': str(rank), 'LOCAL_RANK': str(rank),
        **environment}) for rank in range(number)]


def in_processes(number, folder, *names):
    """Results of scenarios in each of ``number`` processes."""
    processes = started(number, SCENARIOS, folder, *names)
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert not any(process.returncode for process in processes), '\n'.join(error[-3000:] for error in errors)
    return {name: [torch.load(folder / f'{name}-{rank}.pt', weights_only=True) for rank in range(number)] for name in names}


@pytest.fixture(scope='session')
def scenarios():
    """The scenarios, importable although the tests are no package."""
    spec = importlib.util.spec_from_file_location('grid_scenarios', SCENARIOS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def four(tmp_path_factory):
    """Results of the scenarios in four processes, which share a start."""
    names = ('layouts', 'products', 'models', 'few', 'masks', 'volume')
    return in_processes(4, tmp_path_factory.mktemp('four'), *names)


@pytest.fixture(scope='session')
def two(tmp_path_factory):
    """Results of the scenarios in two processes."""
    return in_processes(2, tmp_path_factory.mktemp('two'), 'models', 'volume', 'slow', 'different')
