"""Logs of one's own: any ids, any of the usual files."""

import gzip
import random

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from genrec_pyg.datasets import from_table, load_dataset
from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, ITEM, USER, modality_names, split_edges, training_graph
from genrec_pyg.nn.models import get_model

LOG = {
    'user': ['u-10', 'u-9', 'u-9', 'u-10', 'ü'],
    'item': ['b', 'a', 'b', 'c', 'a'],
    'time': [5, 1, 3, 2, 4],
    'rating': [1.0, 5.0, 4.0, 2.0, 3.0],
}


def named_pairs(data, split='train'):
    users, items = (
        ids.tolist() if isinstance(ids, torch.Tensor) else ids
        for ids in (data[USER].raw_id, data[ITEM].raw_id)
    )
    return {(users[u], items[i]) for u, i in split_edges(data, split).t().tolist()}


def test_ids_are_sorted_and_kept_and_edges_stand_in_the_order_of_time():
    data = from_table(LOG, split='none')
    assert data[USER].raw_id == ['u-9', 'u-10', 'ü'] and data[ITEM].raw_id == ['a', 'b', 'c']
    store = data[INTERACTS]
    assert store.edge_index.tolist() == [[0, 1, 0, 2, 1], [0, 2, 1, 0, 1]]
    assert store.time.tolist() == [1, 2, 3, 4, 5] and store.rating.tolist() == [5, 2, 4, 3, 1]
    assert bool(store.train_mask.all()) and not store.val_mask.any() and not store.test_mask.any()
    whole = from_table({'user_id': [30, 4], 'Item-ID': ['7', '11']}, split='none')
    assert whole[USER].raw_id.tolist() == [4, 30] and whole[ITEM].raw_id.tolist() == [7, 11]
    # without a time as the rows stand
    assert whole[INTERACTS].edge_index.tolist() == [[1, 0], [0, 1]]


def test_threshold_core_and_splits():
    data = from_table(LOG, min_rating=3, split='none')
    assert (
        named_pairs(data) == {('u-9', 'a'), ('u-9', 'b'), ('ü', 'a')} and data[USER].num_nodes == 2
    )
    dense = {'user': [1, 1, 2, 2, 3], 'item': [5, 6, 5, 6, 5]}
    assert named_pairs(from_table(dense, k_core=2, split='none')) == {
        (1, 5),
        (1, 6),
        (2, 5),
        (2, 6),
    }
    log = {**LOG, 'part': ['train', 'valid', 'test', 'train', 'train']}
    split = from_table(log, split='column:part')
    assert named_pairs(split, 'val') == {('u-9', 'a')} and named_pairs(split, 'test') == {
        ('u-9', 'b')
    }
    late = from_table(LOG, split='time:0.2,0.2')
    assert named_pairs(late, 'test') == {('u-10', 'b')} and named_pairs(late, 'val') == {('ü', 'a')}
    for wrong, message in (
        ({'split': 'by-moon'}, "split: got 'by-moon', accepted are leave_one_out, random"),
        ({'split': 'time:1'}, 'two shares'),
        ({'k_core': -1}, 'k_core: got -1'),
        ({'columns': {'user': 'nobody'}}, 'there is no such column'),
    ):
        with pytest.raises(ConfigError, match=message):
            from_table(LOG, **wrong)
    with pytest.raises(DataError, match='no rating is at least 9'):
        from_table(LOG, min_rating=9)


def write_text(path, log, mark=',', header=None, pack=False):
    lines = [mark.join(header or log)] + [mark.join(map(str, row)) for row in zip(*log.values())]
    content = '\n'.join(lines).encode()
    path.write_bytes(gzip.compress(content) if pack else content)
    return path


