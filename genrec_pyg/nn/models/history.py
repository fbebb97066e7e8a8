r"""Base class of the models that score a list of items."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import HistoryTerm
from genrec_pyg.nn.models.recommender import Recommender
from genrec_pyg.ops import Adjacency


class HistoryRecommender(Recommender):
    r"""A model without anything learned per user: the score of an item follows from the items of a
    history alone, so that new users are served from their list of items without fitting anything
    again.

    A subclass implements :meth:`history_terms`, or :meth:`score_rows` where its scores are no sum
    of such terms.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
    """

    trainable = False

    def __init__(self, data: HeteroData | TrainingGraph, modalities: Iterable[str] | None = None):
        super().__init__(data, modalities)
        size = (self.graph.num_users, self.graph.num_items)
        self.interactions = Adjacency.from_edge_index(self.graph.edge_index, size=size)

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]`` of all items for the training histories of users ``user`` ``[B]``."""
        rowptr, item = self.interactions.select_rows(user)
        return self.score_rows(Adjacency(rowptr, item, None, (user.numel(), self.num_items)))

    def score_history(self, rowptr: Tensor, item: Tensor) -> Tensor:
        r"""Scores ``[B, I]`` of all items for histories of any users, also of such that are not in
        the graph.

        Args:
            rowptr: Row offsets ``[B + 1]`` of the histories.
            item: Items of the histories, in any order; a repeated one counts once.

        Raises:
            DataError: If offsets do not fit the items or an item is not in the graph.
        """
        count = rowptr.diff()
        if (
            rowptr.numel() < 1
            or int(rowptr[0]) != 0
            or int(rowptr[-1]) != item.numel()
            or bool((count < 0).any())
        ):
            raise DataError(
                f'history: row offsets {rowptr[:3].tolist()} ... {rowptr[-1:].tolist()} for '
                f'{item.numel()} items, accepted are ascending offsets from 0 to the number of '
                f'items'
            )
        row = torch.repeat_interleave(count, output_size=item.numel())
        rows = Adjacency.from_edge_index(
            torch.stack([row, item]), size=(count.numel(), self.num_items)
        )
        return self.score_rows(rows)

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The terms whose weighted sum the scores of histories are; empty where they are no such
        sum.
        """
        return ()

    def score_rows(self, rows: Adjacency) -> Tensor:
        r"""Scores ``[B, I]`` of histories, the rows of a matrix ``[B, I]`` without values."""
        terms = self.history_terms()
        if not terms:
            raise NotImplementedError(f'{type(self).__name__} scores no histories')
        scores = terms[0](rows)
        if terms[0].weight != 1:
            scores *= terms[0].weight
        for term in terms[1:]:
            scores.add_(term(rows), alpha=term.weight)
        return scores
