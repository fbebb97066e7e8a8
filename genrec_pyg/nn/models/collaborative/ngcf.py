r"""NGCF: nonlinear propagation with an affinity term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv import NGCFConv
from genrec_pyg.nn.interaction_graph import InteractionGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import squared_norm
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import Adjacency, bipartite_adjacency, unit_rows
from genrec_pyg.utils.validation import check_choice, check_dropout, check_range


class NGCF(PairwiseRecommender):
    r"""NGCF (Wang, He, Wang, Feng, Chua, "Neural Graph Collaborative Filtering", SIGIR 2019).

    Layers :math:`\mathbf{h}^l` of :class:`~genrec_pyg.nn.conv.NGCFConv`; the embedding is
    :math:`[\mathbf{h}^0 ; \mathrm{norm}(\mathbf{h}^1) ; \dots ; \mathrm{norm}(\mathbf{h}^L)]`,
    while the rows that enter the next layer are not normalized.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d`` of the tables.
        layer_channels: Widths :math:`d_1, \dots, d_L`; three times ``hidden_channels`` by default.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        dropout: Dropout of the layers.
        edge_dropout: Probability with which an interaction is left out of a training step, the
            others scaled up.
        bias: Whether layers have a bias (the paper's have none).
        adj: ``'sym'``, the paper's graph, or ``'rw_self'``, the authors'
            :math:`(\mathbf{D} + \mathbf{I})^{-1} (\mathbf{A} + \mathbf{I})`, with which no row is
            added to its own neighborhood again.
        weight_l2: Weight of half the squared norm of the layers' weights.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import NGCF
        >>> from genrec_pyg.testing import toy_graph
        >>> NGCF(toy_graph())
        NGCF(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty_rows'), 'node_dropout': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        layer_channels: Sequence[int] | None = None,
        l2: float = 1e-5,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        dropout: float = 0.1,
        edge_dropout: float = 0.0,
        bias: bool = True,
        adj: str = 'sym',
        weight_l2: float = 0.0,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data, modalities, hidden_channels, l2, init, penalty_rows, item_side=item_side
        )
        check_choice('adj', adj, ('sym', 'rw_self'))
        check_range('weight_l2', weight_l2, 0)
        check_dropout('dropout', dropout)
        check_dropout('edge_dropout', edge_dropout)
        widths = [
            hidden_channels,
            *([hidden_channels] * 3 if layer_channels is None else layer_channels),
        ]
        if min(widths) < 1:
            raise ConfigError(f'layer_channels: got {widths[1:]}, accepted are integers from 1')
        self.dropout, self.edge_dropout, self.weight_l2 = dropout, edge_dropout, weight_l2
        self.interactions = InteractionGraph(self.graph)
        self.random_walk = self._random_walk() if adj == 'rw_self' else None
        self.convs = torch.nn.ModuleList(
            NGCFConv(width, out, bias, add_self=adj == 'sym')
            for width, out in zip(widths, widths[1:])
        )

    def _random_walk(self) -> Adjacency:
        pattern = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=True
        )
        return pattern.with_value((1 / pattern.row_degree().to(pattern.value.dtype))[pattern.row()])

    def reset_parameters(self) -> None:
        r"""Redraws tables and layers."""
        super().reset_parameters()
        for conv in self.convs:
            conv.reset_parameters()

    def _graph(self) -> Adjacency:
        edge_dropout = self.edge_dropout if self.training else 0.0
        if self.random_walk is None:
            return self.interactions.scaled_drop(edge_dropout)
        if edge_dropout == 0:
            return self.random_walk
        return self.random_walk.with_value(F.dropout(self.random_walk.value, edge_dropout))

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Concatenated layers of users ``[U, d + sum d_l]`` and of items; dropout and edge dropout
        act in training mode.
        """
        h, graph = self.embedding.joint(), self._graph()
        blocks = [h]
        for conv in self.convs:
            h = F.dropout(conv(h, graph), self.dropout, self.training)
            blocks.append(unit_rows(h))
        return torch.cat(blocks, dim=1).split([self.num_users, self.num_items])

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and L2, of the layers' weights too where asked for."""
        terms = super().loss(batch)
        if self.weight_l2 > 0:
            weights = [weight for conv in self.convs for weight in (conv.weight1, conv.weight2)]
            terms['l2_weights'] = self.weight_l2 / 2 * squared_norm(*weights)
        return terms
