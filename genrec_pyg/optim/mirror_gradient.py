r"""Mirror Gradient: a second, small step against the first one, towards flat minima."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError


def check_coefficients(alpha1: float, alpha2: float, interval: int) -> None:
    r"""Checks the coefficients of :class:`MirrorGradient`.

    Raises:
        ConfigError: Unless ``0 <= alpha2 < alpha1`` and ``interval`` is an integer from 1.
    """
    if not 0 <= alpha2 < alpha1 < float('inf'):
        raise ConfigError(
            f'alpha1, alpha2: got {alpha1} and {alpha2}, accepted are 0 <= alpha2 < alpha1'
        )
    if not isinstance(interval, Integral) or isinstance(interval, bool) or interval < 1:
        raise ConfigError(f'interval: got {interval!r}, accepted are integers from 1')


class MirrorGradient(torch.optim.Optimizer):
    r"""Mirror Gradient around any optimizer of torch (Zhong, Huang, Li, Wen, Qin, Lin, "Mirror
    Gradient: Towards Robust Multimodal Recommender Systems via Exploring Flat Local Minima", WWW
    2024).

    At batch :math:`b` of an epoch with :math:`b \bmod \beta = 0` the wrapped optimizer makes two
    steps on the same batch,

    .. math::
        \theta' = \mathrm{Opt}(\theta, \alpha_1 \nabla L(\theta)), \qquad
        \theta'' = \mathrm{Opt}(\theta', -\alpha_2 \nabla L(\theta'))

    and one plain step :math:`\mathrm{Opt}(\theta, \nabla L(\theta))` at any other. With plain SGD
    of rate :math:`\eta` this descends, to second order,
    :math:`L + \frac{\eta \alpha_1 \alpha_2}{2 (\alpha_1 - \alpha_2)} \Vert \nabla L \Vert^2`: the
    norm of the gradient is penalized. Both steps share one optimizer state, so an adaptive
    optimizer counts two steps, and decoupled or coupled weight decay acts in both. The price is
    :math:`1 + 1 / \beta` forward and backward passes.

    With ``alpha2=0`` there is no second step; with ``alpha1=1`` as well every step is the wrapped
    optimizer's, bit for bit.

    The wrapped optimizer's parameter groups and state are this one's too, so learning-rate
    schedulers take either. Mixed precision goes into the closure (``torch.autocast``); a
    :class:`torch.amp.GradScaler`, which float16 needs and bfloat16 does not, takes no closures.

    Args:
        optimizer: Optimizer to wrap; any whose ``step`` needs no closure.
        alpha1: Coefficient :math:`\alpha_1` of the first step.
        alpha2: Coefficient :math:`\alpha_2` of the second, at least 0 and below ``alpha1``.
        interval: Interval :math:`\beta` in batches.

    Raises:
        ConfigError: On coefficients outside these ranges or an optimizer that calls a closure
            itself.

    Examples:
        >>> import torch
        >>> from genrec_pyg.optim import MirrorGradient
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = MirrorGradient(torch.optim.Adam(model.parameters()))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(torch.ones(4, 2)).square().mean()
        ...     loss.backward()  # clip gradients here, so that it applies to both steps
        ...     return loss
        >>> bool(optimizer.step(closure) >= 0)
        True
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        alpha1: float = 1.0,
        alpha2: float = 0.2,
        interval: int = 3,
    ):
        if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(
            optimizer, (torch.optim.LBFGS, MirrorGradient)
        ):
            raise ConfigError(
                f'optimizer: got {type(optimizer).__name__}, accepted are optimizers of torch '
                f'whose step needs no closure'
            )
        check_coefficients(alpha1, alpha2, interval)
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.optimizer = optimizer
        self.alpha1, self.alpha2, self.interval = alpha1, alpha2, int(interval)
        self.batch = 0
        self._share()
        # loading makes new groups and a new state
        optimizer.register_load_state_dict_post_hook(lambda _: self._share())

    def _share(self) -> None:
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state

    def start_epoch(self) -> None:
        r"""Counts batches from 0 again; without it the interval runs on from one epoch into the
        next.
        """
        self.batch = 0

    # The closure is not optional, and the loss stays a tensor: mirrored steps evaluate it twice.
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        r"""One plain step or two mirrored ones.

        Args:
            closure: Clears the gradients, computes the loss of the batch, calls ``backward()`` and
                returns the loss; called twice where the batch is mirrored. Randomness such as
                dropout is drawn again, the batch must be the same.

        Returns:
            The loss before the step.
        """
        if closure is None:
            raise ConfigError(
                'closure: got None, accepted is a function that computes loss and gradients '
                'of the batch'
            )
        mirrored = self.batch % self.interval == 0
        self.batch += 1
        with torch.enable_grad():
            loss = closure()
        if mirrored:
            self._scale_gradients(self.alpha1)
        self.optimizer.step()
        if mirrored and self.alpha2 > 0:
            with torch.enable_grad():
                closure()
            self._scale_gradients(-self.alpha2)
            self.optimizer.step()
        return loss

    @torch.no_grad()
    def _scale_gradients(self, factor: float) -> None:
        if factor == 1:
            return
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        r"""Adds a group to the wrapped optimizer."""
        if hasattr(self, 'optimizer'):
            self.optimizer.add_param_group(param_group)
        else:
            # from the constructor of the base class, with the groups that the wrapped optimizer has
            # already
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        r"""State of the wrapped optimizer and number of the next batch in its epoch."""
        return {'optimizer': self.optimizer.state_dict(), 'batch': self.batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        r"""Restores what :meth:`state_dict` returned.

        Raises:
            ConfigError: If it is the state of something else, for example of an optimizer that was
                not wrapped.
        """
        if set(state_dict) != {'optimizer', 'batch'}:
            raise ConfigError(
                f'state_dict: got the keys {sorted(map(str, state_dict))}, accepted is the state '
                f'of a MirrorGradient'
            )
        self.optimizer.load_state_dict(state_dict['optimizer'])
        self.batch = state_dict['batch']

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: getattr(self, key)
            for key in ('optimizer', 'alpha1', 'alpha2', 'interval', 'batch')
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        MirrorGradient.__init__(
            self, state['optimizer'], state['alpha1'], state['alpha2'], state['interval']
        )
        self.batch = state['batch']

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({type(self.optimizer).__name__}, alpha1={self.alpha1}, '
            f'alpha2={self.alpha2}, interval={self.interval})'
        )
