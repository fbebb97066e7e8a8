r"""MMGCN: one graph network per modality on the interactions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv.functional import spmm_blocks
from genrec_pyg.nn.embedding import NodeEmbedding, init_table
from genrec_pyg.nn.losses import ROW_PENALTIES, bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import (
    FeatureProjection,
    ItemFeatures,
    item_features,
    require_modalities,
)
from genrec_pyg.nn.modality.streams import NEGATIVE_SLOPE, UserPreferences
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import random_walk_adjacency, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted ways in which a node's own row meets what its neighbors say.
COMBINATIONS = ('concat', 'add')


class MMGCNLayer(torch.nn.Module):
    r"""Layer of MMGCN (Wei et al., MM 2019, Eqs. 1 to 6) for one modality.

    .. math::
        \mathbf{h} = \varphi(\mathbf{P} \mathbf{x} \mathbf{A}^{\top}), \qquad
        \hat{\mathbf{x}} = \varphi(\mathbf{x} \mathbf{B}^{\top} + \mathbf{b}) + \mathbf{E}, \qquad
        \mathbf{x}' = \varphi([\mathbf{h} ; \hat{\mathbf{x}}] \mathbf{G}^{\top} + \mathbf{b}')

    or, where they are added,
    :math:`\mathbf{x}' = \varphi(\mathbf{h} \mathbf{G}^{\top} + \mathbf{b}' + \hat{\mathbf{x}})`,
    with :math:`\varphi` a leaky ReLU and :math:`\mathbf{P}` the mean over neighbors. The product
    with :math:`\mathbf{P}` is taken by the caller, for all modalities in one call.

    Args:
        in_channels: Width of the input.
        out_channels: Width ``d``.
        combine: ``'concat'`` or ``'add'``.
        first: Whether :math:`\mathbf{G}` starts Xavier normal, as in the first layer, or as the
            framework's default.
    """

    def __init__(
        self, in_channels: int, out_channels: int, combine: str = 'concat', first: bool = False
    ):
        super().__init__()
        self.combine, self.first = combine, first
        self.message = Linear(in_channels, in_channels, bias=False)
        self.own = Linear(in_channels, out_channels)
        self.update = Linear(
            in_channels + (out_channels if combine == 'concat' else 0), out_channels
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws weights and biases."""
        for linear in (self.message, self.own, self.update):
            linear.reset_parameters()
            if self.first or linear is not self.update:
                init_table(linear.weight, 'xavier_normal')

    def forward(self, mean: Tensor, x: Tensor, table: Tensor) -> Tensor:
        r"""Maps the mean over neighbors of ``message(x)`` ``[N, in_channels]``, the rows ``x``
        themselves and the table of nodes ``[N, d]`` to ``[N, d]``.
        """
        mean = F.leaky_relu(mean, NEGATIVE_SLOPE)
        own = F.leaky_relu(self.own(x), NEGATIVE_SLOPE) + table
        out = (
            self.update(torch.cat([mean, own], dim=1))
            if self.combine == 'concat'
            else self.update(mean) + own
        )
        return F.leaky_relu(out, NEGATIVE_SLOPE)


