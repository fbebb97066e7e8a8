r"""VBPR: matrix factorization with a projection of content next to the free item rows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.losses import ROW_PENALTIES, bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import (
    FeatureProjection,
    concatenated_features,
    require_modalities,
)
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.utils.validation import check_choice, check_range


class VBPR(PairwiseRecommender):
    r"""VBPR (He, McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback", AAAI
    2016), no graph.

    With users :math:`\boldsymbol{\theta}_u` of width ``2d`` and the features of all modalities
    concatenated to :math:`\mathbf{f}_i`,

    .. math::
        \mathbf{q}_i = [\mathbf{e}_i ; \mathbf{W} \mathbf{f}_i + \mathbf{b}], \qquad
        s(u, i) = \boldsymbol{\theta}_u \cdot \mathbf{q}_i \, [+ \, \beta_i
        + \boldsymbol{\beta}' \cdot \mathbf{f}_i], \qquad
        \mathcal{L} = \mathrm{BPR} + \lambda \, \rho(\boldsymbol{\theta}_u, \mathbf{q}_{i^+},
        \mathbf{q}_{i^-})

    The paper's global and user biases cancel in BPR, and so does :math:`\mathbf{b}` between items
    with content: there the penalty alone moves it. Only the items of a batch are projected. A
    modality that an item lacks is a block of zeros; an item without any has the content zero.
    Features are taken as they are: wide activations outweigh unit vectors unless
    ``normalize_features`` is on.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        l2: :math:`\lambda`; the published grid, from 1e-5 to 2, belongs to ``penalty='frobenius'``.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty: Shape :math:`\rho` of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.
            Projected content is penalized, :math:`\mathbf{W}` is not.
        normalize_features: Whether the features of every modality are l2-normalized first.
        item_bias: Whether there are :math:`\beta_i` and :math:`\boldsymbol{\beta}'`, zero at the
            start, not penalized.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import VBPR
        >>> from genrec_pyg.testing import toy_graph
        >>> VBPR(toy_graph(), modalities=['text'])
        VBPR(users=8, items=7, modalities=[text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        l2: float = 1e-2,
        init: str = 'xavier',
        penalty: str = 'frobenius',
        normalize_features: bool = False,
        item_bias: bool = False,
    ):
        check_range('hidden_channels', hidden_channels, 1)
        super().__init__(
            data, modalities, hidden_channels, l2, init, user_channels=2 * hidden_channels
        )
        require_modalities(self.graph, 'VBPR')
        check_choice('penalty', penalty, ROW_PENALTIES)
        self.penalty = penalty
        self.features = concatenated_features(self.graph, normalize_features)
        self.projection = FeatureProjection(
            self.features.x.size(1), hidden_channels, init='xavier_normal'
        )
        self.item_bias = Parameter(torch.zeros(self.num_items, 1)) if item_bias else None
        self.content_bias = (
            Parameter(torch.zeros(self.features.x.size(1), 1)) if item_bias else None
        )

    def reset_parameters(self) -> None:
        r"""Redraws tables and projection and sets the biases to zero."""
        super().reset_parameters()
        if self.item_bias is not None:
            torch.nn.init.zeros_(self.item_bias)
            torch.nn.init.zeros_(self.content_bias)

    def item_rows(self, item: Tensor | None = None) -> Tensor:
        r"""Rows :math:`\mathbf{q}_i` ``[n, 2d]`` of the items ``item`` ``[n]``, or of all."""
        if item is None:
            return torch.cat([self.embedding.item, self.projection(self.features)], dim=1)
        return torch.cat(
            [self.embedding.item[item], self.projection(self.features.rows(item))], dim=1
        )

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, 2d]`` and items ``[I, 2d]``; with biases one more column, 1 and the
        item's.
        """
        users, items = self.embedding.user, self.item_rows()
        if self.item_bias is None:
            return users, items
        bias = self.item_bias + self.features.x @ self.content_bias
        return torch.cat([users, users.new_ones(users.size(0), 1)], dim=1), torch.cat(
            [items, bias], dim=1
        )

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and the penalty, from the items of the batch alone."""
        nodes, index = torch.cat([batch.pos, batch.neg]).unique(return_inverse=True)
        user, rows = self.embedding.user[batch.user], self.item_rows(nodes)
        positive, negative = rows[index].chunk(2)
        penalty = row_penalty(user, positive, negative, shape=self.penalty)
        if self.item_bias is not None:
            bias = (self.item_bias[nodes] + self.features.x[nodes] @ self.content_bias)[index]
            user = torch.cat([user, user.new_ones(user.size(0), 1)], dim=1)
            positive, negative = torch.cat([torch.cat([positive, negative]), bias], dim=1).chunk(2)
        return {'bpr': bpr_loss(user, positive, negative), 'l2': self.l2 * penalty}