def test_files_of_all_kinds_give_the_same_graph(tmp_path):
    expected = from_table(LOG)
    files = [
        write_text(tmp_path / 'log.csv', LOG),
        write_text(tmp_path / 'log.tsv', LOG, '\t'),
        write_text(tmp_path / 'log.csv.gz', LOG, pack=True),
        write_text(tmp_path / 'log.txt', LOG, ' '),
        write_text(
            tmp_path / 'log.inter',
            LOG,
            '\t',
            ['user_id:token', 'item_id:token', 'timestamp:float', 'rating:float'],
        ),
    ]
    parquet.write_table(pa.table(LOG), tmp_path / 'log.parquet')
    dated = {**LOG, 'time': [f'2024-03-0{day}T00:00:00' for day in LOG['time']]}
    sources = [*files, tmp_path / 'log.parquet', pa.table(LOG)]
    for data in [
        *map(from_table, sources),
        load_dataset('log.csv.gz', tmp_path),
        from_table(dated),
    ]:
        assert (
            data[USER].raw_id == expected[USER].raw_id
            and data[ITEM].raw_id == expected[ITEM].raw_id
        )
        for key in ('edge_index', 'rating', 'train_mask', 'val_mask', 'test_mask'):
            assert torch.equal(data[INTERACTS][key], expected[INTERACTS][key])
    bare = tmp_path / 'bare.txt'
    bare.write_text('5 8\n5 7\n6 8\n')
    data = from_table(bare, {'user': '1', 'item': '2'}, split='none')
    assert named_pairs(data) == {(5, 7), (5, 8), (6, 8)}


def test_quoted_ids_may_hold_anything(tmp_path):
    (tmp_path / 'log.csv').write_text('user,item\n"a,b","x\ny"\n"say ""hi""",\u65e5\u672c\n')
    assert named_pairs(from_table(tmp_path / 'log.csv', split='none')) == {
        ('a,b', 'x\ny'),
        ('say "hi"', '\u65e5\u672c'),
    }


