r"""Sparse times dense products, registered with :mod:`torch.library`, with hand-written gradients."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.adjacency import Adjacency

#: Edges per block of the gradient with respect to the entries.
_EDGE_BLOCK = 1 << 18


def _as_csr(rowptr: Tensor, col: Tensor, value: Optional[Tensor], size: tuple[int, int], like: Tensor) -> Tensor:
    entries = like.new_ones(col.numel()) if value is None else value.to(like.dtype)
    return torch.sparse_csr_tensor(rowptr, col, entries, size, check_invariants=False)


def _csr(rowptr: Tensor, col: Tensor, value: Optional[Tensor], size: tuple[int, int], x: Tensor) -> Tensor:
    if col.numel() == 0:
        return x.new_zeros(size[0], x.size(1))
    # The vendor's CSR kernels take float32 and float64 only.
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return (_as_csr(rowptr, col, value, size, wide) @ wide).to(x.dtype)


def _scatter(rowptr: Tensor, col: Tensor, value: Optional[Tensor], size: tuple[int, int], x: Tensor) -> Tensor:
    row = torch.repeat_interleave(rowptr.diff().long(), output_size=col.numel())
    message = x[col.long()]
    if value is not None:
        message = message * value.to(x.dtype).unsqueeze(1)
    return x.new_zeros(size[0], x.size(1)).index_add_(0, row, message)


def _torch_sparse(rowptr: Tensor, col: Tensor, value: Optional[Tensor], size: tuple[int, int], x: Tensor) -> Tensor:
    try:
        import torch_sparse
    except ImportError as error:
        raise ConfigError("backend: 'torch_sparse' needs the package torch-sparse, which is not installed; accepted without "
                          "it are 'auto', 'csr' and 'scatter'") from error
    entries = None if value is None else value.to(x.dtype)
    matrix = torch_sparse.SparseTensor(rowptr=rowptr.long(), col=col.long(), value=entries, sparse_sizes=size,
                                       is_sorted=True, trust_data=True)
    return torch_sparse.matmul(matrix, x)


#: Name of a back end to its kernel ``(rowptr, col, value, size, x) -> y``; a Triton kernel registers here.
BACKENDS: dict[str, Callable[..., Tensor]] = {'csr': _csr, 'torch_sparse': _torch_sparse, 'scatter': _scatter}


def _kernel(name: str) -> Callable[..., Tensor]:
    if name == 'auto':
        return _csr
    if name not in BACKENDS:
        raise ConfigError(f"backend: got {name!r}, accepted are 'auto', {', '.join(map(repr, BACKENDS))}")
    return BACKENDS[name]


@torch.library.custom_op('genrec_pyg::spmm', mutates_args=())
def _spmm(rowptr: Tensor, col: Tensor, value: Optional[Tensor], rowptr_t: Tensor, col_t: Tensor, value_t: Optional[Tensor],
          num_rows: int, num_cols: int, x: Tensor, backend: str) -> Tensor:
    return _kernel(backend)(rowptr, col, value, (num_rows, num_cols), x)


@_spmm.register_fake
def _(rowptr, col, value, rowptr_t, col_t, value_t, num_rows, num_cols, x, backend):
    return x.new_empty(num_rows, x.size(1))


def _spmm_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    rowptr, col, value, rowptr_t, col_t, value_t, num_rows, num_cols, x, backend = inputs
    needs_value = value is not None and value.requires_grad
    ctx.save_for_backward(rowptr, col, value, rowptr_t, col_t, value_t, x if needs_value else None)
    ctx.sizes, ctx.backend, ctx.needs_value = (num_rows, num_cols), backend, needs_value


def _spmm_backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    rowptr, col, value, rowptr_t, col_t, value_t, x = ctx.saved_tensors
    num_rows, num_cols = ctx.sizes
    grad_x = grad_value = None
    if ctx.needs_input_grad[8]:
        grad_x = torch.ops.genrec_pyg.spmm(rowptr_t, col_t, value_t, rowptr, col, value, num_cols, num_rows,
                                           grad.contiguous(), ctx.backend)
    if ctx.needs_value:
        row = torch.repeat_interleave(rowptr.diff().long(), output_size=col.numel())
        blocks = zip(row.split(_EDGE_BLOCK), col.long().split(_EDGE_BLOCK))
        grad_value = torch.cat([(grad[r] * x[c]).sum(dim=1) for r, c in blocks] or [grad.new_empty(0)]).to(value.dtype)
    return None, None, grad_value, None, None, None, None, None, grad_x, None


_spmm.register_autograd(_spmm_backward, setup_context=_spmm_setup)


@torch.library.custom_op('genrec_pyg::layer_mean', mutates_args=())
def _layer_mean(rowptr: Tensor, col: Tensor, value: Optional[Tensor], rowptr_t: Tensor, col_t: Tensor,
                value_t: Optional[Tensor], x: Tensor, num_layers: int, backend: str) -> Tensor:
    size = (x.size(0), x.size(0))
    weight = 1 / (num_layers + 1)
    if num_layers == 0:
        return x.clone()
    fused = backend in ('auto', 'csr') and x.dtype in (torch.float32, torch.float64) and col.numel() > 0
    if fused:  # the vendor's product adds its third operand in the same pass
        matrix, y = _as_csr(rowptr, col, value, size, x), x
        for _ in range(num_layers - 1):
            y = torch.addmm(x, matrix, y)
        return torch.addmm(x, matrix, y, beta=weight, alpha=weight)
    y, kernel = x, _kernel(backend)
    for _ in range(num_layers):
        y = kernel(rowptr, col, value, size, y).add_(x)
    return y.mul_(weight)


@_layer_mean.register_fake
def _(rowptr, col, value, rowptr_t, col_t, value_t, x, num_layers, backend):
    return torch.empty_like(x)


def _layer_mean_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    rowptr, col, value, rowptr_t, col_t, value_t, _, num_layers, backend = inputs
    ctx.save_for_backward(rowptr, col, value, rowptr_t, col_t, value_t)
    ctx.num_layers, ctx.backend = num_layers, backend


def _layer_mean_backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
    rowptr, col, value, rowptr_t, col_t, value_t = ctx.saved_tensors
    grad_x = torch.ops.genrec_pyg.layer_mean(rowptr_t, col_t, value_t, rowptr, col, value, grad.contiguous(), ctx.num_layers,
                                             ctx.backend)
    return None, None, None, None, None, None, grad_x, None, None


_layer_mean.register_autograd(_layer_mean_backward, setup_context=_layer_mean_setup)


def spmm(adj: Adjacency, x: Tensor, backend: str = 'auto') -> Tensor:
    r"""Product :math:`\mathbf{A} \mathbf{x}`, differentiable in ``x`` and, where they require gradient, in the entries.

    Backward multiplies with the cached transpose, which a symmetric adjacency never builds. Several modalities over one
    adjacency ``[M, N, d]`` become column blocks of one product: every index is read once for all of them.

    Args:
        adj: Sparse matrix ``[R, N]``.
        x: Dense ``[N, d]`` or ``[M, N, d]``; bfloat16 and float16 are multiplied in float32.
        backend: ``'auto'``, ``'csr'``, ``'torch_sparse'`` or ``'scatter'``.

    Returns:
        ``[R, d]`` or ``[M, R, d]``.

    Raises:
        ConfigError: If shapes do not fit or the back end is unknown or not installed.
    """
    if x.dim() not in (2, 3) or x.size(-2) != adj.size[1]:
        raise ConfigError(f'spmm: x has shape {tuple(x.shape)}, accepted is [{adj.size[1]}, d] or [M, {adj.size[1]}, d]')
    if x.dim() == 3:
        num_views, num_nodes, channels = x.shape
        columns = x.transpose(0, 1).reshape(num_nodes, num_views * channels)
        return spmm(adj, columns, backend).view(adj.size[0], num_views, channels).transpose(0, 1)
    transposed = _transpose(adj)
    return torch.ops.genrec_pyg.spmm(adj.rowptr, adj.col, adj.value, transposed.rowptr, transposed.col, transposed.value,
                                     *adj.size, x.contiguous(), backend)


def layer_mean(adj: Adjacency, x: Tensor, num_layers: int, backend: str = 'auto') -> Tensor:
    r"""Mean of the propagated embeddings over the layers, LightGCN's readout, without keeping any layer.

    .. math::
        \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{A}^l \mathbf{x}

    by Horner's scheme :math:`\mathbf{y} \leftarrow \mathbf{x} + \mathbf{A} \mathbf{y}`, in which sum and product are one pass.
    The gradient is the same scheme with the transpose, so nothing is saved. Not differentiable in the entries: use
    :func:`spmm` for that.

    Args:
        adj: Square sparse matrix ``[N, N]``.
        x: Dense ``[N, d]``.
        num_layers: Layers ``L``, from 0.
        backend: As in :func:`spmm`.

    Raises:
        ConfigError: If the matrix is not square, shapes do not fit or ``num_layers`` is negative.
    """
    if adj.size[0] != adj.size[1] or x.dim() != 2 or x.size(0) != adj.size[0]:
        raise ConfigError(f'layer_mean: adjacency {adj.size} and x {tuple(x.shape)}, accepted are [N, N] and [N, d]')
    if num_layers < 0:
        raise ConfigError(f'num_layers: got {num_layers}, accepted are integers from 0')
    transposed = _transpose(adj)
    return torch.ops.genrec_pyg.layer_mean(adj.rowptr, adj.col, adj.value, transposed.rowptr, transposed.col, transposed.value,
                                           x.contiguous(), num_layers, backend)


def _transpose(adj: Adjacency) -> Adjacency:
    if adj.value is None or not adj.value.requires_grad:
        return adj.t()
    # A cached transpose would keep the graph of one backward pass alive for the next.
    return adj.with_value(adj.value.detach(), adj.symmetric).t()


