"""The public layouts of logs, told by their first bytes."""

import gzip
import json

import pyarrow as pa
import pytest

from genrec_pyg.datasets.io.layouts import recognize
from genrec_pyg.datasets.io.logs import expand, read_columns, read_log
from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.exceptions import ConfigError, DataError

AMAZON_2014 = {
    'reviewerID': 'A2SUAM1J3GNN3B',
    'asin': '0000013714',
    'helpful': [0, 0],
    'reviewText': 'say "hi"\n',
    'overall': 5.0,
    'unixReviewTime': 1252800000,
    'reviewTime': '09 13, 2009',
}
AMAZON_2023 = {
    'rating': 4.0,
    'title': 'ok',
    'asin': 'B00YQ6X8EO',
    'parent_asin': 'B00YQ6X8EX',
    'user_id': 'AGKHLEW2SOWHN',
    'timestamp': 1588687728923,
    'verified_purchase': True,
}
FILES = {
    'MovieLens 100K': (
        '196\t242\t3\t881250949\n186\t302\t3\t891717742\n',
        ('196', '242', '3', '881250949'),
    ),
    'MovieLens 1M': (
        '1::1193::5::978300760\n1::661::3::978302109\n',
        ('1', '1193', '5', '978300760'),
    ),
    'MovieLens 25M': (
        'userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n',
        ('1', '296', '5.0', '1147880044'),
    ),
    'Amazon 2014, reviews': (
        json.dumps(AMAZON_2014) + '\n',
        ('A2SUAM1J3GNN3B', '0000013714', '5.0', '1252800000'),
    ),
    'Amazon 2014, ratings': (
        'A2SUAM1J3GNN3B,0000013714,5.0,1252800000\n',
        ('A2SUAM1J3GNN3B', '0000013714', '5.0', '1252800000'),
    ),
    'Amazon 2018, ratings': (
        '0000013714,A2SUAM1J3GNN3B,5.0,1252800000\n',
        ('A2SUAM1J3GNN3B', '0000013714', '5.0', '1252800000'),
    ),
    'Amazon 2023, reviews': (
        json.dumps(AMAZON_2023),
        ('AGKHLEW2SOWHN', 'B00YQ6X8EX', '4.0', '1588687728923'),
    ),
    'Amazon 2023, ratings': (
        'user_id,parent_asin,rating,timestamp\nAGK,B00YQ6X8EX,4.0,1588687728923\n',
        ('AGK', 'B00YQ6X8EX', '4.0', '1588687728923'),
    ),
    'MMRec': (
        'userID\titemID\trating\ttimestamp\tx_label\n7\t9\t5\t3\t2\n',
        ('7', '9', '5', '3', '2'),
    ),
    'MMRec without labels': ('userID\titemID\ttimestamp\n7\t9\t5\n', ('7', '9', '5')),
    'RecBole': ('timestamp:float\tuser_id:token\titem_id:token\n5\t7\t"9\n', ('7', '"9', '5')),
    'SASRec': ('1 17\n1 3\n', ('1', '17')),
}


@pytest.mark.parametrize('pack', [False, True])
@pytest.mark.parametrize('name', FILES)
def test_public_files_are_read_as_they_are_published(tmp_path, name, pack):
    text, expected = FILES[name]
    (tmp_path / 'log').write_bytes(gzip.compress(text.encode()) if pack else text.encode())
    found, _ = read_columns(tmp_path / 'log')
    roles = [role for role in ('user', 'item', 'rating', 'time', 'split') if role in found]
    assert tuple(str(found[role][0]) for role in roles) == expected
    assert ('split' in found) == (name == 'MMRec')


def test_a_format_overrides_what_the_content_says(tmp_path):
    path = tmp_path / 'log'
    path.write_text('a b\nc d\n')
    assert recognize(path).header and not recognize(path, 'pairs').header
    roles, batches = read_log(path, {}, ('user', 'item'), 'pairs', BadRows())
    assert roles == ['user', 'item'] and pa.Table.from_batches(batches)['item'].to_pylist() == [
        'b',
        'd',
    ]
    with pytest.raises(ConfigError, match="--format: got 'xml', accepted are csv, tsv"):
        recognize(path, 'xml')
    path.write_text('5,8\n5,7\n')  # numbers as names would be ambiguous: two whole numbers are data
    assert recognize(path).known == {'user': '1', 'item': '2'}
    path.write_text('user,item\n5,7\n')
    assert recognize(path).names == ['user', 'item']


def test_bad_rows_are_counted_with_examples_or_refused(tmp_path):
    path = tmp_path / 'log.csv'
    path.write_bytes(b'user,item\n1,2\n3\n\xff\xfe,5\n4,6,7\n"a,b","c\nd"\n')
    bad = BadRows(skip=True)
    found, _ = read_columns(path, bad=bad)
    assert found['user'].to_pylist() == ['1', 'a,b'] and found['item'].to_pylist() == ['2', 'c\nd']
    assert bad.counts == {'fields': 2, 'utf-8': 1} and 'log.csv: 3' in bad.examples['fields'][0]
    with pytest.raises(DataError, match='rows of 2 fields in UTF-8'):
        read_columns(path)
    path.write_text(
        '{"user": 1, "item": "x"}\n\n{"user": [1]}\n{"user": \n{"user": 2, "item": '
        '"\\ud800"}\n{"user": 2}\n'
    )
    bad = BadRows(skip=True)
    found, _ = read_columns(path, bad=bad)
    assert (
        found['user'].to_pylist() == ['1', '2']
        and found['item'].to_pylist() == ['x', '']
        and bad.counts == {'json': 3}
    )
    with pytest.raises(DataError, match='line 3 is no row'):
        read_columns(path)


def test_files_by_pattern_and_folder(tmp_path):
    for name in ('b.csv', 'a.csv', 'c.txt', '.hidden'):
        (tmp_path / name).write_text('x')
    assert [path.name for path in expand([str(tmp_path / '*.csv'), str(tmp_path)])] == [
        'a.csv',
        'b.csv',
        'c.txt',
    ]
    with pytest.raises(ConfigError, match='has no file'):
        expand([str(tmp_path / '*.json')])
