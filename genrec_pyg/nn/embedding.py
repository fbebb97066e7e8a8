r"""Embedding tables of users and items, and their initialization."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.distributed import WHOLE, WholeLayout
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.losses import squared_norm

#: Accepted initializations of a table.
INITS = ('xavier', 'xavier_normal', 'normal', 'standard')
#: Accepted rows that the L2 penalty on tables counts.
PENALTY_ROWS = ('batch', 'table')


def init_table(table: Tensor, init: str = 'xavier') -> None:
    r"""Fills a table ``[n, d]`` in place.

    Args:
        table: Table.
        init: ``'xavier'`` (uniform in :math:`\pm \sqrt{6 / (n + d)}`), ``'xavier_normal'`` (normal
            of the same variance), ``'normal'`` (standard deviation 0.1) or ``'standard'`` (standard
            deviation 1).

    Raises:
        ConfigError: If ``init`` is unknown.
    """
    if init not in INITS:
        raise ConfigError(f'init: got {init!r}, accepted are {", ".join(map(repr, INITS))}')
    with torch.no_grad():
        if init == 'xavier':
            bound = math.sqrt(6 / sum(table.shape))
            table.uniform_(-bound, bound)
        else:
            table.normal_(
                0,
                {'xavier_normal': math.sqrt(2 / sum(table.shape)), 'normal': 0.1, 'standard': 1.0}[
                    init
                ],
            )


class NodeEmbedding(torch.nn.Module):
    r"""One row per user and one per item.

    Initialization matters more than it seems: for 9,308 users and 6,710 items of width 64 the
    standard deviation of a first inner product is 0.0020 with ``'xavier'``, 0.08 with ``'normal'``
    and 8 with ``'standard'``.

    Args:
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.
        user_channels: Width of user rows ``d``.
        item_channels: Width of item rows; that of the users by default.
        init: As in :func:`init_table`.
        penalty_rows: Which rows :meth:`penalty` counts: ``'batch'``, those of the triples, or
            ``'table'``, all.

    Attributes:
        user: User table ``[U, d]``.
        item: Item table ``[I, d]``.

    Raises:
        ConfigError: If a width is not positive, or ``init`` or ``penalty_rows`` unknown.
    """

    layout: WholeLayout = WHOLE

    def __init__(
        self,
        num_users: int,
        num_items: int,
        user_channels: int,
        item_channels: int = 0,
        init: str = 'xavier',
        penalty_rows: str = 'batch',
    ):
        super().__init__()
        if user_channels < 1 or item_channels < 0:
            raise ConfigError(
                f'hidden_channels: got {min(user_channels, item_channels)}, accepted are '
                f'integers from 1'
            )
        if penalty_rows not in PENALTY_ROWS:
            raise ConfigError(
                f'penalty_rows: got {penalty_rows!r}, accepted are '
                f'{", ".join(map(repr, PENALTY_ROWS))}'
            )
        self.init, self.penalty_rows = init, penalty_rows
        self.user = Parameter(torch.empty(num_users, user_channels))
        self.item = Parameter(torch.empty(num_items, item_channels or user_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws both tables."""
        init_table(self.user, self.init)
        init_table(self.item, self.init)

    def computed(self) -> AbstractContextManager[None]:
        r"""Changes nothing: rows of a table are not computed."""
        return nullcontext()

    def joint(self) -> Tensor:
        r"""Rows of all nodes ``[U + I, d]``, users first."""
        return torch.cat([self.user, self.item])

    def penalty(self, batch: Triples, negatives: bool = True) -> Tensor:
        r"""L2 penalty on the initial rows of a batch (as :func:`~genrec_pyg.nn.losses.batch_l2`),
        its negatives among them if ``negatives``, or on the whole tables.
        """
        if self.penalty_rows == 'table':
            return squared_norm(self.user, self.item)
        user, positive, negative = self.layout.own_nodes(batch)
        items = (positive, negative) if negatives else (positive,)
        return squared_norm(self.user[user], *(self.item[item] for item in items)) / (
            2 * batch.user.numel()
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(user={tuple(self.user.shape)}, '
            f'item={tuple(self.item.shape)}, init={self.init!r})'
        )
