r"""MMHCL: hypergraphs of users who chose the same items and of items with similar content, in
contrast with the interaction graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.embedding import NodeEmbedding
from genrec_pyg.nn.hypergraph import Hypergraph, content_incidence
from genrec_pyg.nn.losses import batch_l2, bpr_loss, two_view_contrast
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, bipartite_adjacency, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted nodes of the contrast.
CONTRAST_NODES = ('all', 'batch')


class MMHCLViews(NamedTuple):
    r"""Final users ``[U, d]`` and items ``[I, d]``, and what reached them through hyperedges."""

    users: Tensor
    items: Tensor
    shared_users: Tensor
    similar_items: Tensor


class MMHCL(Recommender):
    r"""MMHCL (Guo, Zhang, Wang, Wang, Zhang, Liu, Cui, "MMHCL: Multi-Modal Hypergraph Contrastive
    Learning for Recommendation", TOMM 2025, https://arxiv.org/abs/2504.16576).

    Users meet in the items that they chose, items in the content of which they are neighbors
    (:func:`~genrec_pyg.nn.hypergraph.content_incidence`); tables of their own pass over these
    hypergraphs (:class:`~genrec_pyg.nn.hypergraph.Hypergraph`, the mean over other users, and
    symmetric over items). With :math:`\mathbf{z}` of LightGCN and the second order
    :math:`\mathbf{p} = \mathbf{A}_u^{L_u} \mathbf{P}`,
    :math:`\mathbf{q} = \mathbf{A}_i^{L_i} \mathbf{Q}`,

    .. math::
        \mathbf{u} &= \mathbf{z}_u + \mathrm{norm}(\mathbf{p}_u), \qquad
        \mathbf{i} = \mathbf{z}_i + \mathrm{norm}(\mathbf{q}_i) \\
        \mathcal{L} &= \mathrm{BPR} + \lambda \, \mathrm{L2}(\mathbf{u}, \mathbf{i}^+, \mathbf{i}^-)
        + w_u \, \mathrm{NCE}(\mathbf{u}, \mathbf{p}) + w_i \, \mathrm{NCE}(\mathbf{i}, \mathbf{q})

    Contrasts (:func:`~genrec_pyg.nn.losses.two_view_contrast`) are among all nodes of a type, so
    that a step costs :math:`\mathcal{O}((U^2 + I^2) d)`; no block of it is kept. Among the nodes of
    a batch it costs :math:`\mathcal{O}(B^2 d)`.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d``.
        num_layers: Layers over the interaction graph.
        num_user_layers: :math:`L_u`.
        num_item_layers: :math:`L_i`.
        num_neighbors: Neighbors per item and modality, itself included.
        l2: :math:`\lambda` on final rows.
        user_weight: :math:`w_u`.
        item_weight: :math:`w_i`.
        temperature: Temperature of both contrasts.
        contrast_nodes: ``'all'``, or ``'batch'``, the distinct users and positive items of a batch.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MMHCL
        >>> from genrec_pyg.testing import toy_graph
        >>> MMHCL(toy_graph())
        MMHCL(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_user_layers: int = 3,
        num_item_layers: int = 2,
        num_neighbors: int = 5,
        l2: float = 1e-3,
        user_weight: float = 0.03,
        item_weight: float = 0.07,
        temperature: float = 0.6,
        contrast_nodes: str = 'all',
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'MMHCL')
        for name, value, low in (
            ('hidden_channels', hidden_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_user_layers', num_user_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('l2', l2, 0),
            ('user_weight', user_weight, 0),
            ('item_weight', item_weight, 0),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        check_choice('contrast_nodes', contrast_nodes, CONTRAST_NODES)
        self.num_user_layers, self.num_item_layers = num_user_layers, num_item_layers
        self.l2, self.user_weight, self.item_weight = l2, user_weight, item_weight
        self.temperature, self.contrast_nodes = temperature, contrast_nodes
        sizes = self.num_users, self.num_items
        self.embedding = NodeEmbedding(*sizes, hidden_channels)
        self.second_order = NodeEmbedding(*sizes, hidden_channels)
        self.adjacency = bipartite_adjacency(self.graph.edge_index, *sizes, self_loops=False)
        self.conv = LightConv(num_layers)
        interactions = Adjacency.from_edge_index(self.graph.edge_index, size=sizes)
        self.user_graph = Hypergraph(interactions, 'mean', self_loops=False)
        self.item_graph = Hypergraph(content_incidence(self.graph, num_neighbors))

    def reset_parameters(self) -> None:
        r"""Redraws all tables."""
        self.embedding.reset_parameters()
        self.second_order.reset_parameters()

    def views(self) -> MMHCLViews:
        r"""Final embeddings and the second order in them."""
        propagated = self.conv(self.embedding.joint(), self.adjacency)
        users, items = propagated.split([self.num_users, self.num_items])
        shared, similar = self.second_order.user, self.second_order.item
        for _ in range(self.num_user_layers):
            shared = self.user_graph(shared)
        for _ in range(self.num_item_layers):
            similar = self.item_graph(similar)
        return MMHCLViews(users + unit_rows(shared), items + unit_rows(similar), shared, similar)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        views = self.views()
        return views.users, views.items

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, the penalty on final rows and both contrasts."""
        views = self.views()
        rows = views.users[batch.user], views.items[batch.pos], views.items[batch.neg]
        terms = {'bpr': bpr_loss(*rows), 'l2': self.l2 * batch_l2(*rows)}
        for name, weight, first, second, nodes in (
            ('users', self.user_weight, views.users, views.shared_users, batch.user),
            ('items', self.item_weight, views.items, views.similar_items, batch.pos),
        ):
            if weight > 0:
                if self.contrast_nodes == 'batch':
                    nodes = nodes.unique()
                    first, second = first[nodes], second[nodes]
                terms[name] = weight * two_view_contrast(first, second, self.temperature)
        return terms
