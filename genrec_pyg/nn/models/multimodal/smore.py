r"""SMORE: spectral filters on content, a fused view and preferences by behavior."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Sequential, Tanh
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.modality.item_graph import max_item_graph
from genrec_pyg.nn.modality.spectral import SpectralFilter
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.ops import bipartite_adjacency, bipartite_block, info_nce, knn_adjacency, spmm
from genrec_pyg.utils.validation import check_choice, check_range

#: Neighbors in a modality that a setting per modality does not name.
_DEFAULT_NEIGHBORS = 10


class SMOREViews(NamedTuple):
    r"""What a node is by behavior :math:`\mathbf{C}` and by content, both ``[N, d]``; their sum is
    its embedding.
    """

    behavior: Tensor
    side: Tensor


class SMORE(PairwiseRecommender):
    r"""SMORE (Ong, Khong, "Spectrum-based Modality Representation Fusion", WSDM 2025,
    https://arxiv.org/abs/2412.14978).

    Projected content :math:`\mathbf{f}_m` passes a filter per modality, and the product of their
    unfiltered spectra one more (:class:`~genrec_pyg.nn.modality.spectral.SpectralFilter`): views
    :math:`\mathbf{c}_v` with :math:`v` in the modalities and the fused one, ``f``. Each gates the
    item IDs, which are smoothed over its graph and passed on to users:

    .. math::
        \mathbf{q}_v = \mathbf{S}_v^{L_s} (\mathbf{E}_i \odot \sigma(\mathbf{G}_v \mathbf{c}_v
        + \mathbf{g}_v)), \qquad \mathbf{x}_v = [\hat{\mathbf{R}} \mathbf{q}_v ; \mathbf{q}_v]

    :math:`\mathbf{S}_m` are nearest-neighbor graphs, :math:`\mathbf{S}_f` is their union with the
    largest value of each entry. With :math:`\mathbf{C}` of LightGCN and preferences
    :math:`\mathbf{p}_v = \sigma(\mathbf{P}_v \mathbf{C} + \mathbf{b}_v)`,

    .. math::
        \boldsymbol{\alpha}_m = \mathrm{softmax}(\mathbf{Q}''_m \tanh(\mathbf{Q}'_m \mathbf{x}_f
        + \mathbf{q}'_m)), \qquad \mathbf{s} = \frac{1}{M
        + 1} \Bigl[ \sum_m \mathbf{p}_m \odot \boldsymbol{\alpha}_m \odot \mathbf{x}_m
        + \mathbf{p}_f \odot \mathbf{x}_f \Bigr], \qquad \mathbf{Z} = \mathbf{C} + \mathbf{s}

    .. math::
        \mathcal{L} = \mathrm{BPR} + \lambda \, \mathrm{L2}
        + w [\mathrm{NCE}(\mathbf{s}_i, \mathbf{C}_i) + \mathrm{NCE}(\mathbf{s}_u, \mathbf{C}_u)]

    over users and positives of a batch. The softmax runs over the ``d`` features, as in the
    authors' program, so that a modality weighs ``d`` times less than the fused view at the start,
    or over the modalities (``attention='modality'``). An item that lacks a modality has the
    identity of the product in its place, zero content, and itself alone in its graph.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        num_layers: Layers of :math:`\mathbf{C}`.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item, the item itself included, or such a number per modality
            (10 where it is not named).
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        contrast_weight: ``w``.
        temperature: Temperature of the contrast.
        dropout: Dropout of the preferences.
        attention: ``'feature'`` or ``'modality'``.
        filter_init: Start of the filters, ``'normal'`` or ``'identity'``.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import SMORE
        >>> from genrec_pyg.testing import toy_graph
        >>> SMORE(toy_graph(), num_neighbors=3)
        SMORE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        num_item_layers: int = 1,
        num_neighbors: int | dict[str, int] = _DEFAULT_NEIGHBORS,
        l2: float = 1e-4,
        init: str = 'xavier',
        contrast_weight: float = 0.01,
        temperature: float = 0.2,
        dropout: float = 0.0,
        attention: str = 'feature',
        filter_init: str = 'normal',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, item_side=item_side)
        require_modalities(self.graph, 'SMORE')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('contrast_weight', contrast_weight, 0),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        check_range('dropout', dropout, 0, 1)
        check_choice('attention', attention, ('feature', 'modality'))
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.dropout, self.attention = dropout, attention
        self.features = item_features(self.graph, normalize=False)
        counts = (
            num_neighbors
            if isinstance(num_neighbors, dict)
            else dict.fromkeys(self.features, num_neighbors)
        )
        for value in counts.values():
            check_range('num_neighbors', value, 1)
        self.item_graphs = {
            name: knn_adjacency(features.x, counts.get(name, _DEFAULT_NEIGHBORS))
            for name, features in self.features.items()
        }
        self.fused_graph = max_item_graph(list(self.item_graphs.values()))
        self.adjacency = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.block = bipartite_block(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.conv, self.item_conv = LightConv(num_layers), ItemGraphConv(num_item_layers)

        def linear() -> Linear:
            return Linear(hidden_channels, hidden_channels)

        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), hidden_channels, init=None, zero_bias=False
                )
                for name, features in self.features.items()
            }
        )
        self.filters = ModuleDict(
            {name: SpectralFilter(hidden_channels, filter_init) for name in self.features}
        )
        self.fused_filter = SpectralFilter(hidden_channels, filter_init)
        self.gates = ModuleDict({name: linear() for name in self.features})
        self.fused_gate = linear()
        self.queries = ModuleDict(
            {
                name: Sequential(
                    linear(), Tanh(), Linear(hidden_channels, hidden_channels, bias=False)
                )
                for name in self.features
            }
        )
        self.preferences = ModuleDict({name: linear() for name in self.features})
        self.fused_preference = linear()

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        super().reset_parameters()
        for part in (self.projections, self.filters, self.gates, self.preferences):
            for module in part.values():
                module.reset_parameters()
        for query in self.queries.values():
            query[0].reset_parameters()
            query[2].reset_parameters()

    def content(self) -> tuple[dict[str, Tensor], Tensor]:
        r"""Filtered content :math:`\mathbf{c}_m` ``[I, d]`` per modality, and the fused one."""
        rows = {
            name: projection(self.features[name]) for name, projection in self.projections.items()
        }
        present = [features.present for features in self.features.values()]
        return (
            {name: self.filters[name](x) for name, x in rows.items()},
            self.fused_filter.fuse(list(rows.values()), present),
        )

    def views(self) -> SMOREViews:
        r"""Rows of all nodes by behavior and by content."""
        content, fused = self.content()
        gated = [(self.gates[name](x), self.item_graphs[name]) for name, x in content.items()]
        gated.append((self.fused_gate(fused), self.fused_graph))
        items = torch.cat(
            [self.item_conv(self.embedding.item * gate.sigmoid(), graph) for gate, graph in gated],
            dim=1,
        )
        rows = torch.cat([spmm(self.block, items), items])
        *modal, fused = rows.view(rows.size(0), len(gated), -1).unbind(dim=1)
        behavior = self.conv(self.embedding.joint(), self.adjacency)
        # The first layers of the queries read the same rows.
        logits = torch.stack([query(fused) for query in self.queries.values()], dim=1)
        attention = logits.softmax(dim=2 if self.attention == 'feature' else 1).unbind(dim=1)
        side = self._preference(self.fused_preference, behavior) * fused
        for linear, weight, x in zip(self.preferences.values(), attention, modal):
            side = side + self._preference(linear, behavior) * weight * x
        return SMOREViews(behavior, side / len(gated))

    def _preference(self, linear: Linear, behavior: Tensor) -> Tensor:
        return F.dropout(linear(behavior).sigmoid(), self.dropout, self.training)

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        views = self.views()
        return (views.behavior + views.side).split([self.num_users, self.num_items])

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrast of content with behavior."""
        views = self.views()
        sizes = [self.num_users, self.num_items]
        terms = self.rank_terms(*(views.behavior + views.side).split(sizes), batch)
        if self.contrast_weight > 0:
            nodes = batch.user, batch.pos
            terms['contrast'] = self.contrast_weight * sum(
                info_nce(side[index], behavior[index], self.temperature)
                for side, behavior, index in zip(
                    views.side.split(sizes), views.behavior.split(sizes), nodes
                )
            )
        return terms
