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
    assert (
        split_edges(data, 'val').tolist() == [[1], [0]] and split_edges(data, 'test').size(1) == 0
    )
    assert data[INTERACTS].edge_index.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert data[INTERACTS].time.tolist() == [4, 2, 1]


def test_interactions_stay_in_their_order_and_the_first_moment_of_a_pair_counts():
    user, item, split = columns((0, 9, 0), (1, 3, 0), (0, 4, 0), (0, 6, 0), (0, 9, 0), (1, 3, 0))
    data = build_graph(
        user,
        item,
        split,
        2,
        10,
        {},
        'set',
        {
            'time': np.array([100, 7, 50, 60, 5, 7]),
            'rating': np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        },
    )
    store = data[INTERACTS]
    assert store.edge_index.t().tolist() == [[1, 3], [0, 4], [0, 6], [0, 9]]
    assert store.time.tolist() == [7, 50, 60, 5] and store.rating.tolist() == [2, 3, 4, 5]
    data = build_graph(user, item, split, 2, 10, {}, 'set')
    assert (
        data[INTERACTS].edge_index.t().tolist() == [[0, 9], [1, 3], [0, 4], [0, 6]]
        and 'ordered' not in data[INTERACTS]
    )


def test_pairs_without_an_order_are_sorted_and_marked():
    user, item, split = columns((1, 0, 0), (0, 2, 1), (0, 1, 0))
    store = build_graph(user, item, split, 2, 3, {}, 'set', ordered=False)[INTERACTS]
    assert store.edge_index.t().tolist() == [[0, 1], [0, 2], [1, 0]] and store.ordered is False


@pytest.mark.parametrize(
    'rows,features,message',
    [
        ([(0, 0, 1)], {}, 'the training split has no interaction'),
        ([(0, 5, 0)], {}, 'item ids run from 5 to 5, accepted are 0 to 1'),
        ([(-1, 0, 0)], {}, 'user ids run from -1'),
        (
            [(0, 0, 0)],
            {'image': np.ones((3, 4))},
            "features of modality 'image' have 3 rows, accepted are 2",
        ),
    ],
)
def test_bad_input_is_named(rows, features, message):
    with pytest.raises(DataError, match=f'set: {message}'):
        build_graph(*columns(*rows), 2, 2, features, 'set')
