r"""Matrix factorization by pairwise ranking."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.models.pairwise import PAIRWISE_GRID, PairwiseRecommender, rows_once
from genrec_pyg.nn.models.recommender import GridSupport
from genrec_pyg.nn.models.settings import renamed


class MFBPR(PairwiseRecommender):
    r"""MF-BPR (Rendle, Freudenthaler, Gantner, Schmidt-Thieme, "BPR: Bayesian Personalized Ranking
    from Implicit Feedback", UAI 2009):
    :math:`s(u, i) = \mathbf{e}_u \cdot \mathbf{e}_i \, [+ \, b_i]`, no graph.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        l2: :math:`\lambda` of the penalty on rows; the bias has none.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        item_bias: Whether items have a bias, zero at the start.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MFBPR
        >>> from genrec_pyg.testing import toy_graph
        >>> MFBPR(toy_graph(), hidden_channels=16)
        MFBPR(users=8, items=7, modalities=[image, text])
    """

    grid = GridSupport({**PAIRWISE_GRID.tables, 'item_bias': 'item'}, frozenset({'item_bias'}))
    FORMER_SETTINGS = {'reg': renamed('penalty_rows')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        item_bias: bool = False,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data, modalities, hidden_channels, l2, init, penalty_rows, item_side=item_side
        )
        self.item_bias = Parameter(torch.zeros(self.num_items, 1)) if item_bias else None

    def reset_parameters(self) -> None:
        r"""Redraws the tables and sets the bias to zero."""
        super().reset_parameters()
        if self.item_bias is not None:
            torch.nn.init.zeros_(self.item_bias)

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``; with a bias ``d + 1`` columns, the last one 1 and
        :math:`b_i`.
        """
        users, items = self.embedding.user, self.embedding.item
        if self.item_bias is None:
            return users, items
        # where columns are divided, one process has this one
        ones = users.new_ones(users.size(0), self.item_bias.size(1))
        return torch.cat([users, ones], dim=1), torch.cat([items, self.item_bias], dim=1)
