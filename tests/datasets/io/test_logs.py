import gzip

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from genrec_pyg.datasets.io.logs import read_columns
from genrec_pyg.datasets.io.roles import find_columns
from genrec_pyg.datasets.io.values import order_ids, read_ids, read_labels, read_numbers
from genrec_pyg.exceptions import ConfigError, DataError

TEXT = 'userId,title,movie_id,rating\nu10,"a, b",x,4\nu9,c,y,2.5\nu10,,y,1\n'


def column(*values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize('kind', ['plain', 'gzip', 'tabs', 'parquet', 'mapping'])
def test_one_log_in_every_form_has_the_same_columns(tmp_path, kind):
    names = {
        'userId': ['u10', 'u9', 'u10'],
        'movie_id': ['x', 'y', 'y'],
        'rating': ['4', '2.5', '1'],
    }
    path = tmp_path / 'log'
    if kind == 'plain':
        path.write_text(TEXT)
    elif kind == 'gzip':
        path.write_bytes(gzip.compress(TEXT.encode()))
    elif kind == 'tabs':
        path.write_text(
            '\n'.join(
                '\t'.join(row) for row in zip(*([name, *column] for name, column in names.items()))
            )
        )
    elif kind == 'parquet':
        parquet.write_table(pa.table(names), path)
    found, source = read_columns(names if kind == 'mapping' else path)
    assert source == ('table' if kind == 'mapping' else str(path)) and set(found) == {
        'user',
        'item',
        'rating',
    }
    ids, number = read_ids(found['user'], 'user', source)
    assert list(ids) == ['u9', 'u10'] and number.tolist() == [1, 0, 1]  # digits count by value
    assert read_numbers(found['rating'], 'rating', source).tolist() == [4, 2.5, 1]


def test_typed_headers_and_positions(tmp_path):
    path = tmp_path / 'log.inter'
    path.write_text('user_id:token\titem_id:token\ttimestamp:float\n1\t"7\t30\n')
    found, _ = read_columns(path)
    assert read_ids(found['item'], 'item', '')[0] == ['"7']  # a quote is a letter like others there
    path.write_text('5 8 100\n6 9 90\n')
    found, _ = read_columns(path, {'user': '1', 'item': '2', 'time': '3'})
    assert read_ids(found['user'], 'user', '')[0].tolist() == [5, 6]
    assert read_numbers(found['time'], 'time', '').tolist() == [100, 90]


def test_missing_unknown_and_ambiguous_columns_name_what_is_there(tmp_path):
    with pytest.raises(ConfigError, match="columns: got 'weight', accepted are user, item"):
        read_columns({}, {'weight': 'w'})
    with pytest.raises(
        ConfigError, match=r"\('person', 'thing'\) is known as user; say which with --columns"
    ):
        find_columns(['person', 'thing'], {}, 'log.csv', ('user', 'item'))
    found = find_columns(['person', 'ASIN'], {'user': 'person'}, 'log.csv', ('user', 'item'))
    assert found == {'user': 'person', 'item': 'ASIN'}


@pytest.mark.parametrize(
    'content', [b'', b'\0\0\0', b'\xff\xfe\x00a', b'user,item\n1,2\n3\n', b'PAR1 and no more']
)
def test_damaged_files_end_in_an_error_that_names_them(tmp_path, content):
    path = tmp_path / 'log.csv'
    path.write_bytes(content)
    with pytest.raises((DataError, ConfigError), match='log.csv'):
        read_columns(path)


def test_ids_of_numbers_texts_and_mixed_digits():
    ids, number = read_ids(column(30, 4, 30), 'item', 'log')
    assert ids.tolist() == [4, 30] and number.tolist() == [1, 0, 1]
    assert order_ids(pa.array(['b2', 'b10', 'a5', 'a', 'b02']))[0] == [
        'a',
        'a5',
        'b02',
        'b2',
        'b10',
    ]
    with pytest.raises(DataError, match='log: .*user'):
        read_ids(column('a', None), 'user', 'log')


def test_times_and_ratings_that_are_no_numbers_name_the_row():
    stamps = column('2024-01-01T00:00:00', '1970-01-01T00:00:10')
    assert read_numbers(stamps, 'time', 'log').tolist() == [1704067200, 10]
    with pytest.raises(DataError, match="log: row 2 has rating 'good'"):
        read_numbers(column('3', 'good'), 'rating', 'log')
    with pytest.raises(DataError, match='log: row 2 has no rating'):
        read_numbers(column(3.0, None), 'rating', 'log')


def test_labels_of_splits():
    assert read_labels(column('train', 'test', 'valid'), 'log').tolist() == [0, 2, 1]
    assert np.array_equal(read_labels(column('0', '2', '1'), 'log'), [0, 2, 1])
    with pytest.raises(DataError, match='log'):
        read_labels(column('train', 'later'), 'log')
