r"""Gaussian embeddings: products of experts, samples and their distance from the standard
normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Added to a variance before it is inverted, so that no precision is infinite.
_SMALLEST_VARIANCE = 1e-8


class Gaussian(NamedTuple):
    r"""Independent normal distributions: ``mean`` and ``log_variance``, both ``[n, d]``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise_scale: float = 1.0, max_log_variance: float = 10.0) -> Tensor:
        r"""Draws :math:`\boldsymbol{\mu} + s \, \boldsymbol{\epsilon} \odot \boldsymbol{\sigma}`
        ``[n, d]`` with gradient (Kingma and Welling, ICLR 2014, https://arxiv.org/abs/1312.6114).

        Args:
            noise_scale: Factor ``s`` on the noise.
            max_log_variance: Largest log variance that counts.
        """
        deviation = (0.5 * self.log_variance.clamp(max=max_log_variance)).exp()
        return self.mean + noise_scale * torch.randn_like(self.mean) * deviation

    def kl(self, max_log_variance: float = 10.0) -> Tensor:
        r"""Kullback-Leibler divergence of each row from the standard normal ``[n]``.

        .. math::
            \frac{1}{2} \sum_k \left( \sigma_k^2 + \mu_k^2 - 1 - \log \sigma_k^2 \right)

        Args:
            max_log_variance: Largest log variance that counts.
        """
        log_variance = self.log_variance.clamp(max=max_log_variance)
        return 0.5 * (log_variance.exp() + self.mean.square() - 1 - log_variance).sum(dim=1)


def product_of_experts(
    experts: Sequence[Gaussian], masks: Sequence[Tensor | None] | None = None
) -> Gaussian:
    r"""Normalized product of Gaussian densities, which is Gaussian again (Hinton, Neural
    Computation 2002, https://doi.org/10.1162/089976602760128018).

    .. math::
        \boldsymbol{\sigma}^{-2} = \sum_e \boldsymbol{\sigma}_e^{-2}, \qquad
        \boldsymbol{\mu} = \boldsymbol{\sigma}^2 \sum_e \boldsymbol{\sigma}_e^{-2}
        \boldsymbol{\mu}_e

    Args:
        experts: Distributions ``[n, d]``, at least one.
        masks: Per expert the rows that it takes part in, boolean ``[n, 1]``, or :obj:`None` for
            all. A row without any expert is the standard normal.

    Raises:
        ConfigError: If there is no expert.
    """
    if not experts:
        raise ConfigError('experts: got none, accepted is at least one')
    masks = [None] * len(experts) if masks is None else masks
    precisions = []
    for expert, mask in zip(experts, masks, strict=True):
        precision = 1 / (expert.log_variance.exp() + _SMALLEST_VARIANCE)
        precisions.append(precision if mask is None else precision * mask)
    total = sum(precisions)
    total = torch.where(total > 0, total, torch.ones_like(total))
    mean = sum(precision * expert.mean for precision, expert in zip(precisions, experts)) / total
    return Gaussian(mean, -total.log())
