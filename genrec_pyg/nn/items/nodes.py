r"""Rows of all nodes of which those of items come from an item side."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.embedding import PENALTY_ROWS, init_table
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.items.table import ItemRows
from genrec_pyg.nn.losses import batch_l2, squared_norm


class NodeRows(GraphModule):
    r"""Learned rows of users and rows of items from any item side, in the place of
    :class:`~genrec_pyg.nn.embedding.NodeEmbedding`.

    Args:
        num_users: Number of users ``U``.
        items: What gives the rows of items.
        init: Start of the rows of users, see :func:`~genrec_pyg.nn.embedding.init_table`.
        penalty_rows: Which learned rows :meth:`penalty` counts: ``'batch'``, those of the triples,
            or ``'table'``, all.

    Attributes:
        user: User table ``[U, d]``.

    Raises:
        ConfigError: If ``init`` or ``penalty_rows`` is unknown.
    """

    def __init__(
        self, num_users: int, items: ItemRows, init: str = 'xavier', penalty_rows: str = 'batch'
    ):
        super().__init__()
        if penalty_rows not in PENALTY_ROWS:
            raise ConfigError(
                f'penalty_rows: got {penalty_rows!r}, accepted are '
                f'{", ".join(map(repr, PENALTY_ROWS))}'
            )
        self.init, self.penalty_rows = init, penalty_rows
        self.user = Parameter(torch.empty(num_users, items.channels))
        self.items = items
        init_table(self.user, init)

    def reset_parameters(self) -> None:
        r"""Redraws the rows of users and the item side."""
        init_table(self.user, self.init)
        self.items.reset_parameters()

    @property
    def item(self) -> Tensor:
        r"""Rows of all items ``[I, d]``."""
        return self.items()

    def computed(self) -> AbstractContextManager[None]:
        r"""Within this context the rows of items are those that are computed at its beginning."""
        return self.items.computed()

    def joint(self) -> Tensor:
        r"""Rows of all nodes ``[U + I, d]``, users first."""
        return torch.cat([self.user, self.items()])

    def penalty(self, batch: Triples, negatives: bool = True) -> Tensor:
        r"""L2 penalty on the learned rows; what is computed from content has none.

        Args:
            batch: Triples.
            negatives: Whether the negatives of the batch count.
        """
        if self.penalty_rows == 'table':
            return squared_norm(
                self.user,
                self.items.id_rows(torch.arange(self.items.num_items, device=self.user.device)),
            )
        items = (batch.pos, batch.neg) if negatives else (batch.pos,)
        rows = [self.items.id_rows(item) for item in items]
        return batch_l2(self.user[batch.user], *(row for row in rows if row.size(0) > 0))
