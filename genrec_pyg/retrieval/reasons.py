r"""Why an item is in a list: the items of the history that speak for it, and through what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, raw_ids
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.history import HistoryRecommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval.new_items import FeatureEmbedding

#: From row, items and scores to reasons and rest per item.
Explain = Callable[[int, Tensor, Tensor], list[tuple[list[dict[str, Any]], float]]]
#: Path of what the model has learned from interactions.
GRAPH = 'graph'
#: Path of the interest that GenRec makes in closed form.
INTEREST = 'interest'
#: Scores of single items of a history that are held at a time.
_MOST_SCORES = 2**24


class Reason(NamedTuple):
    r"""One term of a score.

    Args:
        item: Number of an item of the history.
        path: ``'graph'``, ``'interest'``, ``'content'`` or a modality.
        part: The term, in units of the score.
        share: The term divided by the sum of the absolute values of all terms.
    """

    item: int
    path: str
    part: float
    share: float


class Reasons:
    r"""Splits scores into terms of one item of the history and one path each, and a rest:

    .. math::
        s_{ui} = \sum_{j \in N(u)} \sum_p c_p(j, i) + r_{ui}

    * Models whose scores are a weighted sum of kernels over the history: :math:`c` are the entries
      of the kernels, exactly, and the rest is rounding.
    * The interest of GenRec: the entries of its kernel, exactly.
    * Models with embeddings: the user is replaced by the linear map of its list
      (:class:`~genrec_pyg.nn.history_embedding.HistoryEmbedding`), which is a sum over the list,
      and the item is split by the linear map from its features
      (:class:`~genrec_pyg.retrieval.new_items.FeatureEmbedding`) into one vector per modality and
      what they do not explain, the graph. What the model has learned of the user beyond that map is
      the rest.

    Call within :meth:`~genrec_pyg.nn.models.Recommender.cached_embeddings`.

    Args:
        model: Trained model, in evaluation mode.

    Raises:
        ConfigError: If the scores of the model are no such sum.
    """

    def __init__(self, model: Recommender):
        self.model = model
        self.terms = model.history_terms() if isinstance(model, HistoryRecommender) else ()
        self.interest, self.interest_weight = model.interest_in_use() or (None, 0.0)
        self.views: dict[str, Tensor] = {}
        if self.terms:
            return
        users, items = model.embeddings() if model.has_embeddings else (None, None)
        if users is None or users.dim() != 2 or model.reads_history:
            raise ConfigError(
                f'why: the scores of {type(model).__name__} are no sum over the items of a '
                f'history; accepted are models with one embedding per user and models of item '
                f'histories'
            )
        width = items.size(1) - (0 if self.interest is None else self.interest.key.size(1))
        users, items = users[:, :width], items[:, :width]
        size = (model.num_users, model.num_items)
        self.embed = HistoryEmbedding(
            users, items, Adjacency.from_edge_index(model.graph.edge_index, size=size)
        )
        if model.graph.modalities:
            self.views = FeatureEmbedding(model.graph, items).by_modality(model.graph)
        self.views[GRAPH] = items - sum(self.views.values(), torch.zeros_like(items))

    @torch.no_grad()
    def __call__(
        self, history: Tensor, item: Tensor, score: Tensor, count: int
    ) -> list[tuple[list[Reason], float]]:
        r"""Finds the largest terms of the scores of one user.

        Args:
            history: Items of the user ``[n]``.
            item: Items of the list ``[k]``.
            score: Their scores ``[k]``.
            count: Terms per item of the list, only those above zero.

        Returns:
            Terms, the largest first, and the rest, for every item of the list.
        """
        paths = self._paths(history, item)
        names = list(paths)
        parts = torch.stack([paths[name] for name in names])  # [paths, n, k]
        rest = score.to(parts) - parts.sum(dim=(0, 1))
        total = (parts.abs().sum(dim=(0, 1)) + rest.abs()).clamp(min=torch.finfo(parts.dtype).tiny)
        flat = parts.flatten(0, 1)
        value, place = flat.topk(min(count, flat.size(0)), dim=0)
        found = []
        for column in range(item.numel()):
            reasons = [
                Reason(
                    int(history[p % history.numel()]),
                    names[p // history.numel()],
                    v,
                    v / float(total[column]),
                )
                for v, p in zip(value[:, column].tolist(), place[:, column].tolist())
                if v > 0
            ]
            found.append((reasons, float(rest[column])))
        return found

    def _paths(self, history: Tensor, item: Tensor) -> dict[str, Tensor]:
        r"""Terms ``[n, k]`` by path, float64."""
        num_items, paths = self.model.num_items, {}
        for term in self.terms:
            blocks = []
            for own in history.split(max(1, _MOST_SCORES // num_items)):
                alone = torch.stack([torch.arange(own.numel(), device=own.device), own])
                rows = Adjacency.from_edge_index(alone, size=(own.numel(), num_items))
                blocks.append(term.weight * term(rows)[:, item].double())
            paths[term.path] = paths.get(term.path, 0) + torch.cat(blocks)
        if not self.terms:
            vectors = self.embed.parts(history).double()
            paths = {name: vectors @ view[item].double().t() for name, view in self.views.items()}
        if self.interest is not None:
            paths[INTEREST] = self._interest(history, item)
        return paths

    def _interest(self, history: Tensor, item: Tensor) -> Tensor:
        whole = torch.stack([torch.zeros_like(history), history])
        listed = Adjacency.from_edge_index(whole, size=(1, self.model.num_items))
        query = self.interest.query[history]
        scale = self.interest.inverse_deviation(listed, query.sum(dim=0, keepdim=True))
        found = query @ self.interest.key[item].t()
        if self.interest.neighbors is not None:
            offsets, entry = self.interest.neighbors.row_entries(history)
            place = torch.full((self.model.num_items,), -1, device=item.device)
            place[item] = torch.arange(item.numel(), device=item.device)
            column = place[self.interest.neighbors.col[entry].long()]
            source, listed_too = torch.repeat_interleave(offsets.diff()), column >= 0
            value = self.interest.neighbors.value[entry].to(found.dtype)
            found.index_put_(
                (source[listed_too], column[listed_too]), value[listed_too], accumulate=True
            )
        return (self.interest_weight * scale * found).double()


def explain(model: Recommender, data: HeteroData, histories: Adjacency, count: int) -> Explain:
    r"""The function that explains the list of a user by its row among ``histories`` ``[B, I]``,
    with ids and titles.

    Returns:
        Function of the row, the items ``[k]`` and their scores ``[k]``, which gives one record per
        item: its ``reasons`` (``item``, ``title`` where there are titles, ``path``, ``part``,
        ``share``) and the ``rest``.

    Raises:
        ConfigError: If the scores of the model are no sum over the items of a history.
    """
    reasons, ids, titles = Reasons(model), raw_ids(data, ITEM), data[ITEM].get('title')

    def record(reason: Reason) -> dict[str, Any]:
        title = {} if titles is None else {'title': titles[reason.item]}
        return {
            'item': ids[reason.item],
            **title,
            'path': reason.path,
            'part': reason.part,
            'share': reason.share,
        }

    def of(row: int, item: Tensor, score: Tensor) -> list[tuple[list[dict[str, Any]], float]]:
        begin, end = histories.rowptr[row : row + 2].tolist()
        if begin == end:
            return [([], float(value)) for value in score]
        found = reasons(histories.col[begin:end].long(), item, score, count)
        return [([record(reason) for reason in largest], rest) for largest, rest in found]

    return of
