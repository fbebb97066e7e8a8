import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.kernel_inputs import DEVICE, binary, skewed

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
)
from genrec_pyg.ops.backends import triton_kernels

pytestmark = pytest.mark.slow
COMPILE = Path(__file__).parents[2] / 'helpers' / 'compile_kernels.py'


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.mem_get_info()[0] < 30e9, reason='NO GPU with 30 GB'
)
def test_tables_beyond_int32(strategy):
    """More than 2^31 entries: every offset into a table must be computed in 64 bits."""
    num_rows, channels = 2**25 + 64, 64
    x = torch.zeros(num_rows, channels, device=DEVICE)
    x[-3:] = torch.arange(1.0, 4.0, device=DEVICE).unsqueeze(1)
    row = torch.tensor([0, num_rows - 2, num_rows - 1])
    adj = Adjacency.from_edge_index(
        torch.stack([row, torch.tensor([num_rows - 1, num_rows - 3, num_rows - 2])]),
        torch.ones(3),
        (num_rows, num_rows),
    ).to(DEVICE)
    assert spmm(adj, x)[row.to(DEVICE), -1].tolist() == [3, 1, 2]
    score, index = masked_topk(x[-2:], x, 3)
    assert index[0].tolist() == [num_rows - 1, num_rows - 2, num_rows - 3] and score[
        0
    ].tolist() == [384, 256, 128]


def launches(monkeypatch):
    """A list that grows with every launch of a kernel."""
    found = []
    for name in ('contrast', 'flip', 'spmm', 'topk'):
        module = sys.modules[f'genrec_pyg.ops.triton.{name}']
        prepare = module.on_device_of
        monkeypatch.setattr(
            module,
            'on_device_of',
            lambda x, kernel, prepare=prepare: found.append(x) or prepare(x, kernel),
        )
    return found


def every_call():
    """Every operation of genrec_pyg.ops that has a kernel."""
    _, adj = skewed(9, 9)
    x, rate = torch.randn(9, 4, device=DEVICE), torch.full((2,), 0.4, device=DEVICE)
    _, rowptr, col = binary(2, 9)
    return {
        'spmm': lambda: spmm(adj, x),
        'layer_mean': lambda: layer_mean(adj, x, 2),
        'normalized_layer_mean': lambda: normalized_layer_mean(adj, x, 2),
        'masked_topk': lambda: masked_topk(x, x, 3),
        'flip_dense': lambda: flip_dense(torch.ones(2, 9, device=DEVICE), rate, rate),
        'sample_flips': lambda: sample_flips(rowptr, col, 9, rate, rate),
        'info_nce': lambda: info_nce(x, x + 1, 0.5),
    }


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
    model = GenRec(
        tiny_graph,
        hidden_channels=8,
        encoder={'dropout': 0.0},
        debias={'clusters': 2},
        denoiser={'rank': 2},
        interest={'weight': 0.0},
    ).to(DEVICE)
    model.start_epoch(0)
    batch = Triples(
        *(torch.tensor(ids, device=DEVICE) for ids in ([0, 1, 2, 4], [0, 3, 2, 5], [4, 0, 5, 1]))
    )
    found = launches(monkeypatch)
    gradients = {}
    for backend in ('csr', 'triton'):
        monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, backend)
        assert not found
        loss = sum(model.loss(batch).values())
        gradients[backend] = [
            loss.detach(),
            *torch.autograd.grad(loss, list(model.trained_parameters()), allow_unused=True),
        ]
    assert found
    for a, b in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_every_kernel_compiles(tmp_path):
    """What is only interpreted here must also be accepted by the compiler, and fit the shared
    memory of every recent GPU.
    """
    from triton.backends import backends

    if 'nvidia' not in backends:
        pytest.skip('THIS TRITON HAS NO COMPILER FOR CUDA: kernels are only interpreted')
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment.update(
        TRITON_CACHE_DIR=str(tmp_path), PYTHONPATH=os.pathsep.join(filter(None, sys.path))
    )
    run = subprocess.run(
        [sys.executable, COMPILE, '90'], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-4000:]
    compiled = [json.loads(line) for line in run.stdout.splitlines()]
    folder = Path(triton_kernels().__file__).parent
    written = {
        line.split('(')[0][4:]
        for path in folder.glob('*.py')
        for line in path.read_text().splitlines()
        if line.startswith('def _') and '_kernel(' in line
    }
    assert {found['kernel'] for found in compiled} == written
    assert all(found['bytes'] > 0 and found['shared'] <= 64 * 1024 for found in compiled)
