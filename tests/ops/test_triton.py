"""The kernels of :mod:`genrec_pyg.ops.triton`: on the GPU where there is one, else in Triton's interpreter (see conftest.py).

Single precision is compared with formulas in double precision at a relative error of 1e-5, as for the kernels of the CPU.
"""
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import GenRec
from genrec_pyg.ops import (
    DEFAULT_BACKENDS,
    Adjacency,
    flip_dense,
    info_nce,
    layer_mean,
    masked_topk,
    normalized_layer_mean,
    sample_flips,
    spmm,
    topk_excluding,
)
from genrec_pyg.ops.backends import triton_kernels

DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
CLOSE = {'rtol': 1e-5, 'atol': 1e-5}


@pytest.fixture(autouse=True)
def triton_is_the_default(monkeypatch, triton_works):
    monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, 'triton')


@pytest.fixture(params=['rows', 'shares'])
def strategy(request, monkeypatch):
    """One program per row, or equal shares of rows and entries; a share of 8 cuts rows into several."""
    module = triton_kernels().spmm.__globals__
    monkeypatch.setitem(module, '_LONG_ROW', 10 ** 9 if request.param == 'rows' else -1)
    monkeypatch.setitem(module, '_MIN_SHARE', 8)
    monkeypatch.setitem(module, '_SKEWED', {})
    return request.param


def skewed(rows, cols, symmetric=False, dtype=torch.float32):
    """A full row, a full column, empty rows and columns, few entries elsewhere."""
    dense = torch.rand(rows, cols, dtype=torch.float64) * (torch.rand(rows, cols) < 0.15)
    dense[1], dense[:, 2] = torch.rand(cols), torch.rand(rows)
    dense[[0, 3, rows - 1]] = 0
    dense[:, [0, cols - 1]] = 0
    if symmetric:
        dense = (dense + dense.t()) * (dense * dense.t() != 0)
    edge_index = dense.nonzero().t()
    adj = Adjacency.from_edge_index(edge_index, dense[edge_index[0], edge_index[1]].to(dtype), (rows, cols), symmetric)
    return dense, adj.to(DEVICE)


def plain(found):
    return found.detach().cpu().double()


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
        out = triton_kernels().spmm(*layout[:2], value, adj.size, x.to(DEVICE), add.to(DEVICE), 1 / 3)
        torch.testing.assert_close(plain(out), (matrix @ x + add) / 3)  # float64: the factor must not pass through float32


def test_row_over_many_shares(strategy):
    edge_index = torch.stack([torch.full((150,), 2), torch.arange(150)])
    adj = Adjacency.from_edge_index(edge_index, torch.rand(150), (4, 150)).to(DEVICE)
    x = torch.randn(150, 2, device=DEVICE)
    out = spmm(adj, x)
    torch.testing.assert_close(plain(out[2]), plain(adj.value) @ plain(x), **CLOSE)
    assert not out[[0, 1, 3]].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.mem_get_info()[0] < 30e9, reason='NO GPU with 30 GB')
def test_tables_beyond_int32(strategy):
    """More than 2^31 entries: every offset into a table must be computed in 64 bits."""
    num_rows, channels = 2 ** 25 + 64, 64
    x = torch.zeros(num_rows, channels, device=DEVICE)
    x[-3:] = torch.arange(1.0, 4.0, device=DEVICE).unsqueeze(1)
    row = torch.tensor([0, num_rows - 2, num_rows - 1])
    adj = Adjacency.from_edge_index(torch.stack([row, torch.tensor([num_rows - 1, num_rows - 3, num_rows - 2])]),
                                    torch.ones(3), (num_rows, num_rows)).to(DEVICE)
    assert spmm(adj, x)[row.to(DEVICE), -1].tolist() == [3, 1, 2]
    score, index = masked_topk(x[-2:], x, 3)
    assert index[0].tolist() == [num_rows - 1, num_rows - 2, num_rows - 3] and score[0].tolist() == [384, 256, 128]


