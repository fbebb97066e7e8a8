r"""Sequences of users: compressed rows in the order of time, and batches of windows drawn and
gathered on the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import TrainingGraph, first_positions, pair_keys
from genrec_pyg.loader.triples import SAMPLERS, check_batch_size
from genrec_pyg.ops import Adjacency, NegativeSampler
from genrec_pyg.ops.negative import uniform_rank

#: Where the items of a short history stand in its row.
ALIGNMENTS = ('left', 'right')
#: Windows per batch times this many are sorted by length together, so that the windows of a batch
#: have about one length.
_BUCKET = 16


class SequenceBatch(NamedTuple):
    r"""``B`` histories, each with the item that came next.

    Args:
        user: Users ``[B]``, int64.
        history: Items before the target ``[B, S]``, oldest first, int64; padding is ``I``, which is
            no item.
        length: Items in each history ``[B]``.
        target: Items that came next ``[B]``.
    """

    user: Tensor
    history: Tensor
    length: Tensor
    target: Tensor


class WindowBatch(NamedTuple):
    r"""``B`` windows of sequences, in which every item but the first is the target of those before
    it.

    Args:
        user: Users ``[B]``, int64.
        item: Items ``[B, L + 1]``, oldest first, padded on the right by ``I``, which is no item.
        length: Items in each window ``[B]``, at least 2.
        negative: ``n`` items per target ``[B, L, n]`` that the user has no training interaction
            with; ``negative[:, t]`` stands against the target ``item[:, t + 1]``. Padding, and a
            user who has every item, has ``I``.
    """

    user: Tensor
    item: Tensor
    length: Tensor
    negative: Tensor


class Sequences(NamedTuple):
    r"""Items of every user in the order of time, in compressed rows.

    Args:
        rowptr: Row bounds ``[U + 1]``, int64.
        item: Items ``[S]``, int64; user ``u`` has ``item[rowptr[u]:rowptr[u + 1]]``, oldest first.
        num_items: Number of items ``I``.
    """

    rowptr: Tensor
    item: Tensor
    num_items: int

    @classmethod
    def from_edges(cls, edge_index: Tensor, num_users: int, num_items: int) -> Sequences:
        r"""Makes sequences of interactions ``[2, S]`` that are sorted by user, then time
        (:func:`~genrec_pyg.graph.timed_edges`).
        """
        user, item = edge_index
        if user.numel() > 1 and bool((user[1:] < user[:-1]).any()):
            raise DataError(
                'edge_index: got users out of order, accepted are interactions sorted by '
                'user, then time'
            )
        rowptr = torch.zeros(num_users + 1, dtype=torch.long, device=user.device)
        torch.cumsum(torch.bincount(user, minlength=num_users), 0, out=rowptr[1:])
        return cls(rowptr, item, num_items)

    @property
    def num_users(self) -> int:
        return self.rowptr.numel() - 1

    def to(self, device: torch.device) -> Sequences:
        return Sequences(self.rowptr.to(device), self.item.to(device), self.num_items)

    def edges(self) -> Tensor:
        r"""Users and items ``[2, S]``, sorted by user, then time."""
        return torch.stack([torch.repeat_interleave(self.lengths()), self.item])

    def to_adjacency(self) -> Adjacency:
        r"""Who has which item ``[U, I]``, without values."""
        return Adjacency.from_edge_index(self.edges(), size=(self.num_users, self.num_items))

    def without_repeats(self) -> Sequences:
        r"""The same with every item of a user where it occurs first."""
        edges = self.edges()
        kept = edges[:, first_positions(pair_keys(edges, self.num_items))]
        return Sequences.from_edges(kept, self.num_users, self.num_items)

    def lengths(self) -> Tensor:
        r"""Items per user ``[U]``."""
        return self.rowptr.diff()

    def window(
        self, user: Tensor, stop: Tensor, size: int, align: str = 'left'
    ) -> tuple[Tensor, Tensor]:
        r"""The last ``size`` items before a position.

        Args:
            user: Users ``[B]``.
            stop: Positions ``[B]``, from 0 to the user's number of items; the item at ``stop`` is
                not in the window.
            size: Width ``S`` of the window.
            align: ``'left'`` pads on the right, so that the oldest item has place 0, ``'right'``
                pads on the left, so that the newest has place ``S - 1``.

        Returns:
            Items ``[B, S]``, oldest first, padded by ``I``, and their numbers ``[B]``.
        """
        length = stop.clamp(max=size)
        place = torch.arange(size, device=user.device)
        offset = place if align == 'left' else place - (size - length).unsqueeze(1)
        position = (self.rowptr[user] + stop - length).unsqueeze(1) + offset
        inside = (offset >= 0) & (offset < length.unsqueeze(1))
        if self.item.numel() == 0:
            return torch.full_like(position, self.num_items), length
        item = self.item[position.clamp(0, self.item.numel() - 1)]
        return item.masked_fill(~inside, self.num_items), length

    def last(self, user: Tensor, size: int, align: str = 'left') -> tuple[Tensor, Tensor]:
        r"""The last ``size`` items of users, see :meth:`window`."""
        return self.window(user, self.rowptr[user + 1] - self.rowptr[user], size, align)


class SequenceLoader:
    r"""Iterates over histories with the item that came next.

    Every pass is an epoch and draws again from torch's global random state of the device. Positions
    are drawn and histories gathered for a whole batch at a time.

    Args:
        graph: Training graph with a sequence.
        batch_size: Histories ``B`` per batch; the last batch holds the rest.
        history_length: Width ``S`` of histories; older items are left out.
        min_history: Fewest items before a target.
        sampler: ``'user'`` draws a uniform user, with replacement, and a uniform target of his, so
            that all users weigh the same (as MIND, ComiRec and BaM train). ``'edge'`` takes every
            target once per epoch.
        steps_per_epoch: Batches per epoch; :obj:`None` takes as many as the targets give. Under
            ``'edge'``, an epoch ends early where it is smaller.
        align: See :meth:`Sequences.window`.

    Attributes:
        num_edges: Histories per epoch.

    Raises:
        ConfigError: On arguments outside their accepted values.
        DataError: If no user has more than ``min_history`` items.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.graph import training_graph
        >>> from genrec_pyg.loader import SequenceLoader
        >>> log = {'user': [0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 1, 0, 2], 'time': range(6)}
        >>> data = from_table(log, split='none')
        >>> graph = training_graph(data, timed=True)
        >>> loader = SequenceLoader(graph, batch_size=2, history_length=2)
        >>> next(iter(loader)).history.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        graph: TrainingGraph,
        batch_size: int = 128,
        history_length: int = 50,
        min_history: int = 1,
        sampler: str = 'user',
        steps_per_epoch: int | None = None,
        align: str = 'left',
    ):
        check_batch_size(batch_size)
        check_sizes(history_length=history_length, min_history=min_history)
        if steps_per_epoch is not None:
            check_sizes(steps_per_epoch=steps_per_epoch)
        if sampler not in SAMPLERS:
            raise ConfigError(
                f'sampler: got {sampler!r}, accepted are {", ".join(map(repr, SAMPLERS))}'
            )
        if align not in ALIGNMENTS:
            raise ConfigError(
                f'align: got {align!r}, accepted are {", ".join(map(repr, ALIGNMENTS))}'
            )
        self.sequences = training_sequences(graph)
        self.batch_size = batch_size
        self.history_length = history_length
        self.min_history = min_history
        self.sampler, self.steps_per_epoch, self.align = sampler, steps_per_epoch, align
        self._targets = (self.sequences.lengths() - min_history).clamp(min=0)
        self._user = (self._targets > 0).nonzero().view(-1)
        count = int(self._targets.sum())
        if count == 0:
            raise DataError(
                f'graph: no user has more than {min_history} training items, accepted is at '
                f'least one'
            )
        self.num_edges = count
        if steps_per_epoch is not None:
            wanted = steps_per_epoch * batch_size
            self.num_edges = wanted if sampler == 'user' else min(wanted, count)

    def __iter__(self) -> Iterator[SequenceBatch]:
        if self.sampler == 'user':
            for start in range(0, self.num_edges, self.batch_size):
                size = min(self.batch_size, self.num_edges - start)
                user = self._user[
                    torch.randint(self._user.numel(), (size,), device=self._user.device)
                ]
                yield self._batch(user, self.min_history + uniform_rank(self._targets[user]))
            return
        owner = self._user.repeat_interleave(self._targets[self._user])
        before = self._targets.cumsum(0) - self._targets
        for target in torch.randperm(owner.numel(), device=owner.device)[: self.num_edges].split(
            self.batch_size
        ):
            user = owner[target]
            yield self._batch(user, self.min_history + target - before[user])

    def _batch(self, user: Tensor, position: Tensor) -> SequenceBatch:
        history, length = self.sequences.window(user, position, self.history_length, self.align)
        return SequenceBatch(
            user, history, length, self.sequences.item[self.sequences.rowptr[user] + position]
        )

    def __len__(self) -> int:
        return math.ceil(self.num_edges / self.batch_size)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_edges}, batch_size={self.batch_size}, '
            f'history_length={self.history_length}, sampler={self.sampler!r})'
        )


