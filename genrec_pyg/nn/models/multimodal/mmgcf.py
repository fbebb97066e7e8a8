r"""MMGCF: item rows of LightGCN fused with projected content after propagation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.interaction_graph import PrunedGraph
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.modality.features import FeatureProjection, item_features
from genrec_pyg.nn.models.pairwise import PairwiseRecommender, rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.ops import unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted ways to put rows together.
FUSIONS = ('mean', 'sum', 'concat')
#: Accepted ways to weigh them.
WEIGHTINGS = ('equal', 'alpha', 'normalized')


class MMGCF(PairwiseRecommender):
    r"""MMGCF ("Multimodal Graph Collaborative Filtering for Recommendation with Graph Convolutional
    Networks", UMAP 2026, https://doi.org/10.1145/3774935.3806158; equations of the program in the
    toolbox MMRec).

    Users are those of LightGCN. With its items :math:`\mathbf{z}`, content
    :math:`\mathbf{f}_m = \mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m` and a fusion :math:`\phi`, which
    is a mean, a sum or a linear map of the concatenation, items are

    ================  ==============================================================================
    ``weighting``     items
    ================  ==============================================================================
    ``'equal'``       :math:`\phi(\mathbf{z}, \phi(\mathbf{f}_1, \dots, \mathbf{f}_M))`
    ``'alpha'``       :math:`\phi(\alpha \mathbf{z}, (1 - \alpha) \mathbf{f}_1, \dots, (1 - \alpha)
                      \mathbf{f}_M)`, with :math:`\alpha` a sigmoid of a learned number, 1/2 at the
                      start
    ``'normalized'``  :math:`\phi(M \, \mathrm{norm}(\mathbf{z}), \mathrm{norm}(\mathbf{f}_1),
                      \dots, \mathrm{norm}(\mathbf{f}_M))`
    ================  ==============================================================================

    and :math:`\mathcal{L} = \mathrm{BPR} + \lambda \, \mathrm{L2}` on initial rows. Training
    propagates over the part of the interactions that
    :class:`~genrec_pyg.nn.interaction_graph.PrunedGraph` draws every epoch. Means run over what an
    item has: one that lacks all modalities has :math:`\mathbf{z}` alone in them. Under ``'concat'``
    what it lacks is a block of zeros. Only the items of a batch are projected in training. Without
    modalities it is LightGCN on a pruned graph.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        fusion: ``'mean'``, ``'sum'`` or ``'concat'``.
        weighting: ``'equal'``, ``'alpha'`` or ``'normalized'``.
        edge_dropout: Share of interactions that an epoch leaves out.
        l2: :math:`\lambda`.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import MMGCF
        >>> from genrec_pyg.testing import toy_graph
        >>> MMGCF(toy_graph(), fusion='mean')
        MMGCF(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'ratio': renamed('edge_dropout')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        fusion: str = 'mean',
        weighting: str = 'equal',
        edge_dropout: float = 0.2,
        l2: float = 1e-3,
        init: str = 'xavier',
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(data, modalities, hidden_channels, l2, init, item_side=item_side)
        check_range('num_layers', num_layers, 0)
        check_choice('fusion', fusion, FUSIONS)
        check_choice('weighting', weighting, WEIGHTINGS)
        self.fusion, self.weighting = fusion, weighting
        self.interactions = PrunedGraph(self.graph, edge_dropout)
        self.conv = LightConv(num_layers)
        self.features = item_features(self.graph, normalize=False)
        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), hidden_channels, init=None, zero_bias=False
                )
                for name, features in self.features.items()
            }
        )
        count = len(self.features)
        self.alpha_logit = (
            Parameter(torch.zeros(())) if weighting == 'alpha' and count > 0 else None
        )
        self.content_map: Linear | None = None
        self.item_map: Linear | None = None
        if fusion == 'concat' and count > 0:
            inner = weighting == 'equal'
            if inner and count > 1:
                self.content_map = Linear(count * hidden_channels, hidden_channels)
            self.item_map = Linear((2 if inner else count + 1) * hidden_channels, hidden_channels)

    def reset_parameters(self) -> None:
        r"""Redraws tables, projections and maps and sets the share of IDs to 1/2."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        if self.alpha_logit is not None:
            torch.nn.init.zeros_(self.alpha_logit)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Draws the interactions of the epoch."""
        self.interactions.prune()
        return {}

    def propagate(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items :math:`\mathbf{z}` ``[I, d]`` of LightGCN."""
        return self.conv(self.embedding.joint(), self.interactions()).split(
            [self.num_users, self.num_items]
        )

    def fuse(self, items: Tensor, item: Tensor | None = None) -> Tensor:
        r"""Fuses rows :math:`\mathbf{z}` ``items`` ``[n, d]`` of the items ``item`` ``[n]``, or of
        all, with their content.
        """
        if not self.features:
            return items
        features = [
            features if item is None else features.rows(item) for features in self.features.values()
        ]
        content = [
            projection(rows) for projection, rows in zip(self.projections.values(), features)
        ]
        present = [rows.present.to(items.dtype) for rows in features]
        always = torch.ones_like(present[0])
        if self.weighting == 'equal':
            inner = (
                content[0] if len(content) == 1 else self._join(content, present, self.content_map)
            )
            return self._join(
                [items, inner], [always, torch.stack(present).amax(dim=0)], self.item_map
            )
        if self.weighting == 'alpha':
            alpha = self.alpha_logit.sigmoid()
            blocks = [alpha * items, *((1 - alpha) * x for x in content)]
        else:
            blocks = [len(content) * unit_rows(items), *map(unit_rows, content)]
        return self._join(blocks, [always, *present], self.item_map)

    def _join(self, blocks: list[Tensor], present: list[Tensor], linear: Linear | None) -> Tensor:
        if self.fusion == 'concat':
            return linear(torch.cat(blocks, dim=1))
        total = sum(x * mask for x, mask in zip(blocks, present))
        return total if self.fusion == 'sum' else total / sum(present).clamp(min=1)

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        users, items = self.propagate()
        return users, self.fuse(items)

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and L2, with the content of the items of the batch alone."""
        users, items = self.propagate()
        nodes, index = torch.cat([batch.pos, batch.neg]).unique(return_inverse=True)
        positive, negative = self.fuse(items[nodes], nodes)[index].chunk(2)
        return {
            'bpr': bpr_loss(users[batch.user], positive, negative),
            'l2': self.l2 * self.embedding.penalty(batch),
        }
