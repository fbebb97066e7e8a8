r"""Prepared folders: one documented layout, written whole and checked when it is read
(docs/guides/prepared_folder.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch
from pyarrow import parquet
from torch_geometric.data import HeteroData

import genrec_pyg
from genrec_pyg.datasets.builder import as_raw_id
from genrec_pyg.datasets.io.arrays import load_sparse_features
from genrec_pyg.datasets.io.item_features import as_features
from genrec_pyg.datasets.io.regular import file_sha256, open_regular
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, MASKS, SPLITS, USER

FORMAT = 'genrec_pyg prepared interactions'
#: Version of the layout; a reader takes this one.
VERSION = 1
MANIFEST = 'manifest.json'
#: Folder of the training interactions as arrays that are mapped.
TRAINING = 'training'
_TABLES = ('interactions', 'users', 'items')
#: Pairs of a block while arrays of training interactions are written.
_PAIRS = 2**20


class FolderWriter:
    r"""Writes the files of a prepared folder.

    Args:
        folder: Empty folder; it becomes a prepared one by :meth:`finish`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._features: dict[str, dict[str, Any]] = {}

    @contextmanager
    def table(self, name: str, schema: pa.Schema) -> Iterator[parquet.ParquetWriter]:
        r"""Opens a table for writing."""
        with parquet.ParquetWriter(
            self.folder / f'{name}.parquet', schema, compression='zstd'
        ) as writer:
            yield writer

    def features(self, name: str, item: np.ndarray, x: np.ndarray | sp.csr_matrix) -> None:
        r"""Writes features ``[n, d]``, a matrix or a sparse one of SciPy, of the items ``[n]``,
        ascending.
        """
        folder, sparse = self.folder / 'features', sp.issparse(x)
        folder.mkdir(exist_ok=True)
        if sparse:
            sp.save_npz(folder / f'{name}.npz', sp.csr_matrix(x, dtype=np.float32))
        else:
            np.save(folder / f'{name}.npy', np.ascontiguousarray(x, dtype=np.float32))
        np.save(folder / f'{name}.items.npy', item.astype(np.int64))
        self._features[name] = {'items': len(item), 'width': int(x.shape[1]), 'sparse': sparse}

    def training(
        self, pairs: Iterator[pa.RecordBatch], num_users: int, num_items: int, num_pairs: int
    ) -> None:
        r"""Writes the training interactions for mapping: by user, by item, and the normalized
        symmetric graph over both (:mod:`genrec_pyg.datasets.mapped`). Beside blocks of pairs, two
        numbers per node are in memory.

        Args:
            pairs: Columns ``user`` and ``item``, sorted by user, then item.
            num_users: Number of users ``U``.
            num_items: Number of items ``I``.
            num_pairs: Number of pairs ``E``.
        """
        folder, size = self.folder / TRAINING, num_users + num_items
        folder.mkdir(exist_ok=True)

        def array(name: str, dtype: Any, length: int) -> np.ndarray:
            if length == 0:  # nothing can be mapped of no length
                np.save(folder / f'{name}.npy', np.empty(0, dtype))
                return np.empty(0, dtype)
            return np.lib.format.open_memmap(
                folder / f'{name}.npy', mode='w+', dtype=dtype, shape=(length,)
            )

        by_user = array('by_user.col', np.int32, num_pairs)
        degree, begin = np.zeros(size, dtype=np.int64), 0
        for batch in pairs:
            user, item = (batch.column(name).to_numpy() for name in ('user', 'item'))
            by_user[begin : begin + len(item)] = item
            begin += len(item)
            degree[:num_users] += np.bincount(user, minlength=num_users)
            degree[num_users:] += np.bincount(item, minlength=num_items)
        rowptr = np.concatenate([[0], np.cumsum(degree)])
        np.save(folder / 'joint.rowptr.npy', rowptr)
        np.save(folder / 'by_user.rowptr.npy', rowptr[: num_users + 1])
        np.save(folder / 'by_item.rowptr.npy', rowptr[num_users:] - num_pairs)
        by_item = array('by_item.col', np.int32, num_pairs)
        col, value = (
            array('joint.col', np.int32, 2 * num_pairs),
            array('joint.value', np.float32, 2 * num_pairs),
        )
        scale = np.zeros(size, dtype=np.float32)
        np.divide(1, np.sqrt(degree), out=scale, where=degree > 0, casting='same_kind')
        place = rowptr[num_users:-1] - num_pairs  # of the next user of every item
        for begin in range(0, num_pairs, _PAIRS):
            end = min(begin + _PAIRS, num_pairs)
            item = by_user[begin:end].astype(np.int64)
            user = np.searchsorted(rowptr, np.arange(begin, end), side='right') - 1
            col[begin:end], value[begin:end] = (
                item + num_users,
                scale[user] * scale[item + num_users],
            )
            order = item.argsort(kind='stable')
            item, user = item[order], user[order]
            first = np.searchsorted(item, item, side='left')
            to = place[item] + np.arange(len(item)) - first
            by_item[to] = user
            col[num_pairs + to] = user
            value[num_pairs + to] = scale[user] * scale[item + num_users]
            place += np.bincount(item, minlength=num_items)

    def finish(self, facts: Mapping[str, Any]) -> None:
        r"""Writes the manifest, with a digest of every file."""
        files = {
            path.relative_to(self.folder).as_posix(): {
                'bytes': path.stat().st_size,
                'sha256': file_sha256(path),
            }
            for path in sorted(self.folder.rglob('*'))
            if path.is_file()
        }
        document = {
            'format': FORMAT,
            'version': VERSION,
            'genrec_pyg': genrec_pyg.__version__,
            **facts,
            'features': self._features,
            'files': files,
        }
        (self.folder / MANIFEST).write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + '\n', encoding='utf-8'
        )


