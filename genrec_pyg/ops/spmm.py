r"""Sparse times dense products, registered with :mod:`torch.library`, with hand-written
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.adjacency import Adjacency, DividedAdjacency
from genrec_pyg.ops.backends import backend_name, find_backend, triton_kernels
from genrec_pyg.ops.column_blocks import in_column_blocks
from genrec_pyg.ops.normalize import symmetric_scale
from genrec_pyg.utils.precision import full_precision


def _widen(value: Tensor | None, x: Tensor) -> tuple[Tensor | None, Tensor]:
    # The vendors' CSR kernels take float32 and float64 only, and sums over neighbors want the wider
    # type anyway.
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return None if value is None else value.to(x.dtype), x.contiguous()


@torch.library.custom_op('genrec_pyg::sampled_product', mutates_args=())
def _sampled_product(
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor,
    col_t: Tensor,
    order: Tensor | None,
    x: Tensor,
    y: Tensor,
) -> Tensor:
    (_, x), (_, y) = _widen(None, x), _widen(None, y)
    positions = torch.sparse_csr_tensor(
        rowptr, col, x.new_zeros(col.numel()), (x.size(0), y.size(0)), check_invariants=False
    )
    with full_precision(x):
        return torch.sparse.sampled_addmm(positions, x, y.t(), beta=0.0).values()


@_sampled_product.register_fake
def _(rowptr, col, rowptr_t, col_t, order, x, y):
    return x.new_empty(col.size(0), dtype=torch.promote_types(x.dtype, torch.float32))


def _sampled_product_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _sampled_product_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rowptr, col, rowptr_t, col_t, order, x, y = ctx.saved_tensors
    grad_x = grad_y = None
    grad_t = grad[torch.argsort(col, stable=True) if order is None else order]
    if ctx.needs_input_grad[5]:
        grad_x = torch.ops.genrec_pyg.spmm(
            rowptr, col, grad, rowptr_t, col_t, grad_t, x.size(0), y.size(0), y, 'auto'
        )
    if ctx.needs_input_grad[6]:
        grad_y = torch.ops.genrec_pyg.spmm(
            rowptr_t, col_t, grad_t, rowptr, col, grad, y.size(0), x.size(0), x, 'auto'
        )
    return None, None, None, None, None, grad_x, grad_y


_sampled_product.register_autograd(_sampled_product_backward, setup_context=_sampled_product_setup)


@torch.library.custom_op('genrec_pyg::spmm', mutates_args=())
def _spmm(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    rowptr_t: Tensor,
    col_t: Tensor,
    value_t: Tensor | None,
    num_rows: int,
    num_cols: int,
    x: Tensor,
    backend: str,
) -> Tensor:
    kernel = find_backend(backend, x.device)
    entries, wide = _widen(value, x)
    with full_precision(x):  # else the kernel's own products are cast to bfloat16
        return in_column_blocks(
            lambda part: kernel(rowptr, col, entries, (num_rows, num_cols), part), wide
        ).to(x.dtype)


@_spmm.register_fake
def _(rowptr, col, value, rowptr_t, col_t, value_t, num_rows, num_cols, x, backend):
    return x.new_empty(num_rows, x.size(1))


def _spmm_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    rowptr, col, value, rowptr_t, col_t, value_t, num_rows, num_cols, x, backend = inputs
    needs_value = value is not None and value.requires_grad
    ctx.save_for_backward(rowptr, col, value, rowptr_t, col_t, value_t, x if needs_value else None)
    ctx.sizes, ctx.backend, ctx.needs_value = (num_rows, num_cols), backend, needs_value


def _spmm_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rowptr, col, value, rowptr_t, col_t, value_t, x = ctx.saved_tensors
    num_rows, num_cols = ctx.sizes
    grad_x = grad_value = None
    if ctx.needs_input_grad[8]:
        grad_x = torch.ops.genrec_pyg.spmm(
            rowptr_t, col_t, value_t, rowptr, col, value, num_cols, num_rows, grad, ctx.backend
        )
    if ctx.needs_value:
        grad_value = torch.ops.genrec_pyg.sampled_product(
            rowptr, col, rowptr_t, col_t, None, grad, x
        ).to(value.dtype)
    return None, None, grad_value, None, None, None, None, None, grad_x, None


_spmm.register_autograd(_spmm_backward, setup_context=_spmm_setup)


@torch.library.custom_op('genrec_pyg::layer_mean', mutates_args=())
def _layer_mean(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    rowptr_t: Tensor,
    col_t: Tensor,
    value_t: Tensor | None,
    x: Tensor,
    num_layers: int,
    backend: str,
) -> Tensor:
    entries, wide = _widen(value, x)
    product = partial(find_backend(backend, x.device), rowptr, col, entries, (x.size(0), x.size(0)))
    return in_column_blocks(lambda part: _horner(product, part, num_layers), wide).to(x.dtype)


def _horner(
    product: Callable[[Tensor, Tensor, float], Tensor], x: Tensor, num_layers: int
) -> Tensor:
    r"""Mean over the layers, a new tensor, from ``product(y, x, s)``,
    :math:`s \, (\mathbf{A} \mathbf{y} + \mathbf{x})`.
    """
    if num_layers == 0:
        return x.clone()
    y = x
    with full_precision(x):
        for _ in range(num_layers - 1):
            y = product(y, x, 1.0)
        return product(y, x, 1 / (num_layers + 1))


@_layer_mean.register_fake
def _(rowptr, col, value, rowptr_t, col_t, value_t, x, num_layers, backend):
    return x.new_empty(x.shape)


def _layer_mean_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    rowptr, col, value, rowptr_t, col_t, value_t, _, num_layers, backend = inputs
    ctx.save_for_backward(rowptr, col, value, rowptr_t, col_t, value_t)
    ctx.num_layers, ctx.backend = num_layers, backend


def _layer_mean_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rowptr, col, value, rowptr_t, col_t, value_t = ctx.saved_tensors
    grad_x = torch.ops.genrec_pyg.layer_mean(
        rowptr_t, col_t, value_t, rowptr, col, value, grad, ctx.num_layers, ctx.backend
    )
    return None, None, None, None, None, None, grad_x, None, None


_layer_mean.register_autograd(_layer_mean_backward, setup_context=_layer_mean_setup)


@torch.library.custom_op('genrec_pyg::normalized_layer_mean', mutates_args=())
def _normalized_layer_mean(
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor,
    col_t: Tensor,
    x: Tensor,
    num_layers: int,
    backend: str,
) -> Tensor:
    size, (_, wide) = (x.size(0), x.size(0)), _widen(None, x)
    if backend_name(backend, x.device) == 'triton':
        product = partial(triton_kernels().normalized_spmm, rowptr, col, rowptr_t, size)
    else:
        row_scale, col_scale = (
            symmetric_scale(pointer.diff().to(wide.dtype)) for pointer in (rowptr, rowptr_t)
        )
        value = (
            torch.repeat_interleave(row_scale, rowptr.diff(), output_size=col.numel())
            * col_scale[col]
        )
        product = partial(find_backend(backend, x.device), rowptr, col, value, size)
    return in_column_blocks(lambda part: _horner(product, part, num_layers), wide).to(x.dtype)


@_normalized_layer_mean.register_fake
def _(rowptr, col, rowptr_t, col_t, x, num_layers, backend):
    return x.new_empty(x.shape)


def _normalized_layer_mean_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *layouts, _, num_layers, backend = inputs
    ctx.save_for_backward(*layouts)
    ctx.num_layers, ctx.backend = num_layers, backend


def _normalized_layer_mean_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    rowptr, col, rowptr_t, col_t = ctx.saved_tensors
    grad_x = torch.ops.genrec_pyg.normalized_layer_mean(
        rowptr_t, col_t, rowptr, col, grad, ctx.num_layers, ctx.backend
    )
    return None, None, None, None, grad_x, None, None


_normalized_layer_mean.register_autograd(
    _normalized_layer_mean_backward, setup_context=_normalized_layer_mean_setup
)


def spmm(adj: Adjacency | DividedAdjacency, x: Tensor, backend: str = 'auto') -> Tensor:
    r"""Product :math:`\mathbf{A} \mathbf{x}`, differentiable in ``x`` and, where they require
    gradient, in the entries.

    Backward multiplies with the cached transpose, which a symmetric adjacency never builds. Several
    modalities over one adjacency ``[M, N, d]`` become column blocks of one product: every index is
    read once for all of them.

    Args:
        adj: Sparse matrix ``[R, N]``.
        x: Dense ``[N, d]`` or ``[M, N, d]``; bfloat16 and float16 are multiplied in float32. The
            result has its type.
        backend: ``'auto'``, or a name of :data:`~genrec_pyg.ops.backends.BACKENDS`: ``'csr'``,
            ``'torch_sparse'``, ``'scatter'``, ``'triton'``.

    Returns:
        ``[R, d]`` or ``[M, R, d]``.

    Raises:
        ConfigError: If shapes do not fit or the back end is unknown or not installed.
    """
    if x.dim() not in (2, 3) or x.size(-2) != adj.size[1]:
        raise ConfigError(
            f'spmm: x has shape {tuple(x.shape)}, accepted is [{adj.size[1]}, d] or [M, '
            f'{adj.size[1]}, d]'
        )
    if x.dim() == 3:
        num_views, num_nodes, channels = x.shape
        columns = x.transpose(0, 1).reshape(num_nodes, num_views * channels)
        return spmm(adj, columns, backend).view(adj.size[0], num_views, channels).transpose(0, 1)
    if isinstance(adj, DividedAdjacency):
        return adj.spmm(x, backend)
    return torch.ops.genrec_pyg.spmm(
        adj.rowptr, adj.col, adj.value, *_transpose(adj, x), *adj.size, x, backend
    )


def sampled_product(adj: Adjacency, x: Tensor, y: Tensor) -> Tensor:
    r"""Entries of :math:`\mathbf{x} \mathbf{y}^{\top}` at the positions of a matrix (sampled
    dense-dense product), differentiable in both; neither a row per entry nor the whole product is
    ever held.

    Args:
        adj: Positions ``[R, N]``; values are not read.
        x: Dense ``[R, d]``; bfloat16 and float16 are multiplied in float32.
        y: Dense ``[N, d]``.

    Returns:
        Entries ``[nnz]``, at least float32.

    Raises:
        ConfigError: If shapes do not fit.
    """
    if x.dim() != 2 or y.dim() != 2 or x.size(1) != y.size(1) or (x.size(0), y.size(0)) != adj.size:
        raise ConfigError(
            f'sampled_product: rows of shape {tuple(x.shape)} and {tuple(y.shape)}, accepted are '
            f'[{adj.size[0]}, d] and [{adj.size[1]}, d]'
        )
    transposed, order = adj.transposition()
    return torch.ops.genrec_pyg.sampled_product(
        adj.rowptr, adj.col, transposed.rowptr, transposed.col, order, x, y
    )


def layer_mean(
    adj: Adjacency | DividedAdjacency, x: Tensor, num_layers: int, backend: str = 'auto'
) -> Tensor:
    r"""Mean of the propagated embeddings over the layers, LightGCN's readout, without keeping any
    layer.

    .. math::
        \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{A}^l \mathbf{x}

    by Horner's scheme :math:`\mathbf{y} \leftarrow \mathbf{x} + \mathbf{A} \mathbf{y}`, in which
    sum and product are one pass. The gradient is the same scheme with the transpose, so nothing is
    saved. Only where the entries of ``adj`` require gradient are the layers kept, because that
    gradient needs them.

    Args:
        adj: Square sparse matrix ``[N, N]``.
        x: Dense ``[N, d]``.
        num_layers: Layers ``L``, from 0.
        backend: As in :func:`spmm`.

    Raises:
        ConfigError: If the matrix is not square, shapes do not fit or ``num_layers`` is negative.
    """
    _check_square('layer_mean', adj, x, num_layers)
    if isinstance(adj, DividedAdjacency) or adj.value is not None and adj.value.requires_grad:
        y = x
        for _ in range(num_layers):
            y = x + spmm(adj, y, backend)
        return y / (num_layers + 1)
    return torch.ops.genrec_pyg.layer_mean(
        adj.rowptr, adj.col, adj.value, *_transpose(adj, x), x, num_layers, backend
    )


def normalized_layer_mean(
    adj: Adjacency, x: Tensor, num_layers: int, backend: str = 'auto'
) -> Tensor:
    r"""As :func:`layer_mean`, with the positions of ``adj`` normalized by their degrees within the
    call.

    .. math::
        \frac{1}{L + 1} \sum_{l=0}^{L} \left( \mathbf{D}_r^{-1/2} \mathbf{P} \mathbf{D}_c^{-1/2}
        \right)^l \mathbf{x}

    with :math:`\mathbf{P}` the ones at the positions. For graphs that live for few steps, as a
    sampled one does. The kernel in Triton reads degrees off the offsets and never stores a value;
    the other back ends make the values once per call.

    Args:
        adj: Square sparse matrix ``[N, N]``, whose values are not read.
        x: Dense ``[N, d]``.
        num_layers: Layers ``L``, from 0.
        backend: As in :func:`spmm`.

    Raises:
        ConfigError: If the matrix is not square, shapes do not fit or ``num_layers`` is negative.
    """
    _check_square('normalized_layer_mean', adj, x, num_layers)
    transposed = adj.t()  # without gradient as well: its offsets hold the degrees of the columns
    return torch.ops.genrec_pyg.normalized_layer_mean(
        adj.rowptr, adj.col, transposed.rowptr, transposed.col, x, num_layers, backend
    )


def _check_square(name: str, adj: Adjacency | DividedAdjacency, x: Tensor, num_layers: int) -> None:
    if adj.size[0] != adj.size[1] or x.dim() != 2 or x.size(0) != adj.size[0]:
        raise ConfigError(
            f'{name}: adjacency {adj.size} and x {tuple(x.shape)}, accepted are [N, N] and [N, d]'
        )
    if num_layers < 0:
        raise ConfigError(f'num_layers: got {num_layers}, accepted are integers from 0')


def _transpose(adj: Adjacency, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    # Backward alone reads the transpose, so a product without gradient in x must not build one.
    transposed = adj.t() if torch.is_grad_enabled() and x.requires_grad else adj
    return transposed.rowptr, transposed.col, transposed.value