def test_skew_decides_the_strategy(monkeypatch):
    module = triton_kernels().spmm.__globals__
    monkeypatch.setitem(module, '_SKEWED', {})
    _, adj = skewed(12, 21)
    assert not module['_is_skewed'](adj.rowptr)
    both = torch.tensor([0, 600, 601, 602], device=DEVICE)
    assert module['_is_skewed'](both) and not module['_is_skewed'](both[1:]) and len(module['_SKEWED']) == 3
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
    adj = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), torch.empty(0), size).to(DEVICE)
    x = torch.ones(size[1], 2, device=DEVICE, requires_grad=True)
    out = spmm(adj, x)
    out.sum().backward()
    assert torch.equal(out.cpu(), torch.zeros(size[0], 2)) and not x.grad.any()
    assert spmm(adj, x[:, :0]).shape == (size[0], 0)
    if size[0] == size[1]:
        assert torch.allclose(layer_mean(adj, x, 3), x / 4) and torch.allclose(normalized_layer_mean(adj, x, 3), x / 4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype):
    dense, adj = skewed(6, 6)
    x = torch.randn(6, 3).to(dtype).to(DEVICE)
    torch.testing.assert_close(spmm(adj, x), (dense @ plain(x)).to(dtype).to(DEVICE), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('num_layers', [0, 1, 3])
@pytest.mark.parametrize('symmetric', [True, False])
def test_layer_mean_with_values_and_with_degrees(strategy, num_layers, symmetric):
    dense, adj = skewed(9, 9, symmetric)
    pattern = (dense > 0).double()
    row, col = (pattern.sum(dim=dim).clamp(min=1).rsqrt() for dim in (1, 0))
    for function, matrix in ((layer_mean, dense), (normalized_layer_mean, row[:, None] * pattern * col)):
        x, weight = torch.randn(9, 3, device=DEVICE, requires_grad=True), torch.randn(9, 3, device=DEVICE)
        out = function(adj, x, num_layers)
        total = sum(torch.linalg.matrix_power(matrix, layer) for layer in range(num_layers + 1)) / (num_layers + 1)
        torch.testing.assert_close(plain(out), total @ plain(x), **CLOSE)
        torch.testing.assert_close(plain(torch.autograd.grad(out, x, weight)[0]), total.t() @ plain(weight), **CLOSE)
        torch.testing.assert_close(out, function(adj, x, num_layers, 'scatter'), **CLOSE)


def test_operators_are_registered_properly():
    _, adj = skewed(5, 5)
    t, x = adj.t(), torch.randn(5, 3, device=DEVICE, requires_grad=True)
    layouts = (adj.rowptr, adj.col, t.rowptr, t.col)
    torch.library.opcheck(torch.ops.genrec_pyg.normalized_layer_mean.default, (*layouts, x, 2, 'triton'))
    torch.library.opcheck(torch.ops.genrec_pyg.triton_log_sum_exp.default, (x, torch.randn(4, 3, device=DEVICE), 2.0))


def binary(rows, cols, share=0.1):
    x = (torch.rand(rows, cols) < share).long().to(DEVICE)
    return x, torch.cat([x.new_zeros(1), x.sum(dim=1).cumsum(0)]), x.nonzero()[:, 1]


def densify(rowptr, col, num_cols):
    x = torch.zeros(rowptr.numel() - 1, num_cols, device=DEVICE)
    x.index_put_((torch.repeat_interleave(rowptr.diff()), col), torch.ones(()).to(DEVICE), accumulate=True)
    return x


def generator(seed=3):
    return torch.Generator(DEVICE).manual_seed(seed)


def test_flips_are_the_same_draw_in_both_forms(monkeypatch):
    monkeypatch.setitem(triton_kernels().flip_dense.__globals__, '_BLOCK_COLUMNS', 64)
    x, rowptr, col = binary(4, 150, 0.2)
    x[2] = 0
    rowptr, col = torch.cat([x.new_zeros(1), x.sum(dim=1).cumsum(0)]), x.nonzero()[:, 1]
    up, down = torch.tensor([0.0, 0.3, 0.1, 1.0], device=DEVICE), torch.tensor([0.0, 0.5, 1.0, 1.0], device=DEVICE)
    dense = flip_dense(x.float(), up, down, generator())
    found = sample_flips(rowptr, col, 150, up, down, generator())
    assert torch.equal(densify(*found, 150), dense) and found[0].dtype == found[1].dtype == torch.long
    assert torch.equal(dense[0], x[0].float()) and torch.equal(dense[3], 1 - x[3].float())  # no flip, every flip
    key = torch.repeat_interleave(found[0].diff()) * 150 + found[1]
    assert bool((key.diff() > 0).all())
    assert not torch.equal(dense, flip_dense(x.float(), up, down, generator(4)))
    for other in (x.bool(), x.double()):
        assert torch.equal(flip_dense(other, up, down, generator()), dense.to(other.dtype))


@pytest.mark.parametrize('p01,p10', [(0.005, 0.3), (0.38, 0.62)])
def test_law_of_the_flips(p01, p10):
    x, rowptr, col = binary(8, 10_000, 0.05)
    up, down = torch.full((8,), p01, device=DEVICE), torch.full((8,), p10, device=DEVICE)
    flipped = flip_dense(x.float(), up, down) != x
    for share, rate in ((flipped[x == 0], p01), (flipped[x == 1], p10)):
        assert float(share.float().mean()) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / share.numel()) ** 0.5)
    # Neighbours, and the same column of neighbouring rows, are independent: no flip says anything about the next.
    centred = flipped.float() - torch.where(x == 1, p10, p01)
    variance = float(centred.square().mean())
    for product in (centred[:, 1:] * centred[:, :-1], centred[1:] * centred[:-1], centred[:, 4:] * centred[:, :-4]):
        assert abs(float(product.mean())) < 5 * variance / product.numel() ** 0.5


