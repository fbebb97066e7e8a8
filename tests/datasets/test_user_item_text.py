import pytest

from genrec_pyg.datasets import UserItemTextDataset, load_dataset
from genrec_pyg.exceptions import ConfigError, DataError


def write(root, text, name='mine.txt'):
    (root / 'mine').mkdir(exist_ok=True)
    (root / 'mine' / name).write_text(text)
    return root


@pytest.mark.parametrize(
    'text,users,items,pairs',
    [
        ('1 5\n1 3\n2 5\n1 9\n', [1, 2], [3, 5, 9], [(0, 1), (0, 0), (1, 1), (0, 2)]),
        ('1 5 none\n1 3 none\n', [1], [3, 5], [(0, 1), (0, 0)]),
        ('10 5 3 9\n2 5\n', [2, 10], [3, 5, 9], [(1, 1), (1, 0), (1, 2), (0, 1)]),
        ('1 5 3\n2 5 9\n', [1, 2], [3, 5, 9], [(0, 1), (0, 0), (1, 1), (1, 2)]),  # two items each
        ('ann\tx\nann\ty\n', ['ann'], ['x', 'y'], [(0, 0), (0, 1)]),
        # texts that are no usual numbers stay apart
        ('1 05\n1 5\n', [1], ['05', '5'], [(0, 0), (0, 1)]),
    ],
)
def test_both_layouts(tmp_path, text, users, items, pairs):
    data = load_dataset('mine', write(tmp_path, text))
    store = data['user', 'interacts', 'item']
    ids = [
        x if isinstance(x, list) else x.tolist() for x in (data['user'].raw_id, data['item'].raw_id)
    ]
    assert (
        ids == [users, items] and [tuple(pair) for pair in store.edge_index.t().tolist()] == pairs
    )
    assert store.time.tolist() == list(range(len(pairs))) and 'train_mask' not in store


def test_a_repeated_pair_keeps_its_first_place(tmp_path):
    store = load_dataset('mine', write(tmp_path, '1 5\n1 3\n1 5\n'))['user', 'interacts', 'item']
    assert store.edge_index[1].tolist() == [1, 0] and store.time.tolist() == [0, 1]


def test_which_file_is_read(tmp_path):
    write(tmp_path, 'not data', 'README.txt')
    assert not UserItemTextDataset.recognizes(tmp_path / 'mine')
    with pytest.raises(ConfigError, match=r'no single \*.txt'):
        load_dataset('mine', tmp_path)
    write(tmp_path, '1 2\n1 3\n', 'other.txt')
    assert load_dataset('mine', tmp_path)['user'].num_nodes == 1
    write(tmp_path, '1 2\n', 'third.txt')
    with pytest.raises(ConfigError, match=r'no single \*.txt'):
        load_dataset('mine', tmp_path)


@pytest.mark.parametrize(
    'text,message',
    [
        ('', 'has no interaction'),
        ('1 2\n3\n', "line 2 is '3', accepted are 'user item'"),
        ('1 2\n\n1 3\n', "line 2 is ''"),
        ('1 2 3\n2 4\n1 5\n', "line 3 has the user '1' of line 1 again and lines differ in length"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load_dataset('mine', write(tmp_path, text))


def test_video_games(shared_data, tmp_path):
    source = shared_data / 'video_games' / 'Video.txt'
    if not source.is_file():
        pytest.skip('REAL DATA ABSENT: video_games')
    (tmp_path / 'games').mkdir()
    (tmp_path / 'games' / 'Video.txt').symlink_to(source)
    data = load_dataset('games', tmp_path)
    store = data['user', 'interacts', 'item']
    assert (data['user'].num_nodes, data['item'].num_nodes, store.edge_index.size(1)) == (
        31_013,
        23_715,
        287_107,
    )
    assert data['item'].raw_id[store.edge_index[1, :3]].tolist() == [6393, 13504, 14087]
