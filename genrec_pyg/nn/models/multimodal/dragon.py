r"""DRAGON: content encoders with graphs of users and of items on top."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv import ItemGraphConv
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.modality.item_graph import mixed_item_graph
from genrec_pyg.nn.modality.streams import ModalityStreams
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.user_graph import CoUserGraph
from genrec_pyg.ops import spmm
from genrec_pyg.utils.validation import check_range


class DRAGON(Recommender):
    r"""DRAGON (Zhou, Zhou, Shen, "Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal
    Recommendation", ECAI 2023, https://arxiv.org/abs/2301.12097).

    With the streams :math:`\mathbf{z}_m` of
    :class:`~genrec_pyg.nn.modality.streams.ModalityStreams`, side by side and those of a user
    weighted by :math:`w_{um}`, users take a mean of those with most common items, items one of
    those with similar features:

    .. math::
        \mathbf{y}_u = \Vert_m \, w_{um} \mathbf{z}_{m,u}, \qquad
        \mathbf{y}_i = \Vert_m \, \mathbf{z}_{m,i}, \qquad
        \mathbf{u} = \mathbf{y}_u + \sum_v a_{uv} \mathbf{y}_v, \qquad
        \mathbf{i} = \mathbf{y}_i + (\mathbf{S}^{L_s} \mathbf{Y})_i

    .. math::
        \mathcal{L} = \frac{\mathrm{BPR}}{\ln 2}
        + \lambda \Bigl[ \sum_m \overline{\boldsymbol{\Pi}_{m,u}^2} + \overline{\mathbf{w}^2} \Bigr]

    with :math:`a` of :class:`~genrec_pyg.nn.user_graph.CoUserGraph` and :math:`\mathbf{S}` as in
    :class:`~genrec_pyg.nn.models.multimodal.freedom.FREEDOM`.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d`` per modality.
        num_layers: Layers ``L``.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        num_co_users: Users :math:`k_U` of the graph of users.
        modality_weights: Weight of each modality in :math:`\mathbf{S}` up to a common factor
            (published: image 0.1, text 0.9); equal ones by default. Modalities that the graph lacks
            are passed over.
        neighbor_padding: Padding of short lists of users, see
            :class:`~genrec_pyg.nn.user_graph.CoUserGraph`.
        l2: :math:`\lambda`, on means of squares.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import DRAGON
        >>> from genrec_pyg.testing import toy_graph
        >>> DRAGON(toy_graph(), num_neighbors=3)
        DRAGON(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        num_co_users: int = 40,
        modality_weights: dict[str, float] | None = None,
        neighbor_padding: str | None = None,
        l2: float = 1e-3,
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'DRAGON')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('num_co_users', num_co_users, 1),
            ('l2', l2, 0),
        ):
            check_range(name, value, low)
        self.l2 = l2
        self.streams = ModalityStreams(self.graph, hidden_channels, num_layers)
        self.user_graph = CoUserGraph(self.graph, num_co_users, neighbor_padding)
        self.item_graph = mixed_item_graph(self.graph, num_neighbors, modality_weights, binary=True)
        self.item_conv = ItemGraphConv(num_item_layers)

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        self.streams.reset_parameters()

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Pads lists of users again, where they are padded."""
        self.user_graph.draw()
        return {}

    def propagate(self) -> tuple[Tensor, Tensor]:
        r"""Rows :math:`\mathbf{y}` of users ``[U, M d]`` and items ``[I, M d]``, before the two
        graphs on top.
        """
        users, items = self.streams()
        return (self.streams.weight.unsqueeze(2) * users).flatten(1), items.flatten(1)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, M d]`` and items ``[I, M d]``."""
        users, items = self.propagate()
        return users + spmm(self.user_graph(), users), items + self.item_conv(
            items, self.item_graph
        )

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR in base 2, and the penalty on learned rows of users and on their weights."""
        users, items = self.embed()
        return {
            'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]) / math.log(2),
            'l2': self.l2 * self.streams.penalty(batch.user),
        }
