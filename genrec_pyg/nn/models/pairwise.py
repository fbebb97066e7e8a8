r"""Base class of the models that learn from triples with BPR."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.embedding import NodeEmbedding
from genrec_pyg.nn.items import BY_ID, ItemSide, NodeRows, make_items
from genrec_pyg.nn.models.recommender import GridSupport, Recommender
from genrec_pyg.utils.validation import check_range

#: Tables of models without other parameters of one row per node.
PAIRWISE_GRID = GridSupport({'embedding.user': 'user', 'embedding.item': 'item'})


def rows_once(method: Callable[..., Any]) -> Callable[..., Any]:
    r"""Makes a method of a model compute the first rows of its items once, however often it reads
    them: an encoder costs most of a step, and with dropout gives other rows every time.
    """

    @functools.wraps(method)
    def wrapped(self: PairwiseRecommender, *args: Any, **kwargs: Any) -> Any:
        with self.embedding.computed():
            return method(self, *args, **kwargs)

    return wrapped


class PairwiseRecommender(Recommender):
    r"""A table of users and one of items, learned by BPR on the embeddings and an L2 penalty on
    initial rows.

    .. math::
        \mathcal{L} = \frac{1}{B} \sum_k \mathrm{softplus}(s^-_k - s^+_k)
        + \frac{\lambda}{2B} \sum_k \left( \Vert \mathbf{e}_{u_k} \Vert^2
        + \Vert \mathbf{e}_{i^+_k} \Vert^2 + \Vert \mathbf{e}_{i^-_k} \Vert^2 \right)

    A subclass implements :meth:`embed`; one with further terms adds them to :meth:`rank_terms`.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        hidden_channels: Width ``d`` of the tables.
        l2: :math:`\lambda`.
        init: Start of the tables, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: ``'batch'``, the penalty above, or ``'table'``,
            :math:`\lambda \Vert \mathbf{E} \Vert^2` in every step.
        user_channels: Width of the user table where it differs from ``d``.
        item_side: Where the first rows of items come from, see
            :class:`~genrec_pyg.nn.items.ItemSide`. With content, items without interactions have
            rows too; an encoder encodes all items in every step.

    Raises:
        ConfigError: On an argument outside its accepted values.
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        hidden_channels: int = 64,
        l2: float = 1e-4,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
        user_channels: int | None = None,
        item_side: ItemSide = BY_ID,
    ):
        side = ItemSide.of(item_side)
        super().__init__(data, modalities, side.contents())
        check_range('l2', l2, 0)
        self.l2 = l2
        self.embedding: NodeEmbedding | NodeRows
        if side.has_content:
            if user_channels not in (None, hidden_channels):
                raise ConfigError(
                    f'item_side.kind: got {side.kind!r} for users of width {user_channels} and '
                    f"items of width {hidden_channels}, accepted is 'id'"
                )
            items = make_items(self.graph, hidden_channels, side)
            self.embedding = NodeRows(self.num_users, items, init, penalty_rows)
            return
        self.embedding = NodeEmbedding(
            self.num_users,
            self.num_items,
            user_channels or hidden_channels,
            hidden_channels,
            init,
            penalty_rows,
        )

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        for module in self.children():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()

    def rank_terms(self, users: Tensor, items: Tensor, batch: Triples) -> dict[str, Tensor]:
        r"""BPR of embeddings of all ``users`` and ``items``, and the penalty on the initial
        rows.
        """
        return self.pair_terms(*self.layout.pairs(users, items, batch), batch)

    def pair_terms(
        self, user: Tensor, positive: Tensor, negative: Tensor, batch: Triples
    ) -> dict[str, Tensor]:
        r"""As :meth:`rank_terms`, given the rows of the triples that this process counts."""
        gap = self.layout.inner(user, negative - positive)
        return {
            'bpr': self.layout.mean(F.softplus(gap), batch),
            'l2': self.l2 * self.embedding.penalty(batch),
        }

    @rows_once
    def loss(self, batch: Triples) -> dict[str, Tensor]:
        r"""BPR and L2 on a batch of triples."""
        return self.rank_terms(*self.embed(), batch)
