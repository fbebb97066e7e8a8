import gzip

import numpy as np
import pytest
import torch

from genrec_pyg.datasets import MMRecDataset, load_dataset
from genrec_pyg.datasets.io import tables
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, modality_names, split_edges
from genrec_pyg.nn.models import EASE
from genrec_pyg.recommend import top_items
from genrec_pyg.transforms import LeaveOneOut

HEADER = 'userID\titemID\trating\ttimestamp\tx_label'
ROWS = ['0\t0\t5.0\t100\t0', '0\t2\t3.5\t101\t1', '1\t1\t1\t90\t0', '1\t0\t4\t95\t2']


def write(folder, lines=(HEADER, *ROWS), features=('image_feat', 'text_feat'), items=4):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{folder.name}.inter').write_text('\n'.join(lines) + '\n')
    for name in features:
        np.save(folder / f'{name}.npy', np.ones((items, 2)))
    return folder


def test_interactions_attributes_and_features(tmp_path):
    write(tmp_path / 'mine')
    data = load_dataset('mine', tmp_path)
    assert [split_edges(data, s).tolist() for s in ('train', 'val', 'test')] == [
        [[0, 1], [0, 1]],
        [[0], [2]],
        [[1], [0]],
    ]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (2, 4)
    store = data[INTERACTS]
    order = store.edge_index[0] * 4 + store.edge_index[1]
    assert dict(zip(order.tolist(), store.rating.tolist())) == {0: 5.0, 2: 3.5, 5: 1.0, 4: 4.0}
    assert store.time.dtype == torch.int64 and sorted(store.time.tolist()) == [90, 95, 100, 101]
    assert modality_names(data) == ['image', 'text']


def test_files_named_after_encoders_are_mapped(tmp_path):
    write(tmp_path / 'mine', features=('all-MiniLM', 'vggish', 'whisper'))
    assert modality_names(load_dataset('mine', tmp_path)) == ['all-MiniLM', 'vggish', 'whisper']
    data = load_dataset('mine', tmp_path, ['text=all-MiniLM', 'audio=vggish.npy'])
    assert modality_names(data) == ['text', 'audio']
    assert modality_names(MMRecDataset(str(tmp_path), 'mine', {'sound': 'whisper'})[0]) == ['sound']
    with pytest.raises(
        ConfigError, match="has no features for 'bert', accepted are all-MiniLM, vggish, whisper"
    ):
        load_dataset('mine', tmp_path, ['text=bert'])


