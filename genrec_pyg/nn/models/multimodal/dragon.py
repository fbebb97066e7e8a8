r"""DRAGON: content encoders with graphs of users and of items on top."""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear, Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict, ParameterDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.losses import bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import ItemFeatures, item_features, require_modalities
from genrec_pyg.nn.modality.item_graph import mixed_item_graph
from genrec_pyg.nn.models.pairwise import check_range
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, bipartite_adjacency, cooccurrence_graph, edge_softmax, spmm, unit_rows


class ContentEncoder(torch.nn.Module):
    r"""Two linear layers with a leaky ReLU between them, ``d_m`` to ``4 d`` to ``d``; zero where an item lacks the modality.

    Args:
        in_channels: Feature width ``d_m``.
        out_channels: Width ``d``.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.input, self.output = Linear(in_channels, 4 * out_channels), Linear(4 * out_channels, out_channels)

    def reset_parameters(self) -> None:
        r"""Draws both layers anew."""
        self.input.reset_parameters()
        self.output.reset_parameters()

    def forward(self, features: ItemFeatures) -> Tensor:
        r"""Maps features of items ``[n, d_m]`` to ``[n, d]``."""
        return self.output(F.leaky_relu(self.input(features.x))) * features.present


class DRAGON(Recommender):
    r"""DRAGON (Zhou, Zhou, Shen, "Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation", ECAI
    2023, https://arxiv.org/abs/2301.12097).

    Per modality, users have a learned row and items encoded features; both are normalized and summed over layers of the
    interactions. The blocks of the modalities stand side by side, those of a user weighted by learned
    :math:`\mathbf{w}_u` that start as a softmax of noise. Rows of users then take a mean of those with most common items,
    rows of items one of those with similar features:

    .. math::
        [\mathbf{Z}_{m,u} ; \mathbf{Z}_{m,i}] = \sum_{l=0}^{L} \mathbf{A}^l \, \mathrm{norm}([\boldsymbol{\Pi}_m ;
        \mathrm{MLP}_m(\mathbf{X}_m)]), \qquad \mathbf{y}_u = \Vert_m \, w_{um} \mathbf{z}_{m,u}, \quad
        \mathbf{y}_i = \Vert_m \, \mathbf{z}_{m,i}

    .. math::
        \mathbf{u} = \mathbf{y}_u + \sum_v \alpha_{uv} \mathbf{y}_v, \qquad
        \mathbf{i} = \mathbf{y}_i + (\mathbf{S}^{L_s} \mathbf{Y})_i, \qquad
        \mathcal{L} = \frac{\mathrm{BPR}}{\ln 2} + \lambda \Bigl[ \sum_m \overline{\boldsymbol{\Pi}_{m,u}^2} +
        \overline{\mathbf{w}^2} \Bigr]

    with :math:`\alpha` the softmax of the numbers of common items over the :math:`k_U` users that share most, and
    :math:`\mathbf{S}` as in :class:`~genrec_pyg.nn.models.multimodal.freedom.FREEDOM`. A user who shares no item adds nothing.

    Defects of the released program: it ranks with embeddings left over from the last batch; lists of fewer than :math:`k_U`
    users are filled by drawing their members again, rather those drawn before; :math:`\mathbf{S}` is kept in a file whose
    name has the number of neighbors only, so that a search over weights of modalities always reads the first; numbers of
    common items are counted in a dense matrix of users x users; searched settings for layers are not read.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d`` per modality.
        num_layers: Layers ``L``.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        num_co_users: Users :math:`k_U` of the graph of users.
        modality_weights: Weight of each modality in :math:`\mathbf{S}` up to a common factor (published: image 0.1, text
            0.9); equal ones by default. Modalities that the graph lacks are passed over.
        l2: :math:`\lambda`, on means of squares.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.
    """

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]] = None,
                 hidden_channels: int = 64, num_layers: int = 2, num_item_layers: int = 1, num_neighbors: int = 10,
                 num_co_users: int = 40, modality_weights: Optional[dict[str, float]] = None, l2: float = 1e-3):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'DRAGON')
        for name, value, low in (('hidden_channels', hidden_channels, 1), ('num_layers', num_layers, 0),
                                 ('num_item_layers', num_item_layers, 0), ('num_neighbors', num_neighbors, 1),
                                 ('num_co_users', num_co_users, 1), ('l2', l2, 0)):
            check_range(name, value, low)
        self.l2 = l2
        self.features = item_features(self.graph, normalize=False)
        self.encoders = ModuleDict({name: ContentEncoder(features.x.size(1), hidden_channels)
                                    for name, features in self.features.items()})
        self.preferences = ParameterDict({name: Parameter(torch.empty(self.num_users, hidden_channels))
                                          for name in self.features})
        self.user_weight = Parameter(torch.empty(self.num_users, len(self.features)))
        self.adjacency = bipartite_adjacency(self.graph.edge_index, self.num_users, self.num_items, self_loops=False)
        interactions = Adjacency.from_edge_index(self.graph.edge_index, None, (self.num_users, self.num_items))
        self.user_graph = edge_softmax(cooccurrence_graph(interactions, num_co_users))
        self.item_graph = mixed_item_graph(self.graph, num_neighbors, modality_weights, binary=True)
        self.conv, self.item_conv = LightConv(num_layers), ItemGraphConv(num_item_layers)
        self._reset_tables()

    def _reset_tables(self) -> None:
        for table in self.preferences.values():
            init_table(table, 'xavier_normal')
        with torch.no_grad():
            noise = torch.randn_like(self.user_weight) * math.sqrt(2 / sum(self.user_weight.shape))
            self.user_weight.copy_(noise.softmax(dim=1))

    def reset_parameters(self) -> None:
        r"""Draws encoders and tables anew."""
        for encoder in self.encoders.values():
            encoder.reset_parameters()
        self._reset_tables()

    def propagate(self) -> tuple[Tensor, Tensor]:
        r"""Rows :math:`\mathbf{y}` of users ``[U, M d]`` and items ``[I, M d]``, before the two graphs on top."""
        blocks = [unit_rows(torch.cat([self.preferences[name], encoder(self.features[name])]))
                  for name, encoder in self.encoders.items()]
        layers = self.conv.num_layers + 1  # the sum over layers from their mean
        users, items = (layers * self.conv(torch.cat(blocks, dim=1), self.adjacency)).split([self.num_users, self.num_items])
        weight = self.user_weight.repeat_interleave(blocks[0].size(1), dim=1)
        return weight * users, items

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, M d]`` and items ``[I, M d]``."""
        users, items = self.propagate()
        return users + spmm(self.user_graph, users), items + self.item_conv(items, self.item_graph)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR with logarithms to base 2, and the penalty on learned rows of users and on their weights."""
        users, items = self.embed()
        penalty = row_penalty(*(table[batch.user] for table in self.preferences.values()), self.user_weight,
                              shape='mean_square')
        return {'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]) / math.log(2),
                'l2': self.l2 * penalty}
