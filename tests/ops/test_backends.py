import importlib.util
import subprocess
import sys

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import BACKENDS, DEFAULT_BACKENDS, Adjacency, spmm
from genrec_pyg.ops.backends import backend_name, find_backend, prefers_triton


def run_python(script):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(params=list(BACKENDS))
def kernel(request):
    if request.param == 'triton':
        request.getfixturevalue('triton_works')
    elif request.param == 'torch_sparse' and not importlib.util.find_spec('torch_sparse'):
        pytest.skip('torch-sparse is not installed')
    return BACKENDS[request.param]


@pytest.mark.parametrize('with_value', [True, False])
@pytest.mark.parametrize('with_add', [True, False])
@pytest.mark.parametrize('channels', [2, 130])
def test_every_kernel_scales_a_product_and_a_sum(kernel, channels, with_add, with_value):
    device = 'cuda' if kernel is BACKENDS['triton'] and torch.cuda.is_available() else 'cpu'
    dense = torch.tensor(
        [[0.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 7.0]], device=device
    )
    rowptr, col = (
        torch.tensor(ids, dtype=torch.int32, device=device) for ids in ([0, 2, 2, 4], [1, 2, 0, 3])
    )
    value = torch.tensor([2.0, 3.0, 5.0, 7.0], device=device) if with_value else None
    x = torch.randn(4, channels, device=device)
    add = torch.randn(3, channels, device=device) if with_add else None
    before = None if add is None else add.clone()
    for scale in (1.0, 0.25):
        expected = scale * (
            (dense if with_value else dense.sign()) @ x + (0 if add is None else add)
        )
        found = kernel(rowptr, col, value, (3, 4), x, add, scale)
        torch.testing.assert_close(found, expected)
        assert add is None or torch.equal(add, before) and found.data_ptr() != add.data_ptr()


def test_the_device_decides_what_auto_means(monkeypatch):
    monkeypatch.setitem(DEFAULT_BACKENDS, 'cuda', 'triton')
    for device, name in (('cpu', 'csr'), ('cuda', 'triton'), ('xpu', 'scatter')):
        assert backend_name('auto', torch.device(device)) == name
        assert backend_name('torch_sparse', torch.device(device)) == 'torch_sparse'
        assert find_backend('auto', torch.device(device)) is BACKENDS[name]
    with pytest.raises(
        ConfigError,
        match="backend: got 'cusparse', accepted are 'auto', 'csr', 'torch_sparse', 'scatter'",
    ):
        backend_name('cusparse', torch.device('cpu'))


def test_only_where_it_is_the_default_triton_is_preferred(monkeypatch):
    x = torch.ones(1)
    assert not prefers_triton(x) and not prefers_triton(x.to('meta'))
    monkeypatch.setitem(DEFAULT_BACKENDS, 'cpu', 'triton')
    assert prefers_triton(x) and not prefers_triton(x.to('meta'))


def test_another_back_end_registers_by_name_and_device(monkeypatch):
    calls = []

    def counting(*args):
        calls.append(args[3])
        return BACKENDS['scatter'](*args)

    monkeypatch.setitem(BACKENDS, 'counting', counting)
    monkeypatch.setitem(DEFAULT_BACKENDS, 'cpu', 'counting')
    adj = Adjacency.from_edge_index(
        torch.tensor([[0, 0, 1], [0, 2, 2]]), torch.tensor([2.0, 3.0, 5.0]), (2, 3)
    )
    x = torch.randn(3, 1, requires_grad=True)
    spmm(adj, x).sum().backward()
    assert calls == [(2, 3), (3, 2)] and x.grad.tolist() == [[2], [0], [8]]


def test_without_torch_sparse_the_library_runs_and_the_back_end_says_what_is_missing():
    script = """
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
"""
    run_python(script)


def test_without_triton_everything_takes_the_other_way():
    run_python("""
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
""")


def test_importing_the_kernels_imports_neither_torch_sparse_nor_pyg():
    run_python("""
import sys
import genrec_pyg.ops
assert not {'torch_sparse', 'torch_scatter', 'torch_geometric'} & set(sys.modules)
""")
