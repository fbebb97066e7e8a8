r"""Lists for users whom training has not seen, from the items that they have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.datasets.io.logs import read_columns
from genrec_pyg.datasets.io.values import read_ids, read_numbers
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.sequential.sequence_recommender import SequenceRecommender
from genrec_pyg.ops import Adjacency, topk_excluding
from genrec_pyg.retrieval.index import ExactIndex, Search

logger = logging.getLogger(__name__)

#: Pairs of a user and a blocked item that are held at a time.
_MOST_PAIRS = 2**23


@torch.no_grad()
def history_search(model: Recommender, histories: Adjacency | Sequences) -> Search:
    r"""Search for new users by their number among ``histories``.

    Models of item histories (``score_history``) score them as they score their own users, models of
    sequences encode them. Models with one embedding per user get one for each list by
    :class:`HistoryEmbedding`. Call it within
    :meth:`~genrec_pyg.nn.models.Recommender.cached_embeddings`.

    Args:
        model: Trained model, in evaluation mode.
        histories: Items of the new users ``[B, I]``, without values; for models of sequences, items
            of ``B`` users in the order of time.

    Raises:
        ConfigError: If the model can do none of it, or its users have an order, and the histories
            none.
    """
    if isinstance(model, SequenceRecommender):
        if not isinstance(histories, Sequences):
            raise ConfigError(
                f'history: {type(model).__name__} reads items in the order of time, accepted are '
                f'genrec_pyg.loader.Sequences'
            )
        with model.items.computed():  # and not the users of the training
            users = model.embed_histories(
                histories if model.repeats else histories.without_repeats()
            )
            ranking = ExactIndex(model.items())
        return lambda user, k, known: ranking.search(users[user], k, known)
    if isinstance(histories, Sequences):
        histories = histories.to_adjacency()
    if hasattr(model, 'score_history'):
        return lambda user, k, known: topk_excluding(
            model.score_history(*histories.select_rows(user)), k, known.rowptr, known.col
        )
    users, items = model.embeddings() if model.has_embeddings else (None, None)
    if users is None or users.dim() != 2 or model.reads_history:
        raise ConfigError(
            f'history: {type(model).__name__} has neither one embedding per user nor scores of '
            f'lists of items, so it knows only the users that it was trained with; accepted are '
            f'models that do'
        )
    size = (model.num_users, model.num_items)
    embed = HistoryEmbedding(
        users, items, Adjacency.from_edge_index(model.graph.edge_index, size=size)
    )
    index = ExactIndex(items)

    def search(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        rows = Adjacency(*histories.select_rows(user), None, (user.numel(), model.num_items))
        query = model.history_embeddings(embed(rows), rows)
        if not model.has_sparse_scores:
            return index.search(query, k, known)
        return topk_excluding(
            model.add_sparse_history_scores(query @ items.t(), rows), k, known.rowptr, known.col
        )

    return search


def without_items(search: Search, blocked: Tensor) -> Search:
    r"""The same search with the items ``blocked`` ``[n]`` left out for everybody."""
    if blocked.numel() == 0:
        return search

    def restricted(user: Tensor, k: int, known: Adjacency) -> tuple[Tensor, Tensor]:
        parts = []
        for rows in torch.arange(user.numel(), device=user.device).split(
            max(1, _MOST_PAIRS // blocked.numel())
        ):
            rowptr, col = known.select_rows(rows)
            own = torch.stack([torch.repeat_interleave(rowptr.diff().long()), col.long()])
            place = torch.arange(rows.numel(), device=user.device)
            everybody = torch.stack(
                [
                    place.repeat_interleave(blocked.numel()),
                    blocked.to(user.device).repeat(rows.numel()),
                ]
            )
            both = Adjacency.from_edge_index(
                torch.cat([own, everybody], dim=1), size=(rows.numel(), known.size[1])
            )
            parts.append(search(user[rows], k, both))
        score, item = (torch.cat(column) for column in zip(*parts))
        return score, item

    return restricted


def read_histories(
    path: Path, number: Mapping[str, int], num_items: int
) -> tuple[Sequence[Any], Sequences]:
    r"""New users and their items from a table of interactions; items that are not in the graph are
    left out and counted.

    Args:
        path: Table with columns of users and items, see :func:`genrec_pyg.datasets.from_table`.
            Without a time, rows stand in the order in which they happened.
        number: Item id, as text, to the number of the item.
        num_items: Number of items ``I``.

    Returns:
        Ids of the users who have an item of the graph, and their items, oldest first.

    Raises:
        ConfigError: If a column is not there.
        DataError: If the table cannot be read or names no item of the graph.
    """
    table, source = read_columns(path)
    user_id, user = read_ids(table['user'], 'user', source)
    item_id, item = read_ids(table['item'], 'item', source)
    if 'time' in table:
        order = np.argsort(read_numbers(table['time'], 'time', source), kind='stable')
        user, item = user[order], item[order]
    items = _known_items(item_id, number, source)[torch.from_numpy(item)]
    kept = items >= 0
    if not bool(kept.all()):
        logger.warning(
            '%s: %d of %d rows name items that the model does not know and are left out',
            source,
            int((~kept).sum()),
            kept.numel(),
        )
    users, row = torch.from_numpy(user)[kept].unique(return_inverse=True)
    if users.numel() < len(user_id):
        logger.warning(
            '%s: %d users have no item that the model knows and get no list',
            source,
            len(user_id) - users.numel(),
        )
    names = user_id.tolist() if hasattr(user_id, 'tolist') else user_id
    order = row.argsort(stable=True)
    edges = torch.stack([row, items[kept]])[:, order]
    return [names[index] for index in users.tolist()], Sequences.from_edges(
        edges, users.numel(), num_items
    )


def one_history(ids: Sequence[str], number: Mapping[str, int], num_items: int) -> Sequences:
    r"""Items of one new user by their ids, oldest first; those that are not in the graph are left
    out and named.

    Args:
        ids: Item ids, as text.
        number: Item id, as text, to the number of the item.
        num_items: Number of items ``I``.

    Raises:
        DataError: If the graph has none of the items.
    """
    items = _known_items(ids, number, 'history')
    unknown = [raw for raw, place in zip(ids, items.tolist()) if place < 0]
    if unknown:
        logger.warning(
            'history: the model does not know %s, which %s left out',
            ', '.join(map(repr, unknown)),
            'is' if len(unknown) == 1 else 'are',
        )
    items = items[items >= 0]
    return Sequences.from_edges(torch.stack([torch.zeros_like(items), items]), 1, num_items)


def _known_items(ids: Sequence[Any], number: Mapping[str, int], source: str) -> Tensor:
    r"""Numbers ``[n]`` of items by id, -1 for those that are not in the graph."""
    items = torch.tensor([number.get(str(raw), -1) for raw in ids], dtype=torch.long)
    if not bool((items >= 0).any()):
        raise DataError(
            f'{source}: names no item that the model knows, accepted are ids such as '
            f'{next(iter(number), None)!r}'
        )
    return items
