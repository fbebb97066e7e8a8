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
from genrec_pyg.ops import Adjacency, cooccurrence, spmm, topk_excluding


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
        block_size: Items per block.

    Raises:
        ConfigError: If ``k`` is below 1 or ``shrink`` negative.
    """
    trainable = False

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]] = None, k: int = 100,
                 shrink: float = 10.0, block_size: int = 1024):
        super().__init__(data, modalities)
        if k < 1:
            raise ConfigError(f'k: got {k}, accepted are integers from 1')
        if shrink < 0:
            raise ConfigError(f'shrink: got {shrink}, accepted are numbers from 0')
        graph = self.graph
        self.interactions = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        norm = graph.item_degree().float().sqrt()
        parts = []
        for item in torch.arange(graph.num_items, device=norm.device).split(block_size):
            together = cooccurrence(self.interactions, item)
            similarity = together / (norm[item].unsqueeze(1) * norm + shrink).clamp(min=1e-12)
            value, neighbor = topk_excluding(similarity, k, torch.arange(item.numel() + 1, device=norm.device), item)
            keep = value > 0
            target = item.unsqueeze(1).expand_as(neighbor)
            parts.append((neighbor[keep], target[keep], value[keep]))
        neighbor, target, value = (torch.cat(column) for column in zip(*parts))
        size = (graph.num_items, graph.num_items)
        self.neighbors = Adjacency.from_edge_index(torch.stack([target, neighbor]), value, size)

    def score(self, user: Tensor) -> Tensor:
        r"""Summed similarities ``[B, I]`` to the users' training items."""
        rowptr, item = self.interactions.select_rows(user)
        rows = torch.zeros(user.numel(), self.num_items, device=user.device)
        rows[torch.repeat_interleave(rowptr.diff()), item] = 1
        return spmm(self.neighbors, rows.t()).t()
