"""Rows of files become numbered pairs, sorted by user and item."""

import sys

import numpy as np
import pytest

from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.exceptions import ConfigError, DataError, OutputError

duckdb = pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is staged (pip install .[prepare])'
)

from genrec_pyg.datasets.preparation.staging import (  # noqa: E402
    connect,
    engine_errors,
    execute,
    load,
    number_kind,
    stage,
)


@pytest.fixture
def con(tmp_path):
    (tmp_path / 'work').mkdir()
    engine = connect(tmp_path / 'work', '200MB')
    yield engine
    engine.close()


def staged(con, tmp_path, text, more=(), **options):
    (tmp_path / 'log.csv').write_text(text)
    report, asked = Report(), Options(**options)
    roles = load(con, [tmp_path / 'log.csv'], asked, report)
    return (*stage(con, roles, asked, report, list(more), tmp_path / 'work'), report)


def ids(con, table):
    return [row[0] for row in execute(con, f'SELECT id FROM {table} ORDER BY number').fetchall()]


def test_pairs_are_numbered_sorted_and_merged(con, tmp_path):
    found, whole_users, whole_items, report = staged(
        con,
        tmp_path,
        'user,item,time,rating\nu-10,7,5,1\nu-9,30,4,2\nu-9,7,9,3\nu-9,30,2,4\nu-9,30,2,5\n',
        split='none',
    )
    assert (whole_users, whole_items) == (False, True)
    assert ids(con, 'users') == ['u-9', 'u-10'] and ids(con, 'items') == ['7', '30']
    assert found.user.tolist() == [0, 0, 1] and found.item.tolist() == [0, 1, 0]
    # of a pair the earliest row counts, of equal times the highest rating
    assert found.time.tolist() == [9, 2, 5] and found.rating.tolist() == [3, 5, 1]
    assert found.row.tolist() == [2, 4, 0] and found.label is None
    assert report.steps['repeated pairs'] == {'rows are merged': 2}
    assert [found.user.dtype, found.row.dtype, found.rating.dtype] == [np.int32, np.int64, 'f4']


def test_items_that_only_features_have_are_numbered_too(con, tmp_path):
    found, *_ = staged(con, tmp_path, 'user,item\na,y\n', more=['x', 'z'], split='none')
    assert ids(con, 'items') == ['x', 'y', 'z'] and found.item.tolist() == [1]


def test_rows_below_the_rating_go_before_pairs_are_merged(con, tmp_path):
    text = 'user,item,time,rating\na,x,1,2\na,x,5,4\nb,x,1,3\n'
    found, *_, report = staged(con, tmp_path, text, min_rating=3, split='none')
    assert found.time.tolist() == [5, 1] and report.steps['rating from 3'] == {'rows are kept': 2}


def test_a_column_of_splits_becomes_labels_and_the_first_split_of_a_pair_counts(con, tmp_path):
    text = 'user,item,split\na,x,test\na,y,VALID\na,x,train\n'
    found, *_ = staged(con, tmp_path, text)
    assert found.item.tolist() == [0, 1] and found.label.tolist() == [0, 1]


@pytest.mark.parametrize(
    'values,kind,expected',
    [
        (['1', '2'], 'BIGINT', [1, 2]),
        (['1.5', '2'], 'DOUBLE', [1.5, 2]),
        (['1', 'x', '2_0'], 'BIGINT', [1, None, None]),
        (['1970-01-01', '1970-01-02'], 'BIGINT', [0, 86400]),
        (['1970-01-01T00:00:00.5', '1970-01-02'], 'DOUBLE', [0.5, 86400]),
        (['1970-01-02', '7', '1970-01-01T01:00:00+01:00'], 'BIGINT', [86400, None, 0]),
    ],
)
def test_a_column_of_times_is_of_the_kind_of_most_rows(con, values, kind, expected):
    execute(con, 'CREATE TABLE raw (time VARCHAR, row BIGINT)')
    con.executemany('INSERT INTO raw VALUES (?, ?)', [(v, n) for n, v in enumerate(values)])
    sql, found = number_kind(con, 'time')
    rows = execute(con, f'SELECT {sql} FROM raw ORDER BY row').fetchall()
    assert found == kind and [row[0] for row in rows] == expected


def test_rows_that_cannot_be_used_are_refused_or_counted(con, tmp_path):
    text = 'user,item,time\na,x,5\n,y,6\nb,z,soon\n'
    with pytest.raises(DataError, match=r'1 rows have no user id, the first is row 2 .user .., '):
        staged(con, tmp_path, text, split='none')
    con.execute('DROP TABLE raw')
    found, *_, report = staged(con, tmp_path, text, split='none', on_bad_row='skip')
    assert found.time.tolist() == [5] and ids(con, 'users') == ['a']
    assert report.steps['not readable'] == {'no user id': 1, 'no time': 1}


def test_files_of_one_log_have_the_same_columns(con, tmp_path):
    (tmp_path / 'a.csv').write_text('user,item\na,x\n')
    (tmp_path / 'b.csv').write_text('user,item,time\na,x,1\n')
    with pytest.raises(ConfigError, match=r'b.csv: has columns for item, time, user, .*a.csv for'):
        load(con, [tmp_path / 'a.csv', tmp_path / 'b.csv'], Options(), Report())


def test_memory_and_errors_of_the_engine(tmp_path):
    with pytest.raises(ConfigError, match="memory: got 'much', accepted are amounts such as '2GB'"):
        connect(tmp_path, 'much')
    with pytest.raises(OutputError, match='the engine cannot go on .*no space'), engine_errors():
        raise duckdb.IOException('no space')


def test_memory_of_mapped_columns_is_given_back_and_their_values_stay(con, tmp_path):
    rows = '\n'.join(f'{n},{n % 7},{n}' for n in range(100_000))
    found, *_ = staged(con, tmp_path, f'user,item,time\n{rows}\n', split='none')

    def resident():  # kilobytes of the column of rows, of Linux
        lines = open('/proc/self/smaps').read().splitlines()
        place = next(n for n, line in enumerate(lines) if line.endswith('/row.bin'))
        return int(next(line for line in lines[place:] if line.startswith('Rss')).split()[1])

    total = int(found.row.sum())
    if sys.platform == 'linux':
        assert resident() > 700
    found.release()
    if sys.platform == 'linux':
        assert resident() == 0
    assert int(found.row.sum()) == total == 99_999 * 50_000
    found._replace(time=None, row=np.arange(3)).release()  # what is not mapped stays
