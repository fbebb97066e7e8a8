"""Rows that lack what their roles ask for are left out and counted."""

import numpy as np
import pyarrow as pa
import pytest

from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.datasets.io.usable_rows import usable_rows
from genrec_pyg.exceptions import DataError


def kept(role, values, kind=None):
    bad = BadRows(skip=True)
    table = {role: pa.chunked_array([pa.array(values, kind)])}
    return usable_rows(table, 'log', bad)[role].to_pylist(), bad.counts


@pytest.mark.parametrize(
    'role,values,expected',
    [
        ('user', ['a', '', None, ' '], ['a', ' ']),
        ('item', [1, None, 0], [1, 0]),
        (
            'rating',
            ['5', '', '1e3', 'inf', 'nan', '0x10', '-.5', 'five', None],
            ['5', '1e3', '-.5'],
        ),
        ('rating', [1.5, float('nan'), float('-inf'), None], [1.5]),
        ('time', ['3', '2024-01-02', '4.5', 'soon'], ['3', '4.5']),
        (
            'time',
            ['2024-01-02', '7', '2024-01-02T03:04:05', '2024-13-02'],
            ['2024-01-02', '2024-01-02T03:04:05'],
        ),
        ('time', ['2024-01-02T03:04:05Z', 'x'], ['2024-01-02T03:04:05Z']),
        ('split', ['train', 'Test', '1', 'later', '', None], ['train', 'Test', '1']),
        ('split', [0, 2, 3], [0, 2]),
    ],
)
def test_values_of_each_role(role, values, expected):
    found, counts = kept(role, values)
    assert found == expected and sum(counts.values()) == len(values) - len(expected)


def test_dictionaries_and_chunks_are_read_as_their_values():
    column = pa.chunked_array([['a', ''], ['b', 'a']]).dictionary_encode()
    bad = BadRows(skip=True)
    time = pa.chunked_array([[1, 2, 3, None]])
    found = usable_rows({'user': column, 'time': time}, 'log', bad)
    assert found['user'].to_pylist() == ['a', 'b'] and found['time'].to_pylist() == [1, 3]
    assert bad.counts == {'no user id': 1, 'no time': 1}
    assert bad.examples['no time'] == ["row 4: user 'a', time 'None'"]


def test_few_wrong_rows_among_many_are_found():
    values = np.arange(100_000).astype(str).astype(object)
    wrong = [0, 777, 50_000, 99_999]
    values[wrong] = 'x'
    found, counts = kept('rating', values.tolist())
    assert counts == {'no rating number': 4}
    assert found == np.delete(values, wrong).tolist()


def test_types_that_no_role_has_are_refused():
    with pytest.raises(DataError, match='column of the user is of type double'):
        kept('user', [1.5])
