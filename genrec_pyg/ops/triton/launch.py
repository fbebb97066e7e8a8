r"""Common parts of kernel launches: device, precision of products, and number of programs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Programs wanted per launch where the work can be cut as one likes; more than enough for the 132
#: multiprocessors of an H200.
_PROGRAMS = 512


def on_device_of(x: Tensor, kernel: Any) -> contextlib.AbstractContextManager:
    r"""Makes the device of ``x`` the current one, which is where Triton launches.

    Raises:
        ConfigError: If ``x`` is not on a GPU and ``kernel`` is not interpreted.
    """
    if not x.is_cuda and isinstance(kernel, triton.runtime.JITFunction):
        raise ConfigError(
            f"backend: 'triton' got a tensor on {x.device}, accepted are CUDA devices (or the CPU "
            f'with TRITON_INTERPRET=1 set before triton is imported)'
        )
    return torch.cuda.device_of(x)


def dot_precision(dtype: torch.dtype) -> str:
    r"""How tiles of numbers of type ``dtype`` are multiplied once they are float32: without loss
    (TF32 holds every bfloat16 and float16), unless the user allowed TF32 to torch's own products.
    """
    if dtype != torch.float32:
        return 'tf32'
    matmul = torch.backends.cuda.matmul
    # Where there is the newer setting, the older one cannot be read any more once the newer one was
    # set.
    allowed = (
        matmul.fp32_precision == 'tf32' if hasattr(matmul, 'fp32_precision') else matmul.allow_tf32
    )
    return 'tf32' if allowed else 'ieee'


def num_splits(num_programs: int, num_blocks: int) -> int:
    r"""Into how many parts to cut a loop over ``num_blocks`` that each of ``num_programs`` runs, to
    fill a device.
    """
    return max(1, min(_PROGRAMS // max(num_programs, 1), num_blocks))
