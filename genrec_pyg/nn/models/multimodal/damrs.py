r"""DA-MRS: denoised item graphs, weighed feedback and aligned views."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses.graded import (
    bernoulli_divergence,
    graded_neighbor_contrast,
    weighted_bpr_loss,
)
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.modality.item_graph import behavior_item_graph, consistent_item_graphs
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import bipartite_adjacency, unit_rows
from genrec_pyg.utils.validation import check_range


class DAMRSViews(NamedTuple):
    r"""Users ``[U, d]`` and items ``[I, d]`` of the interactions, and items ``[I, d]`` of each item
    graph and their mean.
    """

    users: Tensor
    items: Tensor
    smoothed: list[Tensor]
    mean: Tensor


class DAMRS(PairwiseRecommender):
    r"""DA-MRS (Xv, Li, Xie, Lin, Liu, Xia, Kang, Lin, "Improving Multi-modal Recommender Systems by
    Denoising and Aligning Multi-modal Content and User Feedback", KDD 2024,
    https://arxiv.org/abs/2406.12501; equations of the authors' program).

    Views ``v`` are the modalities, each with the graph of consistent neighbors of
    :func:`~genrec_pyg.nn.modality.item_graph.consistent_item_graphs`, and behavior, with that of
    common users (:func:`~genrec_pyg.nn.modality.item_graph.behavior_item_graph`). With
    :math:`\mathbf{z}` of LightGCN,

    .. math::
        \mathbf{h}_v = \mathbf{S}_v^{L_s} \mathbf{E}_i, \qquad
        \bar{\mathbf{h}} = \frac{1}{|V|} \sum_v \mathbf{h}_v, \qquad
        \mathbf{u} = \mathbf{z}_u, \qquad \mathbf{i} = \mathbf{z}_i + \bar{\mathbf{h}}

    .. math::
        \mathcal{L} = \mathcal{L}_D + \lambda_U \, D(\mathbf{z}_u \cdot \mathrm{norm}(\mathbf{z}_i),
        \mathbf{z}_u \cdot \mathrm{norm}(\bar{\mathbf{h}}_i)) + \lambda_I \, \mathcal{L}_I

    :math:`\mathcal{L}_D` is BPR in which a triple counts by how much the views agree that it is
    right, or wrong (:meth:`feedback_weights`,
    :func:`~genrec_pyg.nn.losses.graded.weighted_bpr_loss`), :math:`D` the divergence of
    :func:`~genrec_pyg.nn.losses.graded.bernoulli_divergence` over the distinct users and items of a
    batch, and :math:`\mathcal{L}_I` the contrast of
    :func:`~genrec_pyg.nn.losses.graded.graded_neighbor_contrast` over these items.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        num_layers: Layers of :math:`\mathbf{z}`.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        num_co_items: Neighbors per item by common users.
        min_common_users: Fewest common users of such neighbors.
        alignment_weight: :math:`\lambda_U`, of the divergence.
        contrast_weight: :math:`\lambda_I`, of the contrast of items.
        num_positives: Items per grade.
        temperature: Temperature of the contrast.
        l2: Weight of the L2 penalty on initial rows; the method has none.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import DAMRS
        >>> from genrec_pyg.testing import toy_graph
        >>> DAMRS(toy_graph(), num_neighbors=3)
        DAMRS(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {
        'user_alignment': renamed('alignment_weight'),
        'item_alignment': renamed('contrast_weight'),
    }

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        num_co_items: int = 2,
        min_common_users: int = 2,
        alignment_weight: float = 1.0,
        contrast_weight: float = 1e-3,
        num_positives: int = 10,
        temperature: float = 0.2,
        l2: float = 0.0,
        init: str = 'xavier',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, item_side=item_side)
        require_modalities(self.graph, 'DAMRS')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('num_co_items', num_co_items, 1),
            ('min_common_users', min_common_users, 1),
            ('alignment_weight', alignment_weight, 0),
            ('contrast_weight', contrast_weight, 0),
            ('num_positives', num_positives, 1),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        self.alignment_weight, self.contrast_weight = alignment_weight, contrast_weight
        self.num_positives, self.temperature = num_positives, temperature
        self.adjacency = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.content_graphs = consistent_item_graphs(self.graph, num_neighbors)
        self.behavior_graph = behavior_item_graph(self.graph, num_co_items, min_common_users)
        self.present = {
            name: modality.present() for name, modality in self.graph.modalities.items()
        }
        self.conv, self.item_conv = LightConv(num_layers), ItemGraphConv(num_item_layers)

    def views(self) -> DAMRSViews:
        r"""Rows of the interactions and of every item graph, those of behavior last."""
        users, items = self.conv(self.embedding.joint(), self.adjacency).split(
            [self.num_users, self.num_items]
        )
        smoothed = [
            self.item_conv(self.embedding.item, graph)
            for graph in (*self.content_graphs.values(), self.behavior_graph)
        ]
        return DAMRSViews(users, items, smoothed, sum(smoothed) / len(smoothed))

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        views = self.views()
        return views.users, views.items + views.mean

    @torch.no_grad()
    def feedback_weights(self, views: DAMRSViews, batch: Triples) -> tuple[Tensor, Tensor]:
        r"""Weights of the triples as they are and turned around ``[B]``, without gradient.

        With :math:`r_v = \sigma(\mathbf{z}_u \cdot \mathrm{norm}(\mathbf{h}_v))` and :math:`\bar n`
        its mean over all negatives and views, :math:`w^+ = \bar r e^{-2 \, \mathrm{var}(r)}`, and
        :math:`w^- = \max_v r_v - \bar n` where :math:`\bar r < \bar n`, else 0; both cut to [0, 1].
        """
        user = views.users[batch.user]
        positive, negative = (
            torch.stack(
                [(user * unit_rows(view[item])).sum(dim=1).sigmoid() for view in views.smoothed]
            )
            for item in (batch.pos, batch.neg)
        )
        return feedback_weights(positive, negative.mean())

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Weighed BPR, both alignments, and L2 where asked for."""
        views = self.views()
        final = views.items + views.mean
        gap = (views.users[batch.user] * (final[batch.pos] - final[batch.neg])).sum(dim=1)
        terms = {
            'bpr': weighted_bpr_loss(gap, *self.feedback_weights(views, batch)),
            'l2': self.l2 * self.embedding.penalty(batch),
        }
        user, item = batch.user.unique(), torch.cat([batch.pos, batch.neg]).unique()
        if self.alignment_weight > 0:
            terms['user_alignment'] = self.alignment_weight * bernoulli_divergence(
                views.users[user], unit_rows(views.items[item]), unit_rows(views.mean[item])
            )
        if self.contrast_weight > 0:
            present = [
                *self.present.values(),
                torch.ones(self.num_items, dtype=torch.bool, device=item.device),
            ]
            terms['item_alignment'] = self.contrast_weight * graded_neighbor_contrast(
                views.smoothed, item, self.num_positives, self.temperature, present
            )
        return terms


def feedback_weights(positive: Tensor, negative_mean: Tensor) -> tuple[Tensor, Tensor]:
    r"""Weights :math:`w^+` and :math:`w^-` ``[B]`` from the scores of positives per view ``[V, B]``
    and the mean of those of negatives, see :meth:`DAMRS.feedback_weights`.
    """
    mean = positive.mean(dim=0)
    right = (mean * (-2 * positive.var(dim=0)).exp()).clamp(0, 1)
    wrong = (positive.amax(dim=0) - negative_mean).clamp(0, 1)
    return right, torch.where(mean < negative_mean, wrong, torch.zeros_like(wrong))
