"""Prepared folders have the graph that the table itself has, in whatever form and order its rows
come.
"""

import gzip
import json
import random

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from pyarrow import parquet

from genrec_pyg.datasets import from_table, load_dataset
from genrec_pyg.datasets.preparation import Options, prepare_log, splitting
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, USER

pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is prepared (pip install .[prepare])'
)


def make_log(rows=3000, seed=0):
    rng = random.Random(seed)
    people = [f'u-{n}' for n in range(90)] + ['ü"x', 'a,b', '\u65e5\u672c']
    return [
        (
            people[min(int(rng.expovariate(0.04)), 92)],
            f'sku{min(int(rng.expovariate(0.05)), 120)}',
            rng.randrange(700),
            rng.randrange(1, 6),
        )
        for _ in range(rows)
    ]


def write(path, rows, names=('user', 'item', 'time', 'rating')):
    import csv
    import io

    text = io.StringIO(newline='')
    csv.writer(text).writerows([names, *rows])
    content = text.getvalue().encode()
    if path.suffix == '.parquet':
        parquet.write_table(
            pa.table({name: list(column) for name, column in zip(names, zip(*rows))}), path
        )
    elif path.suffix == '.jsonl':
        path.write_text('\n'.join(json.dumps(dict(zip(names, row))) for row in rows))
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)
    return path


def assert_same(first, second):
    for node_type in (USER, ITEM):
        ids = [list(data[node_type].raw_id) for data in (first, second)]
        assert ids[0] == ids[1]
    for key in (
        'edge_index',
        'time',
        'rating',
        'train_mask',
        'val_mask',
        'test_mask',
        'history_mask',
    ):
        values = [data[INTERACTS].get(key) for data in (first, second)]
        assert (values[0] is None) == (values[1] is None), key
        assert values[0] is None or (values[0].dtype == values[1].dtype and torch.equal(*values)), (
            key
        )


@pytest.mark.parametrize(
    'split',
    [
        'random:0.2,0.1',
        'leave_one_out',
        'time:0.1,0.2',
        'users:0.2,0.2',
        'cold_items:0.1,0.2',
        'none',
    ],
)
def test_the_graph_is_that_of_the_table(tmp_path, monkeypatch, split):
    monkeypatch.setattr(splitting, 'BLOCK', 100)  # several blocks
    rows = make_log()
    options = {'min_rating': 2, 'k_core': 4, 'split': split}
    expected = from_table(write(tmp_path / 'log.csv', rows), **options)
    assert 0 < expected[USER].num_nodes < 90
    report = prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'out', Options(**options))
    assert_same(expected, load_dataset('out', tmp_path))
    kept = expected[INTERACTS].edge_index.size(1)
    assert report.steps['kept'] == {
        'users': expected[USER].num_nodes,
        'items': expected[ITEM].num_nodes,
        'interactions': kept,
    }
    dropped = (
        3000
        - report.steps['rating from 2']['rows are kept']
        + report.steps['repeated pairs']['rows are merged']
        + report.steps['4-core']['pairs are left out']
    )
    assert 3000 - dropped == kept


def test_rows_in_any_order_and_form_give_the_same_bytes(tmp_path):
    rows = make_log()
    digests = []
    for number, name in enumerate(('a.csv', 'b.csv.gz', 'c.parquet', 'd.jsonl')):
        random.Random(number).shuffle(rows)
        write(tmp_path / name, rows)
        prepare_log(
            [str(tmp_path / name)],
            tmp_path / f'out{number}',
            Options(k_core=3, split='leave_one_out'),
        )
        digests.append(
            json.loads((tmp_path / f'out{number}' / 'manifest.json').read_text())['files']
        )
    half = len(rows) // 2
    write(tmp_path / 'part-1.csv', rows[half:]), write(tmp_path / 'part-2.parquet', rows[:half])
    prepare_log(
        [str(tmp_path / 'part-*')], tmp_path / 'parts', Options(k_core=3, split='leave_one_out')
    )
    digests.append(json.loads((tmp_path / 'parts' / 'manifest.json').read_text())['files'])
    assert len(digests[0]) == 3 + 7 and all(found == digests[0] for found in digests)


def test_kinds_of_numbers_are_those_of_the_table(tmp_path):
    for number, times in enumerate(
        (
            ['2024-03-02T10:00:00Z', '2024-03-01T00:00:00+02:00'],
            ['2024-03-01', '2024-01-05T10:00:00'],
            [1.5, 2, 1e3],
            [1700000000123456789, 5, 6],
            ['30.0', '20', '10'],
            ['2024-03-01 10:00:00.5', '2024-03-01', '2024-01-01'],
        )
    ):
        path = write(
            tmp_path / f'{number}.csv',
            [(f'u{n}', 7 + n, time, '2.5') for n, time in enumerate(times)],
        )
        prepare_log([str(path)], tmp_path / f'out{number}', Options(split='none'))
        assert_same(from_table(path, split='none'), load_dataset(f'out{number}', tmp_path))


def test_a_log_without_times_keeps_the_order_of_its_rows(tmp_path):
    (tmp_path / 'log.txt').write_text('\n'.join(f'{n % 7 + 1} {n * 5 % 11 + 1}' for n in range(50)))
    expected = from_table(tmp_path / 'log.txt', split='leave_one_out')
    prepare_log([str(tmp_path / 'log.txt')], tmp_path / 'out', Options(split='leave_one_out'))
    assert_same(expected, load_dataset('out', tmp_path))
    with pytest.raises(DataError, match='the log has no times'):
        prepare_log([str(tmp_path / 'log.txt')], tmp_path / 'none', Options(split='time'))


