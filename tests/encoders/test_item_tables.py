import gzip

import pyarrow as pa
import pytest
from pyarrow import parquet

from genrec_pyg.encoders.item_tables import read_item_texts
from genrec_pyg.exceptions import ConfigError, DataError


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_rows_come_in_the_order_of_ids(tmp_path):
    file = write(
        tmp_path / 'a.csv', 'asin,title,brand\nb-10,"Two\nlines, one",\nb-9,Soap & Co,Acme\n'
    )
    found = read_item_texts(file, ['title', 'brand'])
    assert found.ids == ['b-9', 'b-10']
    assert found.texts == [['Soap & Co Acme'], ['Two\nlines, one']]


def test_quotes_are_letters_between_tabs(tmp_path):
    file = write(
        tmp_path / 'a.tsv', 'item_id:token\ttitle:token_seq\n2\t"12"" vinyl\n1\tA &amp; B\n'
    )
    found = read_item_texts(file, ['title'], unescape=True)
    assert found.ids.tolist() == [1, 2] and found.texts == [['A & B'], ['"12"" vinyl']]
    assert read_item_texts(file, ['title']).texts[0] == ['A &amp; B']


def test_positions_say_that_there_is_no_header(tmp_path):
    file = write(tmp_path / 'a.dat', '7|Seven|x\n8|Eight|y\n')
    found = read_item_texts(file, ['2'], item='1')
    assert found.ids.tolist() == [7, 8] and found.texts == [['Seven'], ['Eight']]
    with pytest.raises(ConfigError, match='accepted are positions from 1 to 3'):
        read_item_texts(file, ['4'], item='1')
    with pytest.raises(ConfigError, match='--item must be a position too'):
        read_item_texts(file, ['2'])


def test_parquet_and_gzip(tmp_path):
    table = pa.table({'item': ['b', 'a'], 'tags': [['x', 'y'], None], 'title': ['B', None]})
    parquet.write_table(table, tmp_path / 'a.parquet')
    found = read_item_texts(tmp_path / 'a.parquet', ['title', 'tags'])
    assert found.ids == ['a', 'b'] and found.texts == [[''], ['B x y']]
    (tmp_path / 'a.csv.gz').write_bytes(gzip.compress(b'item,title\n1,One\n'))
    assert read_item_texts(tmp_path / 'a.csv.gz', ['title']).texts == [['One']]


def test_a_second_row_of_an_item(tmp_path):
    file = write(tmp_path / 'a.csv', 'item,tag\n1,x\n2,y\n1,z\n')
    with pytest.raises(DataError, match='row 3 is a second one of item .1.; .*on_duplicate first'):
        read_item_texts(file, ['tag'])
    assert read_item_texts(file, ['tag'], on_duplicate='first').texts == [['x'], ['y']]
    joined = read_item_texts(file, ['tag'], on_duplicate='join')
    assert joined.texts == [['x', 'z'], ['y']] and joined.repeated == 1
    with pytest.raises(ConfigError, match="on_duplicate: got 'x', accepted are error, first, join"):
        read_item_texts(file, ['tag'], on_duplicate='x')


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'has no row'),
        ('item,title\n', 'has no row'),
        ('item,title\n1,a,b\n', 'row 1 has 3 fields, accepted are 2'),
        ('item,title\n1,"a\n', 'cannot be read after row 1'),
        ('item,title\n,a\n', 'row 1 has an empty item id'),
        ('item,ti\0tle\n1,a\n', 'is no text'),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_item_texts(write(tmp_path / 'a.csv', text), ['title'])


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / 'a.csv').write_bytes('item,title\n1,Amélie\n'.encode('latin-1'))
    with pytest.raises(DataError, match='accepted is UTF-8 text'):
        read_item_texts(tmp_path / 'a.csv', ['title'])


def test_columns_that_are_not_there_are_named(tmp_path):
    file = write(tmp_path / 'a.csv', 'product,title\n1,a\n')
    with pytest.raises(ConfigError, match='--columns name: there is no such column'):
        read_item_texts(file, ['name'], item='product')
    with pytest.raises(ConfigError, match='say which with --item NAME'):
        read_item_texts(file, ['title'])
