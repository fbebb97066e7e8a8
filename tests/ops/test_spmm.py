import importlib.util

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, layer_mean, sampled_product, spmm


def make(rows, cols, symmetric=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, cols, generator=generator, dtype=torch.float64)
    dense[dense < 0.5] = 0
    if symmetric:
        dense = dense + dense.t()
    edge_index = dense.nonzero().t()
    return dense, Adjacency.from_edge_index(
        edge_index, dense[edge_index[0], edge_index[1]], (rows, cols), symmetric
    )


def backends():
    names = ['auto', 'csr', 'scatter']
    return [*names, 'torch_sparse'] if importlib.util.find_spec('torch_sparse') else names


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('rows,cols,symmetric', [(5, 7, False), (6, 6, True), (7, 2, False)])
def test_product_and_gradients_equal_the_dense_formula(backend, rows, cols, symmetric):
    dense, adj = make(rows, cols, symmetric)
    x = torch.randn(cols, 3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(spmm(adj, x, backend), dense @ x)
    assert torch.autograd.gradcheck(lambda z: spmm(adj, z, backend), x)


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('channels', [95, 96, 97, 200])
def test_wide_products_equal_the_dense_formula(backend, channels):
    dense, adj = make(6, 9)
    x = torch.randn(9, channels, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(6, channels, dtype=torch.float64)
    found = spmm(adj, x, backend)
    assert torch.allclose(found, dense @ x)
    assert torch.allclose(torch.autograd.grad(found, x, upstream)[0], dense.t() @ upstream)
    dense, adj = make(9, 9, symmetric=True)
    found = layer_mean(adj, x, 2, backend)
    assert torch.allclose(found, (x + dense @ x + dense @ dense @ x) / 3)
    ones = Adjacency.from_edge_index(torch.tensor([[0, 0, 2], [1, 3, 0]]), None, (3, 9))
    assert torch.allclose(
        spmm(ones, x, backend), torch.stack([x[1] + x[3], torch.zeros_like(x[0]), x[0]])
    )


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('size', [(0, 4), (4, 0), (3, 4)])
def test_wide_products_without_entries(backend, size):
    adj = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), None, size)
    assert torch.equal(spmm(adj, torch.ones(size[1], 128), backend), torch.zeros(size[0], 128))


@pytest.mark.parametrize('backend', backends())
def test_ones_without_values(backend):
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 2], [1, 3, 0]]), None, (3, 4))
    x = torch.randn(4, 2)
    assert torch.allclose(spmm(adj, x, backend), torch.stack([x[1] + x[3], torch.zeros(2), x[0]]))


def test_gradient_reaches_the_entries():
    _, adj = make(4, 5)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    value = adj.value.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, z: spmm(adj.with_value(v), z), (value, x))


def test_modalities_are_column_blocks_of_one_product():
    dense, adj = make(5, 7)
    x = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(spmm(adj, x), dense @ x)
    assert torch.autograd.gradcheck(lambda z: spmm(adj, z), x)


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('num_layers', [0, 1, 2, 4])
@pytest.mark.parametrize('symmetric', [True, False])
def test_layer_mean_equals_the_plain_sum(backend, num_layers, symmetric):
    dense, adj = make(6, 6, symmetric)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    expected = sum(
        torch.linalg.matrix_power(dense, layer) @ x for layer in range(num_layers + 1)
    ) / (num_layers + 1)
    assert torch.allclose(layer_mean(adj, x, num_layers, backend), expected)
    assert torch.autograd.gradcheck(lambda z: layer_mean(adj, z, num_layers, backend), x)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision(dtype):
    dense, adj = make(6, 6)
    x = torch.randn(6, 3).to(dtype)
    assert spmm(adj, x).dtype == dtype and layer_mean(adj, x, 2).dtype == dtype
    assert torch.allclose(spmm(adj, x).double(), dense @ x.double(), rtol=2e-2, atol=2e-2)


def arguments(adj, x, backend='csr'):
    t = adj.with_value(None if adj.value is None else adj.value.detach()).t()
    return adj.rowptr, adj.col, adj.value, t.rowptr, t.col, t.value, *adj.size, x, backend


def test_operators_are_registered_properly():
    _, adj = make(5, 7)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.genrec_pyg.spmm.default, arguments(adj, x))
    learned = adj.with_value(adj.value.clone().requires_grad_())
    torch.library.opcheck(torch.ops.genrec_pyg.spmm.default, arguments(learned, x, 'scatter'))
    _, square = make(5, 5)
    t, y = square.t(), torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(
        torch.ops.genrec_pyg.layer_mean.default,
        (square.rowptr, square.col, square.value, t.rowptr, t.col, t.value, y, 2, 'csr'),
    )


def test_compiled_function_gives_the_same_numbers():
    dense, adj = make(5, 7)
    x = torch.randn(7, 3, dtype=torch.float64)
    compiled = torch.compile(lambda z: spmm(adj, z) * 2, backend='aot_eager')
    assert torch.allclose(compiled(x), 2 * dense @ x)


def test_compiled_gradients_reach_features_and_entries():
    _, adj = make(6, 6)
    inputs = (
        torch.randn(6, 3, dtype=torch.float64, requires_grad=True),
        adj.value.clone().requires_grad_(),
    )

    def function(x, value):
        return (spmm(adj.with_value(value), x) * layer_mean(adj, x, 2)).sum()

    expected = torch.autograd.grad(function(*inputs), inputs)
    found = torch.autograd.grad(
        torch.compile(function, backend='aot_eager', fullgraph=True)(*inputs), inputs
    )
    assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    'call',
    [
        lambda adj: spmm(adj, torch.ones(6, 2)),
        lambda adj: spmm(adj, torch.ones(7)),
        lambda adj: layer_mean(adj, torch.ones(7, 2), 1),
    ],
)
def test_shapes_that_do_not_fit_are_named(call):
    with pytest.raises(ConfigError, match='accepted'):
        call(make(5, 7)[1])