def test_flips_of_nothing():
    nothing = torch.empty(0, dtype=torch.long, device=DEVICE)
    rowptr, col = sample_flips(nothing.new_zeros(1), nothing, 5, nothing.float(), nothing.float())
    assert rowptr.tolist() == [0] and col.numel() == 0
    rate = torch.zeros(2, device=DEVICE)
    assert sample_flips(nothing.new_zeros(3), nothing, 0, rate, rate)[0].tolist() == [0, 0, 0]
    assert flip_dense(torch.empty(2, 0, device=DEVICE), rate, rate).shape == (2, 0)


def excluding(num_users, num_items, share):
    mask = torch.rand(num_users, num_items) < share
    mask[0] = False
    mask[1] = True
    index = mask.nonzero()
    return mask, torch.cat([torch.zeros(1, dtype=torch.long), mask.sum(dim=1).cumsum(0)]).to(DEVICE), index[:, 1].to(DEVICE)


@pytest.mark.parametrize('k,channels,share,num_users,num_items', [(3, 1, 0.3, 19, 40), (40, 50, 0.6, 9, 70)])
def test_ranking_with_ties_and_exclusions(k, channels, share, num_users, num_items):
    # Small integers: every product is exact, so ties are, and order must be that of the plain ranking.
    user, item = (torch.randint(-2, 3, (n, channels)).float().to(DEVICE) for n in (num_users, num_items))
    _, rowptr, col = excluding(num_users, num_items, share)
    shuffled = torch.cat([part[torch.randperm(part.numel(), device=DEVICE)] for part in col.split(rowptr.diff().tolist())])
    value, index = masked_topk(user, item, k, rowptr, shuffled)
    expected = topk_excluding(user @ item.t(), k, rowptr, col)
    assert torch.equal(index, expected[1]) and torch.equal(value, expected[0])
    assert bool((index[1] == num_items).all())  # everything excluded


@pytest.mark.parametrize('dtype,precision', [(torch.float32, 'ieee'), (torch.bfloat16, 'tf32'), (torch.float16, 'tf32')])
def test_products_round_only_where_torch_may(dtype, precision):
    dot_precision = triton_kernels().spmm.__globals__['on_device_of'].__globals__['dot_precision']
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision('highest')
        assert dot_precision(dtype) == precision
        torch.set_float32_matmul_precision('high')
        assert dot_precision(dtype) == 'tf32'
    finally:
        torch.set_float32_matmul_precision(before)


def test_ranking_of_real_scores_and_of_parts(monkeypatch):
    monkeypatch.setattr('genrec_pyg.ops.triton.topk.num_splits', lambda programs, blocks: 3)
    user, item = torch.randn(5, 20, device=DEVICE), torch.randn(80, 20, device=DEVICE)
    _, rowptr, col = excluding(7, 80, 0.1)
    value, index = masked_topk(user, item, 4, rowptr[2:], col)  # offsets of the last rows of a larger matrix
    expected = topk_excluding(user @ item.t(), 4, rowptr[2:] - rowptr[2], col[int(rowptr[2]):])
    assert torch.equal(index, expected[1])
    torch.testing.assert_close(value, expected[0], **CLOSE)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_ranking_in_low_precision(dtype):
    user, item = (torch.randint(-9, 9, (n, 6)).to(dtype).to(DEVICE) for n in (4, 30))
    value, index = masked_topk(user, item, 7)
    expected = topk_excluding((user.double() @ item.double().t()).to(dtype), 7)
    assert value.dtype == dtype and torch.equal(index, expected[1]) and torch.equal(value, expected[0])


