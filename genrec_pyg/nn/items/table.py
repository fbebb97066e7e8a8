r"""The interface of item sides, what gives the rows of items, and the plainest of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.graph_module import GraphModule


class _Computed(NamedTuple):
    r"""Distinct items ``[n]`` in order and their rows ``[n + 1, d]``, the last one zero."""

    item: Tensor
    rows: Tensor


class ItemRows(GraphModule):
    r"""Base class of item sides: a row ``[d]`` for each of ``I`` items.

    Models ask for :meth:`forward`, all rows, and for :meth:`rows` of those that a batch holds.
    Where a row is costly, a loss names all items of its batch to :meth:`computed` first, so that
    each distinct one is computed once.

    A subclass implements :meth:`compute`.

    Args:
        num_items: Number of items ``I``.
        channels: Width ``d``.

    Raises:
        ConfigError: If the width is not positive.
    """

    def __init__(self, num_items: int, channels: int):
        super().__init__()
        if channels < 1:
            raise ConfigError(f'hidden_channels: got {channels}, accepted are integers from 1')
        self.num_items, self.channels = num_items, channels
        self._computed: _Computed | None = None

    def reset_parameters(self) -> None:
        r"""Redraws all parameters; those of an encoder become what it was loaded with."""

    def compute(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of distinct items ``[n]``, none of them padding."""
        raise TypeError(f'{type(self).__name__} does not implement compute()')

    @contextmanager
    def computed(self, *items: Tensor) -> Iterator[None]:
        r"""Within this context rows are looked up that are computed at its beginning, each once.

        Args:
            *items: All items that will be asked for, in tensors of any shape, padding among them;
                without any, all items, which a context within such a one does not compute again.
        """
        if not items and self._has_all():
            yield
            return
        before, self._computed = self._computed, self._compute_distinct(items)
        try:
            yield
        finally:
            self._computed = before

    def _has_all(self) -> bool:
        return self._computed is not None and self._computed.item.numel() == self.num_items

    def _compute_distinct(self, items: tuple[Tensor, ...]) -> _Computed:
        if items:
            found = torch.cat([item.flatten() for item in items])
            found = found[found < self.num_items].unique()
        else:
            found = torch.arange(self.num_items, device=next(self.parameters()).device)
        rows = self.compute(found)
        return _Computed(found, torch.cat([rows, rows.new_zeros(1, rows.size(1))]))

    def rows(self, item: Tensor) -> Tensor:
        r"""Rows ``[..., d]`` of items ``[...]``; that of padding, ``I``, is zero and has no
        gradient.
        """
        found = self._compute_distinct((item,)) if self._computed is None else self._computed
        # padding is above all items, so behind the last row
        place = torch.searchsorted(found.item, item.contiguous())
        return found.rows[place.flatten()].view(*item.shape, -1)

    def forward(self) -> Tensor:
        r"""Rows of all items ``[I, d]``."""
        if self._has_all():
            return self._computed.rows[:-1]
        return self._compute_distinct(()).rows[:-1]

    def encoder_parameters(self) -> Iterator[Parameter]:
        r"""Parameters of a pretrained encoder, which may have a learning rate of their own."""
        return iter(())

    def new_rows(self, content: Any) -> Tensor:
        r"""Rows ``[n, d]`` of items that the model was made without, from what this side reads of
        items: their texts or pictures, or features by modality.

        Raises:
            ConfigError: If the side has learned rows, of which new items have none.
        """
        raise ConfigError(
            f'content: got {len(content)} new items for {type(self).__name__}, whose rows are '
            f'learned; accepted '
            "are item sides that read content alone (item_side.kind 'frozen' or 'encoder')"
        )

    def id_rows(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of the learned table that belong to items, for penalties; none of a side
        without such a table.
        """
        return next(self.parameters()).new_zeros(0, self.channels)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.num_items}, {self.channels})'


class ItemTable(ItemRows):
    r"""One learned row per item.

    Args:
        num_items: Number of items ``I``.
        channels: Width ``d``.
        std: Standard deviation of the normal distribution that rows start from.

    Raises:
        ConfigError: If the width is not positive.
    """

    def __init__(self, num_items: int, channels: int, std: float):
        super().__init__(num_items, channels)
        self.std = std
        self.weight = Parameter(torch.empty(num_items, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws all rows."""
        torch.nn.init.normal_(self.weight, std=self.std)

    def compute(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of items ``[n]``."""
        return self.weight[item]

    @contextmanager
    def computed(self, *items: Tensor) -> Iterator[None]:
        r"""Changes nothing: to look a row up twice costs less than to find the distinct items."""
        yield

    def rows(self, item: Tensor) -> Tensor:
        r"""Rows ``[..., d]`` of items ``[...]``; that of padding, ``I``, is zero and has no
        gradient.
        """
        padding = item >= self.num_items
        found = self.weight[item.masked_fill(padding, 0).flatten()].view(*item.shape, -1)
        return found.masked_fill(padding.unsqueeze(-1), 0)

    def forward(self) -> Tensor:
        r"""Rows of all items ``[I, d]``."""
        return self.weight

    def id_rows(self, item: Tensor) -> Tensor:
        r"""The same as :meth:`compute`."""
        return self.weight[item]