def is_prepared(folder: Path) -> bool:
    r"""Whether ``folder`` says that it is a prepared one."""
    try:
        with open_regular(folder / MANIFEST) as file:
            return FORMAT.encode() in file.read(4096)
    except (DataError, OSError, ValueError):
        return False


def read_manifest(folder: Path, digests: bool = True) -> dict[str, Any]:
    r"""The manifest of a prepared folder, all of whose files are there and unchanged.

    Args:
        folder: The folder.
        digests: Whether digests are compared, or sizes alone.

    Raises:
        DataError: If the folder is of another version, or a file is missing or changed.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            found = json.loads(file.read().decode('utf-8'))
        version, files, features = found['version'], dict(found['files']), dict(found['features'])
        expected = {
            name: (int(entry['bytes']), str(entry['sha256'])) for name, entry in files.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: is no manifest ({str(error)[:200]}), accepted is one of genrec_pyg.prepare'
        ) from error
    if version != VERSION:
        raise DataError(
            f'{path}: has version {version!r} of the layout, accepted is {VERSION}; prepare '
            f'the log again'
        )
    wanted = [f'{name}.parquet' for name in _TABLES]
    wanted += [
        f'features/{name}{ending}'
        for name in features
        for ending in (_ending(found, name), '.items.npy')
    ]
    wanted += [name for name in expected if name.startswith(f'{TRAINING}/')]
    for name in wanted:
        if name not in expected or '..' in Path(name).parts:
            raise DataError(
                f'{path}: names no file {name}, accepted is a manifest that '
                f'genrec_pyg.prepare wrote'
            )
        size = (folder / name).stat().st_size if (folder / name).is_file() else -1
        if size != expected[name][0] or (
            digests and file_sha256(folder / name) != expected[name][1]
        ):
            found_is = 'missing' if size < 0 else 'not the file of the manifest'
            raise DataError(f'{folder / name}: is {found_is}; prepare the log again')
    return found


def _ending(manifest: Mapping[str, Any], name: str) -> str:
    entry = manifest['features'][name]
    return '.npz' if isinstance(entry, dict) and entry.get('sparse') is True else '.npy'


def read_prepared(
    folder: Path,
    choice: Mapping[str, str | None] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> HeteroData:
    r"""The canonical graph of a prepared folder. Features stay in their files, which are mapped.

    Args:
        folder: Folder that ``python -m genrec_pyg.prepare`` wrote.
        choice: Modalities; :obj:`None` takes all.
        manifest: What :func:`read_manifest` returned; :obj:`None` reads and checks it.

    Raises:
        ConfigError: If a modality is not there.
        DataError: If the folder is damaged or of another version.
    """
    manifest = read_manifest(folder) if manifest is None else manifest
    names = list(manifest['features'])
    for name, file in (choice or {}).items():
        if name not in names or file is not None:
            raise ConfigError(
                f'modalities: got {name if file is None else f"{name}={file}"!r}, accepted are '
                f'those that {folder} was prepared with: {", ".join(names) or "none"}'
            )
    data = HeteroData()
    try:
        table = parquet.read_table(folder / 'interactions.parquet')
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        del table
        for node_type in (USER, ITEM):
            ids = parquet.read_table(folder / f'{node_type}s.parquet')
            raw = ids.column('id')
            data[node_type].num_nodes = len(raw)
            data[node_type].raw_id = as_raw_id(
                raw.to_numpy().copy() if pa.types.is_integer(raw.type) else raw.to_pylist()
            )
            if 'title' in ids.column_names:
                data[node_type].title = ids.column('title').to_pylist()
        store = data[INTERACTS]
        store.edge_index = torch.from_numpy(
            np.stack([columns['user'], columns['item']]).astype(np.int64)
        )
        for code, name in enumerate(MASKS):
            mask = torch.from_numpy(columns['split'] == code)
            if name in SPLITS or bool(mask.any()):
                store[f'{name}_mask'] = mask
        for name in ('time', 'rating'):
            if name in columns:
                store[name] = torch.from_numpy(columns[name].copy())
        for name in names if choice is None else choice:
            file = folder / 'features' / f'{name}{_ending(manifest, name)}'
            x = (
                load_sparse_features(file)
                if file.suffix == '.npz'
                else np.load(file, mmap_mode='c', allow_pickle=False)
            )
            item = np.load(folder / 'features' / f'{name}.items.npy', allow_pickle=False)
            data[name].x = torch.from_numpy(x) if isinstance(x, np.ndarray) else as_features(x)
            data[ITEM, HAS, name].edge_index = torch.from_numpy(
                np.stack([item, np.arange(len(item))])
            )
    except DataError:
        raise
    except Exception as error:
        # of the right digest, made by hand: readers of damaged files fail in any way
        raise DataError(
            f'{folder}: cannot be read ({str(error)[:200]}); prepare the log again'
        ) from error
    return data
