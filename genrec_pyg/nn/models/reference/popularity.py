r"""Popularity: the score of an item is its number of training users."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.recommender import Recommender


class Popularity(Recommender):
    r"""Ranks all items by training popularity, the same for every user.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.

    Examples:
        >>> from genrec_pyg.nn import Popularity
        >>> from genrec_pyg.testing import toy_graph
        >>> Popularity(toy_graph())
        Popularity(users=8, items=7, modalities=[image, text])
    """

    trainable = False

    def __init__(self, data: HeteroData | TrainingGraph, modalities: Iterable[str] | None = None):
        super().__init__(data, modalities)
        self.register_buffer('popularity', self.graph.item_degree().float())

    def score(self, user: Tensor) -> Tensor:
        r"""Popularity of every item ``[B, I]``."""
        return self.popularity.expand(user.numel(), -1)

    def score_history(self, rowptr: Tensor, item: Tensor) -> Tensor:
        r"""The same scores ``[B, I]`` for any list of items, given by row offsets ``[B + 1]`` and
        items.
        """
        return self.popularity.expand(rowptr.numel() - 1, -1)
