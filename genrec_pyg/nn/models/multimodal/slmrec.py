r"""SLMRec: views of ID and modalities, fused, with a task between views."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.containers import ModuleDict
from genrec_pyg.nn.conv.functional import stream_means
from genrec_pyg.nn.losses import softmax_over_items
from genrec_pyg.nn.modality.features import FeatureProjection, item_features, require_modalities
from genrec_pyg.nn.models.pairwise import PairwiseRecommender
from genrec_pyg.ops import bipartite_block, info_nce, spmm, unit_rows
from genrec_pyg.utils.validation import check_choice, check_range

#: Accepted tasks between views.
TASKS = ('fac', 'fd', 'fm', 'fd+fm', 'none')


class AlignmentChain(torch.nn.Module):
    r"""Fine and coarse alignment (SLMRec: Tao et al., TMM 2022): one space per modality, each a
    linear map of the one before.

    .. math::
        \mathbf{g}_k = \mathbf{G}_k \mathbf{g}_{k-1} + \mathbf{b}_k, \quad
        \mathbf{g}_0 = \mathbf{v}_0, \qquad
        \mathcal{L} = \sum_{k=1}^{M} \mathrm{InfoNCE}(\mathbf{g}_k, \mathbf{H}_k \mathbf{v}_k)

    with inner products of rows that are not normalized. :math:`\mathbf{H}_k` has no bias: one
    vector added to all its rows adds the same to all logits of an anchor. The last of several
    spaces has half the width.

    Args:
        names: Modalities, in order.
        channels: Width ``d``.
    """

    def __init__(self, names: Iterable[str], channels: int):
        super().__init__()
        names = list(names)
        widths = dict.fromkeys(names, channels)
        if len(names) > 1:
            widths[names[-1]] = max(channels // 2, 1)
        self.maps, self.heads, width = ModuleDict(), ModuleDict(), channels
        for name in names:
            self.maps[name] = Linear(width, widths[name])
            self.heads[name] = Linear(channels, widths[name], bias=False)
            width = widths[name]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Weights Xavier uniform, biases as the framework does."""
        for linear in (*self.maps.values(), *self.heads.values()):
            linear.reset_parameters()
            torch.nn.init.xavier_uniform_(linear.weight)

    def forward(self, views: Tensor, present: dict[str, Tensor], temperature: float) -> Tensor:
        r"""Sum over the spaces.

        Args:
            views: Views ``[n, M + 1, d]`` of items, that of the ID first.
            present: Items that have each modality, boolean ``[n]``; others are neither anchors nor
                candidates in its space.
            temperature: Temperature.
        """
        total, rows = views.new_zeros(()), views[:, 0]
        for k, (name, linear) in enumerate(self.maps.items(), start=1):
            rows, mask = linear(rows), present[name]
            if bool(mask.any()):
                candidates = self.heads[name](views[:, k][mask])
                index = torch.arange(candidates.size(0), device=candidates.device)
                total = (
                    total + softmax_over_items(rows[mask] / temperature, candidates, index).mean()
                )
        return total


