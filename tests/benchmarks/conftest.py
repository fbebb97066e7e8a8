from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(repeatable):
    """Two threads wait for each other at every operation, which takes a hundred times as long on a
    busy machine.
    """
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Benchmarks start processes, and those that do not are few: all of them are slow."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