class MMGCN(Recommender):
    r"""MMGCN (Wei, Wang, Nie, He, Hong, Chua, "MMGCN: Multi-modal Graph Convolution Network for
    Personalized Recommendation of Micro-video", MM 2019, https://doi.org/10.1145/3343031.3351034).

    Every modality has a table of users and ``L`` layers of :class:`MMGCNLayer`; the table of nodes
    :math:`\mathbf{E}` enters each of them. The last layers are averaged:

    .. math::
        \mathbf{x}_m^{(0)} = \mathrm{norm} \begin{bmatrix} \boldsymbol{\Pi}_m \\ \mathbf{X}_m
        \end{bmatrix}, \qquad \mathbf{z} = \frac{1}{M} \sum_m \mathbf{x}_m^{(L)}, \qquad
        s(u, i) = \mathbf{z}_u \cdot \mathbf{z}_i

    .. math::
        \mathcal{L} = \mathrm{BPR} + \lambda \Bigl[ \overline{\mathbf{E}_u^2}
        + \overline{\mathbf{E}_{i}^2} + \sum_m \overline{\boldsymbol{\Pi}_{m,u}^2} \Bigr]

    with means over entries of the rows of a batch, positive and negative items together. Features
    wider than ``latent_channels`` pass a linear map first. An item that lacks a modality starts
    that network from zero and receives messages. All modalities share one product with the graph in
    every layer.

    ``variant='released'`` never trains the tables of nodes and preferences, as in the authors'
    program and the toolbox MMRec, where they are plain arrays that no optimizer sees: published
    figures rest on random users and items, and the penalty, of which the preferences' part is that
    of ``image`` over all users, has no effect.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        variant: ``'principled'`` or ``'released'``.
        hidden_channels: Width ``d``.
        latent_channels: Widest input of a graph network.
        num_layers: Layers ``L``, at least one.
        combine: ``'concat'``, what public programs run, or ``'add'``.
        l2: :math:`\lambda`; published: 0 and 1e-5 to 1e-1.
        penalty: Shape of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MMGCN
        >>> from genrec_pyg.testing import toy_graph
        >>> MMGCN(toy_graph(), num_layers=2)
        MMGCN(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        latent_channels: int = 256,
        num_layers: int = 3,
        combine: str = 'concat',
        l2: float = 1e-3,
        penalty: str = 'mean_square',
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'MMGCN')
        check_choice('variant', variant, ('principled', 'released'))
        check_choice('combine', combine, COMBINATIONS)
        check_choice('penalty', penalty, ROW_PENALTIES)
        for name, value, low in (
            ('latent_channels', latent_channels, 1),
            ('num_layers', num_layers, 1),
            ('l2', l2, 0),
        ):
            check_range(name, value, low)
        self.variant, self.l2, self.penalty = variant, l2, penalty
        self.features = item_features(self.graph, normalize=False)
        widths = {
            name: min(features.x.size(1), latent_channels)
            for name, features in self.features.items()
        }
        self.embedding = NodeEmbedding(
            self.num_users, self.num_items, hidden_channels, init='xavier_normal'
        )
        self.preferences = UserPreferences(self.num_users, widths)
        self.inputs = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), latent_channels, init=None, zero_bias=False
                )
                for name, features in self.features.items()
                if features.x.size(1) > latent_channels
            }
        )
        self.networks = ModuleDict(
            {
                name: torch.nn.ModuleList(
                    MMGCNLayer(
                        hidden_channels if layer else width, hidden_channels, combine, layer == 0
                    )
                    for layer in range(num_layers)
                )
                for name, width in widths.items()
            }
        )
        self.adjacency = random_walk_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        if variant == 'released':
            for table in (*self.embedding.parameters(), *self.preferences.values()):
                table.requires_grad_(False)

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        self.embedding.reset_parameters()
        self.preferences.reset_parameters()
        for module in (
            *self.inputs.values(),
            *(layer for layers in self.networks.values() for layer in layers),
        ):
            module.reset_parameters()

    def content(self, name: str, features: ItemFeatures) -> Tensor:
        r"""First rows of items in the modality ``name`` ``[I, K_m]``, before normalization."""
        return self.inputs[name](features) if name in self.inputs else features.x

    def forward(self) -> list[Tensor]:
        r"""Last layer ``[N, d]`` of every modality, users first."""
        table = self.embedding.joint()
        rows = [
            unit_rows(torch.cat([self.preferences[name], self.content(name, features)]))
            for name, features in self.features.items()
        ]
        for layers in zip(*self.networks.values()):
            means = spmm_blocks(
                self.adjacency, [layer.message(x) for layer, x in zip(layers, rows)]
            )
            rows = [layer(mean, x, table) for layer, mean, x in zip(layers, means, rows)]
        return rows

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Mean over modalities: users ``[U, d]`` and items ``[I, d]``."""
        return torch.stack(self()).mean(dim=0).split([self.num_users, self.num_items])

    def l2_penalty(self, batch: Triples) -> Tensor:
        r"""Penalty on the tables, without its weight."""
        user = self.embedding.user[batch.user]
        items = self.embedding.item[torch.cat([batch.pos, batch.neg])]
        if self.variant == 'released':
            preferences = [table for name, table in self.preferences.items() if name == 'image']
        else:
            preferences = [table[batch.user] for table in self.preferences.values()]
        return row_penalty(items, user, *preferences, shape=self.penalty)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and the penalty."""
        users, items = self.embed()
        return {
            'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]),
            'l2': self.l2 * self.l2_penalty(batch),
        }