@pytest.mark.parametrize(
    'content,message',
    [
        ('', 'has no header'),
        ('user,item\n', 'has no interaction'),
        ('user,item\n1,2\n1\n', r'Row #3.*rows of 2 fields.*on_bad_row'),
        ('user,item\n1,\n', 'row 1 has an empty item id'),
        ('user,item,time\n1,2,3\n1,4,soon\n', "row 2 has time 'soon'"),
        ('user,item,rating\n1,2,nan\n', 'row 1 has rating nan'),
        ('user,item,split\n1,2,later\n', "its split is 'later'"),
        (
            'a,b\n1,2\n',
            "none of its columns .'a', 'b'. is known as user; say which with --columns "
            'user=NAME item=NAME',
        ),
        (
            'user,item,item_id\n1,2,3\n',
            "'item', 'item_id' may all be the item; say which with --columns item=NAME",
        ),
        (b'user,item\n\xff\xfe,2\n', 'cannot be read'),
        (b'\x1f\x8b\x08broken', 'cannot be read'),
        (b'PAR1nothing', 'not a readable'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / 'log.csv'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((DataError, ConfigError), match=message) as error:
        from_table(path)
    assert 'log.csv' in str(error.value)


def test_damaged_files_end_in_an_error_of_this_package_or_a_graph(tmp_path):
    rng = random.Random(0)
    write_text(tmp_path / 'a', LOG), write_text(tmp_path / 'b', LOG, pack=True)
    parquet.write_table(pa.table(LOG), tmp_path / 'c')
    for name in 'abc':
        content = (tmp_path / name).read_bytes()
        for _ in range(60):
            damaged = bytearray(
                content[: rng.randrange(len(content))] if rng.random() < 0.3 else content
            )
            for _ in range(min(len(damaged), rng.randrange(1, 6))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            (tmp_path / 'mutant').write_bytes(damaged)
            try:
                from_table(tmp_path / 'mutant', split='none')
            except (DataError, ConfigError):
                continue


def test_features_are_matched_by_id(tmp_path):
    write_text(tmp_path / 'log.csv', LOG)
    np.save(tmp_path / 'text_feat.npy', np.array([[3.0, 3], [1, 1], [9, 9]]))
    (tmp_path / 'text_feat.ids.txt').write_text('c\na\nnew\n')
    table = pa.table(
        {'item_id': ['b', 'a', 'c'], 'image': [[2.0], None, [4.0]], 'title': ['B', 'A', 'C']}
    )
    parquet.write_table(table, tmp_path / 'items.parquet')
    data = load_dataset('log.csv', tmp_path, ['text', 'image=items.parquet'], split='none')
    assert data[ITEM].raw_id == ['a', 'b', 'c', 'new'] and modality_names(data) == ['text', 'image']
    assert data['text'].x.tolist() == [[1, 1], [3, 3], [9, 9]]
    assert data[ITEM, 'has', 'text'].edge_index.tolist() == [[0, 2, 3], [0, 1, 2]]
    assert data['image'].x.tolist() == [[2], [4]] and data[
        ITEM, 'has', 'image'
    ].edge_index.tolist() == [[1, 2], [0, 1]]
    assert modality_names(load_dataset('log.csv', tmp_path)) == ['text']
    assert set(training_graph(data).modalities) == {'text', 'image'}
    with pytest.raises(
        ConfigError, match="has no column 'title2', accepted are item_id, image, title"
    ):
        load_dataset('log.csv', tmp_path, ['text=items.parquet:title2'])
    with pytest.raises(DataError, match='cannot be read as lists of numbers'):
        load_dataset('log.csv', tmp_path, ['text=items.parquet:title'])
    (tmp_path / 'text_feat.ids.txt').write_text('c\nc\nnew\n')
    with pytest.raises(DataError, match="item 'c' has several rows"):
        load_dataset('log.csv', tmp_path)
    (tmp_path / 'text_feat.ids.txt').write_text('c\n')
    with pytest.raises(DataError, match='one row per id'):
        load_dataset('log.csv', tmp_path)


def figures(data, name):
    return evaluate(get_model(name)(data), data, 'test', [20])


def test_order_of_rows_kind_of_file_and_names_of_ids_change_no_figure(tmp_path, shared_data):
    """MovieLens 100K as RecBole publishes it, untouched."""
    options = {'min_rating': 4, 'split': 'time', 'k_core': 5}
    first = load_dataset('ml-100k/ml-100k.inter', shared_data, **options)
    lines = (shared_data / 'ml-100k' / 'ml-100k.inter').read_text().splitlines()
    random.Random(1).shuffle(rows := [line.split('\t') for line in lines[1:]])
    columns = dict(zip(('user', 'item', 'rating', 'time'), zip(*rows)))
    write_text(tmp_path / 'log.csv.gz', columns, pack=True)
    parquet.write_table(
        pa.table(
            {
                **columns,
                'user': [f'u-{u}' for u in columns['user']],
                'item': [f'sku-{i}' for i in columns['item']],
            }
        ),
        tmp_path / 'log.parquet',
    )
    same, renamed = (
        load_dataset(name, tmp_path, **options) for name in ('log.csv.gz', 'log.parquet')
    )
    assert torch.equal(same[INTERACTS].edge_index, first[INTERACTS].edge_index)
    assert renamed[USER].raw_id[0] == f'u-{int(first[USER].raw_id[0])}' and renamed[ITEM].raw_id[
        -1
    ].startswith('sku-')
    for name in ('Popularity', 'ItemKNN', 'EASE'):
        expected = figures(first, name)
        assert (
            expected['recall@20'] > 0
            and figures(same, name) == expected
            and figures(renamed, name) == expected
        )


BAD = (
    b'user,item,time,rating\na,x,5,1\nb,y,soon,1\nc,z,6,nan\n,z,7,1\nd,w\n\xff,v,8,2\n'
    b'e,x,9,0x10\nf,,1,1\ng,y,1,2\n'
)


def test_bad_rows_are_left_out_counted_and_shown(tmp_path, caplog):
    (tmp_path / 'log.csv').write_bytes(BAD)
    with pytest.raises(DataError):
        from_table(tmp_path / 'log.csv')
    data = from_table(tmp_path / 'log.csv', on_bad_row='skip', split='none')
    assert named_pairs(data) == {('a', 'x'), ('g', 'y')}
    told = {
        reason: next(record for record in caplog.messages if f'({reason})' in record)
        for reason in ('fields', 'utf-8', 'no user id', 'no item id', 'no rating number', 'no time')
    }
    assert '2 rows are left out' in told['no rating number']
    assert told['no time'].endswith("row 2: user 'b', item 'y', rating '1', time 'soon'")
    frame = {'user': ['a', None, 'b'], 'item': [1, 2, 3], 'rating': [1.0, 2.0, float('nan')]}
    assert named_pairs(from_table(frame, on_bad_row='skip', split='none')) == {('a', 1)}
    with pytest.raises(DataError, match='has no interaction'):
        from_table({'user': [None], 'item': ['x']}, on_bad_row='skip')
    with pytest.raises(ConfigError, match="on_bad_row: got 'ignore', accepted are error, skip"):
        from_table(frame, on_bad_row='ignore')


def test_several_files_are_one_log(tmp_path):
    expected = from_table(LOG)
    half = {name: values[:3] for name, values in LOG.items()}
    rest = {name: values[3:] for name, values in LOG.items()}
    write_text(tmp_path / 'part-1.csv', half)
    parquet.write_table(pa.table(rest), tmp_path / 'part-2.parquet')
    files = [tmp_path / 'part-1.csv', str(tmp_path / 'part-2.parquet')]
    for source in (files, files[::-1], tmp_path / 'part-*', tmp_path):
        data = from_table(source)
        assert data[USER].raw_id == expected[USER].raw_id
        for key in ('edge_index', 'time', 'rating', 'train_mask', 'test_mask'):
            assert torch.equal(data[INTERACTS][key], expected[INTERACTS][key])
    write_text(tmp_path / 'part-3.csv', {'user': ['a'], 'item': ['b']})
    with pytest.raises(ConfigError, match='part-3.csv: has columns for item, user, .*part-1.csv'):
        from_table(tmp_path / 'part-*')
    with pytest.raises(ConfigError, match='nothing-.* has no file'):
        from_table(tmp_path / 'nothing-*')


def test_a_folder_of_logs_is_one_dataset(tmp_path, caplog):
    caplog.set_level('INFO')
    shop = tmp_path / 'shop'
    shop.mkdir()
    write_text(shop / 'a.csv', {name: values[:3] for name, values in LOG.items()})
    write_text(
        shop / 'b.TSV.gz', {name: values[3:] for name, values in LOG.items()}, '\t', pack=True
    )
    (shop / 'notes.md').write_text('no log')
    data, expected = load_dataset('shop', tmp_path), from_table(LOG)
    assert data[USER].raw_id == expected[USER].raw_id
    assert torch.equal(data[INTERACTS].edge_index, expected[INTERACTS].edge_index)
    assert 'shop: a.csv, b.TSV.gz are read as one log' in caplog.text
    write_text(shop / 'items.csv', {'item_id': ['a'], 'title': ['A']})
    with pytest.raises(ConfigError, match=r'items.csv: none of its columns'):
        load_dataset('shop', tmp_path)


def test_seed_of_the_split_and_layout_are_those_asked_for(tmp_path):
    log = {'user': [n // 20 for n in range(400)], 'item': [n % 20 for n in range(400)]}
    first, again, other = (
        from_table(log, split='random:0.2,0.2', seed=seed)[INTERACTS].test_mask
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    (tmp_path / 'log').write_text('1 17\n1 3\n2 17\n')
    pairs = {(1, 17), (1, 3), (2, 17)}
    assert named_pairs(from_table(tmp_path / 'log', form='pairs', split='none')) == pairs
    for wrong in ({'form': 'xml'}, {'form': 'csv', 'source': LOG}):
        with pytest.raises(ConfigError, match='format: got'):
            from_table(**{'source': tmp_path / 'log', **wrong})


def test_a_pattern_names_logs_that_are_one_dataset(tmp_path):
    shop = tmp_path / 'shop'
    shop.mkdir()
    write_text(shop / 'day-1.csv', {name: values[:3] for name, values in LOG.items()})
    write_text(shop / 'day-2.csv', {name: values[3:] for name, values in LOG.items()})
    (shop / 'items.csv').write_text('no log')
    data, expected = load_dataset('shop/day-*.csv', tmp_path), from_table(LOG)
    assert data[USER].raw_id == expected[USER].raw_id
    assert torch.equal(data[INTERACTS].edge_index, expected[INTERACTS].edge_index)
    with pytest.raises(ConfigError, match=r"dataset: got 'shop/night-\*.csv'"):
        load_dataset('shop/night-*.csv', tmp_path)
    # a file of that name is that file
    (shop / 'day-*.csv').write_text((shop / 'day-1.csv').read_text())
    assert load_dataset('shop/day-*.csv', tmp_path)[USER].num_nodes < data[USER].num_nodes


def test_rows_that_cannot_be_read_are_left_out_on_request(tmp_path, caplog):
    (tmp_path / 'log.csv').write_text('user,item\na,x\nbroken\nb,y\n')
    with pytest.raises(DataError, match='on_bad_row=skip leaves others out'):
        load_dataset('log.csv', tmp_path)
    data = load_dataset('log.csv', tmp_path, split='none', on_bad_row='skip')
    assert named_pairs(data) == {('a', 'x'), ('b', 'y')}
    assert '1 rows are left out' in caplog.text
    with pytest.raises(ConfigError, match="on_bad_row: got 'skip' for 'demo'"):
        load_dataset('demo', tmp_path, on_bad_row='skip')
    with pytest.raises(ConfigError, match="on_bad_row: got 'never', accepted are error, skip"):
        load_dataset('log.csv', tmp_path, on_bad_row='never')
