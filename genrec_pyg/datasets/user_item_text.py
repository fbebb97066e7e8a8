r"""Text files of users and items in the order of time, without times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.builder import as_raw_id, build_graph
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.tables import read_lines
from genrec_pyg.datasets.io.values import read_ids
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import ITEM, USER


class UserItemTextDataset(LayoutDataset):
    r"""A folder with one ``.txt`` file in one of two layouts of sequential recommendation:

    * ``user item`` per line (as SASRec and BaM have it), or ``user item label``, whose label is not
      read; the order of the lines of a user is the order in which they happened;
    * ``user item item ...`` per line, a user on one line only, oldest first (as S3-Rec has it).

    Fields are separated by blanks or tabs. Lines of one length in which users come again are the
    first layout, everything else is the second. The ``time`` of an interaction is its place in the
    file. Users and items are those that occur; ``raw_id`` keeps what is written. The file has no
    split: the graph has no masks. A pair that occurs several times is one interaction, at its first
    place.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Modalities to read from feature files, see
            :class:`~genrec_pyg.datasets.base.LayoutDataset`; row = item by its number.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If the file is missing or damaged; the message names the line.
    """

    pattern = '*.txt'

    def __init__(self, root: str, name: str, modalities: Modalities = None, **kwargs: Any):
        super().__init__(root, name, modalities, **kwargs)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return any(len(_text_files(place)) == 1 for place in (folder, folder / 'raw'))

    @property
    def raw_file_names(self) -> list[str]:
        found = _text_files(Path(self.raw_dir))
        return found if len(found) == 1 else [f'{self.name}.txt']

    def download(self) -> None:
        r"""There is no public location: says where to put the file."""
        raise DataError(
            f'dataset {self.name!r}: {self.name}.txt missing in {self.raw_dir}; put the file there'
        )

    def read(self) -> HeteroData:
        path = Path(self.raw_dir) / self.raw_file_names[0]
        user, item = _read_pairs(path)
        (user_id, user), (item_id, item) = (
            read_ids(pa.chunked_array([pa.array(ids)]), role, str(path))
            for role, ids in (('user', user), ('item', item))
        )
        data = build_graph(
            user,
            item,
            None,
            len(user_id),
            len(item_id),
            self.load_features(),
            str(path),
            {'time': np.arange(len(user))},
        )
        data[USER].raw_id, data[ITEM].raw_id = as_raw_id(user_id), as_raw_id(item_id)
        return data


def _text_files(folder: Path) -> list[str]:
    return [
        name
        for name in list_folder(folder, '*.txt')
        if not name.lower().startswith(('readme', 'license', 'license'))
    ]


def _read_pairs(path: Path) -> tuple[list[str], list[str]]:
    rows, numbers = [], []
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) < 2 or '\0' in line:
            raise DataError(
                f"{path}: line {number} is {line[:100]!r}, accepted are 'user item' and "
                f"'user item item ...'"
            )
        rows.append(fields)
        numbers.append(number)
    if not rows:
        raise DataError(f'{path}: has no interaction')
    users = {fields[0] for fields in rows}
    widths = {len(fields) for fields in rows}
    if len(users) < len(rows):
        if widths not in ({2}, {3}):
            _refuse_repeated(path, rows, numbers)
        return [fields[0] for fields in rows], [fields[1] for fields in rows]
    return (
        [fields[0] for fields in rows for _ in fields[1:]],
        [item for fields in rows for item in fields[1:]],
    )


def _refuse_repeated(path: Path, rows: list[list[str]], numbers: list[int]) -> None:
    first: dict[str, int] = {}
    for fields, number in zip(rows, numbers):
        if fields[0] in first:
            raise DataError(
                f'{path}: line {number} has the user {fields[0][:100]!r} of line '
                f'{first[fields[0]]} again and lines differ in length, accepted is one line per '
                f'user, or one interaction per line'
            )
        first[fields[0]] = number
