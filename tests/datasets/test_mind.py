"""MIND as it is downloaded: records of several folders become one sequence per user."""

import pytest

from genrec_pyg.datasets import MindDataset, load_dataset
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import INTERACTS, ITEM, USER

NEWS = ''.join(
    f'N{number}\tnews\tworld\tTitle "{number}\tAbstract\thttps://x\t[]\t[]\n'
    for number in range(1, 8)
)
TRAIN = (
    '1\tU1\t11/11/2019 9:05:58 PM\tN1 N2\tN3-0 N4-1\n'
    '2\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN5-1 N1-1\n'
)
DEV = '1\tU1\t11/15/2019 9:00:00 AM\tN1 N2\tN6-1 N7-0\n'


@pytest.fixture
def folder(tmp_path):
    for name, behaviors in (('MINDsmall_train', TRAIN), ('MINDsmall_dev', DEV)):
        part = tmp_path / 'mind' / name
        part.mkdir(parents=True)
        (part / 'news.tsv').write_text(NEWS)
        (part / 'behaviors.tsv').write_text(behaviors)
    return tmp_path / 'mind'


def clicks(data):
    order = data[INTERACTS].time.argsort()
    return [data[ITEM].raw_id[item] for item in data[INTERACTS].edge_index[1, order].tolist()]


def test_history_and_clicks_by_time(folder):
    data = load_dataset('mind', folder.parent)
    # the history of the earliest record, its clicks, then those of the evening and of the other
    # folder; what was shown and not clicked is none
    assert clicks(data) == ['N1', 'N2', 'N5', 'N4', 'N6']
    assert list(data[USER].raw_id) == ['U1']
    assert data[ITEM].title[0] == 'Title "1' and data[ITEM].abstract[0] == 'Abstract'
    assert clicks(MindDataset(str(folder.parent), 'mind')[0]) == clicks(data)


def test_files_may_lie_in_the_folder_itself(tmp_path):
    assert not MindDataset.recognizes(tmp_path)
    (tmp_path / 'mind').mkdir()
    (tmp_path / 'mind' / 'news.tsv').write_text(NEWS)
    assert not MindDataset.recognizes(tmp_path / 'mind')
    more = '3\tU1\t11/12/2019 0:05:58 AM\t\tN7-1\n'
    (tmp_path / 'mind' / 'behaviors.tsv').write_text(TRAIN + more)
    assert MindDataset.recognizes(tmp_path / 'mind')
    with pytest.raises(DataError, match='behaviors.tsv: line 3'):  # the hours of a day are 1 to 12
        load_dataset('mind', tmp_path)
    (tmp_path / 'mind' / 'behaviors.tsv').write_text(TRAIN + more.replace(' 0:', ' 12:'))
    assert clicks(load_dataset('mind', tmp_path)) == ['N1', 'N2', 'N5', 'N4', 'N7']


@pytest.mark.parametrize(
    'file,content,message',
    [
        (
            'behaviors.tsv',
            DEV.replace('11/15/2019 9:00:00 AM', '2019-11-15'),
            'line 1 is .* accepted are impression id, user, time as',
        ),
        ('behaviors.tsv', '1\tU1\n', 'line 1 is .* accepted are impression id'),
        (
            'behaviors.tsv',
            DEV.replace('N6', 'N99'),
            "the user 'U1' clicked 'N99', which no news.tsv has",
        ),
        ('news.tsv', 'N1\tnews\n', 'line 1 has 2 fields, accepted are news id'),
    ],
)
def test_damaged_files_are_told(folder, file, content, message):
    (folder / 'MINDsmall_dev' / file).write_text(content)
    with pytest.raises(DataError, match=message):
        MindDataset(str(folder.parent), 'mind')
