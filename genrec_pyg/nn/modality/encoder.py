r"""Projection of raw modality features into the embedding space, and gates on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import BatchNorm1d, Identity, Linear

from genrec_pyg.distributed import WHOLE, WholeLayout, keyed_dropout, shared_batch_norm


class ProjectionBlock(torch.nn.Module):
    r"""Linear layer, batch normalization, leaky ReLU and dropout. Without the last three it is a
    linear map.

    Args:
        in_channels: Input width.
        out_channels: Output width ``d``.
        dropout: Dropout probability.
        negative_slope: Slope of the leaky ReLU, 1 for the identity.
        batch_norm: Whether batch normalization follows the linear layer.
        bias: Whether the linear layer has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float = 0.1,
        negative_slope: float = 0.2,
        batch_norm: bool = True,
        bias: bool = True,
    ):
        super().__init__()
        self.linear = Linear(in_channels, out_channels, bias=bias)
        self.norm = make_norm(out_channels, batch_norm)
        self.dropout = dropout
        self.negative_slope = negative_slope
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier uniform, biases and normalization as the framework's defaults."""
        reset_linear(self.linear, self.norm)

    def forward(self, x: Tensor, first_row: int = 0) -> Tensor:
        r"""Maps ``[n, in_channels]`` to ``[n, out_channels]``, rows from ``first_row`` on of a
        table whose others other processes have.
        """
        x = self.norm(self.linear(x))
        if self.negative_slope != 1:
            x = F.leaky_relu(x, self.negative_slope)
        return keyed_dropout(x, self.dropout, self.training, first_row)


class ModalityEncoder(torch.nn.Module):
    r"""Residual encoder of one modality
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_).

    .. math::
        \mathbf{H} &= \mathrm{Block}_{d_m \to d}(\mathbf{X}_m) \\
        \mathbf{F}_m &= \rho \, \mathbf{H} + \mathrm{Block}_{d \to d}(\mathbf{H})

    with ``Block`` a :class:`ProjectionBlock`. A constant added to all features changes nothing,
    because batch normalization follows the linear layer: the nuclear-norm shift of the released
    GenRec-V1 on baby is exactly a no-op and is left out.

    Args:
        in_channels: Raw feature width ``d_m``.
        hidden_channels: Embedding width ``d``.
        dropout: Dropout probability.
        negative_slope: Slope of the leaky ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        dropout: float = 0.1,
        negative_slope: float = 0.2,
    ):
        super().__init__()
        self.input = ProjectionBlock(in_channels, hidden_channels, dropout, negative_slope)
        self.residual = ProjectionBlock(hidden_channels, hidden_channels, dropout, negative_slope)

    def reset_parameters(self) -> None:
        r"""Redraws both blocks."""
        self.input.reset_parameters()
        self.residual.reset_parameters()

    def forward(self, x: Tensor, rho: Tensor | None = None, first_row: int = 0) -> Tensor:
        r"""Maps ``[n, d_m]`` to ``[n, d]``.

        Args:
            x: Raw features.
            rho: Scalar weight of the skip connection, shared by the modalities; :obj:`None` means
                1.
            first_row: Place of the first row in a table whose other rows other processes have.
        """
        h = self.input(x, first_row)
        return (h if rho is None else rho * h) + self.residual(h, first_row)


class Gate(torch.nn.Module):
    r"""Elementwise gate
    :math:`g(\mathbf{z}) = \sigma(\mathrm{BN}(\mathbf{W}\mathbf{z} + \mathbf{b}))`.

    Args:
        channels: Width ``d`` of input and output.
        batch_norm: Whether there is the batch normalization (GenRec-V1), or not (MGCN).
    """

    def __init__(self, channels: int, batch_norm: bool = True):
        super().__init__()
        self.linear = Linear(channels, channels)
        self.norm = make_norm(channels, batch_norm)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier uniform, the rest as the framework's defaults."""
        reset_linear(self.linear, self.norm)

    def forward(self, z: Tensor) -> Tensor:
        r"""Gate values in (0, 1) of the shape ``[n, d]`` of ``z``."""
        return torch.sigmoid(self.norm(self.linear(z)))


class BatchNorm(BatchNorm1d):
    r"""Batch normalization over rows ``[n, channels]`` that takes any number of them.

    One row has no variance: it is normalized by the running statistics, as in evaluation mode, and
    does not change them. Where rows are divided among processes, the statistics are those of all.
    """

    layout: WholeLayout = WHOLE

    def forward(self, x: Tensor) -> Tensor:
        r"""Maps ``[n, channels]`` to ``[n, channels]``."""
        if self.training and self.layout.everyone.size > 1:
            return shared_batch_norm(self, x, self.layout.everyone)
        if x.size(0) > 1 or not self.training:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def make_norm(channels: int, batch_norm: bool) -> torch.nn.Module:
    r"""Batch normalization of ``channels`` columns, or the identity."""
    return BatchNorm(channels) if batch_norm else Identity()


def reset_linear(linear: Linear, norm: torch.nn.Module) -> None:
    r"""Redraws a linear layer, weights Xavier uniform, and sets what :func:`make_norm` made to
    where it started.
    """
    linear.reset_parameters()
    torch.nn.init.xavier_uniform_(linear.weight)
    if isinstance(norm, BatchNorm1d):
        norm.reset_parameters()
