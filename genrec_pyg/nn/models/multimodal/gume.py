r"""GUME: an interaction graph with edges between similar items, and a second view of the content
that users like.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.losses import batch_l2, bpr_loss
from genrec_pyg.nn.modality.enhanced_graph import common_neighbors, enhanced_adjacency
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.modality.graph_encoder import GraphViews, MultimodalGraphEncoder
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import info_nce
from genrec_pyg.utils.validation import check_range


class GUMEViews(NamedTuple):
    r"""Content :math:`\mathbf{X}_m` ``[M, N, d]``, and what is fused from it and from behavior."""

    explicit: Tensor
    graph: GraphViews


class GUME(Recommender):
    r"""GUME (Lin, Meng, Wang, Long, Zhou, Xiao, "GUME: Graphs and User Modalities Enhancement for
    Long-Tail Multimodal Recommendation", CIKM 2024, https://arxiv.org/abs/2407.12338).

    Items that are nearest neighbors in every modality get an edge in the interaction graph
    (:func:`~genrec_pyg.nn.modality.enhanced_graph.enhanced_adjacency`), so that rare items hear
    from similar ones. On it behavior :math:`\mathbf{C}`, content :math:`\mathbf{X}_m` of modalities
    and what is fused from both, :math:`\mathbf{s}`, are those of
    :class:`~genrec_pyg.nn.models.MGCN`; the embedding is
    :math:`\mathbf{Z} = \mathbf{C} + \mathbf{s}`. Training has a second view of content, in which
    users have a table :math:`\mathbf{P}` of interests:

    .. math::
        \mathbf{T} &= \mathrm{LightGCN}_L([\mathbf{P} ; \mathrm{mean}_m \mathbf{X}_{m,i}]) \\
        \mathcal{L} &= \mathrm{BPR}(\mathbf{Z}) + \lambda \mathrm{L2}(\mathbf{Z}) + \lambda_T
        \mathrm{L2}(\mathbf{T}_{i^+}) + w_a \, \mathrm{gap}(\mathbf{X}) + w_b [\mathrm{NCE}
        (\mathbf{s}_u, \mathbf{C}_u) + \mathrm{NCE}(\mathbf{s}_{i^+}, \mathbf{C}_{i^+})] \\
        &+ w_u [\mathrm{NCE}(\mathbf{T}_u, \mathbf{s}_u) + \mathrm{NCE}(\mathbf{s}'_u,
        \mathbf{s}''_u) + \mathrm{NCE}(\mathbf{T}'_u, \mathbf{T}''_u)]

    with :func:`distribution_gap` and primes for rows moved by noise. Contrasts are within a batch.
    An item that lacks a modality has no say in the neighbors that are common to the others.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one; the gap needs two.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L`` over the interaction graph.
        num_item_layers: Layers over the item-item graphs.
        num_neighbors: Neighbors per item and modality, itself included.
        l2: :math:`\lambda` on final rows.
        interest_l2: :math:`\lambda_T`.
        align_weight: :math:`w_a`.
        contrast_weight: :math:`w_b`.
        temperature: Temperature of the contrast with weight :math:`w_b`.
        user_weight: :math:`w_u`.
        user_temperature: Temperature of the contrasts with weight :math:`w_u`.
        noise: Length of the noise, which moves entries away from zero, in uniform directions.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import GUME
        >>> from genrec_pyg.testing import toy_graph
        >>> GUME(toy_graph(), num_neighbors=3)
        GUME(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        l2: float = 1e-5,
        interest_l2: float = 0.1,
        align_weight: float = 0.1,
        contrast_weight: float = 0.01,
        temperature: float = 0.2,
        user_weight: float = 0.01,
        user_temperature: float = 0.1,
        noise: float = 0.1,
    ):
        super().__init__(data, modalities)
        require_modalities(self.graph, 'GUME')
        for name, value, low in (
            ('hidden_channels', hidden_channels, 1),
            ('num_layers', num_layers, 0),
            ('num_item_layers', num_item_layers, 0),
            ('num_neighbors', num_neighbors, 1),
            ('l2', l2, 0),
            ('interest_l2', interest_l2, 0),
            ('align_weight', align_weight, 0),
            ('contrast_weight', contrast_weight, 0),
            ('user_weight', user_weight, 0),
            ('noise', noise, 0),
        ):
            check_range(name, value, low)
        check_range('temperature', temperature, 0, open_low=True)
        check_range('user_temperature', user_temperature, 0, open_low=True)
        self.l2, self.interest_l2, self.align_weight = l2, interest_l2, align_weight
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.user_weight, self.user_temperature = user_weight, user_temperature
        self.noise = noise
        self.encoder = MultimodalGraphEncoder(
            self.graph,
            hidden_channels,
            num_layers,
            num_item_layers,
            num_neighbors,
            side_scale=None,
            merge=None,
            batch_norm=False,
            residual=False,
            self_loops=False,
            shared_gates=False,
        )
        present = [modality.present() for modality in self.graph.modalities.values()]
        pairs = common_neighbors(list(self.encoder.item_graphs.values()), present)
        self.encoder.adjacency, self.encoder.block = enhanced_adjacency(self.graph, pairs)
        self.interest = Parameter(torch.empty(self.num_users, hidden_channels))
        init_table(self.interest)

    def reset_parameters(self) -> None:
        r"""Redraws the encoder and the table of interests."""
        self.encoder.reset_parameters()
        init_table(self.interest)

    def views(self) -> GUMEViews:
        r"""Content of all nodes, and what is fused from it and from behavior."""
        explicit = self.encoder.modality_views(self.encoder.encode_modalities())
        behavior = self.encoder.collaborative_view()
        return GUMEViews(explicit, self.encoder.fuse(behavior, explicit))

    def extended(self, explicit: Tensor) -> Tensor:
        r"""Extended interests :math:`\mathbf{T}` ``[N, d]``, given content ``[M, N, d]``.

        Propagation is linear: that of the mean over modalities is the mean of theirs.
        """
        items = explicit[:, self.num_users :].mean(dim=0)
        return self.encoder.conv(torch.cat([self.interest, items]), self.encoder.adjacency)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        return self.views().graph.embedding.split([self.num_users, self.num_items])

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, penalties, alignment of modalities and both contrasts on a batch of triples."""
        explicit, views = self.views()
        users, items = views.embedding.split([self.num_users, self.num_items])
        rows = users[batch.user], items[batch.pos], items[batch.neg]
        terms = {'bpr': bpr_loss(*rows), 'l2': self.l2 * batch_l2(*rows)}
        if self.align_weight > 0 and explicit.size(0) > 1:
            terms['align'] = self.align_weight * distribution_gap(explicit)
        positive = self.num_users + batch.pos
        if self.contrast_weight > 0:
            terms['contrast'] = self.contrast_weight * sum(
                info_nce(views.side[index], views.content[index], self.temperature)
                for index in (batch.user, positive)
            )
        if self.user_weight > 0 or self.interest_l2 > 0:
            extended = self.extended(explicit)
            terms['interest_l2'] = self.interest_l2 * batch_l2(extended[positive])
            if self.user_weight > 0:
                contrast = self._user_contrast(views.side, extended, batch.user)
                terms['users'] = self.user_weight * contrast
        return terms

    def _user_contrast(self, side: Tensor, extended: Tensor, user: Tensor) -> Tensor:
        nodes, index = user.unique(return_inverse=True)  # a user who occurs twice is moved alike
        side, extended = side[nodes], extended[nodes]
        pairs = [(extended, side)]
        pairs += [(self._moved(rows), self._moved(rows)) for rows in (side, extended)]
        return sum(info_nce(x[index], y[index], self.user_temperature) for x, y in pairs)

    def _moved(self, rows: Tensor) -> Tensor:
        noise = F.normalize(torch.rand_like(rows), dim=1)
        return rows + self.noise * rows.sign() * noise


def distribution_gap(views: Tensor) -> Tensor:
    r"""Distance of the distributions of the entries of views ``[M, n, d]``.

    .. math::
        \sum_{m < m'} |\mu_m - \mu_{m'}| + |\sigma^2_m - \sigma^2_{m'}|
    """
    flat = views.flatten(start_dim=1)
    moments = torch.stack([flat.mean(dim=1), flat.var(dim=1)], dim=1)
    return sum((first - second).abs().sum() for first, second in combinations(moments, 2))
