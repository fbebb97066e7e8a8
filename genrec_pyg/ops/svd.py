r"""Soft-thresholding of singular values."""

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError


def singular_value_threshold(x: Tensor, fraction: float) -> Tensor:
    r"""Soft-thresholds the singular values of a feature matrix.

    .. math::
        \mathbf{X} = \mathbf{U} \boldsymbol{\Sigma} \mathbf{V}^{\top} \mapsto \mathbf{U}
        \max(\boldsymbol{\Sigma} - \lambda, 0) \mathbf{V}^{\top}, \quad
        \lambda = \mathrm{fraction} \cdot \sigma_1

    It is the proximal operator of the nuclear norm: weak directions, taken as noise, vanish and
    strong ones shrink.

    Args:
        x: Features ``[n, d]``, cast to float32 unless float64.
        fraction: Threshold as fraction of the largest singular value, in [0, 1]; 0 returns the
            features as they are.

    Raises:
        ConfigError: If ``fraction`` is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ConfigError(
            f'svt: got {fraction!r}, accepted is a fraction of the largest singular value '
            f'from 0 to 1'
        )
    x = x if x.dtype == torch.float64 else x.float()
    if fraction == 0 or x.numel() == 0:
        return x
    u, sigma, v = torch.linalg.svd(x, full_matrices=False)
    return (u * (sigma - fraction * sigma[0]).clamp(min=0)) @ v
