r"""SGL: self-discrimination of nodes between two random subgraphs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.conv.functional import layer_outputs
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import bank_contrast
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.nn.models.pairwise import rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import Adjacency
from genrec_pyg.utils.validation import check_choice, check_dropout, check_range


class SGL(LightGCN):
    r"""SGL (Wu, Wang, Feng, He, Chen, Lian, Xie, "Self-supervised Graph Learning for
    Recommendation", SIGIR 2021, Eqs. 5 to 12): LightGCN, and a contrast between its outputs on two
    augmented graphs.

    .. math::
        \mathcal{L} = \mathcal{L}_{\mathrm{LightGCN}}
        + w \left[ \mathrm{NCE}(\mathbf{z}'_{u_k}, \mathbf{Z}''_u)
        + \mathrm{NCE}(\mathbf{z}'_{i^+_k}, \mathbf{Z}''_i) \right]

    Anchors are the users and positive items of a batch with multiplicity, the bank all users or all
    items of the second view. A dropped node keeps its own row as layer 0. With
    ``contrast_weight=0`` nothing is drawn and the model is LightGCN.

    Every term is a mean over the batch. The release sums all of them, so its weights carry over.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        augmentation: ``'edge_drop'``, ``'node_drop'``, or ``'random_walk'``, edge dropout with a
            graph of its own per layer.
        edge_dropout: Share :math:`\rho` of edges, with ``'node_drop'`` of nodes, that an augmented
            graph leaves out.
        contrast_weight: Weight ``w`` of the contrast.
        temperature: Temperature :math:`\tau`.
        symmetric: Whether both views take turns as anchors.
        resample: ``'epoch'`` or ``'batch'``, when the graphs are drawn.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import SGL
        >>> from genrec_pyg.testing import toy_graph
        >>> SGL(toy_graph(), edge_dropout=0.2)
        SGL(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty_rows'), 'ratio': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        augmentation: str = 'edge_drop',
        edge_dropout: float = 0.1,
        contrast_weight: float = 0.1,
        temperature: float = 0.2,
        symmetric: bool = False,
        resample: str = 'epoch',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data,
            modalities,
            hidden_channels,
            num_layers,
            l2,
            init,
            penalty_rows,
            item_side=item_side,
        )
        check_choice('augmentation', augmentation, ('edge_drop', 'node_drop', 'random_walk'))
        check_choice('resample', resample, ('epoch', 'batch'))
        check_dropout('edge_dropout', edge_dropout)
        check_range('contrast_weight', contrast_weight, 0)
        check_range('temperature', temperature, 0, open_low=True)
        # Not edge_dropout: ranking sees the whole graph.
        self.augmentation, self.view_dropout = augmentation, edge_dropout
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.symmetric = symmetric
        self.resample = resample
        #: Graph of each layer of each view; a view with one graph for all layers has one entry.
        self.view_graphs: dict[int, dict[int, Adjacency]] = {}

    def draw_views(self) -> None:
        r"""Draws the graphs of both views."""
        graph, walk = self.interactions, self.augmentation == 'random_walk'
        draw = graph.node_drop if self.augmentation == 'node_drop' else graph.edge_drop
        layers = range(self.num_layers if walk else 1)
        self.view_graphs = {
            view: {layer: graph.subgraph(draw(self.view_dropout)) for layer in layers}
            for view in range(2)
        }

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the graphs of the epoch."""
        if self.contrast_weight > 0 and self.resample == 'epoch':
            self.draw_views()
        return {}

    def views(self) -> list[tuple[Tensor, Tensor]]:
        r"""User and item rows on both augmented graphs."""
        if not self.view_graphs or self.resample == 'batch':
            self.draw_views()
        x = self.embedding.joint()
        return [
            self.split(self._view(x, list(graphs.values()))) for graphs in self.view_graphs.values()
        ]

    def _view(self, x: Tensor, graphs: list[Adjacency]) -> Tensor:
        if self.augmentation == 'random_walk':
            return torch.stack(layer_outputs(x, graphs)).mean(dim=0)
        return self.propagate(x, graphs[0])

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, L2 and the contrast of users and of items."""
        terms = super().loss(batch)
        if self.contrast_weight > 0:
            first, second = self.views()
            for name, side, index in (
                ('contrast_users', 0, batch.user),
                ('contrast_items', 1, batch.pos),
            ):
                terms[name] = self.contrast_weight * bank_contrast(
                    first[side], second[side], index, self.temperature, self.symmetric
                )
        return terms
