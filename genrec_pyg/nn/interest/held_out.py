r"""Validation users and what is known and held out of them, for choices that a model makes on the
validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import INTERACTS, ITEM, USER, has_split, known_masks, split_edges
from genrec_pyg.ops import Adjacency, rows_per_block, topk_excluding

#: Fewest users with held-out items on whom settings are chosen: with fewer the standard error of a
#: recall is up to 0.07.
MIN_USERS = 50
#: Most users on whom a setting is measured, and most scores, below which it is half of them at
#: least.
MAX_USERS = 2000
MAX_SCORES = 2**23

#: Scores ``[B, I]`` of all items for users ``[B]``.
Score = Callable[[Tensor], Tensor]


class HeldOutLists:
    r"""A sample of the users with training and validation items, known items masked. Nothing of the
    test split is read.

    Args:
        data: Canonical graph with splits.
        k: Length of the lists.
        max_users: Users measured; more are thinned out evenly. By default :data:`MAX_USERS`, fewer
            where there are many items, so that choosing takes a small part of a training.

    Attributes:
        user: Users ``[n]``, ascending.

    Examples:
        >>> from genrec_pyg.datasets import demo_graph
        >>> from genrec_pyg.nn.interest import HeldOutLists
        >>> data = demo_graph(60, 48, 4)
        >>> lists = HeldOutLists(data, k=10)
        >>> lists.suffices
        True
    """

    def __init__(self, data: HeteroData, k: int = 20, max_users: int | None = None):
        size = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        device = data[INTERACTS].edge_index.device
        held_out = (
            split_edges(data, 'val')
            if has_split(data, 'val')
            else torch.empty(2, 0, dtype=torch.long, device=device)
        )
        self.k = min(k, size[1])
        # also histories of users outside the training
        known = [split_edges(data, name) for name in known_masks(data, 'val')]
        self.known = Adjacency.from_edge_index(torch.cat(known, dim=1), size=size)
        self.held_out = Adjacency.from_edge_index(held_out, size=size)
        if max_users is None:
            max_users = min(max(MAX_SCORES // size[1], MAX_USERS // 2), MAX_USERS)
        user = held_out[0].unique()
        # no choice of a model changes what it makes of nothing
        trained = torch.bincount(split_edges(data, 'train')[0], minlength=size[0]) > 0
        user = user[trained[user]]
        if user.numel() > max_users:
            user = user[torch.linspace(0, user.numel() - 1, max_users, device=device).long()]
        self.user = user

    @property
    def suffices(self) -> bool:
        r"""Whether there are enough users to choose on."""
        return self.user.numel() >= MIN_USERS

    def to(self, device: torch.device) -> HeldOutLists:
        r"""Moves everything to ``device``."""
        self.known = self.known.to(device)
        self.held_out = self.held_out.to(device)
        self.user = self.user.to(device)
        return self

    @torch.no_grad()
    def recall(self, score: Score) -> float:
        r"""Mean recall of the lists by ``score``, which may be changed in place."""
        total = 0.0
        for user in self.user.split(rows_per_block(self.known.size[1])):
            item = topk_excluding(score(user), self.k, *self.known.select_rows(user))[1]
            total += float(self._hits(user, item, self.k).sum())
        return total / max(self.user.numel(), 1)

    @torch.no_grad()
    def candidates(self, scores: Sequence[Score], depth: int = 100) -> CandidateScores:
        r"""Scores of every function at the ``depth`` best items of each of them, so that their
        mixtures can be ranked without ranking all items again: lists of a single function are
        exact, those of a mixture nearly so.

        Args:
            scores: Functions of users.
            depth: Best items taken of each.
        """
        num_items = self.known.size[1]
        depth = min(max(depth, self.k), num_items)
        found, hits = [], []
        for user in self.user.split(max(1, rows_per_block(num_items) // len(scores))):
            blocks = [score(user) for score in scores]
            known = self.known.select_rows(user)
            item = torch.cat([topk_excluding(block, depth, *known)[1] for block in blocks], dim=1)
            item = item.sort(dim=1).values
            valid = item < num_items
            valid[:, 1:] &= item[:, 1:] != item[:, :-1]
            place = item.clamp(max=num_items - 1)
            found.append(
                torch.stack(
                    [block.gather(1, place).masked_fill(~valid, -torch.inf) for block in blocks]
                )
            )
            hits.append(self._relevant(user, place) & valid)
        count = self.held_out.row_degree()[self.user]
        return CandidateScores(torch.cat(found, dim=1), torch.cat(hits), count, self.k)

    def _relevant(self, user: Tensor, item: Tensor) -> Tensor:
        rowptr, target = self.held_out.select_rows(user)
        row = torch.repeat_interleave(rowptr.diff())
        num_items = self.held_out.size[1]
        key = row * num_items + target
        wanted = torch.arange(user.numel(), device=user.device).unsqueeze(1) * num_items + item
        return torch.isin(wanted, key)

    def _hits(self, user: Tensor, item: Tensor, k: int) -> Tensor:
        hit = self._relevant(user, item.clamp(max=self.known.size[1] - 1)) & (
            item < self.known.size[1]
        )
        return hit[:, :k].sum(dim=1) / self.held_out.row_degree()[user]


class CandidateScores:
    r"""Scores of several functions at candidate items of the same users.

    Args:
        score: Scores ``[P, n, C]``, :math:`-\infty` at padding.
        relevant: Held-out items among the candidates ``[n, C]``.
        count: Held-out items per user ``[n]``.
        k: Length of the lists.
    """

    def __init__(self, score: Tensor, relevant: Tensor, count: Tensor, k: int):
        self.score, self.relevant, self.count, self.k = score, relevant, count, k

    def recall(self, weights: Sequence[float]) -> float:
        r"""Mean recall of the weighted sum of the scores."""
        total: Tensor | None = None
        for weight, score in zip(weights, self.score):
            if weight != 0:
                total = weight * score if total is None else total.add_(score, alpha=weight)
        if total is None:
            return 0.0
        best, place = total.topk(min(self.k, total.size(1)), dim=1)
        hits = self.relevant.gather(1, place).sum(dim=1)
        # of equal scores the lower item is listed, and candidates stand in order of items
        last = best[:, -1:]
        tied = (total == last).sum(dim=1) > (best == last).sum(dim=1)
        if bool(tied.any()):
            score, relevant, last = total[tied], self.relevant[tied], last[tied]
            above, equal = score > last, score == last
            room = best.size(1) - above.sum(dim=1, keepdim=True)
            listed = above | equal & (equal.cumsum(dim=1) <= room)
            hits[tied] = (relevant & listed).sum(dim=1)
        return float((hits / self.count).mean())
