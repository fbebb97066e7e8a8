r"""Prepared folders as stores of PyG whose tensors stay in their files: a process reads the pages
that it touches, and the processes of a machine share them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import EdgeAttr, FeatureStore, GraphStore, TensorAttr
from torch_geometric.data.graph_store import EdgeLayout

from genrec_pyg.datasets.prepared import TRAINING, read_manifest
from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import INTERACTS
from genrec_pyg.ops import Adjacency


class MappedGraph(GraphStore):
    r"""Training interactions of a prepared folder, by user (CSR) and by item (CSC), mapped.

    Args:
        folder: Folder that ``python -m genrec_pyg.prepare`` wrote.
        check: Whether the digests of all files are compared, which reads them once.

    Attributes:
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.

    Raises:
        DataError: If the folder is damaged, of another version, or was prepared before training
            interactions were written for mapping.
    """

    def __init__(self, folder: str | Path, check: bool = True):
        super().__init__()
        self.folder = Path(folder)
        manifest = read_manifest(self.folder, digests=check)
        counts = manifest['counts']
        self.num_users, self.num_items = int(counts['users']), int(counts['items'])
        maps = {name: _mapped(self.folder, f'{TRAINING}/{name}.npy') for name in _FILES}
        self._maps = {name: torch.from_numpy(array) for name, array in maps.items()}
        num_edges = self._maps['by_user.col'].numel()
        size = self.num_users + self.num_items
        if (
            self._maps['joint.rowptr'].numel() != size + 1
            or self._maps['joint.col'].numel() != 2 * num_edges
            or self._maps['joint.value'].numel() != 2 * num_edges
        ):
            raise DataError(f'{self.folder / TRAINING}: files do not fit; prepare the log again')

    def adjacency(self) -> Adjacency:
        r"""The normalized graph over users and items without self loops, as
        :func:`~genrec_pyg.ops.bipartite_adjacency` makes it, mapped.
        """
        size = self.num_users + self.num_items
        rowptr, col, value = (self._maps[f'joint.{part}'] for part in ('rowptr', 'col', 'value'))
        return Adjacency(rowptr, col, value, (size, size), symmetric=True)

    def _get_edge_index(self, edge_attr: EdgeAttr) -> tuple[Tensor, Tensor] | None:
        if tuple(edge_attr.edge_type) != INTERACTS:
            return None
        if edge_attr.layout == EdgeLayout.CSR:
            return self._maps['by_user.rowptr'], self._maps['by_user.col']
        if edge_attr.layout == EdgeLayout.CSC:
            return self._maps['by_item.col'], self._maps['by_item.rowptr']
        return None

    def get_all_edge_attrs(self) -> list[EdgeAttr]:
        r"""The interactions, in both layouts."""
        size = (self.num_users, self.num_items)
        return [
            EdgeAttr(INTERACTS, layout, is_sorted=layout == EdgeLayout.CSC, size=size)
            for layout in (EdgeLayout.CSR, EdgeLayout.CSC)
        ]

    def _put_edge_index(self, edge_index: Any, edge_attr: EdgeAttr) -> bool:
        return False  # files are read

    def _remove_edge_index(self, edge_attr: EdgeAttr) -> bool:
        return False

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(users={self.num_users}, items={self.num_items}, '
            f'edges={self._maps["by_user.col"].numel()})'
        )


class MappedFeatures(FeatureStore):
    r"""Dense features of a prepared folder: ``store[NAME, 'x', index]`` reads the rows ``index``
    alone, ``store[NAME, 'item', None]`` the items of all rows.

    Args:
        folder: Folder that ``python -m genrec_pyg.prepare`` wrote.
        check: Whether the digests of all files are compared, which reads them once.

    Raises:
        DataError: If the folder is damaged or of another version.
    """

    def __init__(self, folder: str | Path, check: bool = True):
        super().__init__()
        folder = Path(folder)
        manifest = read_manifest(folder, digests=check)
        vars(self)['_maps'] = {}
        for name, entry in manifest['features'].items():
            if entry.get('sparse') is not True:
                self._maps[name, 'x'] = _mapped(folder, f'features/{name}.npy')
                self._maps[name, 'item'] = _mapped(folder, f'features/{name}.items.npy')

    def _get_tensor(self, attr: TensorAttr) -> Tensor | None:
        found = self._maps.get((attr.group_name, attr.attr_name))
        if found is None:
            return None
        if attr.is_set('index') and attr.index is not None:
            index = attr.index
            found = found[index.cpu().numpy() if isinstance(index, Tensor) else index]
        return torch.from_numpy(found)

    def _get_tensor_size(self, attr: TensorAttr) -> tuple[int, ...] | None:
        found = self._maps.get((attr.group_name, attr.attr_name))
        return None if found is None else tuple(found.shape)

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        r"""Features and their items, by modality."""
        return [TensorAttr(name, kind) for name, kind in self._maps]

    def _put_tensor(self, tensor: Any, attr: TensorAttr) -> bool:
        return False  # files are read

    def _remove_tensor(self, attr: TensorAttr) -> bool:
        return False


#: Arrays of the training interactions.
_FILES = (
    'by_user.rowptr',
    'by_user.col',
    'by_item.rowptr',
    'by_item.col',
    'joint.rowptr',
    'joint.col',
    'joint.value',
)


def _mapped(folder: Path, name: str) -> np.ndarray:
    try:
        # copied on write, never written: torch has no tensors that cannot be
        return np.load(folder / name, mmap_mode='c', allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f'{folder / name}: cannot be mapped ({str(error)[:200]}); prepare the log again'
        ) from error
