r"""Graphs from tables of interactions with any ids: one's own logs, RecBole's atomic files, data
frames.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import feature_key
from genrec_pyg.datasets.builder import as_raw_id, build_graph, mix
from genrec_pyg.datasets.feature_checks import check_features, check_policy
from genrec_pyg.datasets.io.item_features import (
    ID_SUFFIX,
    ItemFeatures,
    as_features,
    ids_path,
    read_features,
)
from genrec_pyg.datasets.io.item_table import read_titles
from genrec_pyg.datasets.io.layouts import FORMATS
from genrec_pyg.datasets.io.logs import read_columns
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.rows import ON_BAD_ROW, BadRows
from genrec_pyg.datasets.io.usable_rows import usable_rows
from genrec_pyg.datasets.io.values import order_ids, read_ids, read_labels, read_numbers
from genrec_pyg.datasets.prepare import DEFAULT_SPLIT, prepare, rated_at_least, split_column
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, USER, raw_ids

logger = logging.getLogger(__name__)

Ids = np.ndarray | list[str]


def from_table(
    source: Any,
    columns: Mapping[str, str] | None = None,
    features: Mapping[str, str | Path | tuple[Sequence[Any], Any]] | None = None,
    min_rating: float | None = None,
    k_core: int = 0,
    split: str | None = None,
    check: str = 'error',
    items: str | Path | None = None,
    on_bad_row: str = 'error',
    seed: int = 0,
    form: str | None = None,
) -> HeteroData:
    r"""The canonical graph of a table of interactions.

    Ids of any kind become node numbers in their order
    (:func:`~genrec_pyg.datasets.io.values.read_ids`) and stay as ``raw_id``. With a time the
    interactions are sorted by it, and equal times are mixed by a fixed rule, so that the rows give
    the same graph in any order. Without a time the order is that of the rows. Of a pair that occurs
    several times the earliest row counts, of equal times the one with the highest rating; rows
    below ``min_rating`` are left out before.

    Args:
        source: Path of a file of delimited text (``.csv``, ``.tsv``, RecBole's ``.inter``) or JSON
            lines (both plain, gzip, bzip2 or zstd) or Parquet, a folder or pattern of such files,
            a list of these, or a data frame (pandas, Polars, Arrow, or a mapping from names to
            columns).
        columns: Role (``'user'``, ``'item'``, ``'rating'``, ``'time'``, ``'split'``) to the name of
            its column. Roles that are left out are found by the usual names, such as ``user_id`` or
            ``timestamp``. In a text file numbers from 1 are positions, and say that it has no
            header.
        features: Modality to its features: a file
            (:func:`~genrec_pyg.datasets.io.item_features.read_features`) or a pair of item ids and
            a matrix. An item without a row has no such modality; an item without an interaction is
            in the graph.
        min_rating: Least rating that counts as an interaction.
        k_core: Least number of distinct items per user and users per item.
        split: ``'random'``, ``'time'``, ``'users'``, ``'cold_items'`` (each also with shares of
            validation and test, ``'random:0.1,0.1'``), ``'leave-one-out'``, ``'column:NAME'`` (0,
            1, 2 or train, val, test) or ``'none'``, all for the training. By default that of a
            column called ``split`` or ``x_label``, else ``'random:0.1,0.1'``.
        check: Whether features that do not belong to the items are an ``'error'``, named in a
            warning by ``'warn'``, or not looked for, ``'off'``; see
            :func:`~genrec_pyg.datasets.feature_checks.check_features`.
        items: Table of items with their titles, which the graph keeps as ``data['item'].title``.
        on_bad_row: What a row does that cannot be read (another number of fields, no UTF-8, no id,
            a number that is none): ``'error'``, or ``'skip'``, which leaves it out; a warning
            counts such rows by reason and shows one.
        seed: Seed of random splits.
        form: Layout of files in place of the recognized one, see
            :data:`~genrec_pyg.datasets.io.layouts.FORMATS`.

    Raises:
        ConfigError: On an argument outside its accepted values, or a column that is not there.
        DataError: If a table cannot be read; the message names the row.
    """
    check_policy(check)
    columns = dict(columns or {})
    if split_column(split) is not None:
        columns['split'] = split_column(split)
    if on_bad_row not in ON_BAD_ROW:
        raise ConfigError(f'on_bad_row: got {on_bad_row!r}, accepted are {", ".join(ON_BAD_ROW)}')
    if form not in (None, *FORMATS):
        raise ConfigError(f'format: got {form!r}, accepted are {", ".join(FORMATS)}')
    bad = BadRows(on_bad_row == 'skip')
    table, name = read_columns(source, columns, bad=bad, form=form)
    if split is not None and split_column(split) is None:
        table.pop('split', None)
    if bad.skip:
        table = usable_rows(table, name, bad)
        for reason, count in bad.counts.items():
            logger.warning(
                '%s: %d rows are left out (%s), such as %s',
                name,
                count,
                reason,
                bad.examples[reason][0],
            )
    if len(table['user']) == 0:
        raise DataError(f'{name}: has no interaction')
    user_id, user = read_ids(table['user'], 'user', name)
    item_id, item = read_ids(table['item'], 'item', name)
    labels = None
    if 'split' in table:
        labels, split = read_labels(table['split'], name), None
    elif split is None:
        split = DEFAULT_SPLIT
        logger.info('%s: split as %s, since it has no column for it (--split)', name, split)
    attributes = {}
    if 'time' in table:
        attributes['time'] = read_numbers(table['time'], 'time', name)
    if 'rating' in table:
        attributes['rating'] = read_numbers(table['rating'], 'rating', name).astype(np.float32)
    del table
    if min_rating is not None:
        kept = rated_at_least(attributes.get('rating'), min_rating, name)
        user, item, labels = user[kept], item[kept], None if labels is None else labels[kept]
        attributes = {key: column[kept] for key, column in attributes.items()}
    read = {
        modality: item_features(modality, found) for modality, found in (features or {}).items()
    }
    item_id, item = _with_features(item_id, item, [found.ids for found in read.values()])
    labels = np.zeros(len(user), dtype=np.int64) if labels is None else labels
    if 'time' in attributes:
        order = _time_order(attributes['time'], user, item, attributes.get('rating'))
        user, item, labels = user[order], item[order], labels[order]
        attributes = {key: column[order] for key, column in attributes.items()}
    data = build_graph(user, item, labels, len(user_id), len(item_id), {}, name, attributes)
    data[USER].raw_id, data[ITEM].raw_id = as_raw_id(user_id), as_raw_id(item_id)
    if items is not None:
        titles = read_titles(Path(items), item=(columns or {}).get('item'))
        data[ITEM].title = [titles.get(str(raw), '') for raw in item_id]
    for modality, found in read.items():
        add_features(data, modality, found)
    check_features(data, features or {}, check)
    data = prepare(data, min_rating, k_core, split, seed)
    logger.info(
        '%s: %d users, %d items, %d interactions',
        name,
        data[USER].num_nodes,
        data[ITEM].num_nodes,
        data[INTERACTS].edge_index.size(1),
    )
    return data


def find_features(folder: Path, choice: Mapping[str, str | None] | None) -> dict[str, Path]:
    r"""Feature files beside a log: modality to file.

    Args:
        folder: Folder of the log.
        choice: Modality to file, :obj:`None` for that of its name; :obj:`None` takes every ``.npy``
            and ``.npz`` with a list of ids.

    Raises:
        ConfigError: If there is no such file.
    """
    there = _with_ids(folder)
    if choice is None:
        return {feature_key(name): folder / name for name in there}
    found = {}
    for modality, asked in choice.items():
        matches = (
            [name for name in there if feature_key(name) == modality] if asked is None else [asked]
        )
        if len(matches) != 1:
            raise ConfigError(
                f'modalities: {folder} has {len(matches)} files for {modality!r}, accepted are '
                f'{", ".join(map(feature_key, there)) or "none"} (a .npy with a list of ids '
                f'NAME{ID_SUFFIX}) and NAME=FILE'
            )
        found[modality] = folder / matches[0]
    return found


def features_beside(folder: Path) -> dict[str, str]:
    r"""Modality to name of every ``.npy`` and ``.npz`` of a folder with a list of ids.

    Raises:
        ConfigError: If two files are of one modality.
    """
    found: dict[str, str] = {}
    for name in _with_ids(folder):
        if feature_key(name) in found:
            raise ConfigError(
                f'modalities: {folder} has {found[feature_key(name)]} and {name}, accepted is one '
                f'file per modality'
            )
        found[feature_key(name)] = name
    return found


def _with_ids(folder: Path) -> list[str]:
    return [
        name
        for name in (*list_folder(folder, '*.npy'), *list_folder(folder, '*.npz'))
        if ids_path(folder / name).is_file()
    ]


def add_features(data: HeteroData, modality: str, found: ItemFeatures) -> int:
    r"""Adds a modality to a graph whose items have ids, in place.

    Args:
        data: Graph with ``raw_id`` of its items.
        modality: Name of the modality.
        found: Rows and the ids of their items.

    Returns:
        Number of rows of items that are not in the graph; they are left out.
    """
    place = {str(raw): number for number, raw in enumerate(raw_ids(data, ITEM))}
    item = torch.tensor([place.get(str(raw), -1) for raw in found.ids], dtype=torch.long)
    order = item.argsort()
    left_out = int((item < 0).sum())
    order = order[left_out:]
    data[modality].x = as_features(found.x[order.numpy()])
    data[ITEM, HAS, modality].edge_index = torch.stack([item[order], torch.arange(order.numel())])
    return left_out


def item_features(modality: str, source: Any) -> ItemFeatures:
    r"""Features of a modality of this name, see
    :func:`~genrec_pyg.datasets.io.item_features.read_features`.

    Raises:
        ConfigError: If a modality cannot have this name.
        DataError: If they cannot be read.
    """
    if modality in (USER, ITEM):
        raise ConfigError(
            f'features: {modality!r} cannot name a modality, accepted are other names'
        )
    return read_features(source, modality)


def _with_features(item_id: Ids, item: np.ndarray, others: Sequence[Ids]) -> tuple[Ids, np.ndarray]:
    r"""Ids of the items that occur in the log or have features, and the items of the rows by their
    new numbers.
    """
    if not others:
        return item_id, item
    lists = [ids.tolist() if isinstance(ids, np.ndarray) else ids for ids in (item_id, *others)]
    numbers = all(isinstance(ids[0], int) for ids in lists if ids)
    lists = lists if numbers else [[str(raw) for raw in ids] for ids in lists]
    found = set().union(*lists)
    union = sorted(found) if numbers else order_ids(pa.array(found, pa.string()))[0]
    place = {raw: number for number, raw in enumerate(union)}
    number = np.array([place[raw] for raw in lists[0]], dtype=np.int64)
    return (np.array(union, dtype=np.int64) if numbers else union), number[item]


def _time_order(
    time: np.ndarray, user: np.ndarray, item: np.ndarray, rating: np.ndarray | None
) -> np.ndarray:
    return np.lexsort((*(() if rating is None else (-rating,)), item, user, mix(user, item), time))
