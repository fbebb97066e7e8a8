r"""Item sides: what gives the rows of items."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError


class ItemTable(torch.nn.Module):
    r"""One learned row per item.

    Models over sequences ask an item side for two things only, :meth:`rows` of the items that a batch holds and
    :meth:`forward` for all items; an encoder of text or images takes the place of this table by offering the same.

    Args:
        num_items: Number of items ``I``.
        channels: Width ``d``.
        std: Standard deviation of the normal distribution that rows start from.

    Raises:
        ConfigError: If the width is not positive.
    """

    def __init__(self, num_items: int, channels: int, std: float):
        super().__init__()
        if channels < 1:
            raise ConfigError(f'hidden_channels: got {channels}, accepted are integers from 1')
        self.num_items, self.std = num_items, std
        self.weight = Parameter(torch.empty(num_items, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws all rows."""
        torch.nn.init.normal_(self.weight, std=self.std)

    def rows(self, item: Tensor) -> Tensor:
        r"""Rows ``[..., d]`` of items ``[...]``; that of padding, ``I``, is zero and has no gradient."""
        padding = item >= self.num_items
        found = self.weight[item.masked_fill(padding, 0).flatten()].view(*item.shape, -1)
        return found.masked_fill(padding.unsqueeze(-1), 0)

    def forward(self) -> Tensor:
        r"""Rows of all items ``[I, d]``."""
        return self.weight

    def __repr__(self) -> str:
        return f'{type(self).__name__}{tuple(self.weight.shape)}'
