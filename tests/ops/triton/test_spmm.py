import pytest
import torch
from helpers.kernel_inputs import CLOSE, DEVICE, plain, skewed

from genrec_pyg.ops import Adjacency, layer_mean, normalized_layer_mean, spmm
from genrec_pyg.ops.backends import triton_kernels


@pytest.mark.parametrize('channels', [1, 3, 64, 192])
def test_product_and_gradient(strategy, channels):
    dense, adj = skewed(12, 21)
    x, weight = torch.randn(21, channels), torch.randn(12, channels)
    leaf = x.to(DEVICE).requires_grad_()
    out = spmm(adj, leaf)
    gradient = torch.autograd.grad(out, leaf, weight.to(DEVICE))[0]
    torch.testing.assert_close(plain(out), dense @ x.double(), **CLOSE)
    torch.testing.assert_close(plain(gradient), dense.t() @ weight.double(), **CLOSE)
    torch.testing.assert_close(out, spmm(adj, leaf, backend='csr'), **CLOSE)
    assert torch.equal(out, spmm(adj, leaf))


def test_sum_and_factor_without_values(strategy):
    dense, adj = skewed(9, 14, dtype=torch.float64)
    x, add = torch.randn(14, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    pattern = (dense > 0).double()
    layout = adj.rowptr, adj.col, None, adj.size
    for value, matrix in ((None, pattern), (adj.value, dense)):
        out = triton_kernels().spmm(
            *layout[:2], value, adj.size, x.to(DEVICE), add.to(DEVICE), 1 / 3
        )
        # float64: the factor must not pass through float32
        torch.testing.assert_close(plain(out), (matrix @ x + add) / 3)


def test_row_over_many_shares(strategy):
    edge_index = torch.stack([torch.full((150,), 2), torch.arange(150)])
    adj = Adjacency.from_edge_index(edge_index, torch.rand(150), (4, 150)).to(DEVICE)
    x = torch.randn(150, 2, device=DEVICE)
    out = spmm(adj, x)
    torch.testing.assert_close(plain(out[2]), plain(adj.value) @ plain(x), **CLOSE)
    assert not out[[0, 1, 3]].any()


def test_skew_decides_the_strategy(monkeypatch):
    module = triton_kernels().spmm.__globals__
    monkeypatch.setitem(module, '_SKEWED', {})
    _, adj = skewed(12, 21)
    assert not module['_is_skewed'](adj.rowptr)
    both = torch.tensor([0, 600, 601, 602], device=DEVICE)
    assert (
        module['_is_skewed'](both)
        and not module['_is_skewed'](both[1:])
        and len(module['_SKEWED']) == 3
    )
    del both
    assert module['_is_skewed'](torch.tensor([0, 1000], device=DEVICE))
    assert len(module['_SKEWED']) == 2  # what is gone is forgotten


def test_strategy_of_a_pattern_in_the_memory_of_another(monkeypatch):
    monkeypatch.setitem(triton_kernels().spmm.__globals__, '_SKEWED', {})
    is_skewed = triton_kernels().spmm.__globals__['_is_skewed']
    for _ in range(20):  # freed at once, so that addresses return
        assert is_skewed(torch.tensor([0, 600, 601], device=DEVICE))
        assert not is_skewed(torch.tensor([0, 6, 7], device=DEVICE))


def test_modalities_side_by_side(strategy):
    dense, adj = skewed(7, 9)
    x = torch.randn(3, 9, 4, device=DEVICE, requires_grad=True)
    out = spmm(adj, x)
    torch.testing.assert_close(plain(out), dense @ plain(x), **CLOSE)
    expected = (dense.t() @ torch.ones(7, 4, dtype=torch.float64)).expand(3, 9, 4)
    torch.testing.assert_close(plain(torch.autograd.grad(out.sum(), x)[0]), expected, **CLOSE)


@pytest.mark.parametrize('size', [(3, 4), (0, 4), (3, 0), (4, 4)])
def test_matrix_without_entries(strategy, size):
    adj = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), torch.empty(0), size).to(
        DEVICE
    )
    x = torch.ones(size[1], 2, device=DEVICE, requires_grad=True)
    out = spmm(adj, x)
    out.sum().backward()
    assert torch.equal(out.cpu(), torch.zeros(size[0], 2)) and not x.grad.any()
    assert spmm(adj, x[:, :0]).shape == (size[0], 0)
    if size[0] == size[1]:
        assert torch.allclose(layer_mean(adj, x, 3), x / 4) and torch.allclose(
            normalized_layer_mean(adj, x, 3), x / 4
        )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype):
    dense, adj = skewed(6, 6)
    x = torch.randn(6, 3).to(dtype).to(DEVICE)
    torch.testing.assert_close(
        spmm(adj, x), (dense @ plain(x)).to(dtype).to(DEVICE), rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize('num_layers', [0, 1, 3])
@pytest.mark.parametrize('symmetric', [True, False])
def test_layer_mean_with_values_and_with_degrees(strategy, num_layers, symmetric):
    dense, adj = skewed(9, 9, symmetric)
    pattern = (dense > 0).double()
    row, col = (pattern.sum(dim=dim).clamp(min=1).rsqrt() for dim in (1, 0))
    for function, matrix in (
        (layer_mean, dense),
        (normalized_layer_mean, row[:, None] * pattern * col),
    ):
        x = torch.randn(9, 3, device=DEVICE, requires_grad=True)
        weight = torch.randn(9, 3, device=DEVICE)
        out = function(adj, x, num_layers)
        total = sum(torch.linalg.matrix_power(matrix, layer) for layer in range(num_layers + 1)) / (
            num_layers + 1
        )
        torch.testing.assert_close(plain(out), total @ plain(x), **CLOSE)
        torch.testing.assert_close(
            plain(torch.autograd.grad(out, x, weight)[0]), total.t() @ plain(weight), **CLOSE
        )
        torch.testing.assert_close(out, function(adj, x, num_layers, 'scatter'), **CLOSE)


def test_operators_are_registered_properly():
    _, adj = skewed(5, 5)
    t, x = adj.t(), torch.randn(5, 3, device=DEVICE, requires_grad=True)
    layouts = (adj.rowptr, adj.col, t.rowptr, t.col)
    torch.library.opcheck(
        torch.ops.genrec_pyg.normalized_layer_mean.default, (*layouts, x, 2, 'triton')
    )
    torch.library.opcheck(
        torch.ops.genrec_pyg.triton_log_sum_exp.default, (x, torch.randn(4, 3, device=DEVICE), 2.0)
    )
