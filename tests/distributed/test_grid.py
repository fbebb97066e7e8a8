import pytest
import torch

from genrec_pyg.distributed import check_grid, parse_grid
from genrec_pyg.distributed.grid import even_parts, weighted_parts
from genrec_pyg.exceptions import ConfigError


def test_a_grid_is_read_from_its_text():
    assert parse_grid('2x4') == (2, 4) and parse_grid('16X1') == (16, 1)


@pytest.mark.parametrize('text', ['', '2', '2x', '0x4', '2x-1', '2x4x1', 'two', '2 x 4'])
def test_any_other_text_is_refused(text):
    with pytest.raises(ConfigError, match="--grid: got .*accepted are 'auto' and blocks"):
        parse_grid(text)


def test_a_grid_has_a_place_for_every_process():
    check_grid((2, 4), 8)
    with pytest.raises(ConfigError, match='--grid: got 3x2, 6 processes, where 4 were started'):
        check_grid((3, 2), 4)


@pytest.mark.parametrize('length, number', [(10, 3), (3, 5), (0, 2), (8, 4)])
def test_even_parts(length, number):
    parts = even_parts(length, number)
    sizes = [part.stop - part.start for part in parts]
    assert len(parts) == number and [i for part in parts for i in range(length)[part]] == list(
        range(length)
    )
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    'weight, sizes',
    [
        ([1, 1, 1, 1], [2, 2]),
        ([9, 1, 1, 1], [1, 3]),
        ([1, 1, 1, 9], [3, 1]),
        ([0, 0, 0, 5, 5], [4, 1]),
        ([5], [0, 1]),
        ([1, 1, 1], [1, 1, 1, 0]),
    ],
)
def test_parts_of_equal_weight(weight, sizes):
    parts = weighted_parts(torch.tensor(weight), len(sizes))
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, len(weight))
    found = [part.stop - part.start for part in parts]
    assert sorted(found) == sorted(sizes) if len(weight) < len(sizes) else found == sizes
