r"""Eigenpairs of operators that are known by their products alone."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def leading_eigenpairs(product: Callable[[Tensor], Tensor], size: int, rank: int, num_iterations: int,
                       like: Tensor) -> tuple[Tensor, Tensor]:
    r"""Leading eigenpairs of a symmetric positive semi-definite operator by randomized subspace iteration with a
    Rayleigh-Ritz step (`Halko, Martinsson, Tropp, SIAM Review 2011 <https://arxiv.org/abs/0909.4061>`_, Algorithms 4.4 and
    5.3).

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
    # A generator of its own: the result must not depend on what was drawn before, nor change what is drawn after.
    generator = torch.Generator(device='cpu').manual_seed(0)
    basis = torch.randn(size, width, generator=generator).to(like)
    for _ in range(num_iterations):
        basis = torch.linalg.qr(product(basis)).Q
    basis = torch.linalg.qr(product(basis)).Q
    value, rotation = torch.linalg.eigh(basis.t() @ product(basis))
    order = torch.arange(width - 1, width - 1 - rank, -1, device=like.device)
    return value[order].clamp(min=0), basis @ rotation[:, order]
