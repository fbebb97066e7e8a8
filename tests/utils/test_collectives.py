import pytest
import torch

from genrec_pyg.utils.collectives import ALONE, Processes, batch_rows, shared_batch


@pytest.mark.parametrize('num_rows,size', [(0, 3), (2, 3), (7, 3), (9, 3), (5, 1)])
def test_slices_cover_all_rows_once(num_rows, size):
    rows = [list(range(num_rows))[Processes(rank, size).slice(num_rows)] for rank in range(size)]
    assert sum(rows, []) == list(range(num_rows)) and max(map(len, rows)) - min(map(len, rows)) <= 1


def test_one_process_changes_nothing():
    x = torch.randn(3, 2, requires_grad=True)
    assert (
        ALONE.is_main
        and ALONE.sum(x) is x
        and ALONE.all_rows(x, 3) is x
        and ALONE.on_main(lambda: 5) == 5
    )
    with ALONE.one_per_machine_first():
        pass
    with pytest.raises(ZeroDivisionError):
        ALONE.on_main(lambda: 1 / 0)


def test_a_batch_is_whole_outside_of_the_context():
    x = torch.randn(3, 2)
    with shared_batch(ALONE, 3):
        assert batch_rows(x) == (x, 0)
    assert batch_rows(x) == (x, 0)
