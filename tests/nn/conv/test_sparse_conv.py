import pytest
import torch
from helpers.bipartite import EDGES, NUM_ITEMS, NUM_USERS, spelled_out
from torch_geometric.nn import LGConv
from torch_geometric.utils import to_torch_csr_tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv import SparseConv
from genrec_pyg.ops import Adjacency, bipartite_adjacency


def test_sparse_tensors_are_accepted(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    edge_index, value = spelled_out(adjacency)
    csr = to_torch_csr_tensor(edge_index.flip(0), value, size=adjacency.size)
    assert torch.allclose(SparseConv()(x, csr), SparseConv()(x, adjacency))


def test_torch_sparse_tensor_is_accepted(adjacency):
    torch_sparse = pytest.importorskip('torch_sparse')
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    edge_index, value = spelled_out(adjacency)
    matrix = torch_sparse.SparseTensor(
        row=edge_index[1], col=edge_index[0], value=value, sparse_sizes=adjacency.size
    )
    assert torch.allclose(SparseConv()(x, matrix), SparseConv()(x, adjacency))


def test_agrees_with_pyg_light_convolution():
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3)
    edges = EDGES + torch.tensor([[0], [NUM_USERS]])
    edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    plain = bipartite_adjacency(EDGES, NUM_USERS, NUM_ITEMS, self_loops=False)
    assert torch.allclose(SparseConv()(x, plain), LGConv()(x, edge_index), atol=1e-6)


def test_hooks_on_the_fused_path(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv = SparseConv()
    expected = conv(x, adjacency)
    conv.register_message_and_aggregate_forward_hook(lambda module, inputs, out: 2 * out)
    assert torch.allclose(conv(x, adjacency), 2 * expected)


def test_explainer_masks_edges_of_an_adjacency(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv = SparseConv()
    expected = conv(x, adjacency)
    conv.explain = True
    conv._edge_mask = torch.nn.Parameter(torch.full((adjacency.nnz,), 30.0, dtype=torch.float64))
    conv._apply_sigmoid, conv._loop_mask = True, torch.ones(adjacency.nnz, dtype=torch.bool)
    out = conv(x, adjacency)
    assert torch.allclose(out, expected, atol=1e-8)
    out.sum().backward()
    assert conv._edge_mask.grad.abs().sum() > 0


def test_adjacency_rows_are_targets():
    one_way = Adjacency.from_edge_index(torch.tensor([[0], [1]]), torch.tensor([2.0]), (2, 2))
    assert SparseConv()(torch.tensor([[1.0], [10.0]]), one_way).tolist() == [[20.0], [0.0]]


def test_weights_beside_a_sparse_tensor_are_refused(adjacency):
    edge_index, value = spelled_out(adjacency)
    csr = to_torch_csr_tensor(edge_index.flip(0), value, size=adjacency.size)
    with pytest.raises(ConfigError, match='edge_weight: got shape'):
        SparseConv()(torch.randn(NUM_USERS + NUM_ITEMS, 3), csr, value)


@pytest.mark.parametrize(
    'register',
    [
        'propagate_forward_pre',
        'propagate_forward',
        'message_forward_pre',
        'message_forward',
        'aggregate_forward_pre',
        'aggregate_forward',
        'message_and_aggregate_forward_pre',
        'message_and_aggregate_forward',
    ],
)
def test_every_hook_runs_and_changes_nothing_by_itself(adjacency, register):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv, calls = SparseConv(), []
    expected = conv(x, adjacency)
    handle = getattr(conv, f'register_{register}_hook')(lambda *args: calls.append(args))
    assert torch.allclose(conv(x, adjacency), expected) and len(calls) == 1
    handle.remove()
    assert torch.equal(conv(x, adjacency), expected) and len(calls) == 1


def test_hook_before_the_fused_path_may_change_its_input(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv = SparseConv()
    expected = conv(2 * x, adjacency)
    conv.register_message_and_aggregate_forward_pre_hook(
        lambda module, inputs: (
            inputs[0],
            {'x': tuple(part if part is None else 2 * part for part in inputs[1]['x'])},
        )
    )
    assert torch.allclose(conv(x, adjacency), expected)


@pytest.mark.parametrize('layout', ['coo', 'csr', 'csc'])
def test_gradient_through_sparse_tensors_of_any_layout(adjacency, layout):
    (row, col), value = adjacency.to_edge_index()
    matrix = torch.sparse_coo_tensor(torch.stack([row, col]), value, adjacency.size)
    matrix = {'coo': matrix.coalesce, 'csr': matrix.to_sparse_csr, 'csc': matrix.to_sparse_csc}[
        layout
    ]()
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(SparseConv()(x, graph), x, upstream)[0] for graph in (matrix, adjacency)
    )
    assert torch.allclose(found, expected)


def test_back_end_is_chosen_by_argument(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    assert torch.allclose(SparseConv(backend='scatter')(x, adjacency), SparseConv()(x, adjacency))
    with pytest.raises(ConfigError, match="backend: got 'unknown'"):
        SparseConv(backend='unknown')(x, adjacency)
