import subprocess
import sys

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, layer_mean, spmm


def make(rows, cols, symmetric=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(rows, cols, generator=generator, dtype=torch.float64)
    dense[dense < 0.5] = 0
    if symmetric:
        dense = dense + dense.t()
    edge_index = dense.nonzero().t()
    return dense, Adjacency.from_edge_index(edge_index, dense[edge_index[0], edge_index[1]], (rows, cols), symmetric)


def backends():
    names = ['auto', 'csr', 'scatter']
    try:
        import torch_sparse  # noqa: F401
        return [*names, 'torch_sparse']
    except ImportError:
        return names


@pytest.mark.parametrize('backend', backends())
@pytest.mark.parametrize('rows,cols,symmetric', [(5, 7, False), (6, 6, True), (7, 2, False)])
def test_product_and_gradients_equal_the_dense_formula(backend, rows, cols, symmetric):
    dense, adj = make(rows, cols, symmetric)
    x = torch.randn(cols, 3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(spmm(adj, x, backend), dense @ x)
    assert torch.autograd.gradcheck(lambda z: spmm(adj, z, backend), x)


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
    expected = sum(torch.linalg.matrix_power(dense, layer) @ x for layer in range(num_layers + 1)) / (num_layers + 1)
    assert torch.allclose(layer_mean(adj, x, num_layers, backend), expected)
    assert torch.autograd.gradcheck(lambda z: layer_mean(adj, z, num_layers, backend), x)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision(dtype):
    dense, adj = make(6, 6)
    x = torch.randn(6, 3).to(dtype)
    assert spmm(adj, x).dtype == dtype and layer_mean(adj, x, 2).dtype == dtype
    assert torch.allclose(spmm(adj, x).double(), dense @ x.double(), rtol=2e-2, atol=2e-2)


def arguments(adj, x, backend='csr'):
    t = adj.t()
    return adj.rowptr, adj.col, adj.value, t.rowptr, t.col, t.value, *adj.size, x, backend


def test_operators_are_registered_properly():
    _, adj = make(5, 7)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.genrec_pyg.spmm.default, arguments(adj, x))
    _, square = make(5, 5)
    t, y = square.t(), torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.genrec_pyg.layer_mean.default, (square.rowptr, square.col, square.value, t.rowptr, t.col,
                                                                    t.value, y, 2, 'csr'))


def test_compiled_function_gives_the_same_numbers():
    dense, adj = make(5, 7)
    x = torch.randn(7, 3, dtype=torch.float64)
    compiled = torch.compile(lambda z: spmm(adj, z) * 2, backend='aot_eager')
    assert torch.allclose(compiled(x), 2 * dense @ x)


@pytest.mark.parametrize('call', [lambda adj: spmm(adj, torch.ones(6, 2)), lambda adj: spmm(adj, torch.ones(7)),
                                  lambda adj: layer_mean(adj, torch.ones(7, 2), 1)])
def test_shapes_that_do_not_fit_are_named(call):
    with pytest.raises(ConfigError, match='accepted'):
        call(make(5, 7)[1])


def test_unknown_back_end_and_negative_layers():
    _, adj = make(5, 5)
    with pytest.raises(ConfigError, match="backend: got 'cusparse'"):
        spmm(adj, torch.ones(5, 1, dtype=torch.float64), backend='cusparse')
    with pytest.raises(ConfigError, match='num_layers: got -1'):
        layer_mean(adj, torch.ones(5, 1, dtype=torch.float64), -1)


def test_without_torch_sparse_the_library_runs_and_the_back_end_says_what_is_missing():
    script = '''
import sys
sys.modules['torch_sparse'] = sys.modules['torch_scatter'] = None
import torch
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.ops import Adjacency, bipartite_adjacency, spmm
adj = bipartite_adjacency(torch.tensor([[0, 1], [0, 1]]), 2, 2, self_loops=True)
x = torch.ones(4, 2)
assert LightConv(2)(x, adj).shape == (4, 2)
try:
    spmm(adj, x, backend='torch_sparse')
except ConfigError as error:
    assert 'torch-sparse, which is not installed' in str(error)
else:
    raise SystemExit('no error')
'''
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

