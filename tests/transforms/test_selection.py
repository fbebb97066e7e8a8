import logging
from collections import deque

import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToSparseTensor

from genrec_pyg.graph import INTERACTS, check_graph, split_edges, training_graph
from genrec_pyg.graph.containers import as_dense, num_rows, read_edge_index
from genrec_pyg.transforms import (
    AddNoiseInteractions,
    CleanFeatures,
    DropModality,
    ItemKNNGraph,
    KCore,
    LeaveOneOut,
    MapTypes,
    RandomSplit,
    ReorderNodes,
    TemporalSplit,
    UserSplit,
)
from genrec_pyg.transforms.selection import select_nodes

#: Puts numbers ``[n]`` into each kind of container; names that a rule could trip over are among the
#: keys.
CONTAINERS = {
    'tensor': lambda n: n.clone(),
    'mask': lambda n: n % 2 == 0,
    'matrix': lambda n: torch.stack([n, n + 0.5], dim=1),
    'index': lambda n: torch.stack([n, n, n], dim=1),
    'half': lambda n: n.to(torch.float16),
    'array': lambda n: n.numpy().copy(),
    'words': lambda n: np.array([f'number {i}' for i in n.tolist()], dtype=object),
    'list': lambda n: n.tolist(),
    'tuple': lambda n: tuple(str(i) for i in n.tolist()),
    'deque': lambda n: deque(n.tolist()),
    'coo': lambda n: torch.stack([n + 1, 0 * n], dim=1).to_sparse(),
    'csr': lambda n: torch.stack([n + 1, 0 * n], dim=1).to_sparse_csr(),
    'csc': lambda n: torch.stack([n + 1, 0 * n], dim=1).to_sparse_csc(),
    'nested': lambda n: {'deep': {'list': n.tolist()}, 'tensor': n.clone()},
    'by_number': lambda n: dict(enumerate(n.tolist())),
}
#: How the edges of a type may lie.
FORMS = {
    'tensor': lambda e, size: dict(edge_index=e),
    'int32 EdgeIndex': lambda e, size: dict(edge_index=EdgeIndex(e.int())),
    'sorted EdgeIndex': lambda e, size: dict(
        edge_index=EdgeIndex(e, sparse_size=size, sort_order='row')
    ),
    'array': lambda e, size: dict(edge_index=e.numpy()),
    'pair': lambda e, size: dict(edge_index=(e[0], e[1])),
    'coo adj_t': lambda e, size: dict(adj_t=matrix(e.flip(0), size[::-1])),
    'csr adj_t': lambda e, size: dict(adj_t=matrix(e.flip(0), size[::-1]).to_sparse_csr()),
    'csc adj_t': lambda e, size: dict(adj_t=matrix(e.flip(0), size[::-1]).to_sparse_csc()),
    'csr adj': lambda e, size: dict(adj=matrix(e, size).to_sparse_csr()),
    'SparseTensor adj_t': lambda e, size: dict(adj_t=sparse_tensor(e.flip(0), size[::-1])),
}
SIZES = {'user': 9, 'item': 8, 'image': 10, 'shop': 4}
TYPES = {
    INTERACTS: 24,
    ('item', 'has', 'image'): 9,
    ('user', 'follows', 'user'): 12,
    ('item', 'near', 'item'): 14,
    ('shop', 'sells', 'item'): 7,
    ('item', 'rev_sells', 'shop'): 7,
}


def matrix(edge_index, size):
    return torch.sparse_coo_tensor(edge_index, torch.ones(edge_index.size(1)), size).coalesce()


def sparse_tensor(edge_index, size):
    torch_sparse = pytest.importorskip(
        'torch_sparse', reason='TORCH-SPARSE IS ABSENT: its tensors are not tested'
    )
    return torch_sparse.SparseTensor(row=edge_index[0], col=edge_index[1], sparse_sizes=size)


