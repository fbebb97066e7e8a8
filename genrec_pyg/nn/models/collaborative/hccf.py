r"""HCCF: contrast of local propagation with propagation through learned hyperedges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv.hyper_conv import HYPER_DROPOUT, HyperConv
from genrec_pyg.nn.interaction_graph import InteractionGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import bpr_loss, hinge_loss, squared_norm
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import complement, renamed
from genrec_pyg.ops import info_nce, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_dropout, check_range


class HyperViews(NamedTuple):
    r"""Embedding ``[N, d]`` of all nodes and, per layer, the local and the global view of it."""

    embedding: Tensor
    local_views: list[Tensor]
    global_views: list[Tensor]


class HCCF(PairwiseRecommender):
    r"""HCCF (Xia, Huang, Xu, Zhao, Yin, Huang, "Hypergraph Contrastive Collaborative Filtering",
    SIGIR 2022).

    With :math:`\mathbf{t}^l = \varphi_{loc}(\mathbf{A}' \mathbf{e}^{l-1})` on the graph and
    :math:`\mathbf{g}^l` through learned hyperedges
    (:class:`~genrec_pyg.nn.conv.hyper_conv.HyperConv`, users and items apart, memberships from
    layer 0),

    .. math::
        \mathbf{e}^l = \mathbf{t}^l + \mathbf{g}^l \, [+ \, \mathbf{e}^{l-1}], \qquad
        \mathbf{Z} = \sum_{l=0}^{L} \mathbf{e}^l, \qquad
        \mathcal{L} = \mathrm{BPR} + w \sum_l [\mathrm{NCE}(\mathbf{t}^l_u, \mathbf{g}^l_u)
        + \mathrm{NCE}(\mathbf{t}^l_i, \mathbf{g}^l_i)] + \lambda \Vert \Theta \Vert^2

    over the distinct users and positive items of a batch. Defaults are the authors' torch code.
    Their TensorFlow code, the paper's, is
    ``local_slope=0.5, slope=0.5, num_maps=3, residual=True, detach=False, contrast_map=True,
    rank_loss='hinge'``,
    with sums for means and 40 pairs per user; SSLRec is ``bank='all'``.

    The global view grows with the tables: with Xavier tables its norm is about 3 times theirs at
    any number of nodes, with standard deviation 0.1 it is 165 times theirs at 10,000 nodes; so
    tables start with Xavier, and ``membership_scale`` scales the memberships.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        num_hyperedges: Hyperedges ``K`` per type.
        l2: :math:`\lambda` on all parameters.
        edge_dropout: Share of interactions and of memberships that a training step leaves out.
        hyper_dropout: ``'element'`` drops single memberships, ``'edge'`` whole hyperedges, which
            costs less.
        contrast_weight: Weight ``w``.
        temperature: Temperature of the contrast.
        slope: Slope of :math:`\varphi`, 1 for the identity.
        local_slope: Slope of :math:`\varphi_{loc}`.
        num_maps: Maps between hyperedges per type and layer.
        residual: Whether a layer adds its input.
        bank: ``'batch'`` or ``'all'`` nodes of the type as negatives.
        detach: Whether the local view is fixed in the contrast.
        contrast_map: Whether normalized global rows pass a learned ``d`` x ``d`` map before they
            are contrasted.
        membership_scale: Factor on the memberships.
        rank_loss: ``'bpr'`` or ``'hinge'``, :math:`\max(0, 1 - s^+ + s^-)`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import HCCF
        >>> from genrec_pyg.testing import toy_graph
        >>> HCCF(toy_graph(), num_layers=2)
        HCCF(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'keep': complement('edge_dropout'), 'mult': renamed('membership_scale')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_hyperedges: int = 128,
        l2: float = 1e-7,
        edge_dropout: float = 0.5,
        hyper_dropout: str = 'element',
        contrast_weight: float = 0.2,
        temperature: float = 0.1,
        slope: float = 1.0,
        local_slope: float = 1.0,
        num_maps: int = 0,
        residual: bool = False,
        bank: str = 'batch',
        detach: bool = True,
        contrast_map: bool = False,
        membership_scale: float = 1.0,
        rank_loss: str = 'bpr',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, item_side=item_side)
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_hyperedges', num_hyperedges, 1),
            ('contrast_weight', contrast_weight, 0),
            ('num_maps', num_maps, 0),
        ):
            check_range(name, value, low)
        check_dropout('edge_dropout', edge_dropout)
        for name, value, high in (
            ('temperature', temperature, float('inf')),
            ('slope', slope, 1),
            ('local_slope', local_slope, 1),
        ):
            check_range(name, value, 0, high, open_low=True)
        check_choice('hyper_dropout', hyper_dropout, HYPER_DROPOUT)
        check_choice('bank', bank, ('batch', 'all'))
        check_choice('rank_loss', rank_loss, ('bpr', 'hinge'))
        self.num_layers, self.edge_dropout = num_layers, edge_dropout
        self.local_slope, self.residual = local_slope, residual
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.bank, self.detach, self.rank_loss = bank, detach, rank_loss
        self.interactions = InteractionGraph(self.graph)
        self.user_hyper, self.item_hyper = (
            HyperConv(
                hidden_channels,
                num_hyperedges,
                num_layers,
                num_maps,
                slope,
                edge_dropout,
                hyper_dropout,
                membership_scale,
            )
            for _ in range(2)
        )
        self.contrast_map = (
            Parameter(torch.empty(hidden_channels, hidden_channels)) if contrast_map else None
        )
        if contrast_map:
            torch.nn.init.xavier_uniform_(self.contrast_map)

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        super().reset_parameters()
        if self.contrast_map is not None:
            torch.nn.init.xavier_uniform_(self.contrast_map)

    def views(self) -> HyperViews:
        r"""Sum of the layers and both views of each; masks are drawn per layer in training mode."""
        users, items = self.embedding.user, self.embedding.item
        x = total = self.embedding.joint()
        local_views, global_views = [], []
        for layer in range(self.num_layers):
            near = spmm(
                self.interactions.scaled_drop(self.edge_dropout if self.training else 0.0), x
            )
            if self.local_slope != 1:
                near = F.leaky_relu(near, self.local_slope)
            x_users, x_items = x.split([self.num_users, self.num_items])
            far = torch.cat(
                [self.user_hyper(users, x_users, layer), self.item_hyper(items, x_items, layer)]
            )
            x = near + far + x if self.residual else near + far
            total = total + x
            local_views.append(near)
            global_views.append(far)
        return HyperViews(total, local_views, global_views)

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        return self.views().embedding.split([self.num_users, self.num_items])

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Ranking loss, L2 of all parameters and the contrast of the views."""
        views = self.views()
        users, items = views.embedding.split([self.num_users, self.num_items])
        rows = users[batch.user], items[batch.pos], items[batch.neg]
        rank = (bpr_loss if self.rank_loss == 'bpr' else hinge_loss)(*rows)
        terms = {self.rank_loss: rank, 'l2': self.l2 * squared_norm(*self.parameters())}
        if self.contrast_weight > 0 and self.num_layers > 0:
            sizes = [self.num_users, self.num_items]
            nodes = (batch.user.unique(), batch.pos.unique())
            terms['contrast'] = self.contrast_weight * sum(
                self._contrast(near, far, index)
                for views_of_layer in zip(views.local_views, views.global_views)
                for near, far, index in zip(*(view.split(sizes) for view in views_of_layer), nodes)
            )
        return terms

    def _contrast(self, near: Tensor, far: Tensor, index: Tensor) -> Tensor:
        anchors = near[index].detach() if self.detach else near[index]
        if self.bank == 'batch':
            return info_nce(anchors, self._mapped(far[index]), self.temperature)
        return info_nce(anchors, None, self.temperature, self._mapped(far), index)

    def _mapped(self, far: Tensor) -> Tensor:
        return far if self.contrast_map is None else unit_rows(far) @ self.contrast_map
