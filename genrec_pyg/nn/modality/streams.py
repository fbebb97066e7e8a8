r"""User preferences and item content of every modality, propagated apart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.containers import ModuleDict, ParameterDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.losses import row_penalty
from genrec_pyg.nn.modality.features import ItemFeatures, item_features
from genrec_pyg.ops import bipartite_adjacency, unit_rows

#: Slope of the leaky ReLU in these models.
NEGATIVE_SLOPE = 0.01


class UserPreferences(ParameterDict):
    r"""One table of users per modality.

    Args:
        num_users: Number of users ``U``.
        channels: Width per modality.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.

    Raises:
        ConfigError: If a width is not positive.
    """

    def __init__(self, num_users: int, channels: dict[str, int], init: str = 'xavier_normal'):
        super().__init__()
        self._init = init
        for name, width in channels.items():
            if width < 1:
                raise ConfigError(f'hidden_channels: got {width}, accepted are integers from 1')
            self[name] = Parameter(torch.empty(num_users, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws all tables."""
        for table in self.values():
            init_table(table, self._init)


class ContentMLP(torch.nn.Module):
    r"""Two linear maps ``d_m -> 4d -> d`` with a leaky ReLU between; an item without the modality
    gets a zero row.

    Args:
        in_channels: Feature width ``d_m``.
        out_channels: Embedding width ``d``.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = Linear(in_channels, 4 * out_channels)
        self.second = Linear(4 * out_channels, out_channels)

    def reset_parameters(self) -> None:
        r"""Draws weights and biases as the framework does."""
        self.first.reset_parameters()
        self.second.reset_parameters()

    def forward(self, features: ItemFeatures) -> Tensor:
        r"""Maps features of items ``[n, d_m]`` to ``[n, d]``."""
        return self.second(F.leaky_relu(self.first(features.x), NEGATIVE_SLOPE)) * features.present


class ModalityStreams(GraphModule):
    r"""Streams of DualGNN (Wang et al., TMM 2021) and DRAGON (Zhou et al., ECAI 2023).

    .. math::
        \mathbf{x}_m = \mathrm{norm} \begin{bmatrix} \boldsymbol{\Pi}_m
        \\ \mathrm{MLP}_m(\mathbf{X}_m) \end{bmatrix}, \qquad
        \mathbf{z}_m = \sum_{l=0}^{L} \mathbf{A}^l \mathbf{x}_m

    with :math:`\mathbf{A}` the symmetric normalized training graph without self loops. All
    modalities are column blocks of one propagation. Users weigh their modalities by a learned
    table, whose rows start close to ``1 / M``.

    Args:
        graph: Training graph with at least one modality.
        channels: Width ``d`` per modality.
        num_layers: Layers ``L``.

    Raises:
        ConfigError: If ``channels`` is not positive or ``num_layers`` negative.

    Attributes:
        preferences: Tables :math:`\boldsymbol{\Pi}_m` ``[U, d]``.
        weight: Weights of modalities ``[U, M]``, unconstrained.
    """

    def __init__(self, graph: TrainingGraph, channels: int, num_layers: int = 2):
        super().__init__()
        self.num_users = graph.num_users
        self.num_items = graph.num_items
        self.num_layers = num_layers
        self.preferences = UserPreferences(
            graph.num_users, dict.fromkeys(graph.modalities, channels)
        )
        self.features = item_features(graph, normalize=False)
        self.encoders = ModuleDict(
            {
                name: ContentMLP(features.x.size(1), channels)
                for name, features in self.features.items()
            }
        )
        self.adjacency = bipartite_adjacency(
            graph.edge_index, graph.num_users, graph.num_items, self_loops=False
        )
        self.conv = LightConv(num_layers)
        self.weight = Parameter(torch.empty(graph.num_users, len(self.features)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        self.preferences.reset_parameters()
        for encoder in self.encoders.values():
            encoder.reset_parameters()
        with torch.no_grad():
            noise = torch.empty_like(self.weight).normal_(0, math.sqrt(2 / sum(self.weight.shape)))
            self.weight.copy_(noise.softmax(dim=1))

    def penalty(self, user: Tensor) -> Tensor:
        r"""Mean square of the preferences of the users ``user`` ``[B]``, summed over modalities,
        plus that of all weights.
        """
        rows = [table[user] for table in self.preferences.values()]
        return row_penalty(*rows, self.weight, shape='mean_square')

    def starts(self) -> Tensor:
        r"""Rows :math:`\mathbf{x}_m` of all nodes and modalities before propagation ``[N, M, d]``,
        users first.
        """
        return torch.stack(
            [
                torch.cat(
                    [unit_rows(self.preferences[name]), unit_rows(self.encoders[name](features))]
                )
                for name, features in self.features.items()
            ],
            dim=1,
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        r"""Propagated rows :math:`\mathbf{z}_m` of users ``[U, M, d]`` and items ``[I, M, d]``."""
        x = self.starts()
        out = (self.num_layers + 1) * self.conv(x.flatten(1), self.adjacency)
        return out.view(x.shape).split([self.num_users, self.num_items])
