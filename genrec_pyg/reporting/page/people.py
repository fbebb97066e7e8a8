r"""The users of a page: histories, held-out items, lists and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genrec_pyg.evaluation import Evaluator
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency

#: Most items of a history and reasons of an item that a page has.
MAX_HISTORY, MAX_REASONS = 60, 3


class Likeness:
    r"""How near two items are: by the users that have both, and in each modality.

    Args:
        graph: Training graph with all modalities.
    """

    def __init__(self, graph: TrainingGraph):
        self.by_item = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        ).t()
        self.degree = graph.item_degree().double()
        self.num_users = graph.num_users
        self.rows = {
            name: normalize(modality.item_features().float(), dim=1)
            for name, modality in graph.modalities.items()
        }

    def reasons(self, item: int, history: Tensor) -> list[list[Any]]:
        r"""The nearest items of a history, best first: item, how (``'users'`` or a modality),
        cosine.
        """
        if history.numel() == 0:
            return []
        found = []
        mine = torch.zeros(self.num_users, dtype=torch.bool)
        mine[self._users(item)] = True
        for other in history.tolist():
            both = int(mine[self._users(other)].sum())
            scale = float((self.degree[item] * self.degree[other]).sqrt())
            if both:
                found.append([other, 'users', both / scale])
        for name, x in self.rows.items():
            cosine = x[history] @ x[item]
            best = int(cosine.argmax())
            if float(cosine[best]) > 0:
                found.append([int(history[best]), name, float(cosine[best])])
        by_users = sorted((row for row in found if row[1] == 'users'), key=lambda row: -row[2])[:1]
        others = sorted((row for row in found if row[1] != 'users'), key=lambda row: -row[2])
        return [[i, how, round(value, 3)] for i, how, value in (by_users + others)[:MAX_REASONS]]

    def _users(self, item: int) -> Tensor:
        begin, end = self.by_item.rowptr[item : item + 2].tolist()
        return self.by_item.col[begin:end].long()


@torch.no_grad()
def people(
    models: Mapping[str, Recommender], evaluators: Mapping[str, Evaluator], user: Tensor, k: int
) -> list[dict[str, Any]]:
    r"""Users with their histories, held-out items and lists.

    Args:
        models: Models by run.
        evaluators: Evaluator of every run, which knows what is held out and what is masked.
        user: Users ``[n]`` with held-out items.
        k: Length of the lists.
    """
    first = next(iter(evaluators.values()))
    graph = next(iter(models.values())).graph
    likeness = Likeness(first.graph)
    histories = Adjacency.from_edge_index(
        graph.edge_index.cpu(), size=(graph.num_users, graph.num_items)
    )
    lists = {run: evaluators[run].lists_of(model, user) for run, model in models.items()}
    found = []
    for row, number in enumerate(user.tolist()):
        begin, end = histories.rowptr[number : number + 2].tolist()
        history = histories.col[begin:end].long()
        held_out = first.held_out(number)
        reasons: dict[int, list[list[Any]]] = {}
        of_runs = {}
        for run, (score, item) in lists.items():
            valid = item[row] < graph.num_items
            of_runs[run] = [
                [i, round(s, 4), i in held_out]
                for i, s in zip(item[row][valid].tolist(), score[row][valid].tolist())
            ][:k]
            for i, _, _ in of_runs[run]:
                if i not in reasons:
                    reasons[i] = likeness.reasons(i, history)
        found.append(
            {
                'user': number,
                'history': history[:MAX_HISTORY].tolist(),
                'history_size': history.numel(),
                'held_out': sorted(held_out),
                'lists': of_runs,
                'reasons': {str(i): rows for i, rows in reasons.items() if rows},
            }
        )
    return found
