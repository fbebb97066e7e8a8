r"""EASE, the closed-form linear autoencoder."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency, cooccurrence, spmm


class EASE(Recommender):
    r"""Embarrassingly shallow autoencoder (Steck, WWW 2019, Eq. 8).

    .. math::
        \mathbf{P} = (\mathbf{R}^{\top} \mathbf{R} + \lambda \mathbf{I})^{-1}, \qquad
        B_{ij} = -\frac{P_{ij}}{P_{jj}} \; (i \ne j), \quad B_{jj} = 0, \qquad \mathrm{score} = \mathbf{R} \mathbf{B}

    The one model of this package that holds a dense item x item matrix; it refuses above ``max_items``. The low-rank form of
    the same solution is :class:`~genrec_pyg.nn.diffusion.LinearDenoiser`.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        l2: Ridge :math:`\lambda`, positive.
        max_items: Largest number of items accepted.

    Raises:
        ConfigError: If ``l2`` is not positive or the graph has more than ``max_items`` items.
    """
    trainable = False

    def __init__(self, data: Union[HeteroData, TrainingGraph], modalities: Optional[Iterable[str]] = None, l2: float = 50.0,
                 max_items: int = 20_000):
        super().__init__(data, modalities)
        if l2 <= 0:
            raise ConfigError(f'l2: got {l2}, accepted are positive numbers')
        graph = self.graph
        if graph.num_items > max_items:
            raise ConfigError(f'EASE holds {graph.num_items} x {graph.num_items} numbers twice '
                              f'({8 * graph.num_items ** 2 / 2 ** 30:.1f} GiB); accepted are up to max_items={max_items} items')
        self.interactions = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        gram = torch.zeros(graph.num_items, graph.num_items, device=graph.edge_index.device)
        for item in torch.arange(graph.num_items, device=gram.device).split(1024):
            gram[item] = cooccurrence(self.interactions, item)
        gram.diagonal().add_(l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weight = inverse / -inverse.diagonal()
        weight.fill_diagonal_(0)
        self.register_buffer('weight', weight, persistent=False)  # a function of the graph, and larger than a checkpoint should be

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]``."""
        rowptr, item = self.interactions.select_rows(user)
        rows = Adjacency(rowptr, item, None, (user.numel(), self.num_items))
        return spmm(rows, self.weight)
