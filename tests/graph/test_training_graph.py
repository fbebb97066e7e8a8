import copy
import logging

import pytest
import torch

from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import (
    INTERACTS,
    check_held_out,
    held_out_digests,
    training_graph,
    unread_was_said,
)
from genrec_pyg.transforms import AddFeatureNoise, AddNoiseInteractions, RandomSplit


@pytest.mark.parametrize(
    'store,key,change',
    [
        ('image', 'x', lambda x: x + 1),
        ('text', 'x', lambda x: x.flip(0)),
        (('item', 'has', 'image'), 'edge_index', lambda e: torch.stack([e[0], e[1].flip(0)])),
        (('item', 'has', 'text'), 'edge_index', lambda e: e[:, 1:]),
    ],
)
def test_fingerprint_tells_features_and_links_apart(tiny_graph, store, key, change):
    reference = training_graph(tiny_graph).fingerprint()
    tiny_graph[store][key] = change(tiny_graph[store][key])
    assert training_graph(tiny_graph).fingerprint() != reference


def test_fingerprint_does_not_hang_on_precision_device_or_held_out_pairs(tiny_graph):
    graph = training_graph(tiny_graph)
    reference = graph.fingerprint()
    assert graph.to(torch.device('cpu')).fingerprint() == reference
    tiny_graph['image'].x = tiny_graph['image'].x.double()
    tiny_graph[INTERACTS].edge_index[:, -1] = torch.tensor([5, 6])
    assert training_graph(tiny_graph).fingerprint() == reference


def test_held_out_digests_name_the_split_that_changed(tiny_graph):
    before = held_out_digests(tiny_graph)
    tiny_graph[INTERACTS].edge_index[:, -1] = torch.tensor([5, 6])
    after = held_out_digests(tiny_graph)
    assert before['val'] == after['val'] and before['test'] != after['test']
    del tiny_graph[INTERACTS].val_mask
    assert held_out_digests(tiny_graph) == {'test': after['test']}


def test_held_out_pairs_of_another_split_are_refused(demo_data):
    first, second = (RandomSplit(seed=seed)(demo_data) for seed in (0, 1))
    graph = training_graph(first)
    check_held_out(graph, first)
    with pytest.raises(
        DataError, match=r'\d+ of \d+ pairs of its val split are training pairs of the model'
    ):
        check_held_out(graph, second)
    with pytest.raises(DataError, match='its test split'):
        check_held_out(graph, second, ['test'])


def test_perturbed_training_graphs_of_the_same_split_are_accepted(demo_data):
    for transform in (AddNoiseInteractions(0.5), AddFeatureNoise(1.0)):
        check_held_out(training_graph(transform(demo_data)), demo_data)


def test_other_numbers_of_users_or_items_are_refused(tiny_graph):
    graph = training_graph(tiny_graph)
    tiny_graph['user'].num_nodes = 9
    with pytest.raises(
        DataError, match='it has 9 users and 7 items, the model was made from a graph with 6 and 7'
    ):
        check_held_out(graph, tiny_graph)


@pytest.mark.parametrize('linked', [[0, 2, 3, 6], [6, 0, 3, 2]])
def test_nodes_that_no_item_links_to_are_left_out(tiny_graph, linked):
    x = tiny_graph['image'].x
    tiny_graph['item', 'has', 'image'].edge_index = torch.stack(
        [torch.tensor([0, 1, 3, 5]), torch.tensor(linked)]
    )
    expected = torch.zeros(7, 4)
    expected[torch.tensor([0, 1, 3, 5])] = x[torch.tensor(linked)]
    image = training_graph(tiny_graph).modalities['image']
    assert image.x.size(0) == 4 and torch.equal(image.item_features(), expected)
    fingerprint = training_graph(tiny_graph).fingerprint()
    tiny_graph['image'].x = x.clone().index_fill(0, torch.tensor([1, 4, 5]), 100)
    assert training_graph(tiny_graph).fingerprint() == fingerprint


def test_what_models_do_not_read_is_named_once(tiny_graph, caplog):
    tiny_graph['user'].x = torch.ones(6, 2)
    tiny_graph[INTERACTS].rating = torch.ones(15)
    tiny_graph['shop'].num_nodes = 2
    tiny_graph['shop', 'sells', 'item'].edge_index = torch.zeros(2, 1, dtype=torch.long)
    tiny_graph['item', 'rev_interacts', 'user'].edge_index = tiny_graph[INTERACTS].edge_index.flip(
        0
    )
    with caplog.at_level(logging.INFO):
        training_graph(tiny_graph)
        training_graph(copy.deepcopy(tiny_graph), ['image'])
    lines = [
        record.getMessage() for record in caplog.records if 'do not read' in record.getMessage()
    ]
    assert len(lines) == 1
    for name in (
        "data['user'].x",
        "data['shop']",
        "data[('shop', 'sells', 'item')]",
        f'data[{INTERACTS}].rating',
    ):
        assert name in lines[0]
    assert 'rev_interacts' not in lines[0] and 'mask' not in lines[0]


def test_what_was_said_at_the_training_of_a_run_is_not_said_again(tiny_graph, caplog):
    tiny_graph[INTERACTS].rating = torch.full((15,), 2.0)
    tiny_graph['mall'].num_nodes = 2
    with unread_was_said():
        training_graph(tiny_graph)
    training_graph(tiny_graph)
    assert not caplog.records
    tiny_graph['plaza'].num_nodes = 2
    training_graph(tiny_graph)
    assert "data['plaza']" in caplog.text


def test_a_plain_graph_says_nothing(tiny_graph, caplog):
    with caplog.at_level(logging.INFO):
        training_graph(tiny_graph)
    assert not caplog.records


def test_the_mean_of_large_features_does_not_overflow(tiny_graph):
    tiny_graph['image'].x = torch.full((7, 4), 3e38)
    tiny_graph['item', 'has', 'image'].edge_index = torch.stack(
        [torch.arange(7) // 2, torch.arange(7)]
    )
    features = training_graph(tiny_graph).modalities['image'].item_features()
    assert bool((features[:4] == 3e38).all()) and bool((features[4:] == 0).all())
