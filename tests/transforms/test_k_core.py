import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, check_graph, training_graph
from genrec_pyg.transforms import KCore


def chain_graph():
    r"""Users 0 to 2 share items 1 to 3 (its 2-core); user 3 and item 0 hang on by a chain that
    falls in several rounds.
    """
    data = HeteroData()
    edge_index = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 4], [1, 2, 2, 3, 1, 3, 3, 0, 0]])
    data['user'].num_nodes = 6
    data['item'].num_nodes = 5
    data['user'].raw_id = list('abcdef')
    data['item'].raw_id = torch.tensor([10, 11, 12, 13, 14])
    data[INTERACTS].edge_index = edge_index
    data[INTERACTS].time = torch.arange(9)
    data[INTERACTS].note = [f'edge {i}' for i in range(9)]
    data[INTERACTS].train_mask = torch.arange(9) % 2 == 0
    data[INTERACTS].test_mask = torch.arange(9) % 2 == 1
    data['image'].x = torch.arange(5.0).view(5, 1)
    data['item', 'has', 'image'].edge_index = torch.arange(5).repeat(2, 1)
    # text: node 0 of the dropped item 0, nodes 1 and 2 of item 2, node 3 shared by items 0 and 3,
    # node 4 of none
    data['text'].x = torch.arange(5.0).view(5, 1) * 10
    data['item', 'has', 'text'].edge_index = torch.tensor([[0, 2, 2, 0, 3], [0, 1, 2, 3, 3]])
    data['item', 'image_knn', 'item'].edge_index = torch.tensor([[0, 1, 2, 3], [1, 1, 3, 4]])
    data['item', 'image_knn', 'item'].edge_weight = torch.tensor([0.1, 0.2, 0.3, 0.4])
    data['shop'].num_nodes = 2
    data['shop', 'sells', 'item'].edge_index = torch.tensor([[0, 1], [0, 3]])
    return data


def test_everything_is_reindexed():
    data = chain_graph()
    out = KCore(2)(data)
    check_graph(out)
    assert out['user'].num_nodes == 3 and out['user'].raw_id == ['a', 'b', 'c']
    assert out['item'].num_nodes == 3 and out['item'].raw_id.tolist() == [11, 12, 13]
    assert out[INTERACTS].edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 0, 2]]
    assert out[INTERACTS].time.tolist() == [0, 1, 2, 3, 4, 5]
    assert out[INTERACTS].note == [f'edge {i}' for i in range(6)]
    assert out[INTERACTS].train_mask.tolist() == [True, False] * 3
    assert out['image'].x.view(-1).tolist() == [1, 2, 3]
    assert training_graph(out).modalities['image'].edge_index is None  # still one-to-one
    assert out['text'].x.view(-1).tolist() == [10, 20, 30]
    assert out['item', 'has', 'text'].edge_index.tolist() == [[1, 1, 2], [0, 1, 2]]
    assert out['item', 'image_knn', 'item'].edge_index.tolist() == [[0, 1], [0, 2]]
    assert out['item', 'image_knn', 'item'].edge_weight.tolist() == pytest.approx([0.2, 0.3])
    assert out['shop'].num_nodes == 2
    assert out['shop', 'sells', 'item'].edge_index.tolist() == [[1], [2]]


def test_input_is_unchanged():
    data, reference = chain_graph(), chain_graph()
    KCore(2)(data)
    assert data['user'].num_nodes == 6 and data['user'].raw_id == list('abcdef')
    for store in data.stores:
        for key, value in store.items():
            expected = reference[store._key][key]
            assert (
                torch.equal(value, expected)
                if isinstance(value, torch.Tensor)
                else value == expected
            )


def test_duplicates_count_once_but_stay():
    data = HeteroData()
    data['user'].num_nodes = 2
    data['item'].num_nodes = 2
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])
    out = KCore((2, 1))(data)
    assert out[INTERACTS].edge_index.tolist() == [[0, 0, 0], [0, 0, 1]]
    with pytest.raises(DataError, match=r'no interaction is left by KCore\(k=\(3, 0\)\)'):
        KCore((3, 0))(data)


@pytest.mark.parametrize('k', [1, 2, 3, (4, 2), (0, 5)])
def test_core_is_maximal_and_meets_the_bounds(k):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(40, (2, 150), generator=generator)
    data = HeteroData()
    data['user'].num_nodes = data['item'].num_nodes = 40
    data['user'].raw_id = data['item'].raw_id = list(range(40))
    data[INTERACTS].edge_index = edge_index
    out = KCore(k)(data)
    k_user, k_item = k if isinstance(k, tuple) else (k, k)
    pairs = {
        (out['user'].raw_id[u], out['item'].raw_id[i])
        for u, i in out[INTERACTS].edge_index.t().tolist()
    }

    # A plain loop over sets, one node at a time: the core does not depend on the order of removal.
    users = set(range(40))
    items = set(range(40))
    left = {tuple(pair) for pair in edge_index.t().tolist()}
    changed = True
    while changed:
        changed = False
        for nodes, end, bound in ((users, 0, k_user), (items, 1, k_item)):
            for node in sorted(nodes):
                if sum(pair[end] == node for pair in left) < bound:
                    nodes.remove(node)
                    left = {pair for pair in left if pair[end] != node}
                    changed = True
    assert pairs == left
    assert set(out['user'].raw_id) == users and set(out['item'].raw_id) == items


def test_zero_keeps_all():
    data = chain_graph()
    out = KCore(0)(data)
    assert out['user'].num_nodes == 6 and out['item'].num_nodes == 5
    assert torch.equal(out[INTERACTS].edge_index, data[INTERACTS].edge_index)
    assert out['text'].num_nodes == 4  # the node of no item goes


@pytest.mark.parametrize('k', [-1, 1.5, True, (1, 2, 3), 'two', (1, None)])
def test_bad_bounds(k):
    with pytest.raises(ConfigError, match='k: got .*accepted is an integer'):
        KCore(k)
