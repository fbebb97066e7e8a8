r"""PGL: training on a principal part of the interactions, ranking on all."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import ItemGraphConv, LightConv
from genrec_pyg.nn.interaction_graph import PrunedGraph
from genrec_pyg.nn.losses import batch_l2, bpr_loss
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.modality.item_graph import mixed_item_graph
from genrec_pyg.nn.modality.streams import UserPreferences
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.nn.models.settings import complement
from genrec_pyg.nn.principal_graph import PrincipalGraph
from genrec_pyg.ops import info_nce, unit_rows
from genrec_pyg.utils.validation import check_choice, check_dropout, check_range


class PGL(Recommender):
    r"""PGL (Yu, Tan, Lu, Bao, "Mind Individual Information! Principal Graph Learning for Multimedia
    Recommendation", AAAI 2025; equations of the authors' program).

    Users have a learned row :math:`\boldsymbol{\Pi}_m` per modality, items normalized content, side
    by side:

    .. math::
        \mathbf{X}_u = \Vert_m \boldsymbol{\Pi}_m, \qquad
        \mathbf{X}_i = \Vert_m \mathrm{norm}(\mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m), \qquad
        [\mathbf{Z}_u ; \tilde{\mathbf{Z}}_i] = \frac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l
        [\mathbf{X}_u ; \mathbf{X}_i], \qquad
        \mathbf{Z}_i = \tilde{\mathbf{Z}}_i + \mathbf{S}^{L_s} \mathbf{X}_i

    with :math:`\mathbf{S}` as in :class:`~genrec_pyg.nn.models.multimodal.freedom.FREEDOM`.
    Evaluation takes all interactions for :math:`\mathbf{A}`; training a share that is drawn every
    epoch and normalized again (``mode='local'``,
    :class:`~genrec_pyg.nn.interaction_graph.PrunedGraph`), or the low-rank graph of
    :class:`~genrec_pyg.nn.principal_graph.PrincipalGraph` (``mode='global'``).

    .. math::
        \mathcal{L} = \mathrm{BPR} + \frac{\mu}{2} \left[ \mathrm{NCE}(\delta(\mathbf{Z}_u),
        \delta'(\mathbf{Z}_u)) + \mathrm{NCE}(\delta(\mathbf{Z}_{i^+}), \delta'(\mathbf{Z}_{i^+}))
        \right]

    with two dropout masks on the rows of a batch. Items have no row of their own.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        hidden_channels: Width ``d`` per modality.
        mode: ``'local'`` or ``'global'``.
        edge_dropout: Share of interactions that an epoch of the local mode leaves out.
        rank: Rank of the global graph, see :class:`~genrec_pyg.nn.principal_graph.PrincipalGraph`.
        threshold: Magnitude below which an entry of the global graph counts as 0; published: 0.001.
        num_layers: Layers ``L``.
        num_item_layers: Layers :math:`L_s`.
        num_neighbors: Neighbors per item and modality, the item itself included.
        modality_weights: Weight of each modality in :math:`\mathbf{S}` up to a common factor
            (published: image 0.1, text 0.9); equal ones by default. Modalities that the graph lacks
            are passed over.
        contrast_weight: :math:`\mu`.
        dropout: Dropout of the contrast.
        temperature: Temperature of the contrast.
        l2: Weight of a penalty on the learned rows of users of a batch; the method has none.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import PGL
        >>> from genrec_pyg.testing import toy_graph
        >>> PGL(toy_graph(), rank=4)
        PGL(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'keep': complement('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        mode: str = 'local',
        edge_dropout: float = 0.7,
        rank: int = 64,
        threshold: float = 0.0,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        modality_weights: dict[str, float] | None = None,
        contrast_weight: float = 0.05,
        dropout: float = 0.2,
        temperature: float = 0.2,
        l2: float = 0.0,
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'PGL')
        for name, value, low in (
            ('hidden_channels', hidden_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('contrast_weight', contrast_weight, 0),
            ('l2', l2, 0),
        ):
            check_range(name, value, low)
        check_choice('mode', mode, ('local', 'global'))
        check_dropout('edge_dropout', edge_dropout)
        check_range('dropout', dropout, 0, 1)
        check_range('temperature', temperature, 0, open_low=True)
        self.contrast_weight = contrast_weight
        self.dropout = dropout
        self.temperature = temperature
        self.l2 = l2
        self.interactions = PrunedGraph(self.graph, edge_dropout if mode == 'local' else 0.0)
        self.principal = PrincipalGraph(self.graph, rank, threshold) if mode == 'global' else None
        self.item_graph = mixed_item_graph(self.graph, num_neighbors, modality_weights, binary=True)
        self.conv, self.item_conv = LightConv(num_layers), ItemGraphConv(num_item_layers)
        self.features = item_features(self.graph, normalize=False)
        self.preferences = UserPreferences(
            self.num_users, dict.fromkeys(self.features, hidden_channels), 'xavier'
        )
        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), hidden_channels, init=None, zero_bias=False
                )
                for name, features in self.features.items()
            }
        )

    def reset_parameters(self) -> None:
        r"""Redraws tables and projections."""
        self.preferences.reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the interactions of the epoch in the local mode."""
        self.interactions.prune()
        return {}

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, M d]`` and items ``[I, M d]``."""
        users = torch.cat(list(self.preferences.values()), dim=1)
        items = torch.cat(
            [
                unit_rows(projection(self.features[name]))
                for name, projection in self.projections.items()
            ],
            dim=1,
        )
        x = torch.cat([users, items])
        if self.principal is not None and self.training:
            x = self.principal.layer_mean(x, self.conv.num_layers)
        else:
            x = self.conv(x, self.interactions())
        return x[: self.num_users], x[self.num_users :] + self.item_conv(items, self.item_graph)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and the contrast of two dropout masks."""
        users, items = self.embed()
        user, positive = users[batch.user], items[batch.pos]
        terms = {
            'bpr': bpr_loss(user, positive, items[batch.neg]),
            'l2': self.l2 * batch_l2(*(table[batch.user] for table in self.preferences.values())),
        }
        if self.contrast_weight > 0:
            terms['contrast'] = (
                self.contrast_weight
                / 2
                * sum(
                    info_nce(self._drop(rows), self._drop(rows), self.temperature)
                    for rows in (user, positive)
                )
            )
        return terms

    def _drop(self, rows: Tensor) -> Tensor:
        return F.dropout(rows, self.dropout, self.training)
