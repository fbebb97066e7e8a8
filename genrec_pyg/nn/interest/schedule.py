r"""Schedule of a flip diffusion in the one form in which it enters the closed-form denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_pyg.nn.closed_form import MAX_LEVERAGE, InteractionStatistics
from genrec_pyg.ops import leading_eigenpairs, spmm


@dataclass(frozen=True)
class FlipSchedule:
    r"""Flip rates as what they do to the best linear denoiser: a ridge, weights of the users and a
    discount.

    Flips 1 to 0 of rate :math:`\gamma_i` and 0 to 1 of rate :math:`\epsilon_i` give the denoiser
    the ridge
    :math:`\Lambda_{ii} = (d_i \gamma_i (1 - \gamma_i) + (U - d_i) \epsilon_i (1 - \epsilon_i)) / (1
    - \gamma_i - \epsilon_i)^2`.
    Flips 1 to 0 alone make it proportional to popularity (the dropout ridge of EDLAE,
    `Steck, NeurIPS 2020 <https://proceedings.neurips.cc/paper/2020/hash/e33d974aae13e4d877477d51d8bafdc4-Abstract.html>`_),
    flips 0 to 1 nearly constant, as Gaussian noise does, and rates that depend on the popularity of
    the item everything between:

    .. math::
        \Lambda_{ii} = \lambda \, \overline{G} \, d_i^{2\beta} / \overline{d^{2\beta}}, \qquad
        \mathbf{G} = \mathbf{R}^{\top} \mathrm{diag}(d_u^{-2\alpha}) \mathbf{R}, \qquad
        \hat{x}_{ui} \propto d_i^{-q}

    Args:
        ridge: :math:`\lambda`, in units of the mean diagonal :math:`\overline{G}`.
        ridge_power: :math:`\beta`, 0 for Gaussian noise, 0.5 for flips 1 to 0 of one rate.
        row_weight: :math:`\alpha`, by which long histories count less.
        discount: :math:`q`, which divides a generated interest by a power of the popularity.
    """

    ridge: float = 8.0
    ridge_power: float = 0.15
    row_weight: float = 0.25
    discount: float = 0.1


class KernelPath:
    r"""Kernels of all ridges :math:`\lambda` of one shape, from one eigendecomposition.

    With :math:`\mathbf{T} = \mathrm{diag}(\Lambda_{ii} / \lambda)` and the leading eigenpairs
    :math:`(e, \mathbf{v})` of :math:`\mathbf{T}^{-1/2} \mathbf{G} \mathbf{T}^{-1/2}` the kernel is
    :math:`\mathbf{T}^{-1/2} \mathbf{V} \mathrm{diag}(\tfrac{e}{e + \lambda}) \mathbf{V}^{\top}
    \mathbf{T}^{1/2}`,
    its columns divided by one minus the leverage.

    Args:
        statistics: Statistics of the training interactions, for :math:`\alpha`.
        ridge_power: :math:`\beta`.
        rank: Eigenpairs kept; from the number of items on all of them, which gives the kernel
            exactly.
    """

    def __init__(self, statistics: InteractionStatistics, ridge_power: float, rank: int = 256):
        self.unit = float(statistics.gram_diagonal.mean())
        scale = statistics.ridge(self.unit, ridge_power).rsqrt().unsqueeze(1)
        num_items = scale.size(0)
        if rank >= num_items:
            value, vector = torch.linalg.eigh(scale * statistics.gram() * scale.t())
            self.value, self.vector = value.clamp(min=0), vector
        else:
            self.value, self.vector = leading_eigenpairs(
                lambda y: scale * statistics.gram_product(scale * y),
                num_items,
                rank,
                4,
                scale.squeeze(1),
            )
        self.scale = scale
        self.query = scale * self.vector
        self.history = spmm(statistics.interactions, self.query)

    def keys(self, ridge: float) -> Tensor:
        r"""Keys of the items ``[I, r]`` for :math:`\lambda` = ``ridge``; those of the users are
        :attr:`history` ``[U, r]``.
        """
        shrink = self.value / (self.value + ridge)
        leverage = (self.vector.square() @ shrink).clamp(max=MAX_LEVERAGE)
        return self.vector * shrink / self.scale / (1 - leverage).unsqueeze(1)


def popularity_discount(degree: Tensor, power: float) -> Tensor:
    r"""Factors :math:`d_i^{-q}` ``[I]`` of degrees ``[I]``."""
    return torch.ones_like(degree) if power == 0 else degree.pow(-power)
