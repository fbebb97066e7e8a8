r"""What the models of nearest items share."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, rows_per_block, spmm, topk_excluding


class NeighborhoodRecommender(Recommender):
    r"""Scores an item by its similarities to the training items of a user.

    .. math::
        \mathrm{score}(u, j) = \sum_{i \in \mathbf{R}_u} w_{ji}

    A subclass sets ``neighbors``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        k: Neighbors per item.
        shrink: Shrinkage.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.

    Attributes:
        neighbors: Similarities :math:`w_{ji}` ``[I, I]``, sparse.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1 or ``shrink`` negative.
    """
    trainable = False

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]], k: int, shrink: float,
                 block_size: int):
        super().__init__(data, modalities)
        for name, value in (('k', k), ('block_size', block_size)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        if not shrink >= 0:
            raise ConfigError(f'shrink: got {shrink}, accepted are numbers from 0')
        self.k, self.shrink, self.block_size = k, shrink, rows_per_block(self.num_items, block_size)
        self.interactions = Adjacency.from_edge_index(self.graph.edge_index, size=(self.num_users, self.num_items))

    def nearest(self, similarity: Callable[[Tensor], Tensor], include_self: bool = False, positive: bool = True) -> Adjacency:
        r"""The ``k`` largest similarities of every item ``[I, I]``, found block by block; equal ones rank by lower id.

        Args:
            similarity: Maps items ``[b]`` to their similarities ``[b, I]`` to all items.
            include_self: Whether an item may be its own neighbor.
            positive: Whether only positive similarities are kept, or all but zero.
        """
        device = self.interactions.device
        parts = []
        for item in torch.arange(self.num_items, device=device).split(self.block_size):
            own = () if include_self else (torch.arange(item.numel() + 1, device=device), item)
            value, neighbor = topk_excluding(similarity(item), self.k, *own)
            keep = value > 0 if positive else (value != 0) & (neighbor < self.num_items)
            parts.append((item.unsqueeze(1).expand_as(neighbor)[keep], neighbor[keep], value[keep]))
        row, neighbor, value = (torch.cat(column) for column in zip(*parts))
        return Adjacency.from_edge_index(torch.stack([row, neighbor]), value, (self.num_items, self.num_items))

    def score(self, user: Tensor) -> Tensor:
        r"""Summed similarities ``[B, I]`` to the users' training items."""
        rowptr, item = self.interactions.select_rows(user)
        rows = self.neighbors.value.new_zeros(user.numel(), self.num_items)
        rows[torch.repeat_interleave(rowptr.diff()), item] = 1
        return spmm(self.neighbors, rows.t()).t()
