r"""Features of items that say whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
import torch
from pyarrow import parquet

from genrec_pyg.datasets.io.arrays import load_features, load_sparse_features
from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.datasets.io.roles import find_columns
from genrec_pyg.datasets.io.values import read_ids
from genrec_pyg.exceptions import ConfigError, DataError

#: Ending of the list of ids beside ``NAME.npy``: UTF-8, one id per line, in the order of the rows.
ID_SUFFIX = '.ids.txt'


class ItemFeatures(NamedTuple):
    r"""Rows of features and the items that they belong to.

    Args:
        ids: Item ids, int64 ``[n]`` or a list of texts, each once.
        x: Features float32 ``[n, d]``, a matrix or a sparse one of SciPy.
    """

    ids: np.ndarray | list[str]
    x: np.ndarray | sp.csr_matrix


def read_features(source: Any, modality: str) -> ItemFeatures:
    r"""Reads features with their item ids.

    Args:
        source: ``NAME.npy`` or ``NAME.npz`` (a sparse matrix of SciPy) with ``NAME.ids.txt`` beside
            it (one id per line), or ``FILE.parquet`` with a column of ids and a column called
            ``modality`` of lists of numbers (``FILE.parquet:COLUMN`` names another one; an item
            without a list has no features), or a pair of ids and a matrix ``[n, d]``.
        modality: Name of the modality.

    Raises:
        ConfigError: If a column is not there.
        DataError: If a file cannot be read, an id is there twice, or rows do not fit.
    """
    if isinstance(source, (str, Path)):
        name = str(source)
        file, colon, column = name.rpartition(':')
        if colon and Path(file).suffix == '.parquet':
            return _from_parquet(Path(file), column)
        return (
            _from_parquet(Path(name), modality)
            if name.endswith('.parquet')
            else _from_rows(Path(name))
        )
    try:
        ids, x = source
        column = pa.chunked_array([pa.array(ids.tolist() if hasattr(ids, 'tolist') else list(ids))])
        x = np.asarray(x, dtype=np.float32)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f'features: {modality!r} is {type(source).__name__}, accepted are a file and a pair '
            f'of item ids and a matrix ({str(error)[:200]})'
        ) from error
    return _checked(column, x, f'features of {modality!r}')


def as_features(x: np.ndarray | sp.csr_matrix) -> torch.Tensor:
    r"""Rows as a float32 tensor, sparse (CSR) where they are a sparse matrix of SciPy."""
    if not sp.issparse(x):
        return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    x = sp.csr_matrix(x, dtype=np.float32)
    pointer, column = (torch.from_numpy(part.astype(np.int64)) for part in (x.indptr, x.indices))
    return torch.sparse_csr_tensor(
        pointer, column, torch.from_numpy(x.data), x.shape, check_invariants=False
    )  # SciPy has checked them


def ids_path(path: Path) -> Path:
    r"""``NAME.ids.txt`` of ``NAME.npy`` or ``NAME.npz``."""
    return path.with_name(path.name.removesuffix(path.suffix) + ID_SUFFIX)


def read_id_list(ids: Path) -> list[str]:
    r"""The lines of a list of ids, in order.

    Raises:
        DataError: If it is no UTF-8 text.
    """
    try:
        with open_regular(ids) as file:
            names = file.read().decode('utf-8-sig').split('\n')
    except UnicodeDecodeError as error:
        raise DataError(
            f'{ids}: is not UTF-8 text ({error}); accepted is one item id per line'
        ) from error
    return [name.rstrip('\r') for name in (names[:-1] if names[-1] == '' else names)]


def _from_rows(path: Path) -> ItemFeatures:
    x = load_sparse_features(path) if path.suffix == '.npz' else load_features(path)
    return _checked(
        pa.chunked_array([pa.array(read_id_list(ids_path(path)), pa.string())]), x, str(path)
    )


def _from_parquet(path: Path, column: str) -> ItemFeatures:
    with open_regular(path):
        pass
    try:
        with parquet.ParquetFile(str(path)) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise ConfigError(
                    f'{path}: has no column {column!r}, accepted are {", ".join(names)}; say '
                    f'which with {column}={path.name}:COLUMN'
                )
            item = find_columns(names, None, str(path), ('item',), ('item',))['item']
            table = file.read([item, column])
        table.validate(full=True)  # Parquet's own reader takes text that is no UTF-8
        table = table.filter(table.column(column).is_valid())
        ids, rows = table.column(item), table.column(column)
        flat = rows.combine_chunks()
        flat = flat.flatten() if isinstance(flat, pa.Array) else pa.array([], pa.float32())
        values = flat.cast(pa.float32()).to_numpy(zero_copy_only=False)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # damage can lead the reader anywhere
        raise DataError(
            f'{path}: column {column!r} cannot be read as lists of numbers ({str(error)[:200]})'
        ) from error
    if len(rows) == 0 or len(values) % len(rows):
        raise DataError(
            f'{path}: column {column!r} has {len(values)} numbers in {len(rows)} lists, accepted '
            f'are lists of one length'
        )
    if not pa.types.is_fixed_size_list(rows.type):
        lengths = pc.list_value_length(rows).to_numpy()
        if (lengths != lengths[0]).any():
            row = int((lengths != lengths[0]).argmax())
            raise DataError(
                f'{path}: list {row + 1} of column {column!r} has {lengths[row]} numbers, the '
                f'first has {lengths[0]}; accepted are lists of one length'
            )
    return _checked(ids, values.reshape(len(rows), -1), str(path))


def _checked(column: pa.ChunkedArray, x: np.ndarray | sp.csr_matrix, source: str) -> ItemFeatures:
    if x.ndim != 2 or x.shape[0] != len(column) or x.shape[1] == 0:
        raise DataError(
            f'{source}: has features of shape {x.shape} and {len(column)} item ids, accepted '
            f'is one row per id'
        )
    finite = np.isfinite(x.data) if sp.issparse(x) else np.isfinite(x).all(axis=1)
    if not finite.all():
        first = int(finite.argmin())
        first = int(np.searchsorted(x.indptr, first, side='right')) - 1 if sp.issparse(x) else first
        raise DataError(
            f'{source}: row {first + 1} has NaN or infinity, accepted are finite numbers'
        )
    ids, number = read_ids(column, 'item', source)
    if len(ids) != len(number):
        twice = int(np.flatnonzero(np.bincount(number) > 1)[0])
        raise DataError(f'{source}: item {ids[twice]!r} has several rows, accepted is one')
    x = x[np.argsort(number)]
    return ItemFeatures(ids, x if sp.issparse(x) else np.ascontiguousarray(x, dtype=np.float32))
