import pytest
import torch

from genrec_pyg.datasets import MMRecDataset, RecBoleDataset, load_dataset
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.transforms import LeaveOneOut

HEADER = 'user_id:token\titem_id:token\trating:float\ttimestamp:float'


def write(root, text, name='mine'):
    (root / name).mkdir(exist_ok=True)
    (root / name / f'{name}.inter').write_text(text)
    return root


def test_typed_fields_in_any_order(tmp_path):
    write(
        tmp_path,
        'timestamp:float\titem_id:token\tnote:token_seq\tuser_id:token\n'
        '30.0\tb\tx y\t10\n20\ta\t\t9\n10\tb\tz\t9\n',
    )
    data = load_dataset('mine', tmp_path)
    store = data['user', 'interacts', 'item']
    assert data['user'].raw_id.tolist() == [9, 10] and data['item'].raw_id == ['a', 'b']
    assert store.edge_index.tolist() == [[1, 0, 0], [1, 0, 1]] and store.time.tolist() == [
        30,
        20,
        10,
    ]
    assert 'train_mask' not in store and 'rating' not in store and store.time.dtype == torch.int64
    again = load_dataset('mine', tmp_path)  # from the stored graph
    assert again['item'].raw_id == ['a', 'b'] and torch.equal(
        again['user', 'interacts', 'item'].time, store.time
    )


def test_the_header_tells_the_layout(tmp_path):
    write(tmp_path, f'{HEADER}\n1\t2\t5\t7.5\n')
    assert RecBoleDataset.recognizes(tmp_path / 'mine')
    assert load_dataset('mine', tmp_path)['user', 'interacts', 'item'].time.tolist() == [7.5]
    write(tmp_path, 'userID\titemID\tx_label\n1\t2\t0\n', 'other')
    assert not RecBoleDataset.recognizes(tmp_path / 'other') and MMRecDataset.recognizes(
        tmp_path / 'other'
    )
    assert not RecBoleDataset.recognizes(tmp_path / 'none')


@pytest.mark.parametrize(
    'text,message',
    [
        (f'{HEADER}\n', 'has no interaction'),
        (f'{HEADER}\n1\t2\t5\n', 'Row #2.*accepted are rows of 4 fields'),
        (f'{HEADER}\n1\t2\t5\t7\n1\t\t5\t7\n', 'row 2 has an empty item id'),
        (f'{HEADER}\n1\t2\t5\tnan\n', 'row 1 has time nan, accepted are finite numbers'),
        (f'{HEADER}\n1\t2\t5\t1_0\n', "time '1_0'"),
        (f'{HEADER}\n1\t2\tgood\t10\n', "rating 'good'"),
        (
            'user_id:token\tthing:token\n1\t2\n',
            "none of its columns .'user_id', 'thing'. is known as item",
        ),
        ('user_id:token\titem_id:token\titem_id:token\n1\t2\t3\n', 'may all be the item'),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, text, message):
    with pytest.raises((ConfigError, DataError), match=message):
        load_dataset('mine', write(tmp_path, text))


def test_movielens(shared_data, tmp_path):
    if not (shared_data / 'ml-100k' / 'ml-100k.inter').is_file():
        pytest.skip('REAL DATA ABSENT: ml-100k')
    (tmp_path / 'ml').mkdir()
    (tmp_path / 'ml' / 'ml.inter').symlink_to(shared_data / 'ml-100k' / 'ml-100k.inter')
    data = LeaveOneOut()(load_dataset('ml', tmp_path))
    store = data['user', 'interacts', 'item']
    assert (data['user'].num_nodes, data['item'].num_nodes, store.edge_index.size(1)) == (
        943,
        1682,
        100_000,
    )
    assert int(store.test_mask.sum()) == int(store.val_mask.sum()) == 943
    assert data['user'].raw_id.tolist() == list(range(1, 944)) and set(store.rating.tolist()) == {
        1,
        2,
        3,
        4,
        5,
    }
    last = torch.zeros(943, dtype=torch.long).scatter_reduce_(
        0, store.edge_index[0], store.time, 'amax'
    )
    assert torch.equal(store.time[store.test_mask], last[store.edge_index[0, store.test_mask]])
