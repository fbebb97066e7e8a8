r"""The file layout of the MMRec toolbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.tables import read_interactions
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import ITEM, USER

#: Further columns of the interaction file and their names in the graph.
ATTRIBUTES = {'rating': 'rating', 'timestamp': 'time'}


class MMRecDataset(LayoutDataset):
    r"""Dataset in MMRec's layout: any folder with ``NAME.inter`` (or one other ``.inter``) and
    feature files.

    ``NAME.inter`` is tab separated with the header ``userID itemID ... x_label``, label 0 train, 1
    validation, 2 test; columns ``rating`` and ``timestamp`` become ``rating`` and ``time`` of the
    interactions, which keep the order of the lines. Features are ``MODALITY_feat.npy`` or any other
    ``.npy`` (row = itemID), which a mapping gives a modality: ``{'text': 'all-MiniLM-L6-v2'}``;
    either may be zipped, and an unpacked file goes before its archive. Ids may have gaps: users are
    those that occur, items those that have a row of features, without features those that occur;
    ``raw_id`` keeps the ids of the file. A pair that occurs several times is one interaction of its
    earliest split, there of its earliest time.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Names (``image`` stands for ``image_feat.npy`` or ``image.npy``; where both are
            there it is refused) or a mapping from modality to the name of a file; :obj:`None` reads
            every ``*_feat.npy``, or every ``.npy`` where there is none of these.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If files are missing, damaged, or do not fit together; the message names the
            line.
        ConfigError: If a modality is not there.
    """

    pattern = '*.inter'

    def __init__(self, root: str, name: str, modalities: Modalities = None, **kwargs: Any):
        super().__init__(root, name, modalities, **kwargs)

    @property
    def raw_file_names(self) -> list[str]:
        found = list_folder(Path(self.raw_dir), self.pattern)
        # a renamed folder keeps its only file
        return found if len(found) == 1 else [f'{self.name}.inter']

    def download(self) -> None:
        r"""There is no public location: says where to put the file."""
        raise DataError(
            f'dataset {self.name!r}: {self.name}.inter missing in {self.raw_dir}; put the '
            f'file there'
        )

    def default_features(self, files: Sequence[str]) -> list[str]:
        return super().default_features(files) or list(files)

    def read(self) -> HeteroData:
        path = Path(self.raw_dir) / self.raw_file_names[0]
        columns = read_interactions(path)
        features = self.load_features()
        user_id, user = np.unique(columns['userID'], return_inverse=True)
        item_id, item = np.unique(columns['itemID'], return_inverse=True)
        num_items = len(item_id)
        if features:  # a row is an item, whether somebody touched it or not
            item = columns['itemID']
            num_items = max(int(item_id[-1]) + 1, next(iter(features.values())).shape[0])
        attributes = {
            ATTRIBUTES[name]: column for name, column in columns.items() if name in ATTRIBUTES
        }
        data = build_graph(
            user, item, columns['x_label'], len(user_id), num_items, features, str(path), attributes
        )
        data[USER].raw_id = torch.from_numpy(user_id)
        data[ITEM].raw_id = torch.arange(num_items) if features else torch.from_numpy(item_id)
        return data
