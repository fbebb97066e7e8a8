r"""Lists of the best items as columns, with the ids, titles and reasons of their owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.evaluation import check_scores
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import HISTORY, ITEM, USER, check_held_out, has_split, raw_ids, split_edges
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval import Search, make_search, retrieve
from genrec_pyg.retrieval.fold_in import history_search, without_items
from genrec_pyg.retrieval.new_item_lists import new_item_search
from genrec_pyg.retrieval.reasons import Explain, explain
from genrec_pyg.retrieval.rescore import rescored

COLUMNS = ('user', 'item', 'rank', 'score')
#: Splits whose interactions are left out.
EXCLUDE = {
    'known': ('train', 'val', 'test'),
    'seen': ('train', 'val'),
    'train': ('train',),
    'none': (),
}


@torch.no_grad()
def top_items(
    model: Recommender,
    data: HeteroData,
    user: Tensor,
    k: int = 20,
    exclude: str = 'known',
    batch_size: int = 1024,
    index: str = 'exact',
    num_cells: int | None = None,
    num_probes: int = 16,
    blocked: Tensor | None = None,
    why: int = 0,
) -> dict[str, list]:
    r"""Best items of users, known ones left out.

    Args:
        model: Trained model.
        data: Its graph.
        user: Numbers of the users ``[n]``, a tensor, array or list.
        k: Items per user; a user with fewer candidates gets fewer rows.
        exclude: Which interactions of a user are not offered again: ``'known'`` all of them,
            ``'seen'`` those of training and validation, ``'train'`` those of training, ``'none'``
            none. To measure lists on the test split take ``'seen'``, on the validation split
            ``'train'``. Histories of users outside the training are left out with the training
            interactions. What is left out is also what a model that reads histories knows of a
            user; with ``'none'`` it knows all.
        batch_size: Users per block.
        index: ``'exact'``, or ``'approximate'`` with faiss, see
            :class:`~genrec_pyg.retrieval.ApproximateIndex`.
        num_cells: Cells of the approximate index.
        num_probes: Cells that a query visits.
        blocked: Items ``[n]`` that nobody is offered.
        why: Reasons per item, see :class:`~genrec_pyg.retrieval.reasons.Reasons`; 0 gives none.

    Returns:
        Columns ``user``, ``item`` (raw ids where the graph has ``raw_id``), ``rank`` (from 1),
        ``score`` and, where the graph has them, ``title``; with ``why`` also ``why``, the items of
        the history that speak for the item, and ``rest``, what is left of the score without any.

    Raises:
        ConfigError: On a user number out of range, a ``k`` below 1, an unknown ``exclude`` or
            index, or an index that the model or this environment does not have.
        DataError: If the model was made from another split, so that pairs it was trained on would
            be listed.
        GenRecError: If a listed score is NaN or infinite.
    """
    if exclude not in EXCLUDE:
        raise ConfigError(f'exclude: got {exclude!r}, accepted are {", ".join(map(repr, EXCLUDE))}')
    if k < 1:
        raise ConfigError(f'k: got {k}, accepted are integers from 1')
    user = torch.as_tensor(user).reshape(-1).long()
    if user.numel() > 0 and not 0 <= int(user.min()) <= int(user.max()) < model.num_users:
        raise ConfigError(
            f'user: got numbers from {int(user.min())} to {int(user.max())}, accepted are 0 to '
            f'{model.num_users - 1}'
        )
    left_out, read = (
        [name for name in (*EXCLUDE[which], HISTORY) if EXCLUDE[which] and has_split(data, name)]
        for which in (exclude, 'known' if exclude == 'none' else exclude)
    )
    check_held_out(
        model.graph,
        data,
        [split for split in ('val', 'test') if left_out and split not in left_out],
    )
    known = torch.cat(
        [torch.empty(2, 0, dtype=torch.long), *(split_edges(data, split) for split in left_out)],
        dim=1,
    )
    device = model.graph.edge_index.device
    matrix = Adjacency.from_edge_index(known, size=(model.num_users, model.num_items)).to(device)
    with model.known_edges(data, read), model.cached_embeddings():
        search = make_search(model, index, num_cells, num_probes)
        search = rescored(search, model) if model.has_embeddings else search
        reasons = explain(model, data, _training_rows(model), why) if why else None
        return _lists(
            search,
            user.to(device),
            raw_ids(data, USER),
            data,
            matrix,
            k,
            batch_size,
            blocked,
            reasons,
        )


@torch.no_grad()
def top_items_of_histories(
    model: Recommender,
    data: HeteroData,
    names: Sequence[Any],
    histories: Adjacency | Sequences,
    k: int = 20,
    batch_size: int = 1024,
    blocked: Tensor | None = None,
    why: int = 0,
) -> dict[str, list]:
    r"""Best items of users outside the graph, from the items that they have, which are left out.

    Args:
        model: Trained model.
        data: Its graph.
        names: Ids of the users ``[B]``.
        histories: Their items ``[B, I]``, without values, or in the order of time, see
            :func:`~genrec_pyg.retrieval.fold_in.history_search`.
        k: Items per user.
        batch_size: Users per block.
        blocked: Items ``[n]`` that nobody is offered.
        why: As in :func:`top_items`.

    Returns:
        As :func:`top_items`.

    Raises:
        ConfigError: If the model knows only the users that it was trained with.
    """
    device = model.graph.edge_index.device
    histories = histories.to(device)
    with model.cached_embeddings():
        search = history_search(model, histories)
        known = histories.to_adjacency() if isinstance(histories, Sequences) else histories
        reasons = explain(model, data, known, why) if why else None
        return _lists(
            search,
            torch.arange(len(names), device=device),
            names,
            data,
            known,
            k,
            batch_size,
            blocked,
            reasons,
        )


@torch.no_grad()
def top_new_items(
    model: Recommender,
    data: HeteroData,
    features: Mapping[str, Tensor],
    ids: Sequence[Any],
    user: Tensor | None = None,
    names: Sequence[Any] = (),
    histories: Adjacency | Sequences | None = None,
    k: int = 20,
    batch_size: int = 1024,
) -> dict[str, list]:
    r"""New items in order for users, by their features alone.

    Args:
        model: Trained model with item embeddings and modalities.
        data: Its graph.
        features: Raw features ``[n, d_m]`` by modality, see
            :func:`~genrec_pyg.retrieval.new_item_lists.read_new_items`.
        ids: Ids of the new items ``[n]``.
        user: Numbers of users of the graph, or :obj:`None` for the users of ``histories``.
        names: Ids of the users of ``histories``.
        histories: As in :func:`top_items_of_histories`.
        k: Items per user.
        batch_size: Users per block.

    Returns:
        As :func:`top_items`.

    Raises:
        ConfigError: If the model knows only the items that it was trained with.
    """
    device = model.graph.edge_index.device
    if isinstance(histories, Sequences):
        histories = histories.to_adjacency()
    histories = None if histories is None else histories.to(device)
    user_ids = raw_ids(data, USER) if histories is None else names
    user = (
        torch.arange(len(names), device=device)
        if histories is not None
        else torch.as_tensor(user).to(device)
    )
    nothing = Adjacency.from_edge_index(
        torch.empty(2, 0, dtype=torch.long), size=(len(user_ids), len(ids))
    ).to(device)
    with model.cached_embeddings():
        search = new_item_search(model, features, histories)
        return _lists(search, user, user_ids, data, nothing, k, batch_size, None, None, ids)


def _training_rows(model: Recommender) -> Adjacency:
    return Adjacency.from_edge_index(
        model.graph.edge_index, size=(model.num_users, model.num_items)
    )


def _lists(
    search: Search,
    user: Tensor,
    user_ids: Sequence[Any],
    data: HeteroData,
    known: Adjacency,
    k: int,
    batch_size: int,
    blocked: Tensor | None,
    reasons: Explain | None = None,
    new_ids: Sequence[Any] | None = None,
) -> dict[str, list]:
    item_ids, titles = (
        (raw_ids(data, ITEM), data[ITEM].get('title')) if new_ids is None else (new_ids, None)
    )
    columns: dict[str, list] = {
        name: []
        for name in (
            *COLUMNS,
            *([] if titles is None else ['title']),
            *(['why', 'rest'] if reasons else []),
        )
    }
    search = search if blocked is None else without_items(search, blocked)
    for block, score, item in retrieve(search, user, k, known, batch_size):
        check_scores(score, block)
        row, rank = (item < len(item_ids)).nonzero(as_tuple=True)
        columns['user'] += [user_ids[u] for u in block[row].tolist()]
        columns['item'] += [item_ids[i] for i in item[row, rank].tolist()]
        columns['rank'] += (rank + 1).tolist()
        columns['score'] += score[row, rank].tolist()
        if titles is not None:
            columns['title'] += [titles[i] for i in item[row, rank].tolist()]
        for number, u in enumerate(block.tolist() if reasons else ()):
            listed = item[number] < len(item_ids)
            for found, rest in reasons(u, item[number, listed], score[number, listed]):
                columns['why'].append(found)
                columns['rest'].append(rest)
    return columns