def full_graph(form='tensor', containers=CONTAINERS):
    """Every node and edge carries its number in every container; edges name their ends in
    ``ends``.
    """
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    for node_type, size in SIZES.items():
        data[node_type].num_nodes = size
        for key, make in containers.items():
            data[node_type][key] = make(torch.arange(size))
    data['image'].x = torch.arange(10.0).view(10, 1)
    for edge_type, count in TYPES.items():
        src, dst = SIZES[edge_type[0]], SIZES[edge_type[2]]
        pairs = torch.randperm(src * dst, generator=generator)[:count].sort().values
        edges = torch.stack([pairs // dst, pairs % dst])
        for key, value in FORMS[form](edges, (src, dst)).items():
            data[edge_type][key] = value
        stored = read_edge_index(data[edge_type])  # a matrix has an order of its own
        data[edge_type].ends = stored.t().contiguous()
        for key, make in containers.items():
            data[edge_type][key] = make(torch.arange(count))
        links = torch.stack([torch.arange(5) % src, torch.arange(5) % dst])
        data[edge_type].edge_label_index, data[edge_type].edge_label = links, links.t().contiguous()
        data[edge_type].neg_edge_label_index = links.flip(1)
        data[edge_type].neg_edge_label = links.flip(1).t().tolist()
    store = data[INTERACTS]
    split = torch.arange(24) % 3
    store.train_mask, store.val_mask, store.test_mask = (split == s for s in range(3))
    store.time = torch.arange(24)
    return data


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            equal(first[key], second[key]) for key in first
        )
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return (
            first.layout == second.layout
            and first.dtype == second.dtype
            and torch.equal(as_dense(first), as_dense(second))
        )
    return bool(np.array_equal(first, second)) if isinstance(first, np.ndarray) else first == second


def check_selection(out, before, containers=CONTAINERS):
    """Compares a renumbered graph with what its own tensors of old numbers say."""
    old = {node_type: out[node_type].tensor for node_type in SIZES}
    for node_type, numbers in old.items():
        assert out[node_type].num_nodes == numbers.numel()
        for key, make in containers.items():
            if key == 'by_number':
                assert out[node_type][key] == dict(enumerate(numbers.tolist()))
            else:
                assert equal(out[node_type][key], make(numbers)), (node_type, key)
    for edge_type in TYPES:
        store, reference = out[edge_type], before[edge_type]
        edge_index = read_edge_index(store)
        ends = torch.stack(
            [old[edge_type[0]][edge_index[0]], old[edge_type[2]][edge_index[1]]], dim=1
        )
        assert torch.equal(ends, store.ends), edge_type
        kept = [torch.isin(reference.ends[:, side], old[edge_type[2 * side]]) for side in range(2)]
        assert ends.size(0) == int((kept[0] & kept[1]).sum())
        assert torch.equal(reference.ends[store.tensor], store.ends)
        for key, make in containers.items():
            if key == 'by_number':
                assert store[key] == dict(enumerate(store.tensor.tolist()))
            else:
                assert equal(store[key], make(store.tensor)), (edge_type, key)
        for key in ('edge_index', 'adj_t', 'adj'):
            assert (key in store) == (key in reference)
            if key in store and key != 'edge_index':
                size = [out[edge_type[0]].num_nodes, out[edge_type[2]].num_nodes]
                assert list(as_dense(store[key]).shape) == (size[::-1] if key == 'adj_t' else size)
        for prefix in ('', 'neg_'):
            links = store[f'{prefix}edge_label_index']
            label = torch.as_tensor(store[f'{prefix}edge_label']).view(-1, 2)
            assert torch.equal(
                torch.stack([old[edge_type[0]][links[0]], old[edge_type[2]][links[1]]], dim=1),
                label,
            )


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    'transform', [KCore(2), ReorderNodes('degree'), ReorderNodes('rcm')], ids=repr
)
def test_renumbering_carries_everything(transform, form):
    data, before = full_graph(form), full_graph(form)
    out = transform(data)
    if isinstance(transform, KCore):
        assert 0 < out['user'].num_nodes < 9 and out['image'].num_nodes < 10
    check_selection(out, before)
    check_graph(out)
    for store in before.stores:  # the input is as it was
        for key, value in store.items():
            if num_rows(value) is not None and not isinstance(value, tuple):
                assert equal(data[store._key][key], value), (store._key, key)
    for node_type in ('user', 'item'):
        assert out[node_type].raw_id == out[node_type].list


