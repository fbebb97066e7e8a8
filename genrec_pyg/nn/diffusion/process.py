r"""The interface of diffusion processes on user-item rows."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.rows import RowState, SparseRows


class DiffusionProcess(ABC):
    r"""What generator, objectives and closed-form denoiser know of a process, so that one may stand in for another.

    Steps are ``t = 0 .. T - 1``: :math:`\mathbf{x}_0` below is the clean row, and the state at step ``t`` has passed the
    steps ``0 .. t``. A schedule is whatever :meth:`rates` returns; only the process itself looks into it.

    Args:
        num_steps: Steps ``T``.

    Raises:
        ConfigError: If ``num_steps`` is less than 1.
    """
    #: Whether this is what a published code computes, with its own loss.
    released: bool = False
    #: Whether states are zeros and ones, so that a reverse step needs probabilities; otherwise any estimate will do.
    binary: bool = True

    def __init__(self, num_steps: int):
        if num_steps < 1:
            raise ConfigError(f'num_steps: got {num_steps}, accepted are integers from 1')
        self.num_steps = num_steps

    @abstractmethod
    def rates(self, rows: SparseRows) -> Any:
        r"""Schedule for a batch of rows."""

    @abstractmethod
    def diffuse(self, rows: SparseRows, t: Tensor, rates: Any) -> RowState:
        r"""Draws :math:`\mathbf{x}_t \sim q(\mathbf{x}_t | \mathbf{x}_0)` with step ``t`` ``[B]`` per row."""

    @abstractmethod
    def reverse(self, state: RowState, estimate: Tensor, t: int, rates: Any) -> RowState:
        r"""State at step ``t - 1`` given that at ``t >= 1`` and an estimate of :math:`\mathbf{x}_0` ``[B, I]``."""

    @abstractmethod
    def variational(self, estimate: Tensor, rows: SparseRows, noisy: RowState, t: Tensor, rates: Any) -> Tensor:
        r"""Variational term :math:`\min(t / T, 0.5) \, \mathrm{KL}(q(\mathbf{x}_{t-1} | \mathbf{x}_t, \mathbf{x}_0) \Vert
        p_\theta(\mathbf{x}_{t-1} | \mathbf{x}_t))`, mean over rows."""

    @abstractmethod
    def unbiased(self, rates: Any) -> Tensor:
        r"""Shift and scale ``[T, 2]`` with which :math:`(\mathbf{x}_t - \mathrm{shift}_t) / \mathrm{scale}_t` is an unbiased
        estimate of :math:`\mathbf{x}_0`."""

    @abstractmethod
    def estimate_variance(self, popularity: Tensor, num_users: int, rates: Any) -> Tensor:
        r"""Variance of these estimates at the last step, summed over the users, per item ``[I]``.

        Args:
            popularity: Users of every item ``[I]``.
            num_users: Number of users.
            rates: Schedule.
        """

    def step_weight(self, rates: Any) -> Tensor:
        r"""Weight of the squared error of every step ``[T]``, float64; ones unless the process says otherwise."""
        return torch.ones(self.num_steps, dtype=torch.float64)


def dense_rows(state: RowState) -> Tensor:
    r"""The state as a matrix ``[B, I]``."""
    return state.dense() if isinstance(state, SparseRows) else state
