r"""Flip diffusion: a two-state Markov chain on every user-item entry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import RowState, SparseRows
from genrec_pyg.nn.diffusion.variational import variational_loss
from genrec_pyg.ops import sample_flips


class FlipRates(NamedTuple):
    r"""Flip probabilities of the steps ``t = 0 .. T - 1``, float64 ``[T]`` each.

    Args:
        gamma: One-step probability of 0 to 1, row 0 of :math:`\mathbf{Q}_t`.
        epsilon: One-step probability of 1 to 0, row 1 of :math:`\mathbf{Q}_t`.
        gamma_bar: Cumulative :math:`\bar{\mathbf{Q}}_t[0, 1]` after the steps ``0 .. t``.
        epsilon_bar: Cumulative :math:`\bar{\mathbf{Q}}_t[1, 0]` after the steps ``0 .. t``.
    """

    gamma: Tensor
    epsilon: Tensor
    gamma_bar: Tensor
    epsilon_bar: Tensor


def flip_rates(density: float, num_steps: int = 5, scale: float = 1.0) -> FlipRates:
    r"""Schedule of `GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_, from the
    share of ones of the rows.

    .. math::
        \gamma_0 = 0.1 (1 - s) + 0.001, \quad \epsilon_0 = 0.005 s + 0.0001, \quad
        s = 1 - \mathrm{density}

    each times ``scale``, falling linearly to a tenth over the steps; :math:`\epsilon` is capped at
    0.01.

    Args:
        density: Share of ones, in [0, 1].
        num_steps: Steps ``T``.
        scale: Factor on all rates; 0 switches the noise off.

    Raises:
        ConfigError: If the first flip rate is not in [0, 0.5].
    """
    gamma_0 = 0.1 * density + 0.001
    epsilon_0 = 0.005 * (1 - density) + 0.0001
    if not 0 <= scale * gamma_0 <= 0.5:
        raise ConfigError(
            f'noise_scale: got {scale}, accepted are 0 to {0.5 / gamma_0:.3g} at density '
            f'{density:.3g}'
        )
    gamma = scale * torch.linspace(gamma_0, gamma_0 / 10, num_steps, dtype=torch.float64)
    epsilon = (
        scale * torch.linspace(epsilon_0, epsilon_0 / 10, num_steps, dtype=torch.float64)
    ).clamp(max=0.01)
    return FlipRates(gamma, epsilon, *cumulative_flips(gamma, epsilon))


def cumulative_flips(gamma: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    r"""Off-diagonal entries of :math:`\bar{\mathbf{Q}}_t = \mathbf{Q}_0 \cdots \mathbf{Q}_t` for
    all ``t``.

    With :math:`\epsilon = 0`, :math:`\bar{\mathbf{Q}}_t[0, 1] = 1 - \prod (1 - \gamma)`.
    """
    gamma_bar, epsilon_bar = torch.empty_like(gamma), torch.empty_like(epsilon)
    up = down = gamma.new_zeros(())
    for t in range(gamma.numel()):
        up = up * (1 - epsilon[t]) + (1 - up) * gamma[t]
        down = down * (1 - gamma[t]) + (1 - down) * epsilon[t]
        gamma_bar[t], epsilon_bar[t] = up, down
    return gamma_bar, epsilon_bar


class FlipProcess(DiffusionProcess):
    r"""Forward and reverse kernels of the flip diffusion.

    The Markov chain with
    :math:`\mathbf{Q}_t = \bigl(\begin{smallmatrix} 1-\gamma_t & \gamma_t \\ \epsilon_t &
    1-\epsilon_t \end{smallmatrix}\bigr)`,
    its exact marginals and posterior; states stay sparse.

    Args:
        num_steps: Steps ``T``.
        scale: Factor on the rates of :func:`flip_rates`.
        weighting: Weight of the steps in the squared error, ``'snr'`` or ``'equal'``.
        sample_noise: Whether the reverse step draws every entry or takes its more probable value.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.diffusion import FlipProcess, SparseRows
        >>> rows = SparseRows(torch.tensor([0, 2]), torch.tensor([1, 3]), num_items=5)
        >>> process = FlipProcess(num_steps=5)
        >>> noisy = process.diffuse(rows, torch.tensor([4]), process.rates(rows))
        >>> noisy.num_items
        5
    """

    def __init__(
        self,
        num_steps: int = 5,
        scale: float = 1.0,
        weighting: str = 'snr',
        sample_noise: bool = True,
    ):
        super().__init__(num_steps, weighting, sample_noise)
        self.scale = scale

    def rates(self, rows: SparseRows) -> FlipRates:
        r"""Rates for a batch of rows, from its density."""
        return flip_rates(rows.density(), self.num_steps, self.scale)

    def diffuse(self, rows: SparseRows, t: Tensor, rates: FlipRates) -> RowState:
        r"""Draws :math:`\mathbf{x}_t \sim q(\mathbf{x}_t | \mathbf{x}_0)` with step ``t`` ``[B]``
        per row.
        """
        device = rows.col.device
        up, down = rates.gamma_bar.to(device)[t], rates.epsilon_bar.to(device)[t]
        return SparseRows(
            *sample_flips(rows.rowptr, rows.col, rows.num_items, up.float(), down.float()),
            rows.num_items,
        )

    def posterior(self, t: int, rates: FlipRates) -> Tensor:
        r"""Table ``[2, 2]`` (float64) of :math:`q(x_{t-1} = 1 | x_t, x_0)`, indexed ``[x_t, x_0]``,
        for ``t >= 1``.

        .. math::
            q(x_{t-1} = 1 | x_t, x_0) \propto P(x_t | x_{t-1} = 1) \, \bar{\mathbf{Q}}_{t-1}[x_0, 1]
        """
        gamma, epsilon = rates.gamma[t], rates.epsilon[t]
        gamma_bar, epsilon_bar = rates.gamma_bar[t - 1], rates.epsilon_bar[t - 1]
        prior = torch.stack([gamma_bar, 1 - epsilon_bar])  # P(x_{t-1} = 1 | x_0)
        from_one = torch.stack([epsilon, 1 - epsilon]).view(2, 1) * prior
        from_zero = torch.stack([1 - gamma, gamma]).view(2, 1) * (1 - prior)
        total = from_one + from_zero
        # With zero noise the pair x_t != x_0 cannot occur; its posterior is then x_0 itself.
        return torch.where(
            total > 0,
            from_one / total.clamp(min=1e-300),
            total.new_tensor([[0.0, 1.0]]).expand(2, 2),
        )

    def reverse(self, state: RowState, estimate: Tensor, t: int, rates: FlipRates) -> RowState:
        r"""Draws :math:`\mathbf{x}_{t-1}` from :math:`\sum_{x_0} q(x_{t-1} | x_t, x_0) \, p(x_0)`,
        or takes the more probable value, for ``t >= 1``.

        Args:
            state: :math:`\mathbf{x}_t`.
            estimate: Predicted :math:`p(x_0 = 1)` ``[B, I]``.
            t: Step.
            rates: Rates of this batch.
        """
        table = self.posterior(t, rates)
        draw = (
            torch.rand_like(estimate)
            if self.sample_noise
            else estimate.new_full((1, 1), 0.5).expand_as(estimate)
        )
        sample = draw < _mix(table[0], estimate)
        row, col = state.row(), state.col.long()
        sample[row, col] = draw[row, col] < _mix(table[1], estimate[row, col])
        return SparseRows.from_dense(sample)

    def variational(
        self, estimate: Tensor, rows: SparseRows, noisy: SparseRows, t: Tensor, rates: FlipRates
    ) -> Tensor:
        r"""Variational term, see :func:`~genrec_pyg.nn.diffusion.variational.variational_loss`."""
        table = torch.zeros(self.num_steps, 2, 2, dtype=torch.float64)
        for step in range(1, self.num_steps):
            table[step] = self.posterior(step, rates)
        return variational_loss(estimate, rows, noisy, t, table)

    def unbiased(self, rates: FlipRates) -> Tensor:
        r""":math:`\bar\gamma_t` and :math:`1 - \bar\gamma_t - \bar\epsilon_t`."""
        return torch.stack([rates.gamma_bar, 1 - rates.gamma_bar - rates.epsilon_bar], dim=1)

    def estimate_variance(self, popularity: Tensor, num_users: int, rates: FlipRates) -> Tensor:
        r""":math:`[d_j \bar\epsilon (1 - \bar\epsilon) + (U - d_j) \bar\gamma (1 - \bar\gamma)] /
        (1 - \bar\gamma - \bar\epsilon)^2`:
        ones and zeros have noise of their own.
        """
        up, down = float(rates.gamma_bar[-1]), float(rates.epsilon_bar[-1])
        return (popularity * down * (1 - down) + (num_users - popularity) * up * (1 - up)) / (
            1 - up - down
        ) ** 2

    def entry_variance(self, density: float, rates: FlipRates) -> Tensor:
        r""":math:`[p \bar\epsilon_t (1 - \bar\epsilon_t) + (1 - p) \bar\gamma_t (1 - \bar\gamma_t)]
        / (1 - \bar\gamma_t - \bar\epsilon_t)^2`
        at density ``p``.
        """
        up, down = rates.gamma_bar, rates.epsilon_bar
        return (density * down * (1 - down) + (1 - density) * up * (1 - up)) / (1 - up - down) ** 2


def _mix(pair: Tensor, probability: Tensor) -> Tensor:
    r"""Mixture of the two posteriors given :math:`x_0 = 0` and :math:`x_0 = 1`, affine in the
    prediction.
    """
    zero, one = pair.tolist()
    return zero + (one - zero) * probability
