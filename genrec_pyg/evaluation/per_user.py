r"""Values of every user, kept as Parquet beside a run for paired tests and groups of users and
items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor

from genrec_pyg.evaluation.lists import Lists, ranks
from genrec_pyg.exceptions import DataError
from genrec_pyg.utils.files import write_atomically

#: Columns of the table of users that are no metric.
COLUMNS = ('user', 'id', 'interactions', 'held_out')
#: Columns of the table of held-out pairs.
PAIR_COLUMNS = ('user', 'item', 'popularity', 'rank')
_KEY = b'genrec_pyg'


@dataclass(frozen=True)
class PerUser:
    r"""Values of the ``n`` users of a split and ranks of its ``L`` held-out pairs.

    Args:
        users: Columns ``[n]``: ``user`` (number), ``id`` (as its owner knows it), ``interactions``
            (training items), ``held_out`` (their number), and one per metric and length, such as
            ``recall@20``, float64.
        pairs: Columns ``[L]``: ``user``, ``item``, ``popularity`` (training users of the item) and
            ``rank`` in the list, from 1, or 0 where the item is not in the longest list.
        origin: What values must share to be compared, and whose they are: ``training`` and
            ``held_out`` (digests), ``split``, ``protocol``, ``k`` (length of the longest list),
            ``model``.
    """

    users: dict[str, np.ndarray]
    pairs: dict[str, np.ndarray]
    origin: dict[str, Any]

    @property
    def metrics(self) -> list[str]:
        r"""Names of the metrics."""
        return [name for name in self.users if name not in COLUMNS]


def ranking_values(
    rank: Tensor, row: Tensor, num_users: int, k: int, num_items: int
) -> dict[str, Tensor]:
    r"""Recall, NDCG, precision, MAP, hit rate and MRR of every user, float64 ``[n]`` each.

    Args:
        rank: Rank of every held-out pair ``[L]``, see :func:`~genrec_pyg.evaluation.lists.ranks`.
        row: Its user's row ``[L]``.
        num_users: Number of rows ``n``.
        k: Length of the lists.
        num_items: Number of items ``I``: beyond it only precision depends on ``k``.
    """

    def total(value: Tensor) -> Tensor:
        return torch.zeros(num_users, dtype=torch.float64, device=rank.device).index_add_(
            0, row, value.double()
        )

    length = min(k, num_items)
    hit = (rank > 0) & (rank <= k)
    count, hits = total(torch.ones_like(rank)), total(hit)
    discount = 1 / (torch.arange(length, dtype=torch.float64, device=rank.device) + 2).log2()
    ideal = discount.cumsum(0)[count.long().clamp(min=1, max=length) - 1]
    index = hit.nonzero().view(-1)
    index = index[(row[index] * (k + 1) + rank[index]).argsort()]
    rows = row[index].contiguous()
    above = torch.zeros_like(rank)  # hits of the user up to this one
    above[index] = (
        torch.arange(index.numel(), device=rank.device) - torch.searchsorted(rows, rows) + 1
    )
    place = rank.clamp(min=1)
    best = torch.zeros(num_users, dtype=torch.float64, device=rank.device)
    best.scatter_reduce_(0, row, torch.where(hit, 1 / place.double(), 0.0), 'amax')
    gain = torch.where(hit, 1 / (place.double() + 1).log2(), 0.0)
    return {
        f'recall@{k}': hits / count.clamp(min=1),
        f'ndcg@{k}': total(gain) / ideal,
        f'precision@{k}': hits / k,
        f'map@{k}': total(torch.where(hit, above / place, 0.0)) / count.clamp(min=1, max=length),
        f'hit@{k}': (hits > 0).double(),
        f'mrr@{k}': best,
    }


def per_user(
    lists: Lists,
    label: Tensor,
    ks: Sequence[int],
    ids: Sequence[Any],
    activity: Tensor,
    origin: Mapping[str, Any],
    further: Mapping[str, Tensor] | None = None,
) -> PerUser:
    r"""Values of every user from its list.

    Args:
        lists: Lists of all users.
        label: Held-out pairs (row of the list, item) ``[2, L]``.
        ks: Lengths of the lists that are measured.
        ids: Ids of all users of the data.
        activity: Training items of all users of the data ``[U]``.
        origin: See :class:`PerUser`.
        further: More values ``[n]`` by name.
    """
    rank = ranks(lists.item, label)
    user = lists.user.cpu()
    values: dict[str, Tensor] = {}
    for k in ks:
        values.update(ranking_values(rank, label[0], user.numel(), k, lists.graph.num_items))
    values.update(further or {})
    held_out = torch.bincount(label[0], minlength=user.numel())
    users = {
        'user': user.numpy(),
        'id': np.array([str(ids[u]) for u in user.tolist()], dtype=object),
        'interactions': activity.cpu()[user].numpy(),
        'held_out': held_out.cpu().numpy(),
        **{name: value.double().cpu().numpy() for name, value in values.items()},
    }
    popularity = lists.graph.item_degree()[label[1]]
    pairs = {'user': lists.user[label[0]], 'item': label[1], 'popularity': popularity, 'rank': rank}
    return PerUser(
        users, {name: value.cpu().numpy() for name, value in pairs.items()}, dict(origin)
    )


def users_file(folder: Path, split: str) -> Path:
    r"""Table of users of a split in the folder of a run."""
    return Path(folder) / f'users-{split}.parquet'


def pairs_file(folder: Path, split: str) -> Path:
    r"""Table of held-out pairs of a split in the folder of a run."""
    return Path(folder) / f'pairs-{split}.parquet'


def write_per_user(folder: Path, values: PerUser) -> None:
    r"""Writes ``users-SPLIT.parquet`` and ``pairs-SPLIT.parquet`` into ``folder``, each atomically.

    Raises:
        OutputError: If the system refuses.
    """
    metadata = {_KEY: json.dumps(values.origin).encode()}
    split = values.origin['split']
    for path, columns in (
        (pairs_file(folder, split), values.pairs),
        (users_file(folder, split), values.users),
    ):
        table = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
        table = table.replace_schema_metadata(metadata)
        write_atomically(
            path, lambda file, table=table: parquet.write_table(table, file, compression='zstd')
        )


def read_per_user(folder: Path, split: str) -> PerUser:
    r"""Reads what :func:`write_per_user` wrote.

    Raises:
        DataError: If a file is missing, damaged, lacks a column or belongs to another evaluation
            than the other.
    """
    users, origin = _read(users_file(folder, split), COLUMNS)
    pairs, others = _read(pairs_file(folder, split), PAIR_COLUMNS)
    if origin != others:
        raise DataError(
            f'{pairs_file(folder, split)}: is of another evaluation than users-{split}.parquet; '
            f'accepted are two files that were written together (python -m genrec_pyg.evaluate '
            f'writes them)'
        )
    return PerUser(users, pairs, origin)


def _read(path: Path, required: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not path.is_file():
        raise DataError(
            f'{path}: there is no such file; python -m genrec_pyg.evaluate {path.parent} writes it'
        )
    try:
        with path.open('rb') as file:
            table = parquet.read_table(file)
        origin = json.loads((table.schema.metadata or {})[_KEY])
        columns = {name: table[name].to_numpy() for name in table.column_names}
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f'{path}: not a table of an evaluation ({reason})') from error
    missing = [name for name in required if name not in columns]
    wrong = [
        name for name, column in columns.items() if name != 'id' and column.dtype.kind not in 'fiu'
    ]
    if missing or wrong or not isinstance(origin, dict):
        first = (missing + wrong)[0] if missing or wrong else 'origin'
        raise DataError(
            f'{path}: {first!r} is missing or holds no numbers, accepted is a table of python -m '
            'genrec_pyg.evaluate'
        )
    return columns, origin
