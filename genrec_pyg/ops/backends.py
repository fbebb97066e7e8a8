r"""Back ends of the sparse product: plain functions on CSR components, without gradients."""

from __future__ import annotations

import importlib.util
import warnings
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

# torch says so once per process; the product is tested here against the plain formula.
warnings.filterwarnings(
    'ignore', message='Sparse CSR tensor support is in beta state', category=UserWarning
)


class Kernel(Protocol):
    r"""Computes :math:`s \, (\mathbf{A} \mathbf{x} + \mathbf{b})`, or
    :math:`s \, \mathbf{A} \mathbf{x}` without ``add``.

    Args:
        rowptr: Row offsets ``[M + 1]`` of :math:`\mathbf{A}`.
        col: Columns ``[nnz]``.
        value: Entries ``[nnz]`` in the precision of ``x``, :obj:`None` for ones.
        size: Shape ``(M, N)``.
        x: Dense ``[N, d]``, contiguous, at least float32.
        add: Dense ``[M, d]``, left unchanged.
        scale: Factor :math:`s`.
    """

    def __call__(
        self,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | None,
        size: tuple[int, int],
        x: Tensor,
        add: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor: ...


#: Columns from which on the CPU kernel of torch's ``sparse.mm`` with a reduction is faster than
#: MKL's, which can add and scale in the same pass (``benchmarks/speed/kernels.py``: a fifth faster
#: at 128 and 192 columns, with the passes of their own).
_WIDE = 96


def _plus_times(out: Tensor, add: Tensor | None, scale: float) -> Tensor:
    r"""``scale * (out + add)``, in place."""
    if add is not None:
        out.add_(add)
    return out if scale == 1 else out.mul_(scale)


def _csr(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    value = x.new_ones(col.numel()) if value is None else value
    matrix = torch.sparse_csr_tensor(rowptr, col, value, size, check_invariants=False)
    if x.size(1) >= _WIDE and x.device.type == 'cpu':
        return _plus_times(torch.sparse.mm(matrix, x, 'sum'), add, scale)
    if add is not None:
        return torch.addmm(add, matrix, x, beta=scale, alpha=scale)
    # Into memory never read (beta = 0): ``matrix @ x`` would fill it with zeros and copy it first.
    return x.new_empty(size[0], x.size(1)).addmm_(matrix, x, beta=0, alpha=scale)


def _scatter(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    row = torch.repeat_interleave(rowptr.diff(), output_size=col.numel())
    message = x.index_select(0, col)
    if value is not None:
        message *= value.unsqueeze(1)
    out = x.new_zeros(size[0], x.size(1)) if add is None else add.clone()
    return _plus_times(out.index_add_(0, row, message), None, scale)


def _torch_sparse(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    try:
        import torch_sparse
    except ImportError as error:
        raise ConfigError(
            "backend: 'torch_sparse' needs the package torch-sparse, which is not installed; "
            "accepted without it are 'auto', 'csr' and 'scatter'"
        ) from error
    matrix = torch_sparse.SparseTensor(
        rowptr=rowptr.long(),
        col=col.long(),
        value=value,
        sparse_sizes=size,
        is_sorted=True,
        trust_data=True,
    )
    # Its kernel divides by the size of x, which kills the process when that is empty.
    out = torch_sparse.matmul(matrix, x) if x.numel() > 0 else x.new_zeros(size[0], x.size(1))
    return _plus_times(out, add, scale)


def triton_kernels() -> ModuleType:
    r"""The module :mod:`genrec_pyg.ops.triton`, imported here and nowhere else, so that nothing
    else needs triton.

    Raises:
        ConfigError: If triton is not installed.
    """
    try:
        from genrec_pyg.ops import triton
    except ImportError as error:
        raise ConfigError(
            "backend: 'triton' needs the package triton, which is not installed; accepted without "
            "it are 'auto', 'csr' and 'scatter'"
        ) from error
    return triton


def _triton(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    return triton_kernels().spmm(rowptr, col, value, size, x, add, scale)


#: Back ends by name. A kernel for another device registers here, and under its device in
#: :data:`DEFAULT_BACKENDS`.
BACKENDS: dict[str, Kernel] = {
    'csr': _csr,
    'torch_sparse': _torch_sparse,
    'scatter': _scatter,
    'triton': _triton,
}

#: What ``backend='auto'`` means per type of device; everywhere else it is ``'scatter'``, which runs
#: on any. ``'triton'`` also selects the other kernels of :mod:`genrec_pyg.ops.triton` for that
#: device: ranking, flips and the contrastive loss.
DEFAULT_BACKENDS: dict[str, str] = {
    'cpu': 'csr',
    'cuda': 'triton' if importlib.util.find_spec('triton') else 'csr',
}


def backend_name(name: str, device: torch.device) -> str:
    r"""``name``, or the name of the default of ``device`` for ``'auto'``.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name == 'auto':
        name = DEFAULT_BACKENDS.get(device.type, 'scatter')
    if name not in BACKENDS:
        raise ConfigError(
            f"backend: got {name!r}, accepted are 'auto', {', '.join(map(repr, BACKENDS))}"
        )
    return name


def find_backend(name: str, device: torch.device) -> Kernel:
    r"""The kernel called ``name``, or the default of ``device`` for ``'auto'``.

    Raises:
        ConfigError: If the name is unknown.
    """
    return BACKENDS[backend_name(name, device)]


def prefers_triton(x: Tensor) -> bool:
    r"""Whether kernels without a ``backend`` argument run in Triton where ``x`` lives."""
    return DEFAULT_BACKENDS.get(x.device.type) == 'triton'
