r"""LightGCN with content in the first rows of items."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.embedding import NodeEmbedding
from genrec_pyg.nn.losses import ROW_PENALTIES, bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import (
    FeatureProjection,
    concatenated_features,
    item_features,
    require_modalities,
)
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import bipartite_adjacency, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted ways in which content meets the rows of items.
COMBINATIONS = ('add', 'concat', 'replace')


class LGCNM(PairwiseRecommender):
    r"""LGCN-M: LightGCN (He et al., SIGIR 2020) whose items start from content, the plainest test
    of what features add.

    .. math::
        [\mathbf{Z}_u ; \mathbf{Z}_i] = \frac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l [\mathbf{E}_u ;
        \mathbf{S}_i], \qquad \mathcal{L} = \mathrm{BPR}
        + \lambda \, \rho(\mathbf{E}_u, \mathbf{E}_{i^+}, \mathbf{E}_{i^-})

    ===============  ===============================================================================
    ``combine``      rows :math:`\mathbf{S}_i` of items before propagation, with
                     :math:`\mathbf{c}_m = \mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m`
    ===============  ===============================================================================
    ``add``          :math:`\mathbf{E}_i` plus the mean of :math:`\mathbf{c}_m` over the modalities
                     that the item has
    ``concat``       :math:`[\mathbf{E}_i ; \mathbf{c}_1 ; \dots ; \mathbf{c}_M]`, users of the same
                     width: as many LightGCNs, whose scores add up
    ``replace``      :math:`\mathrm{norm}(\sum_m \mathbf{W}_m \mathbf{x}_m + \mathbf{b})`, no table
                     of items; the penalty sees users alone
    ===============  ===============================================================================

    The name stands in tables of DiffMM (https://arxiv.org/abs/2406.11781) and GenRec; neither paper
    defines the row, and no program of it was found. ``replace`` is what a public benchmark of
    multimedia recommenders calls so. Without modalities the model is LightGCN.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on initial rows; projections carry no penalty.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty: Shape :math:`\rho` of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.
        combine: ``'add'``, ``'concat'`` or ``'replace'``.
        normalize_features: Whether the features of every modality are l2-normalized first.

    Raises:
        ConfigError: On an argument outside its accepted values, or if content shall replace tables
            and there is none.

    Examples:
        >>> from genrec_pyg.nn import LGCNM
        >>> from genrec_pyg.testing import toy_graph
        >>> LGCNM(toy_graph(), num_layers=2)
        LGCNM(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty: str = 'l2',
        combine: str = 'add',
        normalize_features: bool = False,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init)
        check_choice('combine', combine, COMBINATIONS)
        check_choice('penalty', penalty, ROW_PENALTIES)
        check_range('num_layers', num_layers, 0)
        self.combine, self.penalty = combine, penalty
        self.adjacency = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.conv = LightConv(num_layers)
        if combine == 'replace':
            require_modalities(self.graph, 'LGCNM')
            self.features = {'': concatenated_features(self.graph, normalize_features)}
            self.embedding = NodeEmbedding(self.num_users, 0, hidden_channels, init=init)
        else:
            self.features = item_features(self.graph, normalize_features)
        if combine == 'concat':
            self.embedding = NodeEmbedding(
                self.num_users,
                self.num_items,
                (len(self.features) + 1) * hidden_channels,
                hidden_channels,
                init,
            )
        self.projections = ModuleDict(
            {
                name: FeatureProjection(features.x.size(1), hidden_channels, init='xavier_normal')
                for name, features in self.features.items()
            }
        )

    def reset_parameters(self) -> None:
        r"""Redraws tables and projections."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()

    def item_starts(self) -> Tensor:
        r"""Rows :math:`\mathbf{S}_i` of items before propagation ``[I, d]``, or
        ``[I, (M + 1) d]``.
        """
        contents = [self.projections[name](features) for name, features in self.features.items()]
        if self.combine == 'replace':
            return unit_rows(contents[0])
        if not contents:
            return self.embedding.item
        if self.combine == 'concat':
            return torch.cat([self.embedding.item, *contents], dim=1)
        present = sum(features.present.to(contents[0].dtype) for features in self.features.values())
        return self.embedding.item + sum(contents) / present.clamp(min=1)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Propagated users and items, ``[U, d]`` and ``[I, d]``, or of width ``(M + 1) d``."""
        starts = torch.cat([self.embedding.user, self.item_starts()])
        return self.conv(starts, self.adjacency).split([self.num_users, self.num_items])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and the penalty."""
        users, items = self.embed()
        rows = [self.embedding.user[batch.user]]
        if self.combine != 'replace':
            rows += [self.embedding.item[batch.pos], self.embedding.item[batch.neg]]
        return {
            'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg]),
            'l2': self.l2 * row_penalty(*rows, shape=self.penalty),
        }
