r"""Scores of listed items in double precision, so that lists depend on nothing but the
embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval.index import Search

#: Items beyond the list that may move into it.
_SPARE = 16
#: Entries of gathered item rows at a time.
_BLOCK_ENTRIES = 2**23


def rescored(search: Search, model: Recommender) -> Search:
    r"""The same search, its best items scored again in float64, rounded and put in order.

    Products in float32 depend in their last bits on the number of users that are asked for at
    once, on the device and on its library, and with them the order of items whose scores are
    nearly equal. Afterwards equal scores rank by lower number.

    Args:
        search: Search of a model with embeddings.
        model: The model, within :meth:`~genrec_pyg.nn.models.Recommender.cached_embeddings`.
    """
    users, items = model.embeddings()
    num_items = items.size(0)

    def exact(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        _, item = search(user, min(k + _SPARE, num_items), known)
        item = item.sort(dim=1).values  # so that a stable sort ranks equal scores by lower number
        place = item.clamp(max=num_items - 1)
        query = users[user].double()
        query = query.unsqueeze(1) if query.dim() == 2 else query
        length = max(1, _BLOCK_ENTRIES // max(1, item.size(1) * items.size(1)))
        score = torch.cat(
            [
                (items[rows].double() @ block.transpose(1, 2)).amax(dim=2)
                for rows, block in zip(place.split(length), query.split(length))
            ]
        )
        if model.has_sparse_scores:
            sparse = model.add_sparse_scores(items.new_zeros(user.numel(), num_items), user)
            score = score + sparse.gather(1, place)
        score = score.to(items.dtype).masked_fill(item == num_items, -torch.inf)
        score, order = score.sort(dim=1, descending=True, stable=True)
        return score[:, :k], item.gather(1, order)[:, :k]

    return exact