def test_nothing_to_rank():
    user, item = torch.randn(3, 4, device=DEVICE), torch.randn(5, 4, device=DEVICE)
    value, index = masked_topk(user, item[:0], 2)
    assert index.tolist() == [[0, 0]] * 3 and bool((value == -torch.inf).all())
    assert masked_topk(user[:0], item, 2)[1].shape == (0, 2)
    assert masked_topk(user, item, 0)[1].shape == (3, 0)
    assert masked_topk(user, item, 200)[1].shape == (3, 200)  # too many for the kernel


def test_ranking_with_gradient_takes_the_differentiable_way():
    user = torch.randn(3, 4, device=DEVICE, requires_grad=True)
    assert masked_topk(user, torch.randn(5, 4, device=DEVICE), 2)[0].requires_grad


def plain_contrast(x, bank, temperature, positive):
    return F.cross_entropy(F.normalize(x) @ F.normalize(bank).t() / temperature, positive)


@pytest.mark.parametrize('num_rows,num_bank,channels', [(1, 1, 1), (5, 70, 3), (70, 40, 64), (40, 40, 192)])
@pytest.mark.parametrize('temperature', [0.5, 0.01])
def test_contrast_and_gradients(num_rows, num_bank, channels, temperature):
    x, bank = torch.randn(num_rows, channels), torch.randn(num_bank, channels)
    positive = torch.randint(num_bank, (num_rows,))
    exact = [t.double().requires_grad_() for t in (x, bank)]
    expected = plain_contrast(*exact, temperature, positive)
    wanted = torch.autograd.grad(expected, exact)
    leaves = [t.to(DEVICE).requires_grad_() for t in (x, bank)]
    loss = info_nce(leaves[0], None, temperature, leaves[1], positive.to(DEVICE))
    assert type(loss.grad_fn.next_functions[0][0].next_functions[0][0]).__name__ != '_LogSumExpBackward'
    torch.testing.assert_close(plain(loss), expected.detach(), rtol=1e-5, atol=1e-5)
    # The cosines are rounded to 6e-8 before they are divided by the temperature and exponentiated.
    error = {'rtol': 1e-4, 'atol': 1e-5 / temperature / num_rows}
    for found, want in zip(torch.autograd.grad(loss, leaves), wanted, strict=True):
        torch.testing.assert_close(plain(found), want, **error)


def test_contrast_equals_the_kernel_of_the_cpu(monkeypatch):
    x, y = torch.randn(2, 37, 16, device=DEVICE, requires_grad=True).unbind()
    found = info_nce(x, y, 0.2)
    gradient = torch.autograd.grad(found, (x, y))
    monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, 'csr')
    expected = info_nce(x, y, 0.2)
    torch.testing.assert_close(found, expected, **CLOSE)
    for a, b in zip(gradient, torch.autograd.grad(expected, (x, y)), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_contrast_of_opposed_rows_is_finite():
    # All logits are far below zero: what lies beyond the end of a tile must not win the maximum or overflow.
    x = torch.ones(3, 4, device=DEVICE, requires_grad=True)
    bank = (-torch.ones(5, 4, device=DEVICE)).requires_grad_()
    loss = info_nce(x, None, 0.005, bank, torch.zeros(3, dtype=torch.long, device=DEVICE))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(5), abs=1e-3)
    assert bool(torch.isfinite(x.grad).all()) and bool(torch.isfinite(bank.grad).all())


def test_contrast_outside_the_kernel_takes_the_other_way():
    for x, y in ((torch.randn(3, 300), torch.randn(3, 300)), (torch.randn(3, 4).double(), torch.randn(3, 4).double())):
        positive = torch.arange(3)
        loss = info_nce(x.to(DEVICE), y.to(DEVICE), 0.5)
        torch.testing.assert_close(plain(loss), plain_contrast(x.double(), y.double(), 0.5, positive), **CLOSE)


