r"""Batches of user rows of the interaction matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader.triples import check_batch_size
from genrec_pyg.ops import Adjacency


class UserRows(NamedTuple):
    r"""The training items of ``B`` users in compressed rows: row ``b`` holds
    ``col[rowptr[b]:rowptr[b + 1]]``.

    Args:
        user: User ids ``[B]``, int64.
        rowptr: Row bounds ``[B + 1]``.
        col: Item ids ``[nnz]``, ascending in each row.
    """

    user: Tensor
    rowptr: Tensor
    col: Tensor


class UserRowLoader:
    r"""Iterates over all users in batches of rows, users without items included; the form that
    diffusion models train on.

    Args:
        graph: Training graph, or user by item :class:`~genrec_pyg.ops.Adjacency`. Batches live on
            its device.
        batch_size: Users ``B`` per batch; the last batch holds the rest.
        shuffle: Whether each pass takes the users in a random order, from torch's global random
            state of the device.

    Raises:
        ConfigError: If ``batch_size`` is below 1.

    Examples:
        >>> from genrec_pyg.graph import training_graph
        >>> from genrec_pyg.loader import UserRowLoader
        >>> from genrec_pyg.testing import toy_graph
        >>> loader = UserRowLoader(training_graph(toy_graph()), batch_size=3)
        >>> [rows.user.tolist() for rows in loader]
        [[0, 1, 2], [3, 4, 5], [6, 7]]
    """

    def __init__(
        self, graph: TrainingGraph | Adjacency, batch_size: int = 1024, shuffle: bool = False
    ):
        check_batch_size(batch_size)
        if isinstance(graph, TrainingGraph):
            graph = Adjacency.from_edge_index(
                graph.edge_index, size=(graph.num_users, graph.num_items)
            )
        self.adjacency = graph
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __iter__(self) -> Iterator[UserRows]:
        num_users, device = self.adjacency.size[0], self.adjacency.col.device
        order = (
            torch.randperm(num_users, device=device)
            if self.shuffle
            else torch.arange(num_users, device=device)
        )
        for user in order.split(self.batch_size):
            if user.numel() > 0:
                yield UserRows(user, *self.adjacency.select_rows(user))

    def __len__(self) -> int:
        return math.ceil(self.adjacency.size[0] / self.batch_size)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.adjacency.size[0]}, batch_size={self.batch_size}, '
            f'shuffle={self.shuffle})'
        )
