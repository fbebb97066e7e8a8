r"""LATTICE: item IDs smoothed over a learned item-item graph."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.modality.learned_graph import KeptEntries, LearnedItemGraph
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.ops import Adjacency, bipartite_adjacency, random_walk_adjacency, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Start of the logits of the modality weights.
_FIRST_LOGIT = 0.5


class LATTICE(PairwiseRecommender):
    r"""LATTICE (Zhang, Zhu, Liu, Wu, Wang, Wang, "Mining Latent Structures for Multimedia
    Recommendation", MM 2021, https://arxiv.org/abs/2104.09036).

    With :math:`\mathbf{f}_m = \mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m` and
    :math:`\mathbf{w} = \mathrm{softmax}(\boldsymbol{\theta})`, item IDs are smoothed over the
    learned graph :math:`\mathbf{S}` of
    :class:`~genrec_pyg.nn.modality.learned_graph.LearnedItemGraph` and join those of a
    collaborative backbone (Eqs. 8 to 10):

    .. math::
        \mathbf{Z}_u = \tilde{\mathbf{Z}}_u, \qquad
        \mathbf{Z}_i = \tilde{\mathbf{Z}}_i + \frac{\mathbf{h}_i}{\Vert \mathbf{h}_i \Vert}, \qquad
        \mathbf{H} = \mathbf{S}^{L_s} \mathbf{E}_i, \qquad
        \mathcal{L} = \mathrm{BPR} + \lambda \, \mathrm{L2}

    The neighbors are found once an epoch, and for evaluation from the weights as they are; their
    similarities are computed in every step, so that :math:`\mathbf{W}_m` and
    :math:`\boldsymbol{\theta}` learn from every batch. The paper normalizes the learned graph of
    each modality before it mixes them (``mix='separate'``) and has LightGCN's normalization
    (``normalization='sym'``); the defaults are those of the authors' program.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        num_layers: Layers of the backbone.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        original_weight: Share of the graph of the raw features.
        backbone: ``'lightgcn'`` or ``'mf'``, without propagation.
        normalization: ``'rw_self'``, the mean over neighbors and the node itself, or ``'sym'`` as
            in LightGCN.
        mix: ``'joint'`` or ``'separate'``, see
            :class:`~genrec_pyg.nn.modality.learned_graph.LearnedItemGraph`.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import LATTICE
        >>> from genrec_pyg.testing import toy_graph
        >>> LATTICE(toy_graph(), num_neighbors=3)
        LATTICE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        original_weight: float = 0.9,
        backbone: str = 'lightgcn',
        normalization: str = 'rw_self',
        mix: str = 'joint',
        l2: float = 1e-4,
        init: str = 'xavier',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, item_side=item_side)
        require_modalities(self.graph, 'LATTICE')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
        ):
            check_range(name, value, low)
        check_choice('backbone', backbone, ('lightgcn', 'mf'))
        check_choice('normalization', normalization, ('rw_self', 'sym'))
        self.features = item_features(self.graph, normalize=False)
        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), hidden_channels, init=None, zero_bias=False
                )
                for name, features in self.features.items()
            }
        )
        self.modality_logits = Parameter(torch.full((len(self.features),), _FIRST_LOGIT))
        self.item_graph = LearnedItemGraph(self.graph, num_neighbors, original_weight, mix)
        self.kept: KeptEntries | None = None
        make = bipartite_adjacency if normalization == 'sym' else random_walk_adjacency
        self.adjacency = make(
            self.graph.edge_index, self.num_users, self.num_items, normalization != 'sym'
        )
        self.conv = LightConv(0 if backbone == 'mf' else num_layers)
        self.item_conv = ItemGraphConv(num_item_layers)

    def reset_parameters(self) -> None:
        r"""Redraws tables and projections and sets the weights of the modalities to equal ones."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        torch.nn.init.constant_(self.modality_logits, _FIRST_LOGIT)
        self.kept = None

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Finds the neighbors of the epoch."""
        with torch.no_grad():
            self.kept = self.item_graph.select(self.content())
        return {}

    def content(self) -> dict[str, Tensor]:
        r"""Projected features :math:`\mathbf{f}_m` ``[I, d]`` per modality; zero where an item
        lacks it.
        """
        return {
            name: projection(self.features[name]) for name, projection in self.projections.items()
        }

    def mixed_graph(self) -> Adjacency:
        r"""The graph :math:`\mathbf{S}`, in training with the neighbors of the epoch."""
        if self.training and self.kept is None:
            self.start_epoch(0)
        return self.item_graph(
            self.content(),
            self.modality_logits.softmax(dim=0),
            self.kept if self.training else None,
        )

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        users, items = self.conv(self.embedding.joint(), self.adjacency).split(
            [self.num_users, self.num_items]
        )
        return users, items + unit_rows(self.item_conv(self.embedding.item, self.mixed_graph()))

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and L2 on a batch of triples."""
        return self.rank_terms(*self.embed(), batch)
