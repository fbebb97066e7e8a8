r"""GRCN: interactions weighed by agreement of preference and content."""

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
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.embedding import NodeEmbedding, init_table
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.losses import ROW_PENALTIES, bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.modality.streams import NEGATIVE_SLOPE, UserPreferences
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import Adjacency, edge_softmax, sampled_product, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted ways from the attentions of all modalities to one weight of an edge.
WEIGHTINGS = ('confidence', 'max', 'mean')
#: Accepted starts of the confidence.
CONFIDENCE_INITS = ('ones', 'xavier')


class Attention(NamedTuple):
    r"""What a content network says about nodes and edges.

    Args:
        users: Content of users ``[U, c]``.
        items: Content of items ``[I, c]``.
        to_users: Attention of users over their items, ``[E_m]`` in the order of the network's
            edges.
        to_items: Attention of items over their users ``[E_m]``, in the same order.
    """

    users: Tensor
    items: Tensor
    to_users: Tensor
    to_items: Tensor


class ContentNetwork(GraphModule):
    r"""Attention over the interactions in one modality (GRCN: Wei et al., MM 2020, Eqs. 1 to 6).

    .. math::
        \mathbf{p}_u \leftarrow \mathrm{norm} \Bigl( \mathbf{p}_u
        + \sum_{i \in \mathbf{R}_u} \alpha_{ui} \mathbf{f}_i \Bigr), \qquad
        \alpha_{ui} = \mathrm{softmax}_{i \in \mathbf{R}_u} (\mathbf{p}_u \cdot \mathbf{f}_i)

    After ``T`` such steps the inner products of final preferences and content are normalized twice,
    over the items of a user and over the users of an item, and each side takes the weighted sum of
    the other one once more.

    Args:
        interactions: Edges ``[U, I]`` to items that have the modality.
        num_iterations: Steps ``T``.
    """

    def __init__(self, interactions: Adjacency, num_iterations: int):
        super().__init__()
        self.interactions, self.num_iterations = interactions, num_iterations

    def attention(self, users: Tensor, items: Tensor) -> Adjacency:
        r"""Logits ``[U, I]``."""
        return self.interactions.with_value(sampled_product(self.interactions, users, items))

    def forward(self, users: Tensor, items: Tensor) -> Attention:
        r"""Routes preferences ``[U, c]`` over content ``[I, c]``; both have unit rows."""
        for _ in range(self.num_iterations):
            users = unit_rows(users + spmm(edge_softmax(self.attention(users, items)), items))
        logits = self.attention(users, items)
        to_users, to_items = edge_softmax(logits), edge_softmax(logits.t())
        return Attention(
            users + spmm(to_users, items),
            items + spmm(to_items, users),
            to_users.value,
            to_items.t().value,
        )


