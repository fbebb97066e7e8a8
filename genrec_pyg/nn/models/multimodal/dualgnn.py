r"""DualGNN: modality streams weighed by each user, smoothed over users with common items."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv import SparseConv
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.modality.streams import ModalityStreams
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.user_graph import CoUserGraph
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted mixtures of a user's modalities.
FUSIONS = ('weighted', 'softmax', 'mean', 'max', 'concat')


class DualGNN(Recommender):
    r"""DualGNN (Wang, Wei, Yin, Wu, Song, Nie, "DualGNN: Dual Graph Neural Network for Multimedia
    Recommendation", IEEE TMM 2021).

    With the streams :math:`\mathbf{z}_m` of
    :class:`~genrec_pyg.nn.modality.streams.ModalityStreams`, weights :math:`w_{um}` and the users
    with common items of :class:`~genrec_pyg.nn.user_graph.CoUserGraph`,

    .. math::
        \mathbf{q}_i = \sum_m \mathbf{z}_{m,i}, \qquad
        \mathbf{y}_u = \sum_m w_{um} \mathbf{z}_{m,u}, \qquad
        \mathbf{v}_u = \mathbf{y}_u + \sum_v a_{uv} \mathbf{y}_v, \qquad
        s(u, i) = \mathbf{v}_u \cdot \mathbf{q}_i

    .. math::
        \mathcal{L} = \frac{\mathrm{BPR}}{\ln 2}
        + \lambda \Bigl[ \sum_m \overline{\boldsymbol{\Pi}_{m,u}^2} + \overline{\mathbf{w}^2} \Bigr]

    with means over entries: preferences of the users of a batch, and all weights. Nodes have no
    other table. An item that lacks a modality starts that stream from zero and keeps what it
    receives from its users.

    ``variant='released'`` mixes users as the released toolbox does, which adds the streams of the
    items in place into the first before users are mixed: they get
    :math:`w_{u1} \sum_m \mathbf{z}_m + \sum_{m>1} w_{um} \mathbf{z}_m`.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        variant: ``'principled'`` or ``'released'``.
        hidden_channels: Width ``d``.
        num_layers: Layers of propagation.
        num_neighbors: Users with common items per user.
        fusion: How a user mixes modalities: ``'weighted'``; ``'softmax'``, the weights a softmax of
            the table; ``'mean'``, without weights; ``'max'``, the entrywise largest weighted
            stream; ``'concat'``, a linear map of the weighted streams.
        neighbor_padding: Padding of short lists of neighbors, see
            :class:`~genrec_pyg.nn.user_graph.CoUserGraph`.
        l2: :math:`\lambda`; published: 1e-1 to 1e-5.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import DualGNN
        >>> from genrec_pyg.testing import toy_graph
        >>> DualGNN(toy_graph(), num_neighbors=3)
        DualGNN(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_neighbors: int = 40,
        fusion: str = 'weighted',
        neighbor_padding: str | None = None,
        l2: float = 1e-3,
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'DualGNN')
        check_choice('variant', variant, ('principled', 'released'))
        check_choice('fusion', fusion, FUSIONS)
        check_range('l2', l2, 0)
        self.variant, self.fusion, self.l2 = variant, fusion, l2
        self.streams = ModalityStreams(self.graph, hidden_channels, num_layers)
        self.user_graph = CoUserGraph(self.graph, num_neighbors, neighbor_padding)
        self.conv = SparseConv()
        width = len(self.graph.modalities) * hidden_channels
        self.mixture = Linear(width, hidden_channels) if fusion == 'concat' else None

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        self.streams.reset_parameters()
        if self.mixture is not None:
            self.mixture.reset_parameters()

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Pads lists of neighbors again, where they are padded."""
        self.user_graph.draw()
        return {}

    def mix(self, streams: Tensor) -> Tensor:
        r"""Users :math:`\mathbf{y}` ``[U, d]`` of their streams ``[U, M, d]``."""
        if self.variant == 'released':
            streams = torch.cat([streams.sum(dim=1, keepdim=True), streams[:, 1:]], dim=1)
        if self.fusion == 'mean':
            return streams.mean(dim=1)
        weight = (
            self.streams.weight.softmax(dim=1) if self.fusion == 'softmax' else self.streams.weight
        )
        weighted = weight.unsqueeze(2) * streams
        if self.mixture is not None:
            return self.mixture(weighted.flatten(1))
        return weighted.amax(dim=1) if self.fusion == 'max' else weighted.sum(dim=1)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users :math:`\mathbf{v}` ``[U, d]`` and items :math:`\mathbf{q}` ``[I, d]``."""
        users, items = self.streams()
        mixed = self.mix(users)
        return mixed + self.conv(mixed, self.user_graph()), items.sum(dim=1)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR in base 2 and the penalty."""
        users, items = self.embed()
        return {
            'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]) / math.log(2),
            'l2': self.l2 * self.streams.penalty(batch.user),
        }
