import numpy as np
import pytest

from genrec_pyg.reporting.groups import quantile_groups


@pytest.mark.parametrize(
    'number,parts,expected',
    [
        ([0, 0, 1, 2, 3, 4], 2, ['0 (2 users)', '1–2 (2 users)', '3–4 (2 users)']),
        ([5, 5, 5, 5, 7], 4, ['5 (4 users)', '7 (1 users)']),  # equal numbers stay together
        ([9], 4, ['9 (1 users)']),
        ([0], 4, ['0 (1 users)']),
    ],
)
def test_groups_of_equal_size(number, parts, expected):
    groups = quantile_groups(np.array(number), parts, 'users')
    assert [group.name for group in groups] == expected
    assert sum(group.mask.sum() for group in groups) == len(number)
