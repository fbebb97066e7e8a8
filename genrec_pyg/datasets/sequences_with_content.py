r"""Sequences of items with titles or pictures, in the layout of MoRec."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.io.archives import unpack
from genrec_pyg.datasets.io.download import download_file
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.tables import read_lines
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, ITEM, USER

logger = logging.getLogger(__name__)

#: Columns of a file of items after the first.
_TEXTS = ('title', 'abstract')
#: Endings of pictures.
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')


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
        num_users: Number of users that are drawn from those with enough items; :obj:`None` keeps
            all.
        seed: Seed of this draw.
        mirror: Address from which missing files are downloaded, also from the environment variable
            ``GENREC_MIRROR``; files are asked for at ``MIRROR/NAME/FILE``.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        ConfigError: On an argument outside its accepted values.
        DataError: If a file is missing or damaged; the message names the line.
    """

    #: Archives of a mirror, each with a pattern of the files in it that are unpacked.
    archives: Mapping[str, str] = {}

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Modalities = None,
        min_items: int = 5,
        keep_last: int | None = None,
        unused_items: bool = False,
        num_users: int | None = None,
        seed: int = 0,
        mirror: str | None = None,
        **kwargs: Any,
    ):
        if min_items < 1 or (keep_last is not None and keep_last < 3):
            raise ConfigError(
                f'min_items, keep_last: got {min_items}, {keep_last}, accepted are integers '
                f'from 1 and from 3'
            )
        if num_users is not None and num_users < 1:
            raise ConfigError(f'num_users: got {num_users}, accepted are integers from 1')
        self.min_items, self.keep_last, self.unused_items = min_items, keep_last, unused_items
        self.num_users, self.seed = num_users, seed
        self.mirror = (mirror or os.environ.get('GENREC_MIRROR') or '').rstrip('/')
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
        if self.num_users is not None:
            choice = f'{choice}-{self.num_users}-{self.seed}'
        return [file.replace('graph-', f'graph-{choice}-', 1)]

    def download(self) -> None:
        r"""Fetches what is missing from the mirror. There is no public location without terms to
        accept.

        Raises:
            DataError: Naming the missing files and where to put them.
        """
        folder = Path(self.raw_dir)
        missing = [name for name in self.raw_file_names if not os.path.exists(folder / name)]
        where = f'dataset {self.name!r}: {", ".join(missing)} missing in {folder}'
        if not self.mirror:
            raise DataError(
                f'{where}; put the files there, or name an address that has them in GENREC_MIRROR'
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # archives first: the folder counts as a dataset once its tables are there
            for name, pattern in self.archives.items():
                self._fetch_archive(folder, name, pattern)
            for name in self.raw_file_names:
                if not os.path.exists(folder / name):
                    download_file(f'{self.mirror}/{self.name}/{name}', folder / name)
        except (DataError, OSError) as error:
            raise DataError(
                f'{where}. {error}. Put the files there by hand or name another address in '
                f'GENREC_MIRROR'
            ) from error

    def _fetch_archive(self, folder: Path, name: str, pattern: str) -> None:
        r"""Downloads and unpacks an archive, which the mirror may lack."""
        try:
            download_file(f'{self.mirror}/{self.name}/{name}', folder / name)
        except DataError as error:
            logger.warning('dataset %r goes without %s: %s', self.name, name, error)
            return
        number = unpack(folder / name, folder, pattern)
        os.unlink(folder / name)
        logger.info('%s: %d files of %s', folder, number, name)

    def drawn_users(self, count: int) -> np.ndarray:
        r"""Places of the users that are kept of ``count``, in order."""
        if self.num_users is None or self.num_users >= count:
            return np.arange(count)
        drawn = np.random.default_rng(self.seed).choice(count, self.num_users, replace=False)
        return np.sort(drawn)

    def graph_of(
        self, sequences: dict[str, list[int]], items: Sequence[str], texts: dict[str, list[str]]
    ) -> HeteroData:
        r"""The graph of sequences of positions in ``items`` by user."""
        enough = [user for user, found in sequences.items() if len(found) >= self.min_items]
        users = [enough[place] for place in self.drawn_users(len(enough)).tolist()]
        cut = -self.keep_last if self.keep_last else None
        kept = [np.array(sequences[user][cut:], dtype=np.int64) for user in users]
        number = np.repeat(np.arange(len(kept)), [len(found) for found in kept])
        return self.graph_of_pairs(
            users,
            number,
            np.concatenate([np.zeros(0, dtype=np.int64), *kept]),
            items,
            texts,
            np.arange(len(number)),
            len(sequences),
        )

    def graph_of_pairs(
        self,
        users: Sequence[str],
        user: np.ndarray,
        item: np.ndarray,
        items: Sequence[str],
        texts: dict[str, list[str]],
        time: np.ndarray,
        total: int,
    ) -> HeteroData:
        r"""The graph of interactions in the order of users and times.

        Args:
            users: Names of the users that are kept.
            user: User of every interaction ``[P]``.
            item: Its place in ``items`` ``[P]``.
            items: Names of all items.
            texts: Attributes of all items.
            time: Time of every interaction ``[P]``.
            total: Number of users before the others were left out.

        Raises:
            DataError: If there is none, or a feature file has another number of rows.
        """
        if len(users) == 0:
            raise DataError(
                f'{self.folder}: no user has {self.min_items} items, accepted is at least one'
            )
        used = np.arange(len(items)) if self.unused_items else np.unique(item)
        data = HeteroData()
        data[USER].num_nodes, data[ITEM].num_nodes = len(users), len(used)
        data[USER].raw_id = list(users)
        data[ITEM].raw_id = [items[number] for number in used.tolist()]
        for name, values in texts.items():
            data[ITEM][name] = [values[number] for number in used.tolist()]
            empty = sum(not value for value in data[ITEM][name])
            if empty:
                logger.warning('%s: %d of %d items have no %s', self.folder, empty, len(used), name)
        store = data[INTERACTS]
        store.edge_index = torch.from_numpy(np.stack([user, np.searchsorted(used, item)]))
        store.time = torch.from_numpy(np.ascontiguousarray(time))
        for name, x in self.load_features().items():
            if len(x) != len(items):
                raise DataError(
                    f'{self.folder}: the features {name!r} have {len(x)} rows and the file of '
                    f'items {len(items)}, accepted is one row per item'
                )
            data[name].x = torch.from_numpy(np.ascontiguousarray(x[used]))
            data[ITEM, 'has', name].edge_index = torch.arange(len(used)).expand(2, -1).contiguous()
        logger.info(
            '%s: %d of %d users, with %d items or more each, %d items',
            self.folder,
            len(users),
            total,
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
                if name.lower().endswith(IMAGE_ENDINGS)
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
