r"""Lists of users beside what they should have found."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph


@dataclass(frozen=True)
class Lists:
    r"""Lists of ``n`` users of one split; every metric is a function of them and of the labels.

    Args:
        user: Users ``[n]``, ascending.
        item: Their items, best first, ``[n, k]``; a shorter list is padded with the number of
            items.
        k: Asked length of the lists, which may be more than there are items.
        graph: Training graph, with all modalities of the data.
    """

    user: Tensor
    item: Tensor
    k: int
    graph: TrainingGraph

    def first(self, k: int) -> Lists:
        r"""The same lists up to position ``k``."""
        return replace(self, item=self.item[:, :k], k=k)

    @property
    def is_item(self) -> Tensor:
        r"""Which positions hold an item, bool ``[n, k]``."""
        return self.item < self.graph.num_items

    @property
    def length(self) -> Tensor:
        r"""Items per list ``[n]``."""
        return self.is_item.sum(dim=1)

    @functools.cached_property
    def count(self) -> Tensor:
        r"""Number of lists that an item is in ``[I]``."""
        return torch.bincount(self.item.reshape(-1), minlength=self.graph.num_items + 1)[:-1]


def ranks(item: Tensor, label: Tensor) -> Tensor:
    r"""Position from 1 of every label in the list of its user ``[L]``, 0 where the list does not
    have it.

    Args:
        item: Lists ``[n, k]``.
        label: Row of the list and item ``[2, L]``.
    """
    if item.size(1) == 0:
        return torch.zeros_like(label[1])
    found = item[label[0]] == label[1].unsqueeze(1)
    return torch.where(found.any(dim=1), found.int().argmax(dim=1) + 1, 0)
