"""Several processes that meet each other, and what the scenarios of a grid gave in them."""

import socket

import pytest
import torch

from helpers.forked import Forked


def launched(number, function, *arguments):
    """Processes that call ``function(*arguments)``, with the variables of a launcher."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        rendezvous = {
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(free.getsockname()[1]),
            'WORLD_SIZE': str(number),
            'LOCAL_WORLD_SIZE': str(number),
        }
    return [
        Forked(
            function,
            *arguments,
            variables={**rendezvous, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
        )
        for rank in range(number)
    ]


def in_processes(number, scenarios, folder, *names):
    """Results of functions of the module ``scenarios`` in each of ``number`` processes."""
    processes = launched(number, scenarios.main, folder, names)
    done = [process.wait(timeout=600) for process in processes]
    assert not any(one.returncode for one in done), '\n'.join(one.stderr[-3000:] for one in done)
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
