from dataclasses import replace

import pytest

from genrec_pyg.distributed.cost import Machine, Workload, choose_grid, entry_seconds, step_cost
from genrec_pyg.exceptions import ConfigError

LARGE = Workload(200_000, 100_000, 5_000_000, 156_250)


def test_columns_come_before_nodes():
    assert choose_grid(LARGE, 2)[0] == (1, 2)
    assert choose_grid(LARGE, 4)[0] == (1, 4)
    rows, columns = choose_grid(LARGE, 64)[0]
    assert rows > 1 and rows * columns == 64


def test_the_reason_names_all_that_was_compared():
    reason = choose_grid(LARGE, 4)[1]
    assert (
        all(shape in reason for shape in ('4x1', '2x2', '1x4'))
        and 'MB sent by each process' in reason
    )


def test_a_slow_network_asks_for_fewer_blocks_of_nodes():
    slow, fast = (choose_grid(LARGE, 16, Machine(network=network))[0] for network in (1e7, 1e11))
    assert slow[0] <= fast[0] and slow[1] == 16


def test_more_processes_than_columns_and_nodes_are_refused():
    with pytest.raises(ConfigError, match='7 processes for 4 columns, 3 users and 5 items'):
        choose_grid(Workload(3, 5, 9, 4, channels=4), 7)


def test_work_and_bytes_grow_as_they_should():
    one, two = step_cost(LARGE, (1, 1)), step_cost(LARGE, (1, 2))
    assert one.exchange == one.num_bytes == 0 and two.num_bytes == 156_250 * 4
    twice = step_cost(replace(LARGE, edges=10_000_000), (1, 1))
    assert twice.sparse == pytest.approx(2 * one.sparse) and twice.elementwise == one.elementwise
    assert (
        step_cost(LARGE, (4, 1)).num_bytes
        > step_cost(LARGE, (2, 2)).num_bytes
        > step_cost(LARGE, (1, 4)).num_bytes
    )
    assert two.memory == pytest.approx(one.memory / 2, rel=0.5)


def test_columns_that_fit_the_cache_cost_less():
    machine = Machine()
    assert entry_seconds(64, 100, machine) == pytest.approx(0.8e-9 + 64 * 0.15e-9)
    blocked, whole = entry_seconds(64, 200_000, machine), 4 * machine.line
    assert blocked < whole and entry_seconds(64, 10**8, machine) == whole
