r"""FREEDOM: a frozen item-item graph next to a pruned user-item graph."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.interaction_graph import PrunedGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.modality.item_graph import mixed_item_graph
from genrec_pyg.nn.models.pairwise import PAIRWISE_GRID, PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.utils.validation import check_range


class FREEDOM(PairwiseRecommender):
    r"""FREEDOM (Zhou, Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation", MM 2023).

    .. math::
        [\mathbf{Z}_u ; \tilde{\mathbf{Z}}_i] = \frac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l
        [\mathbf{E}_u ; \mathbf{E}_i], \qquad
        \mathbf{Z}_i = \tilde{\mathbf{Z}}_i + \mathbf{S}^{L_s} \mathbf{E}_i

    with :math:`\mathbf{S}` the weighted mean of nearest-neighbor graphs with equal weights of
    neighbors (:func:`~genrec_pyg.nn.modality.item_graph.mixed_item_graph`), made once. Every epoch
    draws the interactions of :math:`\mathbf{A}` again, rather those between nodes of low degree
    (:meth:`~genrec_pyg.nn.interaction_graph.InteractionGraph.degree_drop`), and normalizes them;
    evaluation uses all.

    .. math::
        \mathcal{L} = \mathrm{BPR}(\mathbf{Z}_u, \mathbf{Z}_i)
        + \mu \sum_m \mathrm{BPR}(\mathbf{Z}_u, \mathbf{W}_m \mathbf{x}_m
        + \mathbf{b}_m) \, [+ \, \lambda \, \mathrm{L2}]

    A triple of which an item lacks a modality takes no part in its term. An item without training
    edge is ranked by its own row and those of its neighbors in :math:`\mathbf{S}`.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        modality_weights: Weight of each modality in :math:`\mathbf{S}` up to a common factor
            (published: image 0.1, text 0.9); equal ones by default. Modalities that the graph lacks
            are passed over.
        l2: :math:`\lambda` on the rows of the two tables; the paper has none.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that it counts, ``'batch'`` or ``'table'``.
        edge_dropout: Share of interactions that an epoch leaves out; published: 0.8 and 0.9.
        content_weight: :math:`\mu`, the paper's :math:`\lambda`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import FREEDOM
        >>> from genrec_pyg.testing import toy_graph
        >>> FREEDOM(toy_graph(), num_neighbors=3)
        FREEDOM(users=8, items=7, modalities=[image, text])
    """

    grid = PAIRWISE_GRID
    FORMER_SETTINGS = {'reg': renamed('penalty_rows'), 'ratio': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        modality_weights: dict[str, float] | None = None,
        l2: float = 0.0,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        edge_dropout: float = 0.8,
        content_weight: float = 1e-3,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data, modalities, hidden_channels, l2, init, penalty_rows, item_side=item_side
        )
        require_modalities(self.graph, 'FREEDOM')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('content_weight', content_weight, 0),
        ):
            check_range(name, value, low)
        self.content_weight, self.projection_channels = content_weight, hidden_channels
        self.interactions = PrunedGraph(self.graph, edge_dropout)
        self.item_graph = mixed_item_graph(self.graph, num_neighbors, modality_weights, binary=True)
        self.conv, self.item_conv = LightConv(num_layers), ItemGraphConv(num_item_layers)
        self.features = item_features(self.graph, normalize=False)
        self.projections = ModuleDict(
            {
                name: FeatureProjection(features.x.size(1), hidden_channels)
                for name, features in self.features.items()
            }
        )

    def reset_parameters(self) -> None:
        r"""Redraws tables and projections."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the interactions of the epoch."""
        self.interactions.prune()
        return {}

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        layout = self.layout
        users, items = self.conv(self.embedding.joint(), layout.local(self.interactions())).split(
            [layout.user.size(self.num_users), layout.item.size(self.num_items)]
        )
        similar = self.item_conv(layout.all_items(self.embedding.item), self.item_graph)
        return users, items + layout.item.own_block(similar)

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR of embeddings and of the content of every modality, and L2 where asked for."""
        users, items = self.embed()
        terms = self.rank_terms(users, items, batch)
        if self.content_weight > 0:
            own, columns = self.layout.counted(batch), self.layout.columns(self.projection_channels)
            nodes, index = torch.cat([batch.pos[own], batch.neg[own]]).unique(return_inverse=True)
            user = users[self.layout.user.places(batch.user[own])]
            for name, features in self.features.items():
                positive, negative = self.projections[name](features.rows(nodes), columns)[
                    index
                ].chunk(2)
                gap = self.layout.inner(user, negative - positive)
                has_both = features.present[batch.pos, 0] & features.present[batch.neg, 0]
                terms[f'bpr_{name}'] = self.content_weight * self.layout.mean(
                    F.softplus(gap), batch, has_both
                )
        return terms
