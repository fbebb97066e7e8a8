r"""Gaussian diffusion of user-item rows, the noise of DiffMM."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.objectives import squared_error
from genrec_pyg.nn.diffusion.process import DiffusionProcess, ratio_fall
from genrec_pyg.nn.diffusion.states import FactoredRows, ItemKeys, RowState, SparseRows, dense_rows

#: Rate of the first step in every schedule (DiffMM, https://arxiv.org/abs/2406.11781).
FIRST_RATE = 1e-4
#: Largest rate of a step.
LARGEST_RATE = 0.999


class GaussianRates(NamedTuple):
    r"""Schedule of the steps ``t = 0 .. T - 1``, float64 ``[T]`` each.

    Args:
        beta: One-step variance :math:`\beta_t`.
        alpha_bar: :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`, the share of the signal's
            energy that is left.
        clean: Coefficient of :math:`\mathbf{x}_0` in the posterior mean.
        noisy: Coefficient of :math:`\mathbf{x}_t` in the posterior mean.
        variance: Posterior variance.
    """

    beta: Tensor
    alpha_bar: Tensor
    clean: Tensor
    noisy: Tensor
    variance: Tensor


def gaussian_rates(
    num_steps: int = 5, scale: float = 1.0, first: float = 1e-5, last: float = 2e-3
) -> GaussianRates:
    r"""Schedule of DiffMM: total variances :math:`v_t` rise linearly from ``first`` to ``last``,
    each times ``scale``.

    .. math::
        \beta_t = \min \Bigl( 1 - \frac{1 - v_t}{1 - v_{t-1}}, 0.999 \Bigr), \quad
        \beta_0 = 10^{-4}, \quad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)

    The cumulative product follows from the rates, so that marginals and posterior belong to one
    chain although :math:`\beta_0` is replaced.

    Args:
        num_steps: Steps ``T``.
        scale: Factor on the variances.
        first: First variance; DiffMM's 0.0001 times its noise scale 0.1.
        last: Last variance; DiffMM's 0.02 times the same.

    Raises:
        ConfigError: If a variance reaches 1 or they fall.
    """
    if not scale >= 0 or not scale * last < 1:
        raise ConfigError(
            f'noise_scale: got {scale}, accepted are 0 up to but not including {1 / last:g}'
        )
    if not 0 <= first <= last:
        raise ConfigError(f'first: got {first}, accepted are numbers from 0 to last = {last}')
    left = 1 - scale * torch.linspace(first, last, num_steps, dtype=torch.float64)
    return posterior_rates(
        torch.cat(
            [left.new_tensor([FIRST_RATE]), (1 - left[1:] / left[:-1]).clamp(max=LARGEST_RATE)]
        )
    )


def posterior_rates(beta: Tensor) -> GaussianRates:
    r"""Marginals and posteriors of the chain with the one-step variances ``beta`` ``[T]``, the
    first of them positive.
    """
    alpha_bar = (1 - beta).cumprod(0)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return GaussianRates(
        beta,
        alpha_bar,
        beta * before.sqrt() / (1 - alpha_bar),
        (1 - before) * (1 - beta).sqrt() / (1 - alpha_bar),
        beta * (1 - before) / (1 - alpha_bar),
    )


class GaussianProcess(DiffusionProcess):
    r"""Forward and reverse kernels of Gaussian diffusion (Ho, Jain, Abbeel, NeurIPS 2020, Eqs. 4, 6
    and 7; on rows of interactions: DiffMM).

    .. math::
        q(\mathbf{x}_t | \mathbf{x}_0) = \mathcal{N}(\sqrt{\bar\alpha_t} \, \mathbf{x}_0, (1
        - \bar\alpha_t) \mathbf{I})

    States are dense, one block of users at a time. Of a chain of posterior means none is ever made:
    it is a sum of the start and of the estimates, which have factors (:meth:`reverse_factored`).

    Args:
        num_steps: Steps ``T``.
        scale: Factor on the variances of :func:`gaussian_rates`.
        weighting: Weight of the steps in the squared error, ``'snr'`` or ``'equal'``.
        sample_noise: Whether the reverse step draws from the posterior or takes its mean.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.diffusion import GaussianProcess, SparseRows
        >>> rows = SparseRows(torch.tensor([0, 2]), torch.tensor([1, 3]), num_items=5)
        >>> process = GaussianProcess(num_steps=5)
        >>> process.diffuse(rows, torch.tensor([4]), process.rates(rows)).shape
        torch.Size([1, 5])
    """

    binary = False

    def __init__(
        self,
        num_steps: int = 5,
        scale: float = 1.0,
        weighting: str = 'snr',
        sample_noise: bool = True,
    ):
        super().__init__(num_steps, weighting, sample_noise)
        self.scale = scale
        self.linear = not sample_noise
        self._rates = gaussian_rates(num_steps, scale)

    def rates(self, rows: SparseRows) -> GaussianRates:
        r"""The schedule, which no row changes."""
        return self._rates

    def diffuse(self, rows: SparseRows, t: Tensor, rates: GaussianRates) -> Tensor:
        r"""Draws :math:`\mathbf{x}_t` ``[B, I]`` with step ``t`` ``[B]`` per row."""
        left = rates.alpha_bar.to(rows.col.device)[t].unsqueeze(1)
        clean = rows.dense()
        noise = torch.randn_like(clean).mul_((1 - left).sqrt().to(clean.dtype))
        return noise.addcmul_(clean, left.sqrt().to(clean.dtype))

    def posterior(self, t: int, rates: GaussianRates) -> tuple[float, float, float]:
        r"""Coefficients of :math:`\mathbf{x}_0` and :math:`\mathbf{x}_t` in the mean of
        :math:`q(\mathbf{x}_{t-1} | \mathbf{x}_t, \mathbf{x}_0)`, and its variance. At ``t = 0``
        they are 1, 0 and 0: the estimate itself.

        .. math::
            \frac{\beta_t \sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_t}, \qquad
            \frac{(1 - \bar\alpha_{t-1}) \sqrt{1 - \beta_t}}{1 - \bar\alpha_t}, \qquad
            \frac{\beta_t (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}
        """
        return float(rates.clean[t]), float(rates.noisy[t]), float(rates.variance[t])

    def reverse(self, state: RowState, estimate: Tensor, t: int, rates: GaussianRates) -> Tensor:
        r"""Posterior mean ``[B, I]``, with noise if ``sample_noise``, for ``t >= 1``."""
        clean, noisy, variance = self.posterior(t, rates)
        before = clean * estimate + noisy * dense_rows(state).to(estimate.dtype)
        if self.sample_noise:
            before.add_(torch.randn_like(before), alpha=variance**0.5)
        return before

    def reverse_factored(
        self, state: RowState, query: Tensor, keys: ItemKeys, t: int, rates: GaussianRates
    ) -> FactoredRows:
        r"""Posterior mean as a multiple of the start of the chain and a product of factors."""
        clean, noisy, _ = self.posterior(t, rates)
        if isinstance(state, FactoredRows):
            return state._replace(
                share=noisy * state.share, query=clean * query + noisy * state.query
            )
        return FactoredRows(state, noisy, clean * query, keys)

    def variational(
        self, estimate: Tensor, rows: SparseRows, noisy: RowState, t: Tensor, rates: GaussianRates
    ) -> Tensor:
        r"""Variational term: both Gaussians have the posterior variance, so that

        .. math::
            \mathrm{KL} = \frac{1}{2} \Bigl( \frac{\bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}}
            - \frac{\bar\alpha_t}{1 - \bar\alpha_t} \Bigr) \Vert \mathbf{x}_0
            - \hat{\mathbf{x}}_0 \Vert^2
        """
        weight = (
            ratio_fall(rates.alpha_bar / (1 - rates.alpha_bar)).to(t.device)[t]
            / 2
            * (t / self.num_steps).clamp(max=0.5)
        )
        return rows.num_items * squared_error(estimate, rows, weight.to(estimate.dtype))

    def unbiased(self, rates: GaussianRates) -> Tensor:
        r"""Zero and :math:`\sqrt{\bar\alpha_t}`."""
        return torch.stack([torch.zeros_like(rates.alpha_bar), rates.alpha_bar.sqrt()], dim=1)

    def estimate_variance(self, popularity: Tensor, num_users: int, rates: GaussianRates) -> Tensor:
        r""":math:`U (1 - \bar\alpha) / \bar\alpha` for every item: noise that knows nothing of the
        entry.
        """
        left = float(rates.alpha_bar[-1])
        return torch.full_like(popularity, num_users * (1 - left) / left)

    def entry_variance(self, density: float, rates: GaussianRates) -> Tensor:
        r""":math:`(1 - \bar\alpha_t) / \bar\alpha_t` at any density."""
        return (1 - rates.alpha_bar) / rates.alpha_bar