def test_selection_in_any_order():
    data, before = full_graph('csr adj_t'), full_graph('csr adj_t')
    check_selection(
        select_nodes(
            data,
            {
                'user': torch.tensor([7, 0, 3]),
                'image': torch.tensor([9, 1]),
                'shop': torch.tensor([], dtype=torch.long),
            },
        ),
        before,
    )


def test_data_frames_move_along():
    pandas = pytest.importorskip('pandas')
    data = full_graph()
    data['user'].frame = pandas.DataFrame({'old': range(9)}, index=list('abcdefghi'))
    data['user'].series = pandas.Series(range(9))
    out = select_nodes(data, {'user': torch.tensor([4, 2])})
    assert out['user'].frame.index.tolist() == ['e', 'c'] and out['user'].series.tolist() == [4, 2]


def test_what_cannot_be_renumbered_is_named(caplog):
    data = full_graph()
    data['user'].friends = {f'name {i}' for i in range(9)}
    data['user'].title = 'nine text'
    with caplog.at_level(logging.WARNING):
        select_nodes(data, {'user': torch.arange(3)})
    assert [record.getMessage() for record in caplog.records] == [
        "data['user'].friends has as many entries as there are rows but is a set, which "
        'cannot be renumbered'
    ]


def test_an_adjacency_of_nodes_is_renumbered_at_both_ends():
    data = full_graph()
    edges = torch.tensor([[0, 1, 5, 7], [5, 7, 7, 0]])
    data['item'].adj = matrix(edges, (8, 8))
    data[INTERACTS].scores = matrix(torch.tensor([[0, 8, 8], [7, 7, 0]]), (9, 8))
    out = select_nodes(data, {'item': torch.tensor([7, 5, 0])})
    assert out['item'].adj.to_dense().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert out[INTERACTS].scores.to_dense()[:, [0, 2]].nonzero().tolist() == [
        [0, 0],
        [8, 0],
        [8, 1],
    ]


def test_matrices_with_values_keep_them():
    data = HeteroData()
    data['item'].num_nodes = 4
    dense = torch.tensor([[0, 1, 0, 2.0], [0, 0, 3, 0], [4, 0, 0, 0], [0, 5, 6, 0]])
    order = torch.tensor([3, 0, 1])
    for value in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc()):
        data['item', 'near', 'item'].adj_t = value
        out = select_nodes(data, {'item': order})['item', 'near', 'item'].adj_t
        assert out.layout == value.layout and torch.equal(out.to_dense(), dense[order][:, order])


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    'transform',
    [
        RandomSplit(0.2, 0.2),
        TemporalSplit(0.2, 0.2),
        LeaveOneOut(),
        UserSplit(),
        DropModality(0.5),
        AddNoiseInteractions(0.5),
        MapTypes(),
        ItemKNNGraph(2),
        CleanFeatures(),
        KCore(1),
        ReorderNodes(),
    ],
    ids=repr,
)
def test_transforms_and_models_take_edges_in_any_container(transform, form):
    plain, data = full_graph(containers={}), full_graph(form, containers={})
    if 'adj' in form:  # the order of its entries is that of the rows of a matrix
        for edge_type in TYPES:
            order = [
                int(torch.nonzero((plain[edge_type].ends == end).all(dim=1)))
                for end in data[edge_type].ends
            ]
            plain[edge_type].edge_index = plain[edge_type].edge_index[:, order]
            plain[edge_type].ends = plain[edge_type].ends[order]
    expected, got = transform(plain), transform(data)
    check_graph(got)
    assert training_graph(got).fingerprint() == training_graph(expected).fingerprint()
    for split in ('val', 'test'):
        assert torch.equal(split_edges(got, split), split_edges(expected, split))
    if not isinstance(transform, ReorderNodes):  # which sorts a matrix again
        assert torch.equal(read_edge_index(got[INTERACTS]), read_edge_index(expected[INTERACTS]))
        assert torch.equal(got[INTERACTS].train_mask, expected[INTERACTS].train_mask)


