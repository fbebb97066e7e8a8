import pickle

import pytest
import torch

from genrec_pyg.datasets import SequenceContentDataset, load_dataset
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import timed_edges, training_graph
from genrec_pyg.transforms import LeaveOneOut

USERS = 'ua\tn1 n2 n3 n4 n5 n6 n7\nub\tn3 n9 n3 n5 n2\nuc\tn1 n2 n3 n4\n'
ITEMS = ''.join(f'n{number}\tTitle {number}\tabstract\n' for number in range(1, 10))


def folder(tmp_path, users=USERS, items=ITEMS):
    place = tmp_path / 'news'
    place.mkdir(exist_ok=True)
    (place / 'mind_users.tsv').write_text(users)
    (place / 'mind_items.tsv').write_text(items)
    return tmp_path


def sequences(data, masks, repeats=True):
    edges = timed_edges(data, masks, repeats)
    return [
        (edges[1, edges[0] == user] + 1).tolist() for user in range(int(data['user'].num_nodes))
    ]


def test_filters_numbers_and_split(tmp_path):
    """Histories of at most three inputs: the last six items of a user, numbers by the file of
    items, two items held out.
    """
    data = SequenceContentDataset(str(folder(tmp_path)), 'news', min_items=5, keep_last=6)[0]
    assert data['user'].raw_id == ['ua', 'ub']
    assert data['item'].raw_id == ['n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n9']
    assert (
        data['item'].title[:2] == ['Title 2', 'Title 3'] and data['item'].abstract[0] == 'abstract'
    )
    data = LeaveOneOut()(data)
    assert sequences(data, ['train']) == [[1, 2, 3, 4], [2, 7, 2]]
    assert sequences(data, ['val']) == [[5], [4]] and sequences(data, ['test']) == [[6], [1]]
    counts = training_graph(data, timed=True, repeats=True).sequence[1].bincount(minlength=7)
    assert counts.tolist() == [1, 3, 1, 1, 0, 0, 1]


def test_a_folder_is_recognized_and_items_that_nobody_has_stay_on_request(tmp_path):
    folder(tmp_path)
    data = load_dataset('news', tmp_path)
    # n8 is in no sequence that is kept
    assert int(data['item'].num_nodes) == 8 and 'title' in data['item']
    every = SequenceContentDataset(str(tmp_path), 'news', unused_items=True)[0]
    assert int(every['item'].num_nodes) == 9
    # as it was stored
    assert SequenceContentDataset(str(tmp_path), 'news')[0]['item'].title == data['item'].title


@pytest.mark.parametrize(
    'users, items, message',
    [
        (
            'ua\tn1 n2 n3 n4 n5 \n',
            ITEMS,
            r"users.tsv: line 1 is .* accepted is 'user TAB item item ...' with single blanks",
        ),
        (
            'ua\tn1 n2 n3 n4 x\n',
            ITEMS,
            "users.tsv: line 1 has the item 'x', which mind_items.tsv does not have",
        ),
        (
            USERS + 'ua\tn1\n',
            ITEMS,
            "users.tsv: line 4 has the user 'ua' again, accepted is one line per user",
        ),
        (USERS, ITEMS + 'n1\ta\tb\n', "items.tsv: line 10 has the item 'n1' of line 1 again"),
        (
            USERS,
            ITEMS + 'x\ta\n',
            'items.tsv: line 10 has 2 fields, accepted are item, title and abstract, 3 of them',
        ),
        (USERS, 'n1\ta\tb\tc\n', 'items.tsv: line 1 has 4 fields'),
        ('ua\tn1 n2\n', ITEMS, 'no user has 5 items, accepted is at least one'),
    ],
)
def test_damaged_files_are_told_by_line(tmp_path, users, items, message):
    with pytest.raises(DataError, match=message):
        SequenceContentDataset(str(folder(tmp_path, users, items)), 'news')


def test_pictures_of_a_folder(tmp_path):
    place = folder(tmp_path, items=''.join(f'n{number}\n' for number in range(1, 10))) / 'news'
    (place / 'hm_images').mkdir()
    (place / 'hm_images' / 'n3.jpg').write_bytes(b'')
    data = load_dataset('news', tmp_path)
    image = dict(zip(data['item'].raw_id, data['item'].image))
    assert (
        image['n3'] == str((place / 'hm_images' / 'n3.jpg').resolve())
        and image['n2'] == ''
        and 'title' not in data['item']
    )


def test_pictures_of_an_lmdb_file(tmp_path):
    lmdb = pytest.importorskip(
        'lmdb',
        reason='LMDB IS NOT INSTALLED: no picture of an LMDB file is tested (pip install lmdb)',
    )
    users = 'ua\tv07 v012 v3 v4 v5\n'
    place = (
        folder(tmp_path, users, ''.join(f'{item}\n' for item in ('v07', 'v012', 'v3', 'v4', 'v5')))
        / 'news'
    )
    with (
        lmdb.open(str(place / 'hm.lmdb'), subdir=False, map_size=1 << 20) as file,
        file.begin(write=True) as transaction,
    ):
        for key in ('7', '12'):
            transaction.put(key.encode(), b'\x89PNG')
        transaction.put(b'__keys__', pickle.dumps([b'7', b'12']))
    data = load_dataset('news', tmp_path)
    assert [file.rpartition('/')[2] for file in data['item'].image] == [
        'hm.lmdb#7',
        'hm.lmdb#12',
        '',
        '',
        '',
    ]


def test_a_read_dataset_trains_an_encoder_on_its_titles(tmp_path, text_folder):
    from genrec_pyg.nn.models import SASRec

    data = LeaveOneOut()(SequenceContentDataset(str(folder(tmp_path)), 'news', min_items=4)[0])
    data['item'].title = [
        'the best games',
        'news',
        'rain',
        'the news',
        'best',
        'games',
        'selling',
        'rain rain',
    ]
    model = SASRec(
        data, hidden_channels=8, item_side={'kind': 'encoder', 'encoder': str(text_folder('bert'))}
    )
    batch = next(iter(model.make_loader(4, 'user')))
    model.loss(batch)['bce'].backward()
    assert any(bool(p.grad.any()) for p in model.items.encoder_parameters() if p.grad is not None)
    assert torch.isfinite(model.eval().score(torch.arange(3))).all()