def test_unknown_back_end_and_negative_layers():
    _, adj = make(5, 5)
    with pytest.raises(ConfigError, match="backend: got 'cusparse', accepted are 'auto', 'csr', "):
        spmm(adj, torch.ones(5, 1, dtype=torch.float64), backend='cusparse')
    with pytest.raises(ConfigError, match='num_layers: got -1'):
        layer_mean(adj, torch.ones(5, 1, dtype=torch.float64), -1)


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('size', [(3, 4), (0, 4), (3, 0), (4, 4)])
def test_matrix_without_entries(backend, size):
    adj = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), torch.empty(0), size)
    x = torch.full((size[1], 2), torch.nan).nan_to_num(1.0).requires_grad_()
    out = spmm(adj, x, backend)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(size[0], 2)) and torch.equal(
        x.grad, torch.zeros(size[1], 2)
    )
    if size[0] == size[1]:
        assert torch.allclose(layer_mean(adj, x, 3, backend), x / 4)


def test_second_derivatives():
    _, adj = make(4, 5)
    value = adj.value.clone().requires_grad_()
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v, z: spmm(adj.with_value(v), z), (value, x))
    _, square = make(4, 4)
    y = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda z: layer_mean(square, z, 2), y)


@pytest.mark.parametrize('symmetric', [True, False])
def test_layer_mean_passes_gradient_to_entries(symmetric):
    _, adj = make(4, 4, symmetric)
    value = adj.value.clone().requires_grad_()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    # A symmetric matrix is perturbed symmetrically, or the promise of symmetry were broken.
    order = adj.with_value(None, symmetric=False)._pattern.t()[1]

    def entries(v):
        return (v + v[order]) / 2 if symmetric else v

    assert torch.autograd.gradcheck(
        lambda v, z: layer_mean(adj.with_value(entries(v), symmetric), z, 3), (value, x)
    )
    assert torch.allclose(layer_mean(adj.with_value(value, symmetric), x, 3), layer_mean(adj, x, 3))


@pytest.mark.parametrize('backend', backends())
def test_autocast_leaves_the_kernels_alone(backend):
    dense, adj = make(6, 6)
    x = torch.randn(6, 3, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        product, mean = spmm(adj, x, backend), layer_mean(adj, x, 1, backend)
        gradient = torch.autograd.grad((product + mean).sum(), x)[0]
    assert product.dtype == mean.dtype == torch.float32
    assert torch.allclose(product.double(), dense @ x.double(), atol=1e-5)
    assert torch.allclose(mean.double(), (x.double() + dense @ x.double()) / 2, atol=1e-5)
    assert torch.allclose(
        gradient.double(), 0.5 + 1.5 * dense.sum(dim=0).unsqueeze(1).expand(6, 3), atol=1e-5
    )


def test_columns_of_any_layout_are_accepted():
    dense, adj = make(5, 7)
    x = torch.randn(3, 7, dtype=torch.float64).t()
    assert torch.allclose(spmm(adj, x), dense @ x)
    weight = torch.ones((), dtype=torch.float64).expand(5, 3)
    leaf = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(torch.autograd.grad(spmm(adj, leaf), leaf, weight)[0], dense.t() @ weight)


def test_operators_without_entries_are_registered_properly():
    adj = Adjacency.from_edge_index(torch.tensor([[0, 0, 2], [1, 2, 0]]), None, (3, 3))
    t, x = adj.t(), torch.randn(3, 2, requires_grad=True)
    layouts = (adj.rowptr, adj.col, None, t.rowptr, t.col, None)
    torch.library.opcheck(torch.ops.genrec_pyg.spmm.default, (*layouts, 3, 3, x, 'scatter'))
    torch.library.opcheck(torch.ops.genrec_pyg.layer_mean.default, (*layouts, x, 0, 'scatter'))


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_sampled_product_equals_the_dense_one(dtype):
    _, adj = make(5, 7)
    x, y = torch.randn(5, 3).to(dtype), torch.randn(7, 3).to(dtype)
    (row, col), _ = adj.to_edge_index()
    found = sampled_product(adj, x, y)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(found, (x.to(found.dtype) @ y.to(found.dtype).t())[row, col])


def test_first_and_second_derivatives_of_a_sampled_product():
    _, adj = make(5, 7)
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 7))
    assert torch.autograd.gradcheck(lambda a, b: sampled_product(adj, a, b), (x, y))
    assert torch.autograd.gradgradcheck(lambda a, b: sampled_product(adj, a, b), (x, y))


def test_sampled_product_is_registered_properly():
    _, adj = make(5, 7)
    transposed, order = adj.transposition()
    layouts = adj.rowptr, adj.col, transposed.rowptr, transposed.col
    x, y = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 7))
    for known in (order, None):
        torch.library.opcheck(torch.ops.genrec_pyg.sampled_product.default, (*layouts, known, x, y))


def test_rows_that_do_not_fit_a_sampled_product_are_named():
    _, adj = make(5, 7)
    with pytest.raises(
        ConfigError,
        match=r'sampled_product: rows of shape \(5, 2\) and \(7, 4\), accepted are \[5, d\]',
    ):
        sampled_product(adj, torch.randn(5, 2), torch.randn(7, 4))
