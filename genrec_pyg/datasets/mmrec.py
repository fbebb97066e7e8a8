r"""The file layout of the MMRec toolbox."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.exceptions import DataError

#: Further columns of the interaction file and their names in the graph.
ATTRIBUTES = {'rating': 'rating', 'timestamp': 'time'}
REQUIRED = ('userID', 'itemID', 'x_label')


class MMRecDataset(LayoutDataset):
    r"""Data set in MMRec's layout: any folder with ``NAME.inter`` (or one other ``.inter``) and feature files.

    ``NAME.inter`` is tab separated with the header ``userID itemID ... x_label``, label 0 train, 1 validation, 2 test; columns
    ``rating`` and ``timestamp`` become ``rating`` and ``time`` of the interactions. Features are ``MODALITY_feat.npy`` or any
    other ``.npy`` (row = itemID), which a mapping gives a modality: ``{'text': 'all-MiniLM-L6-v2'}``. A pair that occurs
    several times is one interaction of its earliest split.

    Args:
        root: Folder of the data sets.
        name: Name of the folder under it.
        modalities: Names (``image`` stands for ``image_feat.npy`` or ``image.npy``) or a mapping from modality to file;
            :obj:`None` reads every ``*_feat.npy``, or every ``.npy`` where there is none of these.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If files are missing, damaged, or do not fit together; the message names the line.
        ConfigError: If a modality is not there.
    """

    pattern = '*.inter'

    def __init__(self, root: str, name: str, modalities: Modalities = None, **kwargs: Any):
        super().__init__(root, name, modalities, **kwargs)

    @property
    def raw_file_names(self) -> list[str]:
        found = [path.name for path in Path(self.raw_dir).glob(self.pattern)]
        return found if len(found) == 1 else [f'{self.name}.inter']  # a renamed folder keeps its only file

    def download(self) -> None:
        r"""There is no public location: says where to put the file."""
        raise DataError(f'data set {self.name!r}: {self.name}.inter missing in {self.raw_dir}; put the file there')

    def feature_files(self) -> dict[str, Path]:
        files = sorted(Path(self.raw_dir).glob('*.npy'))
        named = [path for path in files if path.stem.endswith('_feat')]
        if self.choice is None and named:
            files = named
        return self.choose({path.stem.removesuffix('_feat'): path for path in files})

    def read(self) -> HeteroData:
        path = Path(self.raw_dir) / self.raw_file_names[0]
        columns = read_interactions(path)
        features = {name: load_features(file) for name, file in self.feature_files().items()}
        num_items = int(columns['itemID'].max()) + 1
        if features:  # items that nobody touched have features still
            num_items = max(num_items, next(iter(features.values())).shape[0])
        attributes = {ATTRIBUTES[name]: column for name, column in columns.items() if name in ATTRIBUTES}
        num_users = int(columns['userID'].max()) + 1
        return build_graph(columns['userID'], columns['itemID'], columns['x_label'], num_users, num_items, features, str(path),
                           attributes)


def read_interactions(path: Path) -> dict[str, np.ndarray]:
    r"""Reads ``NAME.inter``; ids and labels as int64, ``rating`` as float32, ``timestamp`` as int64 if whole, else float64.

    Raises:
        DataError: On a missing column, a value of the wrong type, a negative id or an unknown label, naming the line.
    """
    try:
        with path.open(encoding='utf-8-sig') as file:
            lines = [line.rstrip('\n') for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read ({error})') from error
    header = lines[0].split('\t') if lines else []
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise DataError(f"{path}: the header is {header}, accepted is tab separated with {', '.join(REQUIRED)}")
    if len(lines) == 1:
        raise DataError(f'{path}: has no interaction')
    wanted = [name for name in header if name in REQUIRED or name in ATTRIBUTES]
    position = [header.index(name) for name in wanted]
    values: list[list[float]] = [[] for _ in wanted]
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split('\t')
        if len(fields) != len(header):
            raise DataError(f'{path}: line {number} has {len(fields)} fields, accepted are {len(header)}')
        for name, place, column in zip(wanted, position, values):
            column.append(_number(fields[place], name, path, number))
    found = {name: np.asarray(column) for name, column in zip(wanted, values)}
    for name, column in found.items():
        if name == 'rating':
            found[name] = column.astype(np.float32)
        elif name in REQUIRED or (column == column.round()).all():
            found[name] = column.astype(np.int64)
    return found


def _number(text: str, name: str, path: Path, line: int) -> float:
    try:
        value = float(text) if name in ATTRIBUTES else int(text) if '_' not in text else None
    except ValueError:
        value = None
    valid = value is not None and (abs(value) < 2 ** 53 if name in ATTRIBUTES else 0 <= value < 2 ** 31)
    if name == 'x_label':
        valid = value in (0, 1, 2)
    if not valid:
        accepted = {'x_label': '0, 1 and 2', 'rating': 'numbers', 'timestamp': 'numbers'}.get(name, 'integers from 0')
        raise DataError(f'{path}: line {line} has {name} {text!r}, accepted are {accepted}')
    return value
