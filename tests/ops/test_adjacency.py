import pytest
import scipy.sparse as sp
import torch

from genrec_pyg.exceptions import DataError
from genrec_pyg.ops import Adjacency, normalized_layer_mean, spmm


def random_matrix(rows=6, cols=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, cols, generator=generator)
    dense[dense < 0.6] = 0
    dense[2] = 0
    return dense


def to_dense(adj):
    (row, col), value = adj.to_edge_index()
    return torch.zeros(adj.size, dtype=value.dtype).index_put((row, col), value)


def from_dense(dense, **kwargs):
    edge_index = dense.nonzero().t()
    return Adjacency.from_edge_index(
        edge_index, dense[edge_index[0], edge_index[1]], tuple(dense.shape), **kwargs
    )


def test_round_trips():
    dense = random_matrix()
    assert torch.equal(to_dense(from_dense(dense)), dense)
    assert torch.equal(to_dense(Adjacency.from_scipy(sp.coo_matrix(dense.numpy()))), dense)
    assert torch.equal(to_dense(Adjacency.from_sparse_tensor(dense.to_sparse_csr())), dense)
    assert torch.equal(to_dense(Adjacency.from_sparse_tensor(dense.to_sparse())), dense)


def test_torch_sparse_tensor_is_accepted():
    torch_sparse = pytest.importorskip('torch_sparse')
    dense = random_matrix()
    assert torch.equal(
        to_dense(Adjacency.from_sparse_tensor(torch_sparse.SparseTensor.from_dense(dense))), dense
    )


def test_transpose_is_cached_and_its_transpose_is_the_original():
    adj = from_dense(random_matrix())
    assert torch.equal(to_dense(adj.t()), random_matrix().t())
    assert adj.t() is adj.t() and adj.t().t() is adj


def test_symmetric_matrix_is_its_own_transpose():
    dense = random_matrix(5, 5)
    adj = from_dense(dense + dense.t(), symmetric=True)
    assert adj.t() is adj


def test_repeated_entries_are_summed_or_kept_once_without_weights():
    edge_index = torch.tensor([[1, 0, 1], [2, 1, 2]])
    summed = Adjacency.from_edge_index(edge_index, torch.tensor([1.0, 2.0, 4.0]), (2, 3))
    once = Adjacency.from_edge_index(edge_index, None, (2, 3))
    assert to_dense(summed).tolist() == [[0, 2, 0], [0, 0, 5]] and to_dense(once).tolist() == [
        [0, 1, 0],
        [0, 0, 1],
    ]


def test_indices_are_small_where_they_fit():
    adj = from_dense(random_matrix())
    assert adj.rowptr.dtype == adj.col.dtype == torch.int32


@pytest.mark.parametrize('size', [(3, 4), (0, 4), (3, 0)])
def test_empty_matrix(size):
    adj = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), None, size)
    assert adj.nnz == 0 and adj.t().size == (size[1], size[0])
    assert (adj @ torch.ones(size[1], 2)).shape == (size[0], 2)


def test_select_rows_in_any_order():
    dense = random_matrix()
    rowptr, col = from_dense(dense).select_rows(torch.tensor([4, 2, 4, 0]))
    for position, row in enumerate([4, 2, 4, 0]):
        assert (
            col[rowptr[position] : rowptr[position + 1]].tolist()
            == dense[row].nonzero().view(-1).tolist()
        )


def test_degrees_sum_precision_and_repr():
    dense = random_matrix()
    adj = from_dense(dense)
    assert adj.row_degree().tolist() == (dense > 0).sum(dim=1).tolist()
    assert torch.equal(to_dense(adj + adj), 2 * dense)
    assert adj.to(torch.float64).value.dtype == torch.float64 and adj.to(torch.float32) is adj
    assert repr(adj) == f'Adjacency(size=(6, 9), nnz={adj.nnz}, symmetric=False, device=cpu)'


@pytest.mark.parametrize(
    'edge_index,size',
    [([[0, -1], [0, 1]], (2, 2)), ([[0, 1], [0, 2]], (2, 2)), ([[2], [0]], (2, 2))],
)
def test_ids_outside_the_shape_are_named(edge_index, size):
    with pytest.raises(DataError, match='accepted are 0 to 1'):
        Adjacency.from_edge_index(torch.tensor(edge_index), None, size)


def test_lengths_that_do_not_fit_are_named():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(DataError, match='one per edge'):
        Adjacency.from_edge_index(edge_index, torch.ones(3), (2, 2))
    with pytest.raises(DataError, match='one value per entry'):
        Adjacency.from_edge_index(edge_index, None, (2, 2)).with_value(torch.ones(3))
    with pytest.raises(DataError, match='row offsets'):
        Adjacency(torch.tensor([0, 2]), torch.tensor([0, 1]), None, (2, 2))
    with pytest.raises(DataError, match='row offsets'):
        Adjacency(torch.tensor([0, 1]), torch.tensor([0]), None, (1, 2), symmetric=True)
    with pytest.raises(DataError, match='equal sizes'):
        Adjacency.from_edge_index(edge_index, None, (2, 2)) + Adjacency.from_edge_index(
            edge_index, None, (2, 3)
        )
    with pytest.raises(DataError, match='matrix of scalars'):
        Adjacency.from_sparse_tensor(torch.rand(2, 2, 2).to_sparse())


def test_columns_in_any_order_are_sorted():
    csr = torch.sparse_csr_tensor(
        torch.tensor([0, 2, 3]), torch.tensor([2, 0, 1]), torch.tensor([5.0, 7.0, 9.0]), (2, 3)
    )
    adj = Adjacency.from_sparse_tensor(csr)
    assert adj.col.tolist() == [0, 2, 1] and adj.value.tolist() == [7.0, 5.0, 9.0]


def test_other_entries_share_the_cached_transpose():
    adj = from_dense(random_matrix())
    first, second = adj.with_value(adj.value * 2).t(), adj.with_value(None).t()
    assert first.rowptr is second.rowptr is adj.t().rowptr and first.col is second.col
    assert torch.equal(to_dense(first), 2 * random_matrix().t()) and second.value is None


def test_entries_that_require_gradient_keep_no_graph_in_the_cache():
    value = from_dense(random_matrix()).value.clone().requires_grad_()
    adj = from_dense(random_matrix()).with_value(value)
    for _ in range(2):
        adj.t().value.sum().backward()
    assert torch.equal(value.grad, torch.full_like(value, 2.0))


def test_no_transpose_is_built_for_a_symmetric_matrix_or_without_gradient(monkeypatch):
    dense = random_matrix(5, 5)
    symmetric, plain = from_dense(dense + dense.t(), symmetric=True), from_dense(random_matrix())
    monkeypatch.setattr(
        torch, 'argsort', lambda *args, **kwargs: pytest.fail('a transpose was built')
    )
    spmm(symmetric, torch.rand(5, 2, requires_grad=True)).sum().backward()
    spmm(plain, torch.rand(9, 2))
    with torch.no_grad():
        spmm(plain, torch.rand(9, 2, requires_grad=True))


def test_the_transpose_follows_entries_that_are_trained():
    value = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    adj = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), value, (2, 2))
    x = torch.rand(2, 3)
    with torch.no_grad():
        normalized_layer_mean(adj, x, 1)  # asks for the transpose while nothing is recorded
        value.mul_(10)
    spmm(adj, x.requires_grad_()).sum().backward()
    assert x.grad[:, 0].tolist() == [20, 10]
