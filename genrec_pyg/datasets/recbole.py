r"""The atomic files of RecBole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.builder import as_raw_id, build_graph
from genrec_pyg.datasets.io.logs import read_columns
from genrec_pyg.datasets.io.regular import list_folder, open_regular
from genrec_pyg.datasets.io.roles import TYPED
from genrec_pyg.datasets.io.values import read_ids, read_numbers
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import ITEM, USER

_LONGEST_HEADER = 1 << 16


class RecBoleDataset(LayoutDataset):
    r"""Dataset in RecBole's layout: a folder with one ``.inter`` file whose header types its fields
    (``user_id:token`` TAB ``item_id:token`` TAB ``rating:float`` TAB ``timestamp:float``, in any
    order; rating and timestamp may be missing, other fields are not read).

    Users and items are those that occur, numbered by their tokens; ``raw_id`` keeps these. Every
    interaction counts, whatever its rating. The file has no split: the graph has no masks. A pair
    that occurs several times is one interaction, at its earliest time.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Modalities to read from feature files, see
            :class:`~genrec_pyg.datasets.base.LayoutDataset`; row = item by its number.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If the file is missing or damaged; the message names the row.
    """

    pattern = '*.inter'

    def __init__(self, root: str, name: str, modalities: Modalities = None, **kwargs: Any):
        super().__init__(root, name, modalities, **kwargs)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        for place in (folder, folder / 'raw'):
            for file in list_folder(place, cls.pattern):
                try:
                    with open_regular(place / file) as content:
                        header = content.readline(_LONGEST_HEADER)
                except (OSError, DataError):  # the reader that takes the folder says why
                    continue
                fields = header.decode('utf-8-sig', errors='replace').rstrip('\r\n').split('\t')
                return all(map(TYPED.fullmatch, fields))
        return False

    @property
    def raw_file_names(self) -> list[str]:
        found = list_folder(Path(self.raw_dir), self.pattern)
        return found if len(found) == 1 else [f'{self.name}.inter']

    def download(self) -> None:
        r"""There is no public location: says where to put the file."""
        raise DataError(
            f'dataset {self.name!r}: {self.name}.inter missing in {self.raw_dir}; put the '
            f'file there'
        )

    def read(self) -> HeteroData:
        path = Path(self.raw_dir) / self.raw_file_names[0]
        table, name = read_columns(path, {}, ('user', 'item'))
        ids = {role: read_ids(table[role], role, name) for role in (USER, ITEM)}
        attributes = {
            role: read_numbers(table[role], role, name)
            for role in ('rating', 'time')
            if role in table
        }
        if 'rating' in attributes:
            attributes['rating'] = attributes['rating'].astype(np.float32)
        data = build_graph(
            ids[USER][1],
            ids[ITEM][1],
            None,
            len(ids[USER][0]),
            len(ids[ITEM][0]),
            self.load_features(),
            name,
            attributes,
        )
        data[USER].raw_id, data[ITEM].raw_id = as_raw_id(ids[USER][0]), as_raw_id(ids[ITEM][0])
        return data