class WindowLoader:
    r"""Iterates over windows in which every item but the first is a target, for models that learn
    from all positions at once.

    Windows of about one length share a batch, which is as wide as its longest window: among windows
    of many lengths, most of a batch would be padding otherwise. Which windows and batches come when
    is random, from torch's global random state.

    Args:
        graph: Training graph with a sequence.
        batch_size: Windows ``B`` per batch.
        history_length: Most inputs ``L`` of a window.
        num_negatives: Negatives ``n`` per target, drawn uniformly outside the user's training
            items.
        windows: ``'last'``, the newest window of every user (as SASRec trains), or ``'all'``, as
            many as it takes for every item but the first to be a target once.
        steps_per_epoch: Most batches per epoch; :obj:`None` for all.

    Attributes:
        num_edges: Windows per epoch.

    Raises:
        ConfigError: On arguments outside their accepted values.
        DataError: If no user has two items.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.graph import training_graph
        >>> from genrec_pyg.loader import WindowLoader
        >>> log = {'user': [0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 1, 0, 2], 'time': range(6)}
        >>> data = from_table(log, split='none')
        >>> graph = training_graph(data, timed=True)
        >>> loader = WindowLoader(graph, batch_size=2, history_length=3)
        >>> len(list(loader))
        1
    """

    def __init__(
        self,
        graph: TrainingGraph,
        batch_size: int = 128,
        history_length: int = 50,
        num_negatives: int = 1,
        windows: str = 'last',
        steps_per_epoch: int | None = None,
    ):
        check_batch_size(batch_size)
        check_sizes(history_length=history_length)
        if num_negatives < 0:
            raise ConfigError(f'num_negatives: got {num_negatives}, accepted are integers from 0')
        if windows not in ('last', 'all'):
            raise ConfigError(f"windows: got {windows!r}, accepted are 'last' and 'all'")
        if steps_per_epoch is not None:
            check_sizes(steps_per_epoch=steps_per_epoch)
        self.sequences = training_sequences(graph)
        self.batch_size = batch_size
        self.history_length = history_length
        self.num_negatives = num_negatives
        self.windows = windows
        length = self.sequences.lengths()
        count = (length > 1).long()
        if windows == 'all':
            count = (
                (length - 1)
                .clamp(min=0)
                .add(history_length - 1)
                .div(history_length, rounding_mode='floor')
            )
        self._user = torch.arange(length.numel(), device=length.device).repeat_interleave(count)
        if self._user.numel() == 0:
            raise DataError('graph: no user has two training items, accepted is at least one')
        number = (
            torch.arange(self._user.numel(), device=length.device)
            - (count.cumsum(0) - count)[self._user]
        )
        self._stop = length[self._user] - history_length * number
        self.num_edges = self._user.numel()
        if steps_per_epoch is not None:
            self.num_edges = min(self.num_edges, steps_per_epoch * batch_size)
        self._negatives: NegativeSampler | None = None
        if num_negatives > 0:
            size = (graph.num_users, graph.num_items)
            self._negatives = NegativeSampler(
                Adjacency.from_edge_index(graph.edge_index, size=size)
            )

    def __iter__(self) -> Iterator[WindowBatch]:
        order = torch.randperm(self._user.numel(), device=self._user.device)[: self.num_edges]
        width = self._stop.clamp(max=self.history_length + 1)
        chunks = [
            chunk[width[chunk].argsort(stable=True)]
            for chunk in order.split(_BUCKET * self.batch_size)
        ]
        batches = [batch for chunk in chunks for batch in chunk.split(self.batch_size)]
        # one wait for the device per epoch
        longest = torch.stack([width[batch[-1]] for batch in batches]).tolist()
        for number in torch.randperm(len(batches)).tolist():
            yield self._batch(batches[number], longest[number])

    def _batch(self, window: Tensor, width: int) -> WindowBatch:
        user = self._user[window]
        item, length = self.sequences.window(user, self._stop[window], width)
        negative = item.new_full(
            (user.numel(), width - 1, self.num_negatives), self.sequences.num_items
        )
        if self._negatives is not None:
            real = item[:, 1:] != self.sequences.num_items
            owner = user.unsqueeze(1).expand_as(real)[real].repeat_interleave(self.num_negatives)
            drawn, valid = self._negatives(owner)
            negative[real] = drawn.where(
                valid, torch.full_like(drawn, self.sequences.num_items)
            ).view(-1, self.num_negatives)
        return WindowBatch(user, item, length, negative)

    def __len__(self) -> int:
        return sum(
            math.ceil(min(self.num_edges - start, _BUCKET * self.batch_size) / self.batch_size)
            for start in range(0, self.num_edges, _BUCKET * self.batch_size)
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_edges}, batch_size={self.batch_size}, '
            f'history_length={self.history_length}, windows={self.windows!r})'
        )


def training_sequences(graph: TrainingGraph) -> Sequences:
    r"""Sequences of the training interactions.

    Raises:
        DataError: If the training graph was made without its sequence.
    """
    if graph.sequence is None:
        raise DataError(
            'graph: the training graph has no sequence, accepted is one of '
            'training_graph(data, timed=True)'
        )
    return Sequences.from_edges(graph.sequence, graph.num_users, graph.num_items)


def check_sizes(**sizes: int | float) -> None:
    r"""Raises :class:`~genrec_pyg.exceptions.ConfigError` unless all of the named ``sizes`` are
    positive integers.
    """
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f'{name}: got {value!r}, accepted are integers from 1')
