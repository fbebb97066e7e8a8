r"""Eigenpairs and singular triplets of matrices that are known by their products alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.adjacency import Adjacency
from genrec_pyg.ops.spmm import spmm


def leading_eigenpairs(
    product: Callable[[Tensor], Tensor], size: int, rank: int, num_iterations: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Leading eigenpairs of a symmetric positive semi-definite operator by randomized subspace
    iteration with a Rayleigh-Ritz step
    (`Halko, Martinsson, Tropp, SIAM Review 2011 <https://arxiv.org/abs/0909.4061>`_, Algorithms 4.4
    and 5.3).

    Args:
        product: Function that multiplies the operator with ``[size, k]``.
        size: Order of the operator.
        rank: Pairs wanted.
        num_iterations: Power iterations.
        like: Tensor whose device and precision the computation takes.

    Returns:
        Eigenvalues ``[rank]``, descending, and eigenvectors ``[size, rank]``.
    """
    width = min(rank + 32, size)
    # A generator of its own: the result must not depend on what was drawn before, nor change what
    # is drawn after.
    generator = torch.Generator(device='cpu').manual_seed(0)
    basis = torch.randn(size, width, generator=generator).to(like)
    for _ in range(num_iterations):
        basis = torch.linalg.qr(product(basis)).Q
    basis = torch.linalg.qr(product(basis)).Q
    value, rotation = torch.linalg.eigh(basis.t() @ product(basis))
    order = torch.arange(width - 1, width - 1 - rank, -1, device=like.device)
    return value[order].clamp(min=0), basis @ rotation[:, order]


@torch.no_grad()
def block_krylov_svd(
    matrix: Adjacency, rank: int, num_steps: int = 16, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Leading singular triplets of a sparse matrix by block Krylov iteration
    (`Musco, Musco, NeurIPS 2015 <https://arxiv.org/abs/1504.05477>`_, Algorithm 2).

    The spectra of user-item graphs decay so slowly that subspace iteration of the same cost is far
    from them. All powers of a random block are kept, with full orthogonalization, and a
    Rayleigh-Ritz step takes the best triplets of their span: memory
    ``min(M, N) x (num_steps + 1) b`` with ``b = max(16, rank / 2)``, or all of the space where that
    is smaller, and then the result is exact. Computed in float64.

    Args:
        matrix: Sparse matrix ``[M, N]``.
        rank: Triplets wanted.
        num_steps: Powers after the first.
        seed: Seed of the start; torch's global random state is neither read nor changed.

    Returns:
        Left vectors ``[M, r]``, singular values ``[r]``, descending, and right vectors ``[N, r]``
        of the type of the matrix, with ``r`` the smallest of ``rank``, ``M`` and ``N``. Signs of
        pairs of vectors are arbitrary.

    Raises:
        ConfigError: If ``rank`` is below 1 or ``num_steps`` negative.
    """
    for name, number, low in (('rank', rank, 1), ('num_steps', num_steps, 0)):
        if number < low:
            raise ConfigError(f'{name}: got {number}, accepted are integers from {low}')
    if matrix.size[0] > matrix.size[1]:
        right, value, left = block_krylov_svd(matrix.t(), rank, num_steps, seed)
        return left, value, right
    dtype = torch.float32 if matrix.value is None else matrix.value.dtype
    matrix = matrix.with_value(
        None if matrix.value is None else matrix.value.detach().double(), matrix.symmetric
    )
    size = matrix.size[0]
    width = max(16, -(-rank // 2))
    num_columns = min((num_steps + 1) * width, size)
    generator = torch.Generator(device='cpu').manual_seed(seed)
    basis = torch.empty(size, num_columns, dtype=torch.float64, device=matrix.device)
    block = torch.randn(size, width, dtype=torch.float64, generator=generator).to(matrix.device)
    for begin in range(0, num_columns, width):
        known = basis[:, :begin]
        block = block[:, : num_columns - begin]
        # what is left of a direction that is known already is rounding, so once is not enough
        for _ in range(3):
            block = torch.linalg.qr(block - known @ (known.t() @ block)).Q
        basis[:, begin : begin + width] = block
        block = spmm(matrix, spmm(matrix.t(), block))
    right, value, rotation = torch.linalg.svd(spmm(matrix.t(), basis), full_matrices=False)
    kept = min(rank, *matrix.size)
    return (
        (basis @ rotation[:kept].t()).to(dtype),
        value[:kept].to(dtype),
        right[:, :kept].to(dtype),
    )
