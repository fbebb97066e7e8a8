import pytest
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.models import EASE
from genrec_pyg.recommend import raw_ids
from genrec_pyg.transforms import ItemKNNGraph, ReorderNodes


def named_edges(data, edge_type):
    """Edges by the names that a caller knows, whatever the numbers."""
    names = [
        raw_ids(data, node_type) if node_type in ('user', 'item') else range(10**6)
        for node_type in (edge_type[0], edge_type[2])
    ]
    return {(names[0][a], names[1][b]) for a, b in data[edge_type].edge_index.t().tolist()}


@pytest.mark.parametrize('method', ['degree', 'rcm'])
def test_the_graph_is_the_same_under_other_numbers(method):
    data = ItemKNNGraph(k=3)(demo_graph())
    plain, other = data.clone(), ReorderNodes(method)(data.clone())
    order = torch.tensor(raw_ids(other, 'item'))
    assert not torch.equal(order, torch.arange(400)) and torch.equal(
        order.sort().values, torch.arange(400)
    )
    for edge_type in plain.edge_types:
        assert named_edges(plain, edge_type) == named_edges(other, edge_type), edge_type
    assert torch.equal(plain['item'].cluster[order], other['item'].cluster)
    for split in ('train', 'val', 'test'):
        a, b = split_edges(plain, split), split_edges(other, split)
        users = torch.tensor(raw_ids(other, 'user'))
        assert {tuple(e) for e in a.t().tolist()} == {
            (int(users[u]), int(order[i])) for u, i in b.t().tolist()
        }


def test_degrees_fall_and_models_agree():
    data = demo_graph()
    other = ReorderNodes('degree')(data.clone())
    degree = torch.bincount(split_edges(other, 'train')[1], minlength=400)
    assert bool((degree.diff() <= 0).all())
    users, items = torch.tensor(raw_ids(other, 'user')), torch.tensor(raw_ids(other, 'item'))
    scores = EASE(data).score(torch.arange(600))
    assert torch.allclose(scores[users][:, items], EASE(other).score(torch.arange(600)), atol=1e-4)


def test_cuthill_mckee_narrows_the_band():
    """A path user 0 - item - user 1 - item ... whose numbers were shuffled."""
    generator = torch.Generator().manual_seed(0)
    data = demo_graph(num_users=60, num_items=48)
    users, items = torch.randperm(60, generator=generator), torch.randperm(48, generator=generator)
    step = torch.arange(47)
    edges = torch.cat(
        [torch.stack([users[step], items[step]]), torch.stack([users[step + 1], items[step]])],
        dim=1,
    )
    store = data['user', 'interacts', 'item']
    for key in list(store.keys()):
        del store[key]
    store.edge_index, mask = edges, torch.ones(94, dtype=torch.bool)
    store.train_mask, store.val_mask, store.test_mask = mask, ~mask, ~mask
    user, item = split_edges(ReorderNodes('rcm')(data), 'train')
    user = user - user.min()
    item = item - item.min()
    assert int((user - item).abs().max()) <= 2


def test_own_raw_ids_stay():
    data = demo_graph()
    data['item'].raw_id = [f'i{i}' for i in range(400)]
    other = ReorderNodes()(data)
    assert (
        sorted(other['item'].raw_id) == sorted(f'i{i}' for i in range(400))
        and other['item'].raw_id[0] != 'i0'
    )


def test_unknown_method():
    with pytest.raises(ConfigError, match="method: got 'bfs', accepted are 'degree', 'rcm'"):
        ReorderNodes('bfs')
