"""Compiles every kernel of :mod:`genrec_pyg.ops.triton` as its callers launch it, for a GPU that
need not be here.

Run by test_all_kernels.py in a process of its own, because kernels that were imported for the
interpreter cannot be compiled. Prints one line of JSON per compilation. Nothing is launched.
"""

import contextlib
import json
import sys
import types

import torch
import triton
from triton.backends.compiler import GPUTarget

from genrec_pyg.ops import triton as kernels

TARGET = GPUTarget('cuda', int(sys.argv[1]), 32)
launch = triton.JITFunction.run
torch.empty = torch.zeros  # what a kernel would have written is read by the callers


def compile_only(self, *args, grid, warmup, **kwargs):
    kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
    found = {
        'kernel': self.fn.__name__,
        'shared': kernel.metadata.shared,
        'bytes': len(kernel.asm['cubin']),
    }
    print(json.dumps(found), flush=True)


triton.JITFunction.run = compile_only
triton.runtime.driver.set_active(
    types.SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: TARGET,
    )
)
for name in ('contrast', 'flip', 'spmm', 'topk'):
    sys.modules[f'genrec_pyg.ops.triton.{name}'].on_device_of = lambda x, kernel: (
        contextlib.nullcontext()
    )

# Products: rows and shares, values and degrees, both widths of index, both precisions, one channel
# and several blocks of them.
short, long = torch.tensor([0, 2, 2, 3]), torch.tensor([0, 600, 600, 601])
for rowptr, dtype, index, channels in (
    (short, torch.float32, torch.int32, 64),
    (short, torch.float64, torch.int64, 1),
    (long, torch.float32, torch.int32, 192),
    (long, torch.float64, torch.int64, 7),
):
    rowptr, col = rowptr.to(index), torch.zeros(int(rowptr[-1]), dtype=index)
    x = torch.zeros(3, channels, dtype=dtype)
    kernels.spmm(rowptr, col, torch.ones(col.numel(), dtype=dtype), (3, 3), x)
    kernels.normalized_spmm(rowptr, col, rowptr, (3, 3), x, x, 1 / 3)

rate = torch.full((3,), 0.5)
for dtype in (torch.float32, torch.bool):
    kernels.flip_dense(torch.zeros(3, 40, dtype=dtype), rate, rate)
kernels.sample_flips(short, torch.zeros(3, dtype=torch.long), 40, rate, rate)

for dtype, excluded in (
    (torch.float32, (short, torch.zeros(3, dtype=torch.long))),
    (torch.bfloat16, (None, None)),
):
    kernels.masked_topk(
        torch.zeros(3, 50, dtype=dtype), torch.zeros(90, 50, dtype=dtype), 20, *excluded
    )

for channels, precision in ((1, 'highest'), (kernels.MAX_CHANNELS, 'highest'), (64, 'high')):
    torch.set_float32_matmul_precision(precision)
    x = torch.zeros(70, channels, requires_grad=True)
    kernels.log_sum_exp(x, x, 5.0).sum().backward()
