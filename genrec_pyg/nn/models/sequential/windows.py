r"""What the models share that learn from all positions of a window at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import WindowBatch, WindowLoader
from genrec_pyg.nn.items import ItemSide
from genrec_pyg.nn.losses import (
    in_batch_softmax,
    logistic_loss,
    sampled_softmax,
    softmax_over_items,
)
from genrec_pyg.nn.models.sequential.sequence_recommender import SequenceRecommender
from genrec_pyg.utils.validation import check_choice

LOSSES = ('bce', 'inbatch', 'sampled', 'softmax')


class WindowRecommender(SequenceRecommender):
    r"""A causal encoder whose output at every position is scored against the item that came next.

    A subclass implements :meth:`encode`. Positions of a batch weigh the same, whatever the lengths
    of its windows. The trainer's ``sampler`` chooses the windows: ``'user'``, the newest of every
    user, or ``'edge'``, as many as it takes for every training item but the first of a user to be a
    target once per epoch.

    ============  ==================================================================================
    ``loss``      negatives of a target
    ============  ==================================================================================
    ``bce``       ``num_negatives`` of its own, uniform outside the user's training items, binary
                  cross-entropy
    ``inbatch``   the items of the other windows of the batch, corrected for popularity
    ``sampled``   ``num_negatives`` that the batch shares, uniform, without those equal to the
                  target
    ``softmax``   all items, in blocks
    ============  ==================================================================================

    Args:
        data: Canonical graph whose interactions have ``time``, or training graph with a sequence.
        modalities: Modalities to use.
        hidden_channels: Width ``d``.
        history_length: Most inputs ``L`` of a window.
        loss: A name of the table.
        num_negatives: Negatives of ``'bce'`` (per target) and ``'sampled'`` (per batch).
        repeats: Whether a repeated interaction occurs in the history several times.
        item_side: Where item rows come from; under ``'softmax'`` an encoder encodes all items in
            every step.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If the interactions have no time.
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None,
        hidden_channels: int,
        history_length: int,
        loss: str,
        num_negatives: int,
        repeats: bool,
        item_side: ItemSide,
    ):
        check_choice('loss', loss, LOSSES)
        if num_negatives < 1:
            raise ConfigError(f'num_negatives: got {num_negatives}, accepted are integers from 1')
        num_items = (
            data.num_items if isinstance(data, TrainingGraph) else int(data['item'].num_nodes)
        )
        super().__init__(
            data,
            modalities,
            hidden_channels,
            history_length,
            repeats,
            math.sqrt(2 / (num_items + 1 + hidden_channels)),
            item_side,
        )
        self.loss_kind, self.num_negatives = loss, num_negatives
        # An item that is no training item never is a target either, but may be asked for its
        # probability.
        count = torch.bincount(self.sequences.item, minlength=self.num_items).clamp(min=1)
        self.log_popularity = (count / count.sum()).log()

    def make_loader(
        self, batch_size: int, sampler: str, steps_per_epoch: int | None = None
    ) -> WindowLoader:
        r"""Windows of the training sequences."""
        return WindowLoader(
            self.graph,
            batch_size,
            self.history_length,
            self.num_negatives if self.loss_kind == 'bce' else 0,
            'last' if sampler == 'user' else 'all',
            steps_per_epoch,
        )

    def encode(self, rows: Tensor, length: Tensor) -> Tensor:
        r"""Outputs ``[B, S, d]`` of item rows ``[B, S, d]`` of which the first ``length`` ``[B]``
        are real; an output depends on its own position and earlier ones only.
        """
        raise TypeError(f'{type(self).__name__} does not implement encode()')

    def encode_users(self, history: Tensor, length: Tensor) -> Tensor:
        r"""Outputs at the newest items ``[B, d]``."""
        output = self.encode(self.items.rows(history), length)
        last = output[torch.arange(length.numel(), device=length.device), (length - 1).clamp(min=0)]
        return last.masked_fill((length == 0).unsqueeze(1), 0)

    def loss(self, batch: WindowBatch) -> dict[str, Tensor]:
        r"""Mean loss over all targets of a batch."""
        drawn = batch.item[:0]
        if self.loss_kind == 'sampled':
            drawn = torch.randperm(self.num_items, device=batch.item.device)[: self.num_negatives]
        # all, or these
        named = () if self.loss_kind == 'softmax' else (batch.item, batch.negative, drawn)
        with self.items.computed(*named):
            return {self.loss_kind: self._mean_loss(batch, drawn)}

    def _mean_loss(self, batch: WindowBatch, drawn: Tensor) -> Tensor:
        rows = self.items.rows(batch.item)
        output = self.encode(rows[:, :-1], batch.length - 1)
        real = batch.item[:, 1:] < self.num_items
        query, target = output[real], batch.item[:, 1:][real]
        if self.loss_kind == 'softmax':
            return softmax_over_items(query, self.items(), target).mean()
        if self.loss_kind == 'inbatch':
            row = real.nonzero()[:, 0]
            return in_batch_softmax(
                query, row, target, batch.item, self.items.rows, self.log_popularity
            ).mean()
        positive = (query * rows[:, 1:][real]).sum(dim=1)
        if self.loss_kind == 'sampled':
            negative = query @ self.items.rows(drawn).t()
            return sampled_softmax(positive, negative, mask=drawn == target.unsqueeze(1)).mean()
        item = batch.negative[real]
        negative = (self.items.rows(item) @ query.unsqueeze(2)).squeeze(2)
        return logistic_loss(positive, negative, item >= self.num_items)
