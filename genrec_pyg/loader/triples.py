r"""Batches of training interactions with negatives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.ops import Adjacency, NegativeSampler

logger = logging.getLogger(__name__)

SAMPLERS = ('edge', 'user')


class Triples(NamedTuple):
    r"""A batch of ``B`` triples: ``user`` interacted with ``pos`` in training and not with ``neg``;
    each ``[B]``, int64.
    """

    user: Tensor
    pos: Tensor
    neg: Tensor


class InteractionLoader:
    r"""Iterates over triples of user, training item and negative item (`BPR, UAI 2009
    <https://arxiv.org/abs/1205.2618>`_).

    Every pass over the loader is an epoch and draws again, from torch's global random state of the
    device. Negatives are uniform over the items that the user has no training edge with; held-out
    edges are unknown here. All negatives of an epoch are drawn in one call. A user that interacted
    with every item has no negative: its edges are left out, with one warning at construction.

    Args:
        graph: Training graph.
        batch_size: Triples ``B`` per batch; the last batch holds the rest.
        sampler: ``'edge'`` takes every training edge once per epoch. ``'user'`` draws as many times
            as there are edges a uniform user with replacement and one of its items, so that all
            users weigh the same.
        shuffle: Whether ``'edge'`` goes through the edges in random order; ``'user'`` is random in
            any case.
        drop_last: Whether a last batch of fewer than ``B`` triples is left out.
        device: Where batches are drawn and live; :obj:`None` takes the device of the graph.

    Attributes:
        num_edges: Triples per epoch (without ``drop_last``).

    Raises:
        ConfigError: If ``batch_size`` is below 1 or ``sampler`` unknown.
        DataError: If no user has both a training item and a negative.

    Examples:
        >>> import torch
        >>> from genrec_pyg.graph import training_graph
        >>> from genrec_pyg.loader import InteractionLoader
        >>> from genrec_pyg.testing import toy_graph
        >>> loader = InteractionLoader(training_graph(toy_graph()), batch_size=4)
        >>> [batch.user.numel() for batch in loader]
        [4, 4, 2]
    """

    def __init__(
        self,
        graph: TrainingGraph,
        batch_size: int = 1024,
        sampler: str = 'edge',
        shuffle: bool = True,
        drop_last: bool = False,
        device: str | torch.device | None = None,
    ):
        check_batch_size(batch_size)
        if sampler not in SAMPLERS:
            raise ConfigError(
                f'sampler: got {sampler!r}, accepted are {", ".join(map(repr, SAMPLERS))}'
            )
        self.batch_size = batch_size
        self.sampler = sampler
        self.shuffle = shuffle
        self.drop_last = drop_last

        size = (graph.num_users, graph.num_items)
        adjacency = Adjacency.from_edge_index(graph.edge_index, size=size)
        if device is not None:
            adjacency = adjacency.to(torch.device(device))
        self.num_items = graph.num_items
        self._rowptr, self._col = adjacency.rowptr, adjacency.col
        self._negatives = NegativeSampler(adjacency)
        self._degree = self._rowptr.diff().long()
        user = torch.arange(graph.num_users, device=self._col.device).repeat_interleave(
            self._degree
        )
        full = (self._degree == graph.num_items) & (self._degree > 0)
        self._edge = (~full[user]).nonzero().view(-1)  # positions in col that may be drawn
        self._edge_user = user[self._edge]
        self._user = ((self._degree > 0) & ~full).nonzero().view(-1)
        self.num_edges = self._edge.numel()
        if bool(full.any()):
            logger.warning(
                '%d users interacted with all %d items and have no negatives: their %d edges '
                'are left out',
                int(full.sum()),
                graph.num_items,
                user.numel() - self.num_edges,
            )
        if self.num_edges == 0:
            raise DataError(
                f'graph: none of {graph.num_users} users has both a training item and an item '
                f'without interaction, accepted is at least one'
            )

    def __iter__(self) -> Iterator[Triples]:
        user, pos = self._draw_positives()
        neg = self._negatives(user)[0]
        end = len(self) * self.batch_size
        for start in range(0, min(end, self.num_edges), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield Triples(user[batch], pos[batch], neg[batch])

    def _draw_positives(self) -> tuple[Tensor, Tensor]:
        device = self._col.device
        if self.sampler == 'user':
            user = self._user[torch.randint(self._user.numel(), (self.num_edges,), device=device)]
            # float64: a float32 share close to 1 times a large degree would round up to the degree.
            share = torch.rand(self.num_edges, dtype=torch.float64, device=device)
            edge = self._rowptr[user] + (share * self._degree[user]).long()
            return user, self._col[edge].long()
        if not self.shuffle:
            return self._edge_user, self._col[self._edge].long()
        order = torch.randperm(self.num_edges, device=device)
        return self._edge_user[order], self._col[self._edge[order]].long()

    def __len__(self) -> int:
        batches, rest = divmod(self.num_edges, self.batch_size)
        return batches if self.drop_last or rest == 0 else batches + 1

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_edges}, batch_size={self.batch_size}, '
            f'sampler={self.sampler!r}, shuffle={self.shuffle})'
        )


def check_batch_size(batch_size: int) -> None:
    r"""Raises :class:`~genrec_pyg.exceptions.ConfigError` unless ``batch_size`` is a positive
    integer.
    """
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ConfigError(f'batch_size: got {batch_size!r}, accepted is a positive integer')
