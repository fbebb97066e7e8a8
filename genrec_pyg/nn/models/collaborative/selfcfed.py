r"""SelfCF with embedding dropout: LightGCN without negatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.bootstrap import Predictor
from genrec_pyg.nn.items import BY_ID, ItemSide
from genrec_pyg.nn.losses import cosine_distance
from genrec_pyg.nn.models.collaborative.light_gcn import LightGCN
from genrec_pyg.nn.models.pairwise import PAIRWISE_GRID, rows_once
from genrec_pyg.nn.models.recommender import GridSupport


class SELFCFED(LightGCN):
    r"""SELFCFED-LGN (Zhou, Sun, Liu, Zhang, Miao, "SelfCF: A Simple Framework for Self-supervised
    Collaborative Filtering", 2021; embedding dropout on LightGCN).

    With :math:`\mathbf{u}, \mathbf{i}` the rows of LightGCN, :math:`o` and :math:`t` the two sides
    of :class:`~genrec_pyg.nn.bootstrap.Predictor`,

    .. math::
        \mathcal{L} = \frac{1}{2} [ C(o(\mathbf{u}), t(\mathbf{i}))
        + C(o(\mathbf{i}), t(\mathbf{u})) ] + \frac{\lambda}{2B} \sum_k (\Vert \mathbf{e}_{u_k}
        \Vert^2 + \Vert \mathbf{e}_{i_k} \Vert^2), \qquad
        s(u, i) = o(\mathbf{u}) \cdot \mathbf{i} + \mathbf{u} \cdot o(\mathbf{i})

    over observed pairs; the negatives of a batch are not looked at. :math:`C = 1 - \cos`, where the
    paper has :math:`-\cos`: the same up to a constant.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        hidden_channels: Width ``d``.
        num_layers: Layers ``L``.
        l2: :math:`\lambda` on initial rows.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Rows that the penalty counts, ``'batch'`` or ``'table'``.
        dropout: Dropout ``p`` of the targets.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`.

    Raises:
        ConfigError: On an argument outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import SELFCFED
        >>> from genrec_pyg.testing import toy_graph
        >>> SELFCFED(toy_graph(), num_layers=2)
        SELFCFED(users=8, items=7, modalities=[image, text])
    """

    grid = GridSupport(PAIRWISE_GRID.tables, rows=True)

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        num_layers: int = 2,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        dropout: float = 0.5,
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
        self.predictor = Predictor(hidden_channels, dropout)

    @rows_once
    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Users :math:`[o(\mathbf{u}) ; \mathbf{u}]` ``[U, 2d]``, items
        :math:`[\mathbf{i} ; o(\mathbf{i})]` ``[I, 2d]``.
        """
        users, items = super().embed()
        return torch.cat([self.predictor(users), users], dim=1), torch.cat(
            [items, self.predictor(items)], dim=1
        )

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""Both alignments of observed pairs, and L2."""
        layout, width = self.layout, self.predictor.linear.in_features
        rows = layout.views_to_rows([self.propagated().unsqueeze(0)], width)[0][0]
        with layout.own_slice(batch) as (own, share):
            ((users, items),), own, _ = layout.tables([rows], self.num_users, own, own.pos[:0])
            user, item = users[own.user], items[own.pos]
            first = layout.first_of(batch.user.numel())
            user_target, item_target = (self.predictor.target(x, first) for x in (user, item))
            terms = {
                'align_users': cosine_distance(self.predictor(user), item_target) / 2,
                'align_items': cosine_distance(self.predictor(item), user_target) / 2,
            }
        return {
            **{name: share * term for name, term in terms.items()},
            'l2': self.l2 * self.embedding.penalty(batch, negatives=False),
        }