class SLMRec(PairwiseRecommender):
    r"""SLMRec (Tao, Liu, Xia, Wang, Yang, Huang, Chua, "Self-supervised Learning for Multimedia
    Recommendation", IEEE TMM 2022, https://doi.org/10.1109/TMM.2022.3187556).

    Views are LightGCN from the table of items and from every projected modality, all with the same
    table of users, fused by a linear map:

    .. math::
        \mathbf{V}_0 = \mathcal{P}(\mathbf{E}_U, \mathbf{E}_I), \quad
        \mathbf{V}_m = \mathcal{P}(\mathbf{E}_U, \mathbf{W}_m \, \mathrm{norm}(\mathbf{X}_m)
        + \mathbf{b}_m), \qquad \mathbf{e} = \mathbf{F} [\mathbf{v}_0 ; \dots ; \mathbf{v}_M]

    .. math::
        \mathcal{L} = \mathrm{InfoNCE}(\mathrm{norm}(\mathbf{e}_u), \mathrm{norm}(\mathbf{e}_i);
        \tau) + a \, \mathcal{L}_{\mathrm{ssl}}, \qquad s(u, i) = \mathbf{e}_u \cdot \mathbf{e}_i

    over observed pairs, from users to items; the negatives of a batch are not looked at.
    :math:`\mathcal{L}_{\mathrm{ssl}}` compares views of the nodes of a batch. ``'fac'`` aligns the
    ID view with the others (:class:`AlignmentChain`). ``'fd'`` compares the fused rows of two
    passes with dropout after every step of propagation, ``'fm'`` those of two passes, each with the
    items of another view, drawn per batch, set to zero. ``'fd+fm'`` does both, ``'none'`` nothing.

    The part of a propagation that starts from users is shared: ``L (M + 2)`` half products instead
    of ``2 L (M + 1)``, and only nodes of a batch are fused. Published training has weight decay
    1e-4 on every parameter.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one; their order is that of the spaces (published:
            image, audio, text).
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: Weight of a penalty on the initial rows of a batch; the paper has none.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        fusion: ``'concat'`` or ``'mean'`` of the views before the linear map.
        task: Task between views.
        task_weight: :math:`a`; published: 0.01 to 1.
        task_temperature: Temperature of the task; published: 0.1 to 1.
        temperature: Temperature :math:`\tau` of ranking.
        dropout: Dropout of ``fd``.
        mask_duplicates: Whether an item that repeats in a batch counts once.
        score_by: ``'dot'`` or ``'cosine'``, what training compares.

    Raises:
        ConfigError: Without a modality, or on an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import SLMRec
        >>> from genrec_pyg.testing import toy_graph
        >>> SLMRec(toy_graph(), num_layers=2)
        SLMRec(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2: float = 0.0,
        init: str = 'xavier',
        fusion: str = 'concat',
        task: str = 'fac',
        task_weight: float = 0.1,
        task_temperature: float = 0.2,
        temperature: float = 0.2,
        dropout: float = 0.3,
        mask_duplicates: bool = True,
        score_by: str = 'dot',
    ):
        super().__init__(data, modalities, hidden_channels, l2, init)
        require_modalities(self.graph, 'SLMRec')
        check_choice('fusion', fusion, ('concat', 'mean'))
        check_choice('task', task, TASKS)
        check_choice('score_by', score_by, ('dot', 'cosine'))
        check_range('num_layers', num_layers, 0)
        check_range('task_weight', task_weight, 0)
        check_range('task_temperature', task_temperature, 0, open_low=True)
        check_range('temperature', temperature, 0, open_low=True)
        check_range('dropout', dropout, 0, 1)
        self.num_layers = num_layers
        self.fusion = fusion
        self.task = task
        self.task_weight = task_weight
        self.task_temperature = task_temperature
        self.temperature = temperature
        self.dropout = dropout
        self.mask_duplicates, self.score_by = mask_duplicates, score_by
        self.features = item_features(self.graph)
        self.block = bipartite_block(
            self.graph.edge_index, self.num_users, self.num_items, self_loops=False
        )
        self.projections = ModuleDict(
            {
                name: FeatureProjection(features.x.size(1), hidden_channels, zero_bias=False)
                for name, features in self.features.items()
            }
        )
        width = hidden_channels * (len(self.features) + 1 if fusion == 'concat' else 1)
        self.user_fusion = Linear(width, hidden_channels)
        self.item_fusion = Linear(width, hidden_channels)
        self.chain = AlignmentChain(self.features, hidden_channels) if task == 'fac' else None
        self._reset_fusion()

    def _reset_fusion(self) -> None:
        for fusion in (self.user_fusion, self.item_fusion):
            fusion.reset_parameters()
            torch.nn.init.xavier_uniform_(fusion.weight)

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        self._reset_fusion()

    def starts(self) -> list[Tensor]:
        r"""Rows of items ``[I, d]`` before propagation, of the ID and of every modality."""
        return [
            self.embedding.item,
            *(self.projections[name](features) for name, features in self.features.items()),
        ]

    def views(self, starts: list[Tensor]) -> tuple[Tensor, Tensor]:
        r"""Views of users ``[U, M + 1, d]`` and items ``[I, M + 1, d]``."""
        return stream_means(self.block, self.embedding.user, starts, self.num_layers)

    def dropped_views(self, starts: list[Tensor]) -> tuple[Tensor, Tensor]:
        r"""As :meth:`views`, with dropout after every step of propagation."""
        items = torch.cat(starts, dim=1)
        users = self.embedding.user.repeat(1, len(starts))
        user_sum, item_sum = users, items
        for _ in range(self.num_layers):
            users, items = (
                F.dropout(x, self.dropout, self.training)
                for x in (spmm(self.block, items), spmm(self.block.t(), users))
            )
            user_sum, item_sum = user_sum + users, item_sum + items
        return tuple(
            (x / (self.num_layers + 1)).view(x.size(0), len(starts), -1)
            for x in (user_sum, item_sum)
        )

    def fuse(self, views: Tensor, fusion: Linear) -> Tensor:
        r"""Fused rows ``[n, d]`` of views ``[n, M + 1, d]``."""
        return fusion(views.flatten(1) if self.fusion == 'concat' else views.mean(dim=1))

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users ``[U, d]`` and items ``[I, d]``."""
        users, items = self.views(self.starts())
        users, items = self.fuse(users, self.user_fusion), self.fuse(items, self.item_fusion)
        return (unit_rows(users), unit_rows(items)) if self.score_by == 'cosine' else (users, items)

    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Contrast of observed pairs, the task and, where asked for, the penalty."""
        starts = self.starts()
        users, items = self.views(starts)
        user = batch.user
        item = batch.pos
        positive = torch.arange(len(batch.pos), device=batch.pos.device)
        if self.mask_duplicates:
            item, positive = item.unique(return_inverse=True)
        terms = {
            'contrast': info_nce(
                self.fuse(users[user], self.user_fusion),
                None,
                self.temperature,
                self.fuse(items[item], self.item_fusion),
                positive,
            ),
            'l2': self.l2 * self.embedding.penalty(batch, negatives=False),
        }
        if self.task == 'none' or self.task_weight == 0:
            return terms
        if self.chain is not None:
            present = {name: features.present[item, 0] for name, features in self.features.items()}
            task = self.chain(items[item], present, self.task_temperature)
        else:
            task = self._compare_passes(
                starts, user.unique() if self.mask_duplicates else user, item
            )
        terms['task'] = self.task_weight * task
        return terms

    def _compare_passes(self, starts: list[Tensor], user: Tensor, item: Tensor) -> Tensor:
        masked = [None, None]
        if 'fm' in self.task:
            masked = torch.randperm(len(starts))[:2].tolist()
        passes = []
        for stream in masked:
            rows = [torch.zeros_like(x) if k == stream else x for k, x in enumerate(starts)]
            users, items = self.dropped_views(rows) if 'fd' in self.task else self.views(rows)
            passes.append(
                (self.fuse(users[user], self.user_fusion), self.fuse(items[item], self.item_fusion))
            )
        return sum(info_nce(first, second, self.task_temperature) for first, second in zip(*passes))