@pytest.mark.parametrize('layout', [None, torch.sparse_coo, torch.sparse_csr])
def test_sparse_tensors_of_pyg_give_the_training_graph(layout, demo_data):
    expected = training_graph(demo_data)
    out = ToSparseTensor(layout=layout)(demo_data)
    assert 'edge_index' not in out[INTERACTS]
    assert training_graph(out).fingerprint() == expected.fingerprint()
    assert torch.equal(split_edges(out, 'test'), split_edges(demo_data, 'test'))
    mapped = HeteroData()
    mapped['customer'].num_nodes = demo_data['user'].num_nodes
    mapped['product'].num_nodes = demo_data['item'].num_nodes
    for key, value in out[INTERACTS].items():
        mapped['customer', 'buys', 'product'][key] = value
    mapped = MapTypes(user='customer', item='product')(mapped)
    assert torch.equal(training_graph(mapped).edge_index, expected.edge_index)


@pytest.mark.parametrize(
    'value',
    [
        lambda x: x.numpy(),
        lambda x: x.to_sparse(),
        lambda x: x.to_sparse_csr(),
        lambda x: list(x),
        lambda x: x.tolist(),
        lambda x: x.double(),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.numpy().astype('>f4'),
    ],
)
def test_features_in_any_container(value, tiny_graph):
    expected = training_graph(tiny_graph)
    tiny_graph['image'].x = value(tiny_graph['image'].x)
    graph = training_graph(tiny_graph)
    assert (
        graph.fingerprint() == expected.fingerprint()
        and not graph.modalities['image'].x.requires_grad
    )
    assert torch.equal(
        graph.modalities['image'].item_features(), expected.modalities['image'].item_features()
    )
    cleaned = training_graph(CleanFeatures(nan='zero')(tiny_graph))
    assert cleaned.fingerprint() == expected.fingerprint()


def test_masks_as_arrays_and_lists(tiny_graph):
    expected = training_graph(tiny_graph)
    store = tiny_graph[INTERACTS]
    store.train_mask, store.val_mask = store.train_mask.numpy(), store.val_mask.tolist()
    assert training_graph(tiny_graph).fingerprint() == expected.fingerprint()
    assert split_edges(tiny_graph, 'val').tolist() == [[0, 1], [3, 2]]


def test_links_that_lose_their_item_lose_their_attributes(tiny_graph):
    tiny_graph['item', 'has', 'image'].order = torch.arange(7)
    tiny_graph['item', 'has', 'image'].name = [f'image {i}' for i in range(7)]
    store = DropModality(0.5, 'image')(tiny_graph)['item', 'has', 'image']
    assert store.edge_index.size(1) == 3 and torch.equal(store.edge_index[0], store.order)
    assert store.name == [f'image {i}' for i in store.order.tolist()]


@pytest.mark.parametrize('container', ['array', 'words', 'tuple', 'deque', 'nested', 'coo', 'csr'])
def test_added_interactions_have_every_attribute(container, tiny_graph):
    make = CONTAINERS[container]
    tiny_graph[INTERACTS].tensor = torch.arange(15)
    tiny_graph[INTERACTS].held = make(torch.arange(15))
    store = AddNoiseInteractions(0.5)(tiny_graph)[INTERACTS]
    assert store.edge_index.size(1) == 20 and equal(store.held, make(store.tensor))
    assert bool((store.tensor[15:] < 10).all())  # those of training edges


def test_nodes_without_an_edge_are_seen_by_what_is_said_about_them():
    data = HeteroData()
    data['user'].age, data['movie'].title = torch.arange(6), [f'title {i}' for i in range(5)]
    data['user', 'rates', 'movie'].edge_index = torch.tensor([[0, 1], [2, 1]])
    out = MapTypes(item='movie')(data)
    assert (out['user'].num_nodes, out['item'].num_nodes) == (6, 5)


def test_edges_that_are_no_integers_are_refused():
    data = HeteroData()
    data['user'].num_nodes = data['item'].num_nodes = 3
    data[INTERACTS].edge_index = torch.tensor([[0.0, 1.5], [1.0, 2.0]])
    for use in (MapTypes(), training_graph):
        with pytest.raises(ValueError, match='float32'):
            use(data)
