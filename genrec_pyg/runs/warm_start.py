r"""Starting from a trained model on data that have grown since: rows are matched by the ids of
users and items.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import has_split, pair_keys, split_edges
from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency

logger = logging.getLogger(__name__)

#: Ids of users and of items, in the order of their numbers.
Ids = tuple[Sequence[Any], Sequence[Any]]
#: Rows of a new and of a trained table, and those that both have, by their numbers in either.
Rows = tuple[int, int, Tensor, Tensor]


@torch.no_grad()
def take_over(model: Recommender, ids: Ids, trained: Recommender, trained_ids: Ids) -> None:
    r"""Gives ``model`` the parameters of ``trained``, in place.

    A parameter with a row per user, per item or per both gets the rows of the users and items that
    both models have. The rows of new ones are folded in (:func:`fold_in_rows`): rows drawn at
    random would be trained for a few epochs next to rows that are trained already. Other parameters
    and buffers of equal shape are copied, and the log names those that are not.

    Args:
        model: Model on the new data.
        ids: Ids of its users and items.
        trained: Trained model of the same class.
        trained_ids: Ids of its users and items.

    Raises:
        ConfigError: If the models are of different classes, or have no user and no item in common.
    """
    if type(model) is not type(trained):
        raise ConfigError(
            f'from: the run is one of {type(trained).__name__}, accepted is one of '
            f'{type(model).__name__}'
        )
    sizes = _matched(ids, trained_ids)
    new_user, new_item = sizes['user'][2], sizes['item'][2]
    before = dict(trained.named_parameters())
    left, tables = [], {}
    for name, parameter in model.named_parameters():
        value = before.get(name)
        kind = None if value is None else _kind(name, parameter, value, sizes)
        if kind is not None:
            new, old = sizes[kind][2:]
            parameter[new.to(parameter.device)] = value[old.to(value.device)].to(parameter)
            if parameter.dim() == 2:
                tables[name] = kind
        elif value is not None and value.shape == parameter.shape:
            parameter.copy_(value)
        else:
            left.append(name)
    buffers = dict(trained.named_buffers())
    kept = model.state_dict().keys()
    for name, buffer in model.named_buffers():  # statistics of batch norms
        if name in kept and name in buffers and buffers[name].shape == buffer.shape:
            buffer.copy_(buffers[name])
    fold_in_rows(
        model, trained, tables, ~_listed(new_user, len(ids[0])), ~_listed(new_item, len(ids[1]))
    )
    logger.info(
        '%d of %d users and %d of %d items start from the run',
        new_user.numel(),
        len(ids[0]),
        new_item.numel(),
        len(ids[1]),
    )
    if left:
        logger.warning(
            'parameters drawn again, since their shape depends on the data in another way: %s',
            ', '.join(left),
        )


@torch.no_grad()
def take_over_moments(
    model: Recommender,
    ids: Ids,
    trained: Recommender,
    trained_ids: Ids,
    state: Mapping[str, Any] | None,
) -> dict[str, dict[str, Tensor]]:
    r"""The state of the optimizer for the parameters that :func:`take_over` gives to ``model``.

    Rows follow their ids as there. New rows have no first moment yet and the mean second moment of
    the known ones: with none, Adam (Kingma & Ba, https://arxiv.org/abs/1412.6980, algorithm 1)
    would take its first step with them at about three times the learning rate, since the bias is
    no longer corrected after so many steps.

    Args:
        model: Model on the new data.
        ids: Ids of its users and items.
        trained: Trained model of the same class.
        trained_ids: Ids of its users and items.
        state: State of its Adam, of one process; :obj:`None` where there is none.

    Returns:
        Name of each parameter to ``'step'``, ``'exp_avg'`` and ``'exp_avg_sq'``; parameters of
        another shape are left out.
    """
    inner = (state or {}).get('optimizer', state) or {}  # within Mirror Gradient
    names = {id(parameter): name for name, parameter in trained.named_parameters()}
    order = [names[id(parameter)] for parameter in trained.trained_parameters()]
    sizes, found = _matched(ids, trained_ids), {}
    parameters, before = dict(model.named_parameters()), dict(trained.named_parameters())
    if len(inner.get('param_groups', ())) != 1:
        return {}
    for number, entry in inner['state'].items():
        name = order[number] if number < len(order) else None
        if name not in parameters or not {'step', 'exp_avg', 'exp_avg_sq'} <= set(entry):
            continue
        parameter, old_value = parameters[name], before[name]
        if entry['exp_avg'].shape != old_value.shape:
            continue
        kind = _kind(name, parameter, old_value, sizes)
        if kind is None:
            if parameter.shape == old_value.shape:
                found[name] = {key: value.clone() for key, value in entry.items()}
            continue
        new, old = sizes[kind][2:]
        first, second = (entry[key][old] for key in ('exp_avg', 'exp_avg_sq'))
        shape = tuple(parameter.shape)
        found[name] = {
            'step': entry['step'].clone(),
            'exp_avg': first.new_zeros(shape).index_copy_(0, new, first),
            'exp_avg_sq': second.mean(dim=0).expand(shape).clone().index_copy_(0, new, second),
        }
    return found


@torch.no_grad()
def fold_in_rows(
    model: Recommender,
    trained: Recommender,
    tables: Mapping[str, str],
    new_user: Tensor,
    new_item: Tensor,
) -> None:
    r"""Gives new users and items rows that follow from their interactions, in place.

    In every table of users the row of a new one is a linear map of the rows of its items
    (:class:`~genrec_pyg.nn.history_embedding.HistoryEmbedding`), fitted to the trained tables;
    items likewise from their users, before. Those without interactions, or without a table of the
    other side, get the mean row.

    Args:
        model: Model on the new data, whose known rows are taken over.
        trained: Trained model.
        tables: Name of each table ``[n, d]`` to ``'user'``, ``'item'`` or ``'node'``.
        new_user: Whether a user is new ``[U]``.
        new_item: Whether an item is new ``[I]``.
    """
    size, old_size = (model.num_users, model.num_items), (trained.num_users, trained.num_items)
    grown = Adjacency.from_edge_index(model.graph.edge_index, size=size)
    old = Adjacency.from_edge_index(trained.graph.edge_index, size=old_size).to(grown.device)
    after, before = dict(model.named_parameters()), dict(trained.named_parameters())

    def sides(name: str, rows: Tensor, count: int) -> dict[str, Tensor]:
        kind = tables[name]
        return {'user': rows[:count], 'item': rows[count:]} if kind == 'node' else {kind: rows}

    # Items first: users are folded in by the rows of all their items.
    for side, opposite, new, matrices in (
        ('item', 'user', new_item, (grown.t(), old.t())),
        ('user', 'item', new_user, (grown, old)),
    ):
        for name, kind in tables.items():
            if kind not in (side, 'node') or not bool(new.any()):
                continue
            rows, trained_rows = (
                sides(name, table[name], users)[side]
                for table, users in ((after, size[0]), (before, old_size[0]))
            )
            trained_rows, new = trained_rows.to(rows), new.to(rows.device)
            active = matrices[1].row_degree() > 0
            rows[new] = trained_rows[active if bool(active.any()) else slice(None)].mean(dim=0)
            other = _other_side(name, side, tables)
            if other is None:
                continue
            by, trained_by = (
                sides(other, table[other], users)[opposite]
                for table, users in ((after, size[0]), (before, old_size[0]))
            )
            known = _known_entries(matrices[0], new_user if side == 'item' else None)
            found = new & (known.row_degree() > 0)
            rows[found] = HistoryEmbedding(trained_rows, trained_by.to(rows), matrices[1]).on(
                by, known
            )(known)[found]


def _other_side(name: str, side: str, tables: Mapping[str, str]) -> str | None:
    r"""The table of the other side next to one: that of the same name but for the side, else the
    first.
    """
    if tables[name] == 'node':
        return name
    wanted = 'item' if side == 'user' else 'user'
    twin = name.replace(side, wanted)
    if tables.get(twin) == wanted:
        return twin
    return next((other for other, side in tables.items() if side in (wanted, 'node')), None)


def _known_entries(rows: Adjacency, new_column: Tensor | None) -> Adjacency:
    r"""The entries in columns that are not new: items are folded in by users whose rows are
    trained.
    """
    if new_column is None:
        return rows
    kept = ~new_column.to(rows.device)[rows.col.long()]
    return Adjacency.from_edge_index(
        torch.stack([rows.row()[kept], rows.col[kept].long()]), size=rows.size
    )


def _listed(numbers: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, numbers, True)


def check_unseen(data: HeteroData, ids: Ids, trained: Recommender, trained_ids: Ids) -> None:
    r"""Refuses held-out pairs that the run was trained on: their figures would be those of memory.

    Args:
        data: Canonical graph of the new training.
        ids: Ids of its users and items.
        trained: Model of the run.
        trained_ids: Ids of its users and items.

    Raises:
        DataError: Naming how many pairs there are.
    """
    place = [
        torch.full((len(new),), -1).index_put((common[0],), common[1])
        for new, common in ((new, _common(new, old)) for new, old in zip(ids, trained_ids))
    ]
    known = pair_keys(trained.graph.edge_index.cpu(), trained.num_items)
    for split in ('val', 'test'):
        if not has_split(data, split):
            continue
        user, item = split_edges(data, split).cpu()
        pairs = torch.stack([place[0][user], place[1][item]])
        seen = torch.isin(pair_keys(pairs[:, (pairs >= 0).all(dim=0)], trained.num_items), known)
        if bool(seen.any()):
            raise DataError(
                f'from: {int(seen.sum())} of {user.numel()} pairs of the {split} split are '
                f'training pairs of the run, so figures would say nothing; accepted is a split '
                f'that only moves on (time, column:NAME) or none'
            )


def _matched(ids: Ids, trained_ids: Ids) -> dict[str, Rows]:
    r"""Whose rows a table may have to its sizes and the rows that both models have.

    Raises:
        ConfigError: If there is none.
    """
    rows = [_common(new, old) for new, old in zip(ids, trained_ids)]
    if not any(new.numel() for new, _ in rows):
        raise ConfigError(
            'from: the data have no user and no item of the run, accepted are data that have '
            'grown since'
        )
    (new_user, old_user), (new_item, old_item) = rows
    return {
        'user': (len(ids[0]), len(trained_ids[0]), new_user, old_user),
        'item': (len(ids[1]), len(trained_ids[1]), new_item, old_item),
        'node': (
            len(ids[0]) + len(ids[1]),
            len(trained_ids[0]) + len(trained_ids[1]),
            torch.cat([new_user, new_item + len(ids[0])]),
            torch.cat([old_user, old_item + len(trained_ids[0])]),
        ),
    }


def _kind(name: str, new: Tensor, old: Tensor, sizes: dict[str, Rows]) -> str | None:
    r"""Whose rows a parameter has, by its number of rows and, where that is no answer, by its
    name.
    """
    if new.dim() == 0 or new.dim() != old.dim() or new.shape[1:] != old.shape[1:]:
        return None
    kinds = [kind for kind, size in sizes.items() if (new.size(0), old.size(0)) == size[:2]]
    return next((kind for kind in kinds if kind in name), kinds[0] if len(kinds) == 1 else None)


def _common(new: Sequence[Any], old: Sequence[Any]) -> tuple[Tensor, Tensor]:
    r"""Numbers, among the new and among the old ones, of the ids that are in both."""
    place = {str(raw): number for number, raw in enumerate(old)}
    pairs = [(number, place[str(raw)]) for number, raw in enumerate(new) if str(raw) in place]
    return tuple(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t().unbind())
