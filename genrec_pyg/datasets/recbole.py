r"""The atomic files of RecBole."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.builder import build_graph, number_tokens
from genrec_pyg.datasets.io.regular import list_folder, open_regular
from genrec_pyg.datasets.io.tables import read_lines
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import ITEM, USER

#: Types of fields (https://recbole.io/atomic_files.html).
TYPES = ('token', 'token_seq', 'float', 'float_seq')
#: Fields that are read, their type, and their names in the graph.
FIELDS = {'user_id': 'token', 'item_id': 'token', 'rating': 'float', 'timestamp': 'float'}
ATTRIBUTES = {'rating': 'rating', 'timestamp': 'time'}
_LONGEST_HEADER = 1 << 16


class RecBoleDataset(LayoutDataset):
    r"""Dataset in RecBole's layout: a folder with one ``.inter`` file whose header types its fields
    (``user_id:token`` TAB ``item_id:token`` TAB ``rating:float`` TAB ``timestamp:float``, in any order; rating and timestamp
    may be missing, other fields are not read).

    Users and items are those that occur, numbered by their tokens; ``raw_id`` keeps these. Every interaction counts, whatever
    its rating. The file has no split: the graph has no masks. A pair that occurs several times is one interaction, at its
    earliest time.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Modalities to read from feature files, see :class:`~genrec_pyg.datasets.base.LayoutDataset`; row = item by
            its number.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If the file is missing or damaged; the message names the line.
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
                return all(field.rpartition(':')[2] in TYPES for field in fields)
        return False

    @property
    def raw_file_names(self) -> list[str]:
        found = list_folder(Path(self.raw_dir), self.pattern)
        return found if len(found) == 1 else [f'{self.name}.inter']

    def download(self) -> None:
        r"""There is no public location: says where to put the file."""
        raise DataError(f'dataset {self.name!r}: {self.name}.inter missing in {self.raw_dir}; put the file there')

    def read(self) -> HeteroData:
        path = Path(self.raw_dir) / self.raw_file_names[0]
        columns = _read_columns(path)
        user_id, user = number_tokens(columns['user_id'])
        item_id, item = number_tokens(columns['item_id'])
        attributes = {name: np.asarray(columns[field], dtype=np.float32 if name == 'rating' else None)
                      for field, name in ATTRIBUTES.items() if field in columns}
        if 'time' in attributes and attributes['time'].dtype.kind == 'f':
            whole = attributes['time'].round()
            if (whole == attributes['time']).all() and (np.abs(whole) < 2 ** 53).all():
                attributes['time'] = whole.astype(np.int64)
        data = build_graph(user, item, None, len(user_id), len(item_id), self.load_features(), str(path), attributes)
        data[USER].raw_id, data[ITEM].raw_id = user_id, item_id
        return data


def _read_columns(path: Path) -> dict[str, list]:
    lines = read_lines(path)
    header = next(lines, (1, ''))[1].split('\t')
    position = {}
    for place, field in enumerate(header):
        name, _, kind = field.rpartition(':')
        if name not in FIELDS:
            continue
        if name in position or kind != FIELDS[name]:
            raise DataError(f'{path}: the header has {field!r}, accepted is {name}:{FIELDS[name]}, once')
        position[name] = place
    missing = [name for name in ('user_id', 'item_id') if name not in position]
    if missing:
        raise DataError(f'{path}: the header is {str(header)[:200]}, accepted is tab separated with user_id:token and '
                        'item_id:token')
    columns: dict[str, list] = {name: [] for name in position}
    for number, line in lines:
        fields = line.split('\t')
        if len(fields) != len(header):
            raise DataError(f'{path}: line {number} has {len(fields)} fields, accepted are {len(header)}')
        for name, place in position.items():
            columns[name].append(_value(fields[place], name, path, number))
    if not columns['user_id']:
        raise DataError(f'{path}: has no interaction')
    return columns


def _value(text: str, name: str, path: Path, line: int) -> Any:
    if FIELDS[name] == 'token':
        if not text or '\0' in text:
            raise DataError(f'{path}: line {line} has {name} {text[:100]!r}, accepted is a text')
        return text
    try:
        value = float(text) if text.isascii() and '_' not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f'{path}: line {line} has {name} {text[:100]!r}, accepted are numbers')
    return value