@pytest.mark.parametrize(
    'lines,message',
    [
        (
            ['a\tb'],
            r"the header is \['a', 'b'\], accepted is tab separated with userID, itemID, x_label",
        ),
        ([HEADER], 'has no interaction'),
        ([HEADER, '0\t0\t1\t1'], 'line 2 has 4 fields, accepted are 5'),
        ([HEADER, ROWS[0], 'x\t0\t1\t1\t0'], "line 3 has userID 'x', accepted are integers from 0"),
        ([HEADER, '0\t-3\t1\t1\t0'], "line 2 has itemID '-3', accepted are integers from 0"),
        (
            [HEADER, f'0\t{2**63}\t1\t1\t0'],
            f"line 2 has itemID '{2**63}', accepted are integers from 0 to {2**63 - 1}",
        ),
        ([HEADER, '0\t1.0\t1\t1\t0'], "line 2 has itemID '1.0', accepted are integers from 0"),
        ([HEADER, '0\t1_0\t1\t1\t0'], "line 2 has itemID '1_0', accepted are integers from 0"),
        ([HEADER, '0\t٣\t1\t1\t0'], "line 2 has itemID '٣', accepted are integers from 0"),
        ([HEADER, '0\t\t1\t1\t0'], "line 2 has itemID '', accepted are integers from 0"),
        (
            [HEADER, '0\t' + '9' * 5000 + '\t1\t1\t0'],
            "line 2 has itemID '9{100}', accepted are integers from 0",
        ),
        (
            [HEADER, '0\t99999999999\t1\t1\t0'],
            "features of modality 'image' have 4 rows, accepted are 100000000000",
        ),
        ([HEADER, '0\t0\t1_0\t1\t0'], "line 2 has rating '1_0', accepted are numbers"),
        ([HEADER, '0\t0\t1\tinf\t0'], "line 2 has timestamp 'inf', accepted are numbers"),
        ([HEADER, HEADER], "line 2 has userID 'userID', accepted are integers from 0"),
        (
            [HEADER.replace('rating', 'userID'), ROWS[0]],
            'the header names userID 2 times, accepted is once',
        ),
        (
            [HEADER.replace('rating', 'timestamp'), ROWS[0]],
            'the header names timestamp 2 times, accepted is once',
        ),
        ([HEADER, ROWS[0], '', ROWS[1]], 'line 3 has 1 fields, accepted are 5'),
        ([''], 'has no header, accepted is tab separated with userID, itemID, x_label'),
        ([HEADER, '0\t0\t1\t1\t3'], "line 2 has x_label '3', accepted are 0, 1 and 2"),
        ([HEADER, '0\t0\tgood\t1\t0'], "line 2 has rating 'good', accepted are numbers"),
        ([HEADER, '0\t0\tnan\t1\t0'], "line 2 has rating 'nan'"),
        ([HEADER, '0\t0\t1\t1\t1'], 'the training split has no interaction'),
        (
            [HEADER, *ROWS, '1\t9\t1\t1\t0'],
            "features of modality 'image' have 4 rows, accepted are 10",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, message):
    write(tmp_path / 'mine', lines)
    with pytest.raises(DataError, match=f'(mine.inter: )?{message}'):
        load_dataset('mine', tmp_path)


@pytest.mark.parametrize('ending', ['\n', '\r\n', '\n\n', '\r\n  \r\n\n'])
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_endings_of_lines_and_empty_lines_at_the_end(tmp_path, ending, mark):
    folder = write(tmp_path / 'mine', features=())
    lines = ('\r\n' if '\r' in ending else '\n').join([HEADER, *ROWS])
    for text in (mark + lines + ending, mark + lines):
        (folder / 'mine.inter').write_bytes(text.encode())
        assert load_dataset('mine', tmp_path)[INTERACTS].time.tolist() == [100, 101, 90, 95]


@pytest.mark.parametrize(
    'content,message',
    [
        (b'', 'has no header'),
        (gzip.compress(HEADER.encode(), mtime=0), 'is compressed, unpack it first'),
        (HEADER.encode('utf-16'), 'is not UTF-8 text'),
        (HEADER.encode() + b'\n\xff\t0\t1\t1\t0', 'is not UTF-8 text'),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    write(tmp_path / 'mine')
    (tmp_path / 'mine' / 'mine.inter').write_bytes(content)
    with pytest.raises(DataError, match=f'mine.inter: {message}'):
        load_dataset('mine', tmp_path)


def test_times_are_exact(tmp_path):
    """Nanoseconds since 1970 do not fit into the 53 bits of a float."""
    times = [1_600_000_000_000_000_001, 1_600_000_000_000_000_000, 2**62 + 1]
    write(
        tmp_path / 'mine',
        [HEADER, *(f'0\t{item}\t1\t{time}\t0' for item, time in enumerate(times))],
        features=(),
    )
    assert load_dataset('mine', tmp_path)[INTERACTS].time.tolist() == times
    write(tmp_path / 'halves', [HEADER, '0\t0\t1\t0.5\t0', '0\t1\t1\t2\t0'], features=())
    assert load_dataset('halves', tmp_path)[INTERACTS].time.tolist() == [0.5, 2.0]
    write(tmp_path / 'whole', [HEADER, '0\t0\t1\t5e2\t0', '0\t1\t1\t2.0\t0'], features=())
    assert load_dataset('whole', tmp_path)[INTERACTS].time.dtype == torch.int64


def test_blocks_of_lines_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, '_BLOCK', 3)
    lines = [f'{n}\t{n}\t{n}.5\t{n}\t0' for n in range(10)]
    write(tmp_path / 'mine', [HEADER, *lines], features=())
    store = load_dataset('mine', tmp_path)[INTERACTS]
    assert store.time.tolist() == list(range(10)) and store.time.dtype == torch.int64
    assert store.rating.tolist() == [n + 0.5 for n in range(10)]
    lines[4] = '4\t4\t4.5\t4.25\t0'  # one block has another type
    write(tmp_path / 'mine', [HEADER, *lines], features=())
    assert load_dataset('mine', tmp_path)[INTERACTS].time.tolist() == [
        0,
        1,
        2,
        3,
        4.25,
        5,
        6,
        7,
        8,
        9,
    ]
    for place, line, message in (
        (8, '8\tx\t1\t1\t0', "line 10 has itemID 'x'"),
        (9, '9\t9\t1\t1', 'line 11 has 4 fields'),
    ):
        write(tmp_path / 'mine', [HEADER, *lines[:place], line], features=())
        with pytest.raises(DataError, match=message):
            load_dataset('mine', tmp_path)


@pytest.mark.parametrize('first,step', [(1, 1), (100, 100), (2**40, 10**9)])
def test_ids_with_gaps_make_no_users_and_items(tmp_path, first, step):
    rng = np.random.default_rng(0)
    pairs = {
        (int(u), int(i)) for u, i in zip(rng.integers(40, size=300), rng.integers(30, size=300))
    }
    lines = [
        f'{first + step * u}\t{first + 10 * step * i}\t0' for u, i in sorted(pairs, reverse=True)
    ]
    write(tmp_path / 'mine', ['userID\titemID\tx_label', *lines], features=())
    data = load_dataset('mine', tmp_path)
    users, items = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    assert data['user'].raw_id.tolist() == [first + step * u for u in users]
    assert data['item'].raw_id.tolist() == [first + 10 * step * i for i in items]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (len(users), len(items))
    user, item = data[INTERACTS].edge_index
    written = [
        f'{u}\t{i}\t0'
        for u, i in zip(data['user'].raw_id[user].tolist(), data['item'].raw_id[item].tolist())
    ]
    assert written == lines
    columns = top_items(EASE(data), data, torch.arange(len(users)), k=30)
    assert set(columns['user']) <= set(data['user'].raw_id.tolist())
    assert set(columns['item']) <= set(data['item'].raw_id.tolist())


def test_features_belong_to_the_written_id(tmp_path):
    folder = write(tmp_path / 'mine', [HEADER, '7\t5\t1\t1\t0', '9\t1\t1\t2\t0'], features=())
    np.save(folder / 'image_feat.npy', np.arange(8.0).reshape(8, 1))
    data = load_dataset('mine', tmp_path)
    assert data['user'].raw_id.tolist() == [7, 9] and data['item'].raw_id.tolist() == list(range(8))
    node = dict(data['item', 'has', 'image'].edge_index.t().tolist())
    shown = {int(data['item'].raw_id[item]): float(data['image'].x[node[item]]) for item in node}
    assert shown == {item: float(item) for item in range(8)}
    edges = data[INTERACTS].edge_index
    assert data['item'].raw_id[edges[1]].tolist() == [5, 1] and data['user'].raw_id[
        edges[0]
    ].tolist() == [7, 9]


def last_items(data):
    """User to the item that leave-one-out tests."""
    store = LeaveOneOut()(data)[INTERACTS]
    return dict(store.edge_index[:, store.test_mask].t().tolist())


@pytest.mark.parametrize('times', [None, 'equal', 'by pairs'])
def test_the_order_of_lines_is_the_order_of_interactions(tmp_path, times):
    rng, last = np.random.default_rng(0), {}
    lines = ['userID\titemID\ttimestamp\tx_label' if times else 'userID\titemID\tx_label']
    for user in range(200):
        items = rng.choice(500, 6, replace=False)
        last[user] = int(items[-1])
        for place, item in enumerate(items):
            time = {None: '', 'equal': '7\t', 'by pairs': f'{place // 2}\t'}[times]
            lines.append(f'{user}\t{item}\t{time}0')
    write(tmp_path / 'sequences', lines, features=())
    data = load_dataset('sequences', tmp_path)
    raw = data['item'].raw_id
    assert {user: int(raw[item]) for user, item in last_items(data).items()} == last


def test_the_first_moment_of_a_repeated_pair_counts(tmp_path):
    write(
        tmp_path / 'mine',
        [HEADER, '0\t0\t1\t100\t0', '0\t1\t1\t50\t0', '0\t2\t1\t60\t0', '0\t0\t1\t5\t0'],
        features=(),
    )
    assert last_items(load_dataset('mine', tmp_path)) == {0: 2}


def test_missing_file(tmp_path):
    (tmp_path / 'mine').mkdir()
    with pytest.raises(DataError, match='mine.inter missing in .*mine; put the file there'):
        MMRecDataset(str(tmp_path), 'mine')


def test_lfm2k(shared_data):
    data = load_dataset('lfm2k', shared_data, ['text=all-MiniLM-L6-v2', 'audio=vggish'])
    assert [split_edges(data, s).size(1) for s in ('train', 'val', 'test')] == [44327, 4799, 7219]
    assert (data['user'].num_nodes, data['item'].num_nodes) == (1858, 1425)
    assert data['text'].x.shape == (1425, 384) and data['audio'].x.shape == (1425, 128)
