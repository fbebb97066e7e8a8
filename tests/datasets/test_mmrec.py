import numpy as np
import pytest
import torch

from genrec_pyg.datasets import MMRecDataset, load_dataset
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, modality_names, split_edges
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
    assert [split_edges(data, s).tolist() for s in ('train', 'val', 'test')] == [[[0, 1], [0, 1]], [[0], [2]], [[1], [0]]]
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
    with pytest.raises(ConfigError, match="has no features for 'bert', accepted are all-MiniLM, vggish, whisper"):
        load_dataset('mine', tmp_path, ['text=bert'])


@pytest.mark.parametrize('lines,message', [
    (['a\tb'], r"the header is \['a', 'b'\], accepted is tab separated with userID, itemID, x_label"),
    ([HEADER], 'has no interaction'),
    ([HEADER, '0\t0\t1\t1'], 'line 2 has 4 fields, accepted are 5'),
    ([HEADER, ROWS[0], 'x\t0\t1\t1\t0'], "line 3 has userID 'x', accepted are integers from 0"),
    ([HEADER, '0\t-3\t1\t1\t0'], "line 2 has itemID '-3', accepted are integers from 0"),
    ([HEADER, '0\t99999999999\t1\t1\t0'], 'line 2 has itemID'),
    ([HEADER, '0\t0\t1\t1\t3'], "line 2 has x_label '3', accepted are 0, 1 and 2"),
    ([HEADER, '0\t0\tgood\t1\t0'], "line 2 has rating 'good', accepted are numbers"),
    ([HEADER, '0\t0\tnan\t1\t0'], "line 2 has rating 'nan'"),
    ([HEADER, '0\t0\t1\t1\t1'], 'the training split has no interaction'),
    ([HEADER, *ROWS, '1\t9\t1\t1\t0'], "features of modality 'image' have 4 rows, accepted are 10"),
])
def test_bad_lines_are_named(tmp_path, lines, message):
    write(tmp_path / 'mine', lines)
    with pytest.raises(DataError, match=f'(mine.inter: )?{message}'):
        load_dataset('mine', tmp_path)


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
    raw = data['item'].get('raw_id', torch.arange(500))
    assert {user: int(raw[item]) for user, item in last_items(data).items()} == last


def test_the_first_moment_of_a_repeated_pair_counts(tmp_path):
    write(tmp_path / 'mine', [HEADER, '0\t0\t1\t100\t0', '0\t1\t1\t50\t0', '0\t2\t1\t60\t0', '0\t0\t1\t5\t0'], features=())
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
