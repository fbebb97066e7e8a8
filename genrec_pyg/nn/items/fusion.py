r"""Item rows from a table and content together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.nn.items.features import gelu_layers, xavier_layers
from genrec_pyg.nn.items.table import ItemRows, ItemTable

#: Accepted fusions, with the layers of the map of both.
FUSIONS = {'add': 0, 'concat': 1, 'concat3': 3}


class FusedRows(ItemRows):
    r"""A learned row per item and the row of its content together (Yuan et al., SIGIR 2023, Sec.
    5.4, https://arxiv.org/abs/2303.13835).

    .. math::
        \mathbf{e}_i = \mathrm{MLP}_k(\mathbf{t}_i + \mathbf{g}_i) \quad \text{or} \quad
        \mathbf{e}_i = \mathrm{MLP}_k(\mathrm{MLP}_c([\mathbf{t}_i ; \mathbf{g}_i]))

    with layers [dropout, linear, GELU].

    Args:
        table: Learned rows :math:`\mathbf{t}`.
        content: What gives the rows :math:`\mathbf{g}`, of the same width.
        fusion: ``'add'``, ``'concat'`` (:math:`c = 1`) or ``'concat3'`` (:math:`c = 3`, of the
            public program alone).
        num_layers: Layers :math:`k` after the fusion.
        dropout: Dropout of all these layers.
    """

    def __init__(
        self,
        table: ItemTable,
        content: ItemRows,
        fusion: str = 'add',
        num_layers: int = 0,
        dropout: float = 0.1,
    ):
        super().__init__(table.num_items, table.channels)
        width = self.channels
        self.table, self.content = table, content
        joined = [2 * width, *[width] * FUSIONS[fusion]] if FUSIONS[fusion] else [width]
        self.concatenates = FUSIONS[fusion] > 0
        self.layers = gelu_layers([*joined, *[width] * num_layers], dropout)
        xavier_layers(self.layers)

    def reset_parameters(self) -> None:
        r"""Redraws table, content side and layers."""
        self.table.reset_parameters()
        self.content.reset_parameters()
        xavier_layers(self.layers)

    def compute(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of items ``[n]``."""
        own, content = self.table.compute(item), self.content.compute(item)
        return self.layers(torch.cat([own, content], dim=1) if self.concatenates else own + content)

    def encoder_parameters(self) -> Iterator[Parameter]:
        r"""Those of the content side."""
        return self.content.encoder_parameters()

    def id_rows(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of the table."""
        return self.table.compute(item)
