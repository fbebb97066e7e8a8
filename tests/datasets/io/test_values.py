"""Ids, numbers, dates and labels of columns."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from genrec_pyg.datasets.io.values import (
    as_micros,
    check_kind,
    order_ids,
    read_ids,
    read_labels,
    read_numbers,
)
from genrec_pyg.exceptions import DataError


def column(*values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def test_ids_that_are_all_whole_numbers_are_numbers():
    ids, number = read_ids(column('10', '9', '10', '-2'), 'user', 'log')
    assert ids.dtype == np.int64 and ids.tolist() == [-2, 9, 10] and number.tolist() == [2, 1, 2, 0]
    # a leading zero is lost in a number, and digits beyond 64 bits are
    for other in ('007', '9' * 19, '1.0'):
        assert read_ids(column('10', other), 'user', 'log')[0] == sorted(['10', other], key=float)


def test_digits_within_ids_count_by_value():
    found = ['u-10', 'u-9', 'u-9b2', 'u-9b10', 'U-1', 'u']
    expected = ['U-1', 'u', 'u-9', 'u-9b2', 'u-9b10', 'u-10']
    ids, place = order_ids(pa.array(found))
    assert ids == expected and [found[one] for one in place] == expected


def test_chunks_and_dictionaries_are_one_column():
    chunks = pa.chunked_array([['b', 'a'], ['b', 'c']])
    for one in (chunks, chunks.dictionary_encode(), chunks.cast(pa.string_view())):
        ids, number = read_ids(one, 'item', 'log')
        assert ids == ['a', 'b', 'c'] and number.tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    'values,message',
    [
        (('a', None, 'b'), 'row 2 has no item id'),
        (('a', 'b', ''), 'row 3 has an empty item id'),
        ((1.5, 2.0), 'column of the item is of type double, accepted are text, integers'),
    ],
)
def test_ids_that_are_none(values, message):
    with pytest.raises(DataError, match=f'^log: .*{message}'):
        read_ids(column(*values), 'item', 'log')


@pytest.mark.parametrize(
    'values,expected,kind',
    [
        (('3', '-4'), [3, -4], 'i'),
        (('3.0', '1e3'), [3, 1000], 'i'),
        (('3.5', '1'), [3.5, 1.0], 'f'),
        ((2**60, 1), [2**60, 1], 'i'),
        (('1970-01-02', '1970-01-01T00:00:01'), [86400, 1], 'i'),
        (('1970-01-01T00:00:00.5', '1970-01-01'), [0.5, 0.0], 'f'),
        (('1970-01-01T02:00:00+02:00', '1970-01-01T00:00:07Z'), [0, 7], 'i'),
        ((datetime.date(1970, 1, 3), datetime.date(1969, 12, 31)), [172800, -86400], 'i'),
    ],
)
def test_times_are_seconds(values, expected, kind):
    found = read_numbers(column(*values), 'time', 'log')
    assert found.dtype.kind == kind and found.tolist() == expected


@pytest.mark.parametrize(
    'role,values,message',
    [
        (
            'time',
            ('5', 'soon', 'later'),
            "row 2 has time 'soon', accepted are numbers and ISO dates",
        ),
        ('time', ('5', None), 'row 2 has no time'),
        ('rating', ('5', '2024-01-01'), "row 2 has rating '2024-01-01', accepted are numbers$"),
        ('rating', (1.0, float('inf')), 'row 2 has rating inf, accepted are finite numbers'),
        ('rating', ('0x10',), "row 1 has rating '0x10'"),
    ],
)
def test_numbers_that_are_none(role, values, message):
    with pytest.raises(DataError, match=message):
        read_numbers(column(*values), role, 'log')


def test_dates_are_cut_to_microseconds_and_refused_out_of_range():
    fine = pa.array([1_500], pa.timestamp('ns'))
    assert as_micros(fine, 'time', 'log').to_pylist() == [1]
    with pytest.raises(DataError, match='column of the time has dates out of range'):
        as_micros(pa.array([2**62], pa.timestamp('s')), 'time', 'log')


def test_labels_of_splits():
    found = read_labels(column('train', 'VALID', 'dev', 'test', '0', '1', '2'), 'log')
    assert found.tolist() == [0, 1, 1, 2, 0, 1, 2]
    assert read_labels(column(2, 0), 'log').tolist() == [2, 0]
    for wrong in ('later', None):
        with pytest.raises(DataError, match=f'its split is {wrong!r} in a row, accepted are 0, 1'):
            read_labels(column('train', wrong), 'log')


def test_each_role_has_its_types():
    for kind, roles in (
        (pa.string(), ('user', 'item', 'rating', 'time', 'split')),
        (
            pa.dictionary(pa.int32(), pa.string()),
            ('user', 'item', 'rating', 'time', 'split'),
        ),
        (pa.int16(), ('user', 'item', 'rating', 'time', 'split')),
        (pa.float32(), ('rating', 'time', 'split')),
        (pa.timestamp('ms'), ('time',)),
        (pa.list_(pa.int64()), ()),
        (pa.bool_(), ()),
    ):
        for role in ('user', 'item', 'rating', 'time', 'split'):
            if role in roles:
                check_kind(kind, role, 'log')
            else:
                with pytest.raises(DataError, match=f'column of the {role} is of type'):
                    check_kind(kind, role, 'log')
