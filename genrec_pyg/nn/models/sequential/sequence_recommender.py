r"""What the models share whose users are their histories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph, timed_edges, training_graph
from genrec_pyg.loader import Sequences
from genrec_pyg.loader.sequences import check_sizes, training_sequences
from genrec_pyg.nn.items import ItemSide, make_items
from genrec_pyg.nn.models.recommender import Recommender

#: Users whose histories are encoded at a time.
_USERS_PER_BLOCK = 1024


class SequenceRecommender(Recommender):
    r"""A model without a user table: a user is what he interacted with, in that order, so users
    outside the training and histories that grow after it have embeddings too.

    A subclass implements :meth:`encode_users`, :meth:`loss` and :meth:`make_loader`.

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities to use.
        hidden_channels: Width ``d``.
        history_length: Most items ``S`` of a history that are read, the newest.
        repeats: Whether a repeated interaction occurs in the history several times.
        item_std: Standard deviation from which learned item rows start.
        item_side: Where item rows come from.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.
    """

    reads_history = True
    #: How histories stand in their rows.
    align = 'left'

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None,
        hidden_channels: int,
        history_length: int,
        repeats: bool,
        item_std: float,
        item_side: ItemSide,
    ):
        check_sizes(hidden_channels=hidden_channels, history_length=history_length)
        if not isinstance(data, TrainingGraph):
            data = training_graph(
                data, modalities, timed=True, repeats=repeats, contents=item_side.contents()
            )
        super().__init__(data)
        self.hidden_channels = hidden_channels
        self.history_length = history_length
        self.repeats = repeats
        self.sequences = training_sequences(self.graph)
        self.items = make_items(self.graph, hidden_channels, item_side, item_std)

    def reset_parameters(self) -> None:
        r"""Redraws all parameters."""
        for module in self.children():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()

    def encode_users(self, history: Tensor, length: Tensor) -> Tensor:
        r"""Embeddings ``[B, d]``, or ``[B, K, d]`` for ``K`` interests, of histories.

        Args:
            history: Items ``[B, S]``, oldest first, padded by ``I`` (see
                :meth:`~genrec_pyg.loader.Sequences.window`).
            length: Items in each ``[B]``; a history of none has an embedding of zeros.
        """
        raise TypeError(f'{type(self).__name__} does not implement encode_users()')

    @torch.no_grad()
    def embed_histories(self, histories: Sequences) -> Tensor:
        r"""Embeddings of all users of ``histories``, ``[U, d]`` or ``[U, K, d]``, in blocks of
        about one length, without gradient and in evaluation mode.
        """
        was_training = self.training
        self.eval()
        try:
            order = histories.lengths().argsort(stable=True)
            parts = []
            for user in order.split(_USERS_PER_BLOCK):
                longest = (
                    int(histories.rowptr[user[-1] + 1] - histories.rowptr[user[-1]])
                    if user.numel() > 0
                    else 0
                )
                width = (
                    max(1, min(self.history_length, longest))
                    if self.align == 'left'
                    else self.history_length
                )
                parts.append(self.encode_users(*histories.last(user, width, self.align)))
        finally:
            self.train(was_training)
        rows = torch.cat(parts)
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""Embeddings of the histories that are known now, see :meth:`known_edges`, and of items
        ``[I, d]``.
        """
        with self.items.computed():
            return self.embed_histories(self.sequences), self.items()

    @contextmanager
    def known_edges(self, data: HeteroData, masks: Sequence[str]) -> Iterator[None]:
        r"""Within this context users are what the interactions ``masks`` of ``data`` say, in the
        order of time, and not only their training interactions.
        """
        training = self.sequences
        edges = timed_edges(data, masks, self.repeats).to(training.item.device)
        self.sequences = Sequences.from_edges(edges, self.num_users, self.num_items)
        try:
            yield
        finally:
            self.sequences = training