class GRCN(Recommender):
    r"""GRCN (Wei, Wang, Nie, He, Chua, "Graph-Refined Convolutional Network for Multimedia
    Recommendation with Implicit Feedback", MM 2020, https://arxiv.org/abs/2008.10032).

    A :class:`ContentNetwork` per modality, on
    :math:`\mathbf{f}_m = \mathrm{norm}(\varphi(\mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m))` and a
    table of users, weighs every direction of an interaction by its attention times the confidence
    :math:`\kappa` of its source; ID rows are summed with these weights and join the content:

    .. math::
        w_{j \to i} = \mathrm{ReLU} \bigl( \max_m \alpha_{m, j \to i} \, \kappa_{j, m} \bigr),
        \qquad \mathbf{z} = \Bigl[ \sum_{l=0}^{L} \mathbf{W}^l \, \mathrm{norm}(\mathbf{E}) \; ; \;
        \mathbf{c}_1 ; \dots ; \mathbf{c}_M \Bigr], \qquad s(u, i) = \mathbf{z}_u \cdot \mathbf{z}_i

    .. math::
        \mathcal{L} = \mathrm{BPR} + \lambda \Bigl[ \overline{\mathbf{E}_u^2}
        + \overline{\mathbf{E}_{i}^2} + \sum_m \overline{\boldsymbol{\Pi}_{m,u}^2} \Bigr]

    with means over entries of the rows of a batch, positive and negative items together. An item
    that lacks a modality takes no part in that network, nor its edges in that share of the maximum;
    an edge of an item without any weighs one over the degree of its target. Inner products exist on
    edges alone.

    Confidence starts from 1, so that at first a weight is the largest attention.
    ``variant='released'`` stands for what the authors' program and the toolbox MMRec do: steps of
    routing go to the wrong side and change nothing, so there are none; confidence starts Xavier
    normal, which silences for ever the share :math:`2^{-M}` of nodes whose entries are all
    negative, for attention is positive and the ReLU leaves them no gradient; the preferences of
    ``image`` are penalized twice.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        variant: ``'principled'`` or ``'released'``.
        hidden_channels: Width ``d`` of ID rows.
        content_channels: Width ``c`` of the content of each modality.
        num_layers: Layers ``L``.
        num_iterations: Steps ``T`` of routing; 3, or 0 as released.
        weighting: ``'confidence'``; ``'max'`` or ``'mean'`` of the attentions, without confidence.
        confidence_init: ``'ones'`` or ``'xavier'``; by default that of the variant.
        l2: :math:`\lambda`; published: 1e-1 to 1e-5.
        penalty: Shape of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import GRCN
        >>> from genrec_pyg.testing import toy_graph
        >>> GRCN(toy_graph())
        GRCN(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        content_channels: int = 64,
        num_layers: int = 2,
        num_iterations: int | None = None,
        weighting: str = 'confidence',
        confidence_init: str | None = None,
        l2: float = 1e-3,
        penalty: str = 'mean_square',
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'GRCN')
        check_choice('variant', variant, ('principled', 'released'))
        check_choice('weighting', weighting, WEIGHTINGS)
        check_choice('penalty', penalty, ROW_PENALTIES)
        if num_iterations is None:
            num_iterations = 0 if variant == 'released' else 3
        if confidence_init is None:
            confidence_init = 'xavier' if variant == 'released' else 'ones'
        check_choice('confidence_init', confidence_init, CONFIDENCE_INITS)
        for name, value, low in (
            ('content_channels', content_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_iterations', num_iterations, 0),
            ('l2', l2, 0),
        ):
            check_range(name, value, low)
        self.variant = variant
        self.num_layers = num_layers
        self.weighting = weighting
        self.l2 = l2
        self.penalty = penalty
        self.confidence_init = confidence_init
        self.features = item_features(self.graph, normalize=False)
        self.embedding = NodeEmbedding(
            self.num_users, self.num_items, hidden_channels, init='xavier_normal'
        )
        self.preferences = UserPreferences(
            self.num_users, dict.fromkeys(self.features, content_channels)
        )
        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), content_channels, init='xavier_normal', zero_bias=False
                )
                for name, features in self.features.items()
            }
        )
        shape = len(self.features) if weighting == 'confidence' else 0
        self.user_confidence = Parameter(torch.empty(self.num_users, shape)) if shape else None
        self.item_confidence = Parameter(torch.empty(self.num_items, shape)) if shape else None
        self._reset_confidence()

        self.interactions = Adjacency.from_edge_index(
            self.graph.edge_index, None, (self.num_users, self.num_items)
        )
        self.networks, self.edges = ModuleDict(), {}
        for name, features in self.features.items():
            self.edges[name] = features.present[self.graph.edge_index[1], 0].nonzero().view(-1)
            part = self.interactions
            if len(self.edges[name]) < self.graph.num_edges:
                part = Adjacency.from_edge_index(
                    self.graph.edge_index[:, self.edges[name]], None, part.size
                )
            self.networks[name] = ContentNetwork(part, num_iterations)

    def _reset_confidence(self) -> None:
        for table in (self.user_confidence, self.item_confidence):
            if table is not None and self.confidence_init == 'ones':
                torch.nn.init.ones_(table)
            elif table is not None:
                init_table(table, 'xavier_normal')

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        self.embedding.reset_parameters()
        self.preferences.reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        self._reset_confidence()

    def content(self) -> dict[str, Attention]:
        r"""Content and attention of every modality."""
        found = {}
        for name, features in self.features.items():
            items = unit_rows(F.leaky_relu(self.projections[name](features), NEGATIVE_SLOPE))
            found[name] = self.networks[name](unit_rows(self.preferences[name]), items)
        return found

    def edge_weights(self, content: dict[str, Attention]) -> tuple[Tensor, Tensor]:
        r"""Weights of messages to users and of messages to items, ``[E]`` each in the order of the
        training edges.
        """
        user, item = self.graph.edge_index
        sides = (
            (item, self.item_confidence, user, [part.to_users for part in content.values()]),
            (user, self.user_confidence, item, [part.to_items for part in content.values()]),
        )
        return tuple(self._weights(*side) for side in sides)

    def _weights(
        self, source: Tensor, confidence: Tensor | None, target: Tensor, parts: list[Tensor]
    ) -> Tensor:
        columns = []
        for m, (part, edges) in enumerate(zip(parts, self.edges.values())):
            if confidence is not None:
                part = part * confidence[source[edges], m]
            columns.append(part.new_full((len(source),), -torch.inf).index_put((edges,), part))
        columns = torch.stack(columns, dim=1)
        known = columns > -torch.inf
        count = known.sum(dim=1)
        if self.weighting == 'mean':
            weight = columns.masked_fill(~known, 0).sum(dim=1) / count.clamp(min=1)
        else:
            weight = columns.amax(dim=1)
        degree = torch.bincount(target)[target].to(weight.dtype)
        return torch.where(count > 0, F.relu(weight), 1 / degree)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users and items, ``[U, d + M c]`` and ``[I, d + M c]``: ID rows, then the content of
        every modality.
        """
        content = self.content()
        to_users, to_items = self.edge_weights(content)
        to_users = self.interactions.with_value(to_users)
        to_items = self.interactions.with_value(to_items).t()
        user, item = unit_rows(self.embedding.user), unit_rows(self.embedding.item)
        users, items = user, item
        for _ in range(self.num_layers):
            user, item = spmm(to_users, item), spmm(to_items, user)
            users, items = users + user, items + item
        return (
            torch.cat([users, *(part.users for part in content.values())], dim=1),
            torch.cat([items, *(part.items for part in content.values())], dim=1),
        )

    def l2_penalty(self, batch: Triples) -> Tensor:
        r"""Penalty on the tables, without its weight."""
        items = self.embedding.item[torch.cat([batch.pos, batch.neg])]
        rows = [table[batch.user] for table in self.preferences.values()]
        if self.variant == 'released':
            rows = [table for name, table in self.preferences.items() if name == 'image'] + rows
        return row_penalty(items, self.embedding.user[batch.user], *rows, shape=self.penalty)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and the penalty."""
        users, items = self.embed()
        return {
            'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]),
            'l2': self.l2 * self.l2_penalty(batch),
        }