def launches(monkeypatch):
    """A list that grows with every launch of a kernel."""
    found = []
    for name in ('contrast', 'flip', 'spmm', 'topk'):
        module = sys.modules[f'genrec_pyg.ops.triton.{name}']
        prepare = module.on_device_of
        monkeypatch.setattr(module, 'on_device_of', lambda x, kernel, prepare=prepare: found.append(x) or prepare(x, kernel))
    return found


def every_call():
    """Every operation of genrec_pyg.ops that has a kernel."""
    _, adj = skewed(9, 9)
    x, rate = torch.randn(9, 4, device=DEVICE), torch.full((2,), 0.4, device=DEVICE)
    _, rowptr, col = binary(2, 9)
    return {'spmm': lambda: spmm(adj, x), 'layer_mean': lambda: layer_mean(adj, x, 2),
            'normalized_layer_mean': lambda: normalized_layer_mean(adj, x, 2), 'masked_topk': lambda: masked_topk(x, x, 3),
            'flip_dense': lambda: flip_dense(torch.ones(2, 9, device=DEVICE), rate, rate),
            'sample_flips': lambda: sample_flips(rowptr, col, 9, rate, rate), 'info_nce': lambda: info_nce(x, x + 1, 0.5)}


def test_the_default_back_end_decides_who_computes(monkeypatch):
    calls = every_call()
    found = launches(monkeypatch)
    for name, call in calls.items():
        found.clear()
        call()
        assert found, name
    monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, 'csr')
    found.clear()
    for call in calls.values():
        call()
    assert not found


def test_a_model_learns_the_same_from_either_back_end(tiny_graph, monkeypatch):
    model = GenRec(tiny_graph, hidden_channels=8, dropout=0.0, clusters=2, denoiser_rank=2, interest_weight=0.0).to(DEVICE)
    model.start_epoch(0)
    batch = Triples(*(torch.tensor(ids, device=DEVICE) for ids in ([0, 1, 2, 4], [0, 3, 2, 5], [4, 0, 5, 1])))
    found = launches(monkeypatch)
    gradients = {}
    for backend in ('csr', 'triton'):
        monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, backend)
        assert not found
        loss = sum(model.loss(batch).values())
        gradients[backend] = [loss.detach(), *torch.autograd.grad(loss, list(model.trained_parameters()), allow_unused=True)]
    assert found
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_without_triton_everything_takes_the_other_way():
    code = """
import sys
sys.modules['triton'] = None
import torch
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import DEFAULT_BACKENDS, Adjacency, spmm
assert DEFAULT_BACKENDS['cuda'] == 'csr'
adj = Adjacency.from_edge_index(torch.tensor([[0], [1]]), size=(2, 2))
assert spmm(adj, torch.ones(2, 1)).tolist() == [[1], [0]]
try:
    spmm(adj, torch.ones(2, 1), 'triton')
except ConfigError as error:
    assert 'is not installed' in str(error)
else:
    raise AssertionError
"""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_tensors_of_the_cpu_need_the_interpreter(monkeypatch):
    import triton
    launch = triton_kernels().spmm.__globals__['on_device_of'].__globals__
    monkeypatch.setitem(launch, 'triton', triton)
    with pytest.raises(ConfigError, match='accepted are CUDA devices'):
        launch['on_device_of'](torch.ones(1), object.__new__(triton.runtime.JITFunction))


def test_every_kernel_compiles(tmp_path):
    """What is only interpreted here must also be accepted by the compiler, and fit the shared memory of every recent GPU."""
    from triton.backends import backends
    if 'nvidia' not in backends:
        pytest.skip('THIS TRITON HAS NO COMPILER FOR CUDA: kernels are only interpreted')
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment.update(TRITON_CACHE_DIR=str(tmp_path), PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    run = subprocess.run([sys.executable, Path(__file__).with_name('compile_triton.py'), '90'], env=environment,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    compiled = [json.loads(line) for line in run.stdout.splitlines()]
    folder = Path(triton_kernels().__file__).parent
    written = {line.split('(')[0][4:] for path in folder.glob('*.py') for line in path.read_text().splitlines()
               if line.startswith('def _') and '_kernel(' in line}
    assert {found['kernel'] for found in compiled} == written
    assert all(found['bytes'] > 0 and found['shared'] <= 64 * 1024 for found in compiled)
