import logging

import numpy as np
import pytest

from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import INTERACTS, check_graph, split_edges


def columns(*rows):
    return tuple(np.array(column) for column in zip(*rows))


def test_repeated_pairs_go_to_the_earliest_split_and_are_counted(caplog):
    user, item, split = columns((0, 1, 2), (0, 1, 0), (1, 0, 1), (1, 0, 1), (1, 1, 0))
    with caplog.at_level(logging.WARNING):
        data = build_graph(user, item, split, 2, 2, {}, 'set', {'time': np.array([5, 4, 3, 2, 1])})
    check_graph(data)
    assert '2 repeated interactions' in caplog.text
    assert split_edges(data, 'train').tolist() == [[0, 1], [1, 1]]
    assert split_edges(data, 'val').tolist() == [[1], [0]] and split_edges(data, 'test').size(1) == 0
    assert data[INTERACTS].time.tolist() == [4, 3, 1]


@pytest.mark.parametrize('rows,features,message', [
    ([(0, 0, 1)], {}, 'the training split has no interaction'),
    ([(0, 5, 0)], {}, 'item ids run from 5 to 5, accepted are 0 to 1'),
    ([(-1, 0, 0)], {}, 'user ids run from -1'),
    ([(0, 0, 0)], {'image': np.ones((3, 4))}, "features of modality 'image' have 3 rows, accepted are 2"),
])
def test_bad_input_is_named(rows, features, message):
    with pytest.raises(DataError, match=f'set: {message}'):
        build_graph(*columns(*rows), 2, 2, features, 'set')
