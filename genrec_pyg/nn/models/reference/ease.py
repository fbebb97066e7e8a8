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
        if not l2 > 0:
            raise ConfigError(f'l2: got {l2}, accepted are positive numbers')
        graph = self.graph
        if graph.num_items > max_items:
            memory = 8 * graph.num_items ** 2 / 2 ** 30
            raise ConfigError(f'EASE holds {graph.num_items} x {graph.num_items} numbers twice ({memory:.1f} GiB); accepted '
                              f'are up to max_items={max_items} items')
        self.interactions = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        # Not saved: it follows from the graph and would make a checkpoint as large as itself.
        self.register_buffer('weight', self._solve(l2), persistent=False)

    def _solve(self, l2: float) -> Tensor:
        num_items = self.num_items
        matrix = torch.zeros(num_items, num_items, device=self.graph.edge_index.device)
        for item in torch.arange(num_items, device=matrix.device).split(1024):
            matrix[item] = cooccurrence(self.interactions, item)
        matrix.diagonal().add_(l2)
        # One name throughout: each step frees its input, so that two matrices are the most that is held.
        try:
            matrix = torch.linalg.cholesky(matrix)
        except torch.linalg.LinAlgError as error:
            raise ConfigError(f'l2: got {l2}, with which the regularised item matrix is singular in float32; accepted are '
                              'larger numbers') from error
        matrix = torch.cholesky_inverse(matrix)
        matrix.div_(-matrix.diagonal().clone()).fill_diagonal_(0)
        return matrix

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]``."""
        rowptr, item = self.interactions.select_rows(user)
        rows = Adjacency(rowptr, item, None, (user.numel(), self.num_items))
        return spmm(rows, self.weight)
