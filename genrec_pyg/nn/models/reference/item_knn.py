r"""Item-based nearest neighbours."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, cooccurrence, rows_per_block, spmm, topk_excluding


class ItemKNN(Recommender):
    r"""Item-based collaborative filtering (Sarwar et al., WWW 2001; shrinkage as in Dacrema et al., RecSys 2019).

    .. math::
        s_{ij} = \frac{\mathbf{R}_{:i} \cdot \mathbf{R}_{:j}}{\Vert \mathbf{R}_{:i} \Vert \Vert \mathbf{R}_{:j} \Vert +
        \mathrm{shrink}}, \qquad \mathrm{score}(u, j) = \sum_{i \in \mathbf{R}_u} s_{ij} \, [i \in \mathrm{top}_k(j)]

    Similarities are made in blocks of items and only the ``k`` largest of each item are kept, without the item itself.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        k: Neighbours per item.
        shrink: Shrinkage.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1 or ``shrink`` negative.
    """
    trainable = False

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]] = None, k: int = 100,
                 shrink: float = 10.0, block_size: int = 1024):
        super().__init__(data, modalities)
        for name, value in (('k', k), ('block_size', block_size)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        if not shrink >= 0:
            raise ConfigError(f'shrink: got {shrink}, accepted are numbers from 0')
        size = (self.graph.num_users, self.graph.num_items)
        self.interactions = Adjacency.from_edge_index(self.graph.edge_index, size=size)
        self.neighbors = self._find_neighbors(k, shrink, rows_per_block(self.num_items, block_size))

    def _find_neighbors(self, k: int, shrink: float, block_size: int) -> Adjacency:
        r"""Similarities ``[I, I]``: row ``j`` holds the ``k`` items most similar to ``j``."""
        norm = self.graph.item_degree().float().sqrt()
        parts = []
        for item in torch.arange(self.num_items, device=norm.device).split(block_size):
            together = cooccurrence(self.interactions, item)
            similarity = together / (norm[item].unsqueeze(1) * norm + shrink).clamp(min=1e-12)
            value, neighbor = topk_excluding(similarity, k, torch.arange(item.numel() + 1, device=norm.device), item)
            keep = value > 0
            parts.append((item.unsqueeze(1).expand_as(neighbor)[keep], neighbor[keep], value[keep]))
        target, neighbor, value = (torch.cat(column) for column in zip(*parts))
        return Adjacency.from_edge_index(torch.stack([target, neighbor]), value, (self.num_items, self.num_items))

    def score(self, user: Tensor) -> Tensor:
        r"""Summed similarities ``[B, I]`` to the users' training items."""
        rowptr, item = self.interactions.select_rows(user)
        rows = self.neighbors.value.new_zeros(user.numel(), self.num_items)
        rows[torch.repeat_interleave(rowptr.diff()), item] = 1
        return spmm(self.neighbors, rows.t()).t()
