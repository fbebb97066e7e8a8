r"""LGMRec: local propagation of IDs and content, and global propagation through hyperedges of
content.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ParameterDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.conv.hyper_conv import SoftHyperConv
from genrec_pyg.nn.embedding import init_table
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import ROW_PENALTIES, bank_contrast, bpr_loss, row_penalty
from genrec_pyg.nn.modality.features import item_features, require_modalities
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import complement, renamed
from genrec_pyg.ops import Adjacency, bipartite_adjacency, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range


class LGMViews(NamedTuple):
    r"""Final users ``[U, d]`` and items ``[I, d]``, and what reached them through the hyperedges of
    each modality.
    """

    users: Tensor
    items: Tensor
    hyper_users: list[Tensor]
    hyper_items: list[Tensor]


class LGMRec(PairwiseRecommender):
    r"""LGMRec (Guo, Li, Li, Wang, Shi, Ruan, "LGMRec: Local and Global Graph Learning for
    Multimodal Recommendation", AAAI 2024, https://arxiv.org/abs/2312.16400).

    With :math:`\mathbf{z}` of LightGCN, content :math:`\mathbf{f}_m = \mathbf{X}_m \mathbf{W}_m`
    that is averaged over the items of a user and then propagated,
    :math:`\mathbf{c}_m = \mathbf{A}^{L_m} [\mathbf{P} \mathbf{f}_m ; \mathbf{f}_m]`, and what items
    send through ``K`` hyperedges of each modality, :math:`\mathbf{y}_m` for users and
    :math:`\mathbf{r}_m` for items (:class:`~genrec_pyg.nn.conv.hyper_conv.SoftHyperConv` with
    logits :math:`\mathbf{X}_m \mathbf{V}_m` of items and their sums over the items of a user),

    .. math::
        \mathbf{u} = \mathbf{z}_u + \sum_m \mathrm{norm}(\mathbf{c}_{m,u})
        + \alpha \, \mathrm{norm} \Bigl( \sum_m \mathbf{y}_m \Bigr), \qquad
        \mathbf{i} = \mathbf{z}_i + \sum_m \mathrm{norm}(\mathbf{c}_{m,i})
        + \alpha \, \mathrm{norm} \Bigl( \sum_m \mathbf{r}_m \Bigr)

    .. math::
        \mathcal{L} = \mathrm{BPR} + w \sum_{m < m'} [\mathrm{NCE}(\mathbf{y}_m, \mathbf{y}_{m'})
        + \mathrm{NCE}(\mathbf{r}_m, \mathbf{r}_{m'})]
        + \lambda \, \rho(\mathbf{u}, \mathbf{i}^+, \mathbf{i}^-)

    The contrast takes users and positive items of the batch against all nodes of their type. An
    item that lacks a modality has no content, belongs to all its hyperedges alike and is left out
    of the means of users.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one; the contrast needs two.
        hidden_channels: Width ``d``.
        num_layers: Layers of the IDs.
        num_content_layers: Layers :math:`L_m` of the content.
        num_hyper_layers: Layers through hyperedges.
        num_hyperedges: Hyperedges ``K`` per modality.
        edge_dropout: Share of memberships of hyperedges that a training step leaves out.
        hyper_weight: :math:`\alpha`.
        temperature: Temperature of memberships and of the contrast.
        contrast_weight: ``w``.
        noise: ``'gumbel'`` or ``'logistic'``, the paper's.
        l2: :math:`\lambda` on final rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty: Shape :math:`\rho` of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import LGMRec
        >>> from genrec_pyg.testing import toy_graph
        >>> LGMRec(toy_graph(), num_hyperedges=2)
        LGMRec(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty'), 'keep': complement('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_content_layers: int = 2,
        num_hyper_layers: int = 1,
        num_hyperedges: int = 4,
        edge_dropout: float = 0.5,
        hyper_weight: float = 0.3,
        temperature: float = 0.2,
        contrast_weight: float = 0.2,
        noise: str = 'gumbel',
        l2: float = 1e-6,
        init: str = 'xavier',
        penalty: str = 'frobenius',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, item_side=item_side)
        require_modalities(self.graph, 'LGMRec')
        for name, value, low in (
            ('num_layers', num_layers, 0),
            ('num_content_layers', num_content_layers, 0),
            ('num_hyperedges', num_hyperedges, 1),
            ('hyper_weight', hyper_weight, 0),
            ('contrast_weight', contrast_weight, 0),
        ):
            check_range(name, value, low)
        check_choice('penalty', penalty, ROW_PENALTIES)
        self.num_content_layers, self.hyper_weight = num_content_layers, hyper_weight
        self.temperature, self.contrast_weight, self.penalty = temperature, contrast_weight, penalty
        self.features = item_features(self.graph, normalize=False)
        self.projections, self.hyperedges = (
            ParameterDict(
                {
                    name: Parameter(torch.empty(features.x.size(1), width))
                    for name, features in self.features.items()
                }
            )
            for width in (hidden_channels, num_hyperedges)
        )
        self.adjacency = bipartite_adjacency(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.interactions = Adjacency.from_edge_index(
            self.graph.edge_index,
            self.graph.edge_index.new_ones(self.graph.num_edges).float(),
            (self.num_users, self.num_items),
        )
        self.means = {
            name: self._user_means(features.present) for name, features in self.features.items()
        }
        self.conv = LightConv(num_layers)
        self.hyper_conv = SoftHyperConv(num_hyper_layers, temperature, edge_dropout, noise)
        self._reset_maps()

    def _user_means(self, present: Tensor) -> Adjacency:
        r"""Mean over those items of a user that are ``present`` ``[I, 1]``, as a matrix
        ``[U, I]``.
        """
        value = present[self.interactions.col.long(), 0].to(self.interactions.value.dtype)
        row = self.interactions.row()
        count = value.new_zeros(self.num_users).index_add(0, row, value)
        return self.interactions.with_value(value / count.clamp(min=1)[row])

    def _reset_maps(self) -> None:
        for weight in (*self.projections.values(), *self.hyperedges.values()):
            init_table(weight)

    def reset_parameters(self) -> None:
        r"""Redraws tables and maps."""
        super().reset_parameters()
        self._reset_maps()

    def content(self) -> Tensor:
        r"""Propagated content :math:`\mathbf{c}_m` of all nodes ``[N, M, d]``."""
        blocks = []
        for name, weight in self.projections.items():
            items = self.features[name].x @ weight
            blocks.append(torch.cat([spmm(self.means[name], items), items]))
        x = torch.cat(blocks, dim=1)
        for _ in range(self.num_content_layers):
            x = spmm(self.adjacency, x)
        return x.view(x.size(0), len(blocks), -1)

    def views(self) -> LGMViews:
        r"""Final embeddings and the parts of them that came through hyperedges."""
        ids, content = self.conv(self.embedding.joint(), self.adjacency), self.content()
        local = ids + sum(unit_rows(block) for block in content.unbind(dim=1))
        users, items = local.split([self.num_users, self.num_items])
        item_logits = [self.features[name].x @ weight for name, weight in self.hyperedges.items()]
        user_logits = spmm(self.interactions, torch.cat(item_logits, dim=1)).chunk(
            len(item_logits), dim=1
        )
        sources = ids[self.num_users :]
        parts = [
            self.hyper_conv(user, item, sources) for user, item in zip(user_logits, item_logits)
        ]
        hyper_users, hyper_items = map(list, zip(*parts))
        return LGMViews(
            users + self.hyper_weight * unit_rows(sum(hyper_users)),
            items + self.hyper_weight * unit_rows(sum(hyper_items)),
            hyper_users,
            hyper_items,
        )

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        views = self.views()
        return views.users, views.items

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR, the contrast between modalities and the penalty on final rows."""
        views = self.views()
        rows = views.users[batch.user], views.items[batch.pos], views.items[batch.neg]
        terms = {'bpr': bpr_loss(*rows), 'l2': self.l2 * row_penalty(*rows, shape=self.penalty)}
        if self.contrast_weight > 0 and len(self.features) > 1:
            terms['contrast'] = self.contrast_weight * sum(
                bank_contrast(first, second, index, self.temperature)
                for parts, index in (
                    (views.hyper_users, batch.user),
                    (views.hyper_items, batch.pos),
                )
                for first, second in combinations(parts, 2)
            )
        return terms
