r"""LayerGCN: layers refined by their similarity to the layer that they start from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.interaction_graph import PrunedGraph
from genrec_pyg.nn.models.pairwise import PAIRWISE_GRID, PairwiseRecommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import spmm
from genrec_pyg.utils.validation import check_choice, check_range


class LayerGCN(PairwiseRecommender):
    r"""LayerGCN (Zhou, Lin, Liu, Miao, "Layer-refined Graph Convolutional Networks for
    Recommendation", ICDE 2023).

    .. math::
        \mathbf{x}^{l+1} = \cos \left( \mathbf{A} \mathbf{x}^l, \mathbf{x}^0 \right) \odot
        \mathbf{A} \mathbf{x}^l, \qquad \mathbf{z} = \sum_{l=1}^{L} \mathbf{x}^l

    with one cosine per node: a node whose neighborhood disagrees with its own row takes little from
    it, so that deep layers do not become alike. The rows :math:`\mathbf{x}^0` are no part of the
    output, so a node without training edge has embedding zero. Every epoch trains on a part of the
    interactions, renormalized; evaluation uses all.

    Every term is a mean over the batch. The published ones are sums, so the published weights carry
    over.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``, from 1.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        edge_dropout: Share of interactions that an epoch leaves out.
        pruning: Which: ``'degree'``, those between nodes of high degree first
            (:meth:`~genrec_pyg.nn.interaction_graph.InteractionGraph.degree_drop`), ``'uniform'``,
            or ``'alternate'``, the two in turn, degrees first.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import LayerGCN
        >>> from genrec_pyg.testing import toy_graph
        >>> LayerGCN(toy_graph(), num_layers=4)
        LayerGCN(users=8, items=7, modalities=[image, text])
    """

    grid = PAIRWISE_GRID
    FORMER_SETTINGS = {'reg': renamed('penalty_rows'), 'ratio': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 4,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        edge_dropout: float = 0.1,
        pruning: str = 'alternate',
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, penalty_rows)
        check_range('num_layers', num_layers, 1)
        check_choice('pruning', pruning, ('degree', 'uniform', 'alternate'))
        self.num_layers, self.pruning = num_layers, pruning
        self.interactions = PrunedGraph(self.graph, edge_dropout)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the interactions of the epoch."""
        self.interactions.prune(
            self.pruning == 'uniform' or (self.pruning == 'alternate' and epoch % 2 == 1)
        )
        return {}

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Sums of the refined layers of users ``[U, d]`` and items ``[I, d]``."""
        start, graph = self.embedding.joint(), self.layout.local(self.interactions())
        direction = self.layout.unit_rows(start)
        x, out = start, torch.zeros_like(start)
        for _ in range(self.num_layers):
            x = spmm(graph, x)
            x = self.layout.cosine(x, direction) * x
            out = out + x
        return out.split(
            [self.layout.user.size(self.num_users), self.layout.item.size(self.num_items)]
        )
