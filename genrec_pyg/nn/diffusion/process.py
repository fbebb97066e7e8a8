r"""The interface of diffusion processes on user-item rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.states import ItemKeys, RowState, SparseRows

#: Accepted weights of the steps in the squared error.
WEIGHTINGS = ('snr', 'equal')


class DiffusionProcess(ABC):
    r"""Interface through which the generator, the objectives and the linear denoiser use a
    diffusion process.

    Steps are ``t = 0 .. T - 1``: :math:`\mathbf{x}_0` below is the clean row, and the state at step
    ``t`` has passed the steps ``0 .. t``. A schedule is whatever :meth:`rates` returns; only the
    process itself looks into it.

    Args:
        num_steps: Steps ``T``.
        weighting: Weight of the steps in the squared error, see :meth:`step_weight`: ``'snr'`` or
            ``'equal'``.
        sample_noise: Whether a reverse step draws from its distribution or takes the most probable
            state.

    Raises:
        ConfigError: If ``num_steps`` is less than 1 or ``weighting`` unknown.
    """

    #: Whether states are zeros and ones, so that a reverse step needs probabilities; otherwise any
    #: estimate will do.
    binary: bool = True
    #: Whether a reverse step is linear in state and estimate, as :meth:`reverse_factored` needs it.
    linear: bool = False

    def __init__(self, num_steps: int, weighting: str = 'snr', sample_noise: bool = True):
        if num_steps < 1:
            raise ConfigError(f'num_steps: got {num_steps}, accepted are integers from 1')
        if weighting not in WEIGHTINGS:
            raise ConfigError(
                f'weighting: got {weighting!r}, accepted are {", ".join(map(repr, WEIGHTINGS))}'
            )
        self.num_steps = num_steps
        self.weighting = weighting
        self.sample_noise = sample_noise

    @abstractmethod
    def rates(self, rows: SparseRows) -> Any:
        r"""Schedule for a batch of rows."""

    @abstractmethod
    def diffuse(self, rows: SparseRows, t: Tensor, rates: Any) -> RowState:
        r"""Draws :math:`\mathbf{x}_t \sim q(\mathbf{x}_t | \mathbf{x}_0)` with step ``t`` ``[B]``
        per row.
        """

    @abstractmethod
    def reverse(self, state: RowState, estimate: Tensor, t: int, rates: Any) -> RowState:
        r"""State at step ``t - 1`` given that at ``t >= 1`` and an estimate of :math:`\mathbf{x}_0`
        ``[B, I]``.
        """

    def reverse_factored(
        self, state: RowState, query: Tensor, keys: ItemKeys, t: int, rates: Any
    ) -> RowState:
        r""":meth:`reverse` of a linear process for an estimate given by factors, which is never
        materialized.

        Args:
            state: State at step ``t``.
            query: Queries ``[B, q]``.
            keys: Keys of the items; with the queries they give the estimate.
            t: Step, from 1.
            rates: Schedule.
        """
        raise TypeError(f'{type(self).__name__} does not implement reverse_factored()')

    @abstractmethod
    def variational(
        self, estimate: Tensor, rows: SparseRows, noisy: RowState, t: Tensor, rates: Any
    ) -> Tensor:
        r"""Variational term
        :math:`\min(t / T, 0.5) \, \mathrm{KL}(q(\mathbf{x}_{t-1} | \mathbf{x}_t, \mathbf{x}_0)
        \Vert p_\theta(\mathbf{x}_{t-1} | \mathbf{x}_t))`,
        mean over rows.
        """

    @abstractmethod
    def unbiased(self, rates: Any) -> Tensor:
        r"""Shift and scale ``[T, 2]`` with which
        :math:`(\mathbf{x}_t - \mathrm{shift}_t) / \mathrm{scale}_t` is an unbiased estimate of
        :math:`\mathbf{x}_0`.
        """

    @abstractmethod
    def estimate_variance(self, popularity: Tensor, num_users: int, rates: Any) -> Tensor:
        r"""Variance of these estimates at the last step, summed over the users, per item ``[I]``.

        Args:
            popularity: Users of every item ``[I]``.
            num_users: Number of users.
            rates: Schedule.
        """

    @abstractmethod
    def entry_variance(self, density: float, rates: Any) -> Tensor:
        r"""Variance of the estimates at every step ``[T]``, float64, mean over entries of which a
        share ``density`` is one.
        """

    def step_weight(self, rows: SparseRows, rates: Any) -> Tensor:
        r"""Weight of the squared error of every step ``[T]``, float64.

        ``'snr'``: the fall over the step of the signal-to-noise ratio, one over
        :meth:`entry_variance`, and 1 at the first step, before which it is infinite. For Gaussian
        noise that is the fall of :math:`\bar\alpha / (1 - \bar\alpha)`, twice the coefficient in
        the variational bound (DiffMM). ``'equal'``: ones.
        """
        if self.weighting == 'equal':
            return torch.ones(self.num_steps, dtype=torch.float64)
        return ratio_fall(
            1
            / self.entry_variance(rows.density(), rates).clamp(min=torch.finfo(torch.float64).tiny)
        )


def ratio_fall(ratio: Tensor) -> Tensor:
    r"""Fall of ``ratio`` ``[T]`` from each step to the next, 1 at the first."""
    return torch.cat([ratio.new_ones(1), ratio[:-1] - ratio[1:]])
