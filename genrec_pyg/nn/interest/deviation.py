r"""Standard deviation over the items of scores that are inner products, of which none is
computed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def key_covariance(key: Tensor) -> Tensor:
    r"""Covariance ``[q, q]`` over the items of keys ``[I, q]``."""
    centered = key - key.mean(dim=0)
    return centered.t() @ centered / key.size(0)


def score_variance(query: Tensor, covariance: Tensor) -> Tensor:
    r"""Variance ``[B, 1]`` over the items of the scores of queries ``[B, q]``,
    :math:`\mathbf{q}_u \mathrm{Cov}(\mathbf{K}) \mathbf{q}_u^{\top}`, given :func:`key_covariance`.
    """
    return ((query @ covariance) * query).sum(dim=1, keepdim=True)


def inverse_deviation(variance: Tensor) -> Tensor:
    r"""One over the root of a variance, 0 where that is 0."""
    tiny = torch.finfo(variance.dtype).tiny
    return variance.clamp(min=tiny).rsqrt() * (variance > tiny)


def standardized(x: Tensor) -> Tensor:
    r"""Values of mean 0 and standard deviation 1; zero where all are equal."""
    return (x - x.mean()) * inverse_deviation(x.var(correction=0))


def unit_scores(query: Tensor, key: Tensor) -> Tensor:
    r"""Queries ``[B, q]`` scaled so that the inner products of each with all keys ``[I, q]`` have
    standard deviation 1 over the items; zero where these are all equal. Several of a user
    ``[B, K, q]`` are scaled alike, so that the mean of their variances is 1.
    """
    if query.dim() == 2:
        return query * inverse_deviation(score_variance(query, key_covariance(key)))
    variance = score_variance(query.flatten(0, 1), key_covariance(key)).view(*query.shape[:2], 1)
    return query * inverse_deviation(variance.mean(dim=1, keepdim=True))
