r"""Sequences of items with titles or pictures, in the layout of MoRec."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.tables import read_lines
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, ITEM, USER

logger = logging.getLogger(__name__)

#: Columns of a file of items after the first.
_TEXTS = ('title', 'abstract')
_IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')


class SequenceDataset(LayoutDataset):
    r"""What layouts of sequences with content share: users with enough items, their last items, and
    repetitions, which stay.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Modalities to read from feature files, row = item.
        min_items: Fewest items of a user; shorter users are left out.
        keep_last: Most items of a user, the newest; :obj:`None` keeps all. Yuan et al. (SIGIR 2023,
            https://arxiv.org/abs/2303.13835) keep 23 of MIND and 13 of HM and Bili.
        unused_items: Whether items that nobody has are nodes too, which only models with an item
            side from content rank by more than chance.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If a file is missing or damaged; the message names the line.
    """

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Modalities = None,
        min_items: int = 5,
        keep_last: int | None = None,
        unused_items: bool = False,
        **kwargs: Any,
    ):
        if min_items < 1 or (keep_last is not None and keep_last < 3):
            raise ConfigError(
                f'min_items, keep_last: got {min_items}, {keep_last}, accepted are integers '
                f'from 1 and from 3'
            )
        self.min_items, self.keep_last, self.unused_items = min_items, keep_last, unused_items
        super().__init__(root, name, modalities, **kwargs)
        if 'image' in self._data[ITEM]:
            raw = Path(self.raw_dir).resolve()
            self._data[ITEM].image = [
                str(raw / file) if file else '' for file in self._data[ITEM].image
            ]

    @property
    def processed_file_names(self) -> list[str]:
        (file,) = super().processed_file_names
        choice = (
            f'{self.min_items}-{self.keep_last or "all"}-{"all" if self.unused_items else "used"}'
        )
        return [file.replace('graph-', f'graph-{choice}-', 1)]

    def download(self) -> None:
        r"""There is no public location without terms to accept: says which files to put there."""
        raise DataError(
            f'dataset {self.name!r}: {", ".join(self.raw_file_names)} missing in {self.raw_dir}; '
            f'put the files there'
        )

    def graph_of(
        self, sequences: dict[str, list[int]], items: Sequence[str], texts: dict[str, list[str]]
    ) -> HeteroData:
        r"""The graph of sequences of positions in ``items`` by user."""
        kept = {
            user: found[-self.keep_last :] if self.keep_last else found
            for user, found in sequences.items()
            if len(found) >= self.min_items
        }
        if not kept:
            raise DataError(
                f'{self.folder}: no user has {self.min_items} items, accepted is at least one'
            )
        user = np.repeat(np.arange(len(kept)), [len(found) for found in kept.values()])
        item = np.concatenate([np.array(found, dtype=np.int64) for found in kept.values()])
        used = np.arange(len(items)) if self.unused_items else np.unique(item)
        data = HeteroData()
        data[USER].num_nodes, data[ITEM].num_nodes = len(kept), len(used)
        data[USER].raw_id = list(kept)
        data[ITEM].raw_id = [items[number] for number in used.tolist()]
        for name, values in texts.items():
            data[ITEM][name] = [values[number] for number in used.tolist()]
            empty = sum(not value for value in data[ITEM][name])
            if empty:
                logger.warning('%s: %d of %d items have no %s', self.folder, empty, len(used), name)
        store = data[INTERACTS]
        store.edge_index = torch.from_numpy(np.stack([user, np.searchsorted(used, item)]))
        store.time = torch.arange(len(user))
        for name, x in self.load_features().items():
            if len(x) != len(items):
                raise DataError(
                    f'{self.folder}: the features {name!r} have {len(x)} rows and the file of '
                    f'items {len(items)}, accepted is one row per item'
                )
            data[name].x = torch.from_numpy(np.ascontiguousarray(x[used]))
            data[ITEM, 'has', name].edge_index = torch.arange(len(used)).expand(2, -1).contiguous()
        logger.info(
            '%s: %d of %d users have %d items or more, %d items',
            self.folder,
            len(kept),
            len(sequences),
            self.min_items,
            len(used),
        )
        return data


class SequenceContentDataset(SequenceDataset):
    r"""A folder with ``*users.tsv`` and ``*items.tsv``, as the program of Yuan et al. (SIGIR 2023,
    https://arxiv.org/abs/2303.13835) reads MIND, HM and Bili.

    * ``*users.tsv``: ``user TAB item item ...``, oldest first, one line per user;
    * ``*items.tsv``: ``item``, ``item TAB title`` or ``item TAB title TAB abstract``; items are
      numbered in its order;
    * pictures, if any: a folder ``images`` or ``*_images`` with ``ITEM.jpg``, or a file ``*.lmdb``
      whose keys are items or, of items such as ``v0123``, their numbers.

    ``data['item']`` gets ``title``, ``abstract`` and ``image``, as far as there are any. The graph
    has no masks.
    """

    pattern = '*users.tsv'

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return any(
            len(list_folder(place, '*users.tsv')) == len(list_folder(place, '*items.tsv')) == 1
            for place in (folder, folder / 'raw')
        )

    @property
    def raw_file_names(self) -> list[str]:
        return [
            next(iter(list_folder(Path(self.raw_dir), f'*{kind}.tsv')), f'{kind}.tsv')
            for kind in ('users', 'items')
        ]

    def read(self) -> HeteroData:
        users, items = (Path(self.raw_dir) / name for name in self.raw_file_names)
        texts = _read_items(items)
        names = texts.pop('item')
        place = {name: number for number, name in enumerate(names)}
        sequences: dict[str, list[int]] = {}
        for number, line in read_lines(users):
            user, tab, rest = line.partition('\t')
            found = rest.split(' ')
            if not user or not tab or '' in found:
                raise DataError(
                    f"{users}: line {number} is {line[:100]!r}, accepted is 'user TAB item item "
                    f"...' with single blanks"
                )
            if user in sequences:
                raise DataError(
                    f'{users}: line {number} has the user {user[:100]!r} again, accepted is '
                    f'one line per user'
                )
            unknown = next((item for item in found if item not in place), None)
            if unknown is not None:
                raise DataError(
                    f'{users}: line {number} has the item {unknown[:100]!r}, which '
                    f'{items.name} does not have'
                )
            sequences[user] = [place[item] for item in found]
        images = self._images(names)
        return self.graph_of(
            sequences, names, texts if images is None else {**texts, 'image': images}
        )

    def _images(self, items: Sequence[str]) -> list[str] | None:
        folder = Path(self.raw_dir)
        folders = [
            name
            for name in list_folder(folder)
            if (name == 'images' or name.endswith('_images')) and os.path.isdir(folder / name)
        ]
        if folders:
            stems = {
                os.path.splitext(name)[0]: f'{folders[0]}/{name}'
                for name in list_folder(folder / folders[0])
                if name.lower().endswith(_IMAGE_ENDINGS)
            }
            return [stems.get(item, '') for item in items]
        files = list_folder(folder, '*.lmdb')
        if not files:
            return None
        from genrec_pyg.datasets.io.lmdb_images import LmdbImages

        keys = set(LmdbImages(folder / files[0]).keys)
        found = []
        for item in items:
            number = item.lstrip('v').lstrip('0') or '0'
            key = item if item in keys else number if number in keys else None
            found.append('' if key is None else f'{files[0]}#{key}')
        return found


def _read_items(path: Path) -> dict[str, list[str]]:
    r"""Columns ``item`` and, as far as there are any, ``title`` and ``abstract``."""
    rows: list[list[str]] = []
    first: dict[str, int] = {}
    for number, line in read_lines(path):
        fields = line.split('\t')
        if (
            not 1 <= len(fields) <= 1 + len(_TEXTS)
            or not fields[0]
            or (rows and len(fields) != len(rows[0]))
        ):
            raise DataError(
                f'{path}: line {number} has {len(fields)} fields, accepted are item, title and '
                f'abstract, {len(rows[0]) if rows else "one to three"} of them on every line'
            )
        if fields[0] in first:
            raise DataError(
                f'{path}: line {number} has the item {fields[0][:100]!r} of line '
                f'{first[fields[0]]} again, accepted is one line per item'
            )
        first[fields[0]] = number
        rows.append(fields)
    if not rows:
        raise DataError(f'{path}: has no item')
    columns: Iterable[tuple[str, ...]] = zip(*rows)
    return {name: list(column) for name, column in zip(('item', *_TEXTS), columns)}
