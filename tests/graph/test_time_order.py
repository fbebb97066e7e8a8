import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, known_masks, read_time, timed_edges, training_graph


def graph(edges, time, **masks):
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 3, 6
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.tensor(edges).t().contiguous()
    if time is not None:
        store.time = torch.tensor(time)
    store.train_mask = torch.ones(len(edges), dtype=torch.bool)
    for name, mask in masks.items():
        store[f'{name}_mask'] = torch.tensor(mask)
        store.train_mask &= ~torch.tensor(mask)
    return data


def test_edges_are_sorted_by_user_then_time_and_ties_keep_their_order():
    data = graph([[1, 0], [0, 5], [1, 4], [0, 2], [0, 1]], [3.0, 2.0, 1.0, 2.0, 1.0])
    assert timed_edges(data).tolist() == [[0, 0, 0, 1, 1], [1, 5, 2, 4, 0]]


def test_a_repeated_pair_counts_where_it_occurs_first_unless_repeats_are_kept():
    data = graph([[0, 3], [0, 1], [0, 4], [0, 1], [0, 5], [0, 1]], [0, 1, 2, 3, 4, -1])
    assert timed_edges(data)[1].tolist() == [1, 3, 4, 5]
    assert timed_edges(data, repeats=True)[1].tolist() == [1, 3, 1, 4, 1, 5]


def test_masks_choose_the_interactions():
    last = [False, False, True]
    data = graph(
        [[0, 3], [0, 1], [0, 4]],
        [0, 1, 2],
        val=last,
        test=[False] * 3,
        history=[True, False, False],
    )
    assert timed_edges(data)[1].tolist() == [1]
    assert timed_edges(data, ['train', 'history'])[1].tolist() == [3, 1]
    assert known_masks(data, 'val') == ['train', 'history']
    assert known_masks(data, 'test') == ['train', 'history', 'val']
    assert known_masks(data, 'test', with_validation=False) == ['train', 'history']
    with pytest.raises(
        ConfigError, match="masks: got 'future', accepted are train, val, test, history"
    ):
        timed_edges(data, ['future'])


def test_missing_and_wrong_times_are_refused():
    with pytest.raises(DataError, match="has no 'time', from which sequences are made"):
        timed_edges(graph([[0, 1]], None))
    assert read_time(graph([[0, 1]], None)) is None
    for time in ([1.0], [1.0, float('nan')], [1.0, float('inf')]):
        with pytest.raises(DataError, match='accepted is one finite number per edge'):
            timed_edges(graph([[0, 1], [0, 2]], time))


def test_a_pair_that_is_a_history_and_held_out_is_refused():
    data = graph([[0, 3], [0, 3]], [0, 1], history=[True, False], val=[False, True])
    with pytest.raises(DataError, match="'val_mask' and 'history_mask'"):
        training_graph(data)


def test_the_sequence_is_part_of_the_fingerprint_where_it_is_read():
    edges = [[0, 3], [0, 1], [1, 4]]
    first, second = graph(edges, [0, 1, 2]), graph(edges, [1, 0, 2])
    assert training_graph(first).fingerprint() == training_graph(second).fingerprint()
    assert training_graph(first).sequence is None
    timed = training_graph(first, timed=True)
    assert timed.fingerprint() != training_graph(second, timed=True).fingerprint()
    assert torch.equal(timed.to(torch.device('cpu')).sequence, timed_edges(first))
    assert INTERACTS in first.edge_types
