r"""BM3: alignment of graph and content rows without negatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.bootstrap import Predictor
from genrec_pyg.nn.containers import ModuleDict, ParameterDict
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import ROW_PENALTIES, cosine_distance, row_penalty
from genrec_pyg.nn.modality.features import FeatureProjection, ItemFeatures, item_features
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.nn.models.pairwise import rows_once
from genrec_pyg.nn.models.settings import renamed
from genrec_pyg.utils.validation import check_choice, check_range


class BM3(LightGCN):
    r"""BM3 (Zhou, Zhou, Liu, Zeng, Miao, Wang, You, Jiang, "Bootstrap Latent Representations for
    Multi-modal Recommendation", WWW 2023).

    With :math:`\mathbf{u}` the user rows of LightGCN, :math:`\mathbf{i}` its item rows plus the
    initial ones, content :math:`\mathbf{f}_m = \mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m`, and
    :math:`o` and :math:`t` the two sides of one :class:`~genrec_pyg.nn.bootstrap.Predictor`,

    .. math::
        \mathcal{L} = C(o(\mathbf{u}), t(\mathbf{i})) + C(o(\mathbf{i}), t(\mathbf{u}))
        + \gamma \sum_m \left[ C(o(\mathbf{f}_m), t(\mathbf{i}))
        + C(o(\mathbf{f}_m), t(\mathbf{f}_m)) \right]
        + \lambda \, \rho(\mathbf{U}, \mathbf{I}), \qquad
        s(u, i) = o(\mathbf{u}) \cdot o(\mathbf{i})

    over observed pairs, :math:`C = 1 - \cos` (:func:`~genrec_pyg.nn.losses.cosine_distance`); the
    negatives of a batch are not looked at. The penalty sees all propagated rows. Dropout acts on
    rows of targets, which all terms of a batch share. Items that lack a modality take no part in
    its two terms. Without modalities it is a self-supervised LightGCN.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        variant: ``'principled'``, or ``'released'`` with trained features.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda`; published: 0.1 and 0.01.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty: Shape :math:`\rho` of the penalty, see :func:`~genrec_pyg.nn.losses.row_penalty`.
        dropout: Dropout ``p`` of the targets.
        content_weight: :math:`\gamma`.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import BM3
        >>> from genrec_pyg.testing import toy_graph
        >>> BM3(toy_graph(), num_layers=2)
        BM3(users=8, items=7, modalities=[image, text])
    """

    FORMER_SETTINGS = {'reg': renamed('penalty')}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        variant: str = 'principled',
        hidden_channels: int = 64,
        num_layers: int = 1,
        l2: float = 0.1,
        init: str = 'xavier',
        penalty: str = 'frobenius',
        dropout: float = 0.5,
        content_weight: float = 2.0,
        item_side: ItemSide = BY_ID,
    ):
        super().__init__(
            data, modalities, hidden_channels, num_layers, l2, init, item_side=item_side
        )
        check_choice('variant', variant, ('principled', 'released'))
        check_choice('penalty', penalty, ROW_PENALTIES)
        check_range('content_weight', content_weight, 0)
        self.penalty, self.content_weight = penalty, content_weight
        self.predictor = Predictor(hidden_channels, dropout)
        self.features = item_features(self.graph, normalize=False)
        self.projections = ModuleDict(
            {
                name: FeatureProjection(
                    features.x.size(1), hidden_channels, init='xavier_normal', zero_bias=False
                )
                for name, features in self.features.items()
            }
        )
        self.trained_features = ParameterDict(
            {
                name: Parameter(features.x.clone())
                for name, features in self.features.items()
                if variant == 'released'
            }
        )

    def reset_parameters(self) -> None:
        r"""Redraws tables, predictor and projections; trained features become the raw ones
        again.
        """
        super().reset_parameters()
        for projection in self.projections.values():
            projection.reset_parameters()
        with torch.no_grad():
            for name, features in self.trained_features.items():
                features.copy_(self.features[name].x)

    def encode(self) -> tuple[Tensor, Tensor]:
        r"""Rows before the predictor: users :math:`\mathbf{u}` ``[U, d]`` and items
        :math:`\mathbf{i}` ``[I, d]``.
        """
        users, items = super().embed()
        return users, items + self.embedding.item

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users :math:`o(\mathbf{u})` ``[U, d]`` and items :math:`o(\mathbf{i})` ``[I, d]``."""
        users, items = self.encode()
        return self.predictor(users), self.predictor(items)

    def content(self, name: str, item: Tensor) -> Tensor:
        r"""Content :math:`\mathbf{f}_m` ``[n, d]`` of the items ``item`` ``[n]`` in the modality
        ``name``; zero where an item lacks it.
        """
        rows = self.features[name].rows(item)
        if name in self.trained_features:
            rows = ItemFeatures(self.trained_features[name][item], rows.present)
        return self.projections[name](rows)

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Alignments of observed pairs and of content, and the penalty."""
        users, items = self.encode()
        user, item = users[batch.user], items[batch.pos]
        user_target, item_target = self.predictor.target(user), self.predictor.target(item)
        terms = {
            'align_users': cosine_distance(self.predictor(user), item_target),
            'align_items': cosine_distance(self.predictor(item), user_target),
            'l2': self.l2 * row_penalty(users, items, shape=self.penalty),
        }
        if self.content_weight > 0:
            nodes, index = batch.pos.unique(return_inverse=True)
            for name, features in self.features.items():
                rows, present = self.content(name, nodes)[index], features.present[batch.pos, 0]
                online, target = self.predictor(rows), self.predictor.target(rows)
                terms[f'content_{name}'] = self.content_weight * (
                    cosine_distance(online, item_target, present)
                    + cosine_distance(online, target, present)
                )
        return terms
