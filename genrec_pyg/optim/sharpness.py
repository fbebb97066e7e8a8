r"""Estimates of the sharpness of a loss around parameters, from gradients only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError


class Curvature(NamedTuple):
    r"""Result of :func:`largest_curvature`.

    Args:
        value: Estimate of the Hessian's eigenvalue of largest magnitude.
        direction: Unit vector, one tensor per parameter: a start for the next call nearby.
    """

    value: float
    direction: list[Tensor]


def ascent_sharpness(
    loss: Callable[[], Tensor], parameters: Iterable[Tensor], radius: float = 0.05
) -> float:
    r"""Increase of the loss by one step of steepest ascent of length ``radius``,

    .. math::
        L \left( \theta + \rho \frac{\nabla L(\theta)}{\Vert \nabla L(\theta) \Vert} \right)
        - L(\theta),

    the first-order estimate of the largest increase within the radius by which sharpness-aware
    minimization measures it (Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for
    Efficiently Improving Generalization", ICLR 2021, equation 2).

    Args:
        loss: Function that computes the loss, a scalar with gradient, as a deterministic function
            of the parameters: the same batch, no dropout.
        parameters: The parameters; left bit for bit as they were, with their gradients.
        radius: Radius :math:`\rho` in the Euclidean norm over all parameters.

    Returns:
        The increase; 0 where the gradient is zero.

    Raises:
        ConfigError: If ``radius`` is not positive.
    """
    if not radius > 0:
        raise ConfigError(f'radius: got {radius!r}, accepted are positive numbers')
    parameters = list(parameters)
    with torch.enable_grad():
        before = loss()
        gradient = _gradient(before, parameters)
    norm = _norm(gradient)
    if norm == 0:
        return 0.0
    with torch.no_grad(), _moved(parameters, gradient, radius / norm):
        return float(loss()) - float(before.detach())


def largest_curvature(
    loss: Callable[[], Tensor],
    parameters: Iterable[Tensor],
    num_iterations: int = 10,
    step: float = 1e-3,
    direction: Sequence[Tensor] | None = None,
) -> Curvature:
    r"""Eigenvalue of largest magnitude of the Hessian by power iteration (with positive sign it is
    :math:`\lambda_{\max}`, the usual measure of sharpness: Keskar, Mudigere, Nocedal, Smelyanskiy,
    Tang, "On Large-Batch Training for Deep Learning", ICLR 2017; power iteration on Hessian
    products: Yao, Gholami, Keutzer, Mahoney, "PyHessian", 2020).

    Products are central differences of gradients,
    :math:`\mathbf{H} \mathbf{v} \approx (\nabla L(\theta + h \mathbf{v}) - \nabla L(\theta - h
    \mathbf{v})) / 2h`,
    because the kernels of this package have gradients written by hand, which are not differentiable
    themselves. The error is :math:`O(h^2)`, and zero for a quadratic loss up to rounding.

    Args:
        loss: As for :func:`ascent_sharpness`.
        parameters: As for :func:`ascent_sharpness`.
        num_iterations: Products with the Hessian, each two forward and backward passes.
        step: :math:`h` as fraction of the norm of the parameters (absolute where they are zero).
        direction: Start, for example :attr:`Curvature.direction` from a point nearby; by default
            random, from a generator of its own, so that no global random state changes.

    Returns:
        The Rayleigh quotient of the last product, and the direction.

    Raises:
        ConfigError: If ``num_iterations`` or ``step`` is not positive.
    """
    if num_iterations < 1 or not step > 0:
        raise ConfigError(
            f'num_iterations, step: got {num_iterations!r} and {step!r}, accepted are '
            f'positive numbers'
        )
    parameters = list(parameters)
    if direction is None:
        generator = torch.Generator().manual_seed(0)
        direction = [
            torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device)
            for p in parameters
        ]
    distance = step * (_norm(parameters) or 1.0)
    direction = [v / _norm(direction) for v in direction]
    value = 0.0
    for _ in range(num_iterations):
        ahead, behind = (
            _gradient_at(loss, parameters, direction, sign * distance) for sign in (1, -1)
        )
        product = [(a - b) / (2 * distance) for a, b in zip(ahead, behind)]
        value = float(sum((v * hv).sum() for v, hv in zip(direction, product)))
        norm = _norm(product)
        if norm == 0:
            break
        direction = [hv / norm for hv in product]
    return Curvature(value, direction)


def _gradient(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def _gradient_at(
    loss: Callable[[], Tensor],
    parameters: list[Tensor],
    direction: Sequence[Tensor],
    distance: float,
) -> list[Tensor]:
    with torch.enable_grad(), _moved(parameters, direction, distance):
        return _gradient(loss(), parameters)


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm([tensor.detach() for tensor in tensors]))


@contextmanager
def _moved(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], factor: float
) -> Iterator[None]:
    r"""Parameters at ``parameters + factor * direction`` within the context."""
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, v in zip(parameters, direction):
            parameter.add_(v, alpha=factor)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept):
                parameter.copy_(value)