def test_titles_and_features_follow_their_ids(tmp_path):
    write(tmp_path / 'log.csv', [('a', 'x', 1, 5), ('b', 'y', 2, 5), ('a', 'z', 3, 5)])
    (tmp_path / 'items.csv').write_text('item_id,title\nz,Zed\nx,"Ex, or ""X"""\nz,Zoo\n')
    np.save(tmp_path / 'text.npy', np.array([[9.0, 9], [1, 1], [3, 3]]))
    (tmp_path / 'text.ids.txt').write_text('new\nx\nz\n')
    options = {
        'features': {'text': str(tmp_path / 'text.npy')},
        'items': str(tmp_path / 'items.csv'),
        'split': 'none',
    }
    report = prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'out', Options(**options))
    data, expected = load_dataset('out', tmp_path), from_table(tmp_path / 'log.csv', **options)
    assert data[ITEM].raw_id == expected[ITEM].raw_id == ['new', 'x', 'y', 'z']
    assert data[ITEM].title == expected[ITEM].title == ['', 'Ex, or "X"', '', 'Zed']
    assert torch.equal(data['text'].x, expected['text'].x)
    assert torch.equal(data[ITEM, HAS, 'text'].edge_index, expected[ITEM, HAS, 'text'].edge_index)
    assert report.steps['item table'] == {'rows': 3, 'rows repeat an item': 1}
    core = prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'core', Options(**options, k_core=1))
    assert load_dataset('core', tmp_path)[ITEM].title == ['Ex, or "X"', '', 'Zed']
    assert core.steps['features: text'] == {
        'items have them': 2,
        'items have none': 1,
        'rows are of other items': 1,
    }


def test_sparse_features_stay_sparse(tmp_path):
    write(tmp_path / 'log.csv', [('a', 'x', 1, 5), ('b', 'y', 2, 5)])
    sp.save_npz(tmp_path / 'tags.npz', sp.csr_matrix([[0.0, 2, 0], [1, 0, 0]]))
    (tmp_path / 'tags.ids.txt').write_text('y\nx\n')
    options = {'features': {'tags': str(tmp_path / 'tags.npz')}, 'split': 'none'}
    prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'out', Options(**options))
    data, expected = load_dataset('out', tmp_path), from_table(tmp_path / 'log.csv', **options)
    assert data['tags'].x.layout is torch.sparse_csr and data['tags'].x.to_dense().tolist() == [
        [1, 0, 0],
        [0, 2, 0],
    ]
    assert torch.equal(data['tags'].x.to_dense(), expected['tags'].x.to_dense())


def test_bad_rows_are_refused_by_name_or_counted(tmp_path):
    path = tmp_path / 'log.csv'
    path.write_bytes(
        b'user,item,time,rating\na,x,5,1\nb,y,soon,1\nc,z,6,nan\n,z,7,1\nd,w\n\xff,v,8,2\ne,x,9,0x10\nf,,1,1\ng,y,1,2\n'
    )
    with pytest.raises(DataError, match='Row #6|Expected 4'):
        prepare_log([str(path)], tmp_path / 'out', Options())
    assert not (tmp_path / 'out').exists() and not list(tmp_path.glob('.out*'))
    report = prepare_log([str(path)], tmp_path / 'out', Options(on_bad_row='skip', split='none'))
    assert report.steps['not readable'] == {
        'fields': 1,
        'utf-8': 1,
        'no user id': 1,
        'no item id': 1,
        'no rating number': 2,
        'no time': 1,
    }
    assert (
        report.steps['read'] == {'files': 1, 'rows': 9}
        and report.steps['kept']['interactions'] == 2
    )
    assert_same(
        from_table(path, on_bad_row='skip', split='none'),
        load_dataset('out', tmp_path),
    )
    assert "for example (no time): \"row 2: user 'b', item 'y'" in '\n'.join(report.lines())
    path.write_text('user,item,time\na,x,5\nb,y,soon\n')
    with pytest.raises(
        DataError, match="1 rows have no time, the first is row 2 .user 'b', item 'y', time 'soon'"
    ):
        prepare_log([str(path)], tmp_path / 'other', Options())


@pytest.mark.parametrize(
    'options,message',
    [
        ({'k_core': 3}, r'no interaction is left by a 3-core of 2 pairs'),
        (
            {'k_core': 2, 'min_rating': 5},
            r'left by a 2-core of 1 pairs, accepted is a smaller one, or a --min_rating below 5',
        ),
        ({'min_rating': 6}, 'min_rating: no rating is at least 6, the largest is 5'),
        ({'columns': {'user': 'who'}}, 'there is no such column'),
        ({'split': 'column:part', 'columns': {'split': 'part'}}, 'there is no such column'),
        ({'split': 'half'}, "split: got 'half'"),
        ({'on_bad_row': 'stop'}, 'on_bad_row'),
        ({'form': 'xml'}, "format: got 'xml'"),
        ({'memory': 'much'}, "memory: got 'much'"),
    ],
)
def test_what_leaves_nothing_names_the_threshold(tmp_path, options, message):
    write(tmp_path / 'log.csv', [('a', 'x', 1, 5), ('b', 'y', 2, 1)])
    with pytest.raises((ConfigError, DataError), match=message):
        prepare_log([str(tmp_path / 'log.csv')], tmp_path / 'out', Options(**options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['log.csv']
