r"""Online and target side of training without negatives."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear

from genrec_pyg.distributed import keyed_dropout
from genrec_pyg.exceptions import ConfigError


class Predictor(torch.nn.Module):
    r"""Online side :math:`o(\mathbf{x}) = \mathbf{W} \mathbf{x} + \mathbf{b}` and target side
    :math:`t(\mathbf{x}) = \mathrm{sg}(\mathrm{dropout}_p(\mathbf{x}))` (SelfCF: Zhou et al., 2021;
    BM3: Zhou et al., WWW 2023).

    Because no gradient passes the target and only one side has the predictor, views may be pulled
    together (:func:`~genrec_pyg.nn.losses.cosine_distance`) without negatives and do not collapse
    to one point.

    Args:
        channels: Width ``d``.
        dropout: Probability ``p`` with which an entry of the target is zero in training, the others
            scaled up.

    Raises:
        ConfigError: If ``dropout`` is not in [0, 1).
    """

    def __init__(self, channels: int, dropout: float = 0.5):
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(
                f'dropout: got {dropout}, accepted are numbers from 0 up to but not including 1'
            )
        self.linear = Linear(channels, channels)
        self.dropout = dropout
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier normal, bias as the framework's default."""
        self.linear.reset_parameters()
        torch.nn.init.xavier_normal_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        r"""Online rows ``[n, d]`` of ``x`` ``[n, d]``."""
        return self.linear(x)

    def target(self, x: Tensor, first_row: int = 0) -> Tensor:
        r"""Target rows ``[n, d]`` of ``x`` ``[n, d]``, without gradient; dropout acts in training
        mode, on rows from ``first_row`` on of a batch whose others other processes have.
        """
        return keyed_dropout(x.detach(), self.dropout, self.training, first_row)
