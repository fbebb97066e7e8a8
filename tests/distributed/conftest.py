import pytest
from helpers import grid_scenarios
from helpers.processes import in_processes


@pytest.fixture(scope='session')
def four(tmp_path_factory):
    """Results of the scenarios in four processes, which share a start."""
    names = ('layouts', 'products', 'models', 'few', 'empty_block', 'sampled', 'masks', 'volume')
    return in_processes(4, grid_scenarios, tmp_path_factory.mktemp('four'), *names)


@pytest.fixture(scope='session')
def two(tmp_path_factory):
    """Results of the scenarios in two processes."""
    names = ('models', 'volume', 'slow', 'different')
    return in_processes(2, grid_scenarios, tmp_path_factory.mktemp('two'), *names)
