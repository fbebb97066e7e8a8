r"""Readers of untrusted files: nothing that they hold is executed, everything is checked."""
from __future__ import annotations

import hashlib
import math
import pickle
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse as sp

from genrec_pyg.exceptions import DataError

#: Largest unpacked size of a zipped feature file.
MAX_UNZIPPED = 4 * 2 ** 30
_ZIP_MAGIC = b'PK\x03\x04'

_SPARSE_CLASSES = ('coo_matrix', 'csr_matrix', 'csc_matrix', 'coo_array', 'csr_array', 'csc_array')
_SPARSE_MODULES = ('scipy.sparse', *(f'scipy.sparse.{prefix}{kind}' for prefix in ('', '_') for kind in ('coo', 'csr', 'csc')))
_NUMPY = {('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _NUMPY[_module, '_reconstruct'] = np.ndarray((0,)).__reduce__()[0]
    _NUMPY[_module, 'scalar'] = np.float64(0).__reduce__()[0]
for _module in ('numpy.core.numeric', 'numpy._core.numeric'):
    _NUMPY[_module, '_frombuffer'] = np.zeros(1).__reduce_ex__(5)[0]


def _encode_latin1(text: str, encoding: str = 'latin1') -> bytes:
    r"""The one use that old protocols make of ``codecs.encode``: bytes written as text."""
    if encoding != 'latin1':
        raise ValueError(f'encoding {encoding!r}')
    return text.encode('latin1')


class _SparseUnpickler(pickle.Unpickler):
    r"""Admits exactly the names that a pickled SciPy matrix needs, under their old and new module paths."""

    def __init__(self, file: BinaryIO, path: Path):
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            return _NUMPY[module, name]
        if (module, name) == ('_codecs', 'encode'):
            return _encode_latin1
        if module in _SPARSE_MODULES and name in _SPARSE_CLASSES:
            return getattr(sp, name)
        raise DataError(f'{self._path}: the pickle asks for {module}.{name}, accepted are SciPy sparse matrices only')

    def persistent_load(self, pid: Any) -> Any:
        raise DataError(f'{self._path}: the pickle refers to an outside object, accepted are SciPy sparse matrices only')


def load_scipy_pickle(path: Path) -> sp.coo_matrix:
    r"""Reads a pickled SciPy sparse matrix without executing anything.

    Stored zeros are dropped; all other entries count as ones for the callers.

    Raises:
        DataError: If the file is missing or damaged, holds anything but a sparse matrix of finite numbers, or has indices
            outside its shape.
    """
    try:
        with path.open('rb') as file:
            matrix = _SparseUnpickler(file, path).load()
    except DataError:
        raise
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f'{path}: not a readable pickle ({type(error).__name__}: {error})') from error
    if not sp.issparse(matrix) or len(getattr(matrix, 'shape', ())) != 2:
        raise DataError(f'{path}: holds {type(matrix).__name__}, accepted is a SciPy sparse matrix')
    try:
        _check_indices(matrix, path)
        matrix = sp.coo_matrix(matrix)
        data = np.asarray(matrix.data)
    except DataError:
        raise
    except Exception as error:  # attributes come from the file: any of them may be missing or of a strange type
        raise DataError(f'{path}: damaged sparse matrix ({type(error).__name__}: {error})') from error
    if data.dtype.kind not in 'biuf' or not np.isfinite(data.astype(np.float64)).all():
        raise DataError(f'{path}: entries of type {data.dtype} or not finite, accepted are finite numbers')
    keep = data != 0
    return sp.coo_matrix((data[keep], (matrix.row[keep], matrix.col[keep])), shape=matrix.shape)


def _check_indices(matrix: Any, path: Path) -> None:
    r"""Checks raw arrays before SciPy's compiled code touches them."""
    rows, cols = (int(n) for n in matrix.shape)
    if matrix.format == 'coo':
        columns = [(matrix.row, rows), (matrix.col, cols)]
        consistent = len(matrix.row) == len(matrix.col) == len(matrix.data)
    else:
        major, minor = (rows, cols) if matrix.format == 'csr' else (cols, rows)
        pointer = np.asarray(matrix.indptr)
        columns = [(matrix.indices, minor)]
        consistent = (pointer.ndim == 1 and len(pointer) == major + 1 and pointer[0] == 0 and (np.diff(pointer) >= 0).all()
                      and pointer[-1] == len(matrix.indices) == len(matrix.data))
    if not consistent or rows < 0 or cols < 0:
        raise DataError(f'{path}: arrays of the sparse matrix do not fit together')
    for index, size in columns:
        index = np.asarray(index)
        if index.dtype.kind not in 'iu' or index.ndim != 1:
            raise DataError(f'{path}: indices of type {index.dtype}, accepted are integers')
        if index.size and (index.min() < 0 or index.max() >= size):
            raise DataError(f'{path}: indices run from {index.min()} to {index.max()}, accepted are 0 to {size - 1}')


def load_features(path: Path) -> np.ndarray:
    r"""Reads a feature matrix ``[I, d_m]`` from ``.npy`` or a zip archive with one ``.npy`` member, as float32.

    The cast comes before any arithmetic: sums of float16 features overflow. An archive is told by its content, read in
    place, never unpacked to disk.

    Raises:
        DataError: If the file is missing, damaged, pickled, not a matrix of numbers, or has values that are not finite.
    """
    try:
        with path.open('rb') as file:
            zipped = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        x = _read_zipped(path) if zipped else _read_npy(path, partial(path.open, 'rb'), path.stat().st_size)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error
    except (ValueError, EOFError, SyntaxError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f'{path}: not a readable .npy file without pickled objects ({error})') from error
    if x.ndim != 2 or x.dtype.kind not in 'biuf' or x.shape[1] == 0:
        raise DataError(f'{path}: holds {x.dtype} of shape {x.shape}, accepted is a matrix of numbers [items, width]')
    with np.errstate(over='ignore'):  # what overflows is reported below, by row
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(f'{path}: {int(bad.sum())} rows have NaN or infinite values, the first is row {int(bad.argmax())}; '
                        'accepted are finite numbers')
    return x


def _read_npy(path: Path, opener: Callable[[], BinaryIO], size: int) -> np.ndarray:
    r"""Reads an array after comparing the header's claim with the true size, before memory is asked for."""
    with opener() as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
        claimed = file.tell() + dtype.itemsize * math.prod(shape)
    if not dtype.hasobject and claimed != size:
        raise DataError(f'{path}: truncated or damaged, the header announces {claimed} bytes and the file has {size}')
    with opener() as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_zipped(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith('.npy') and not m.filename.startswith('__MACOSX')]
        if len(members) != 1:
            raise DataError(f'{path}: has {len(members)} .npy members, accepted is exactly one')
        if members[0].file_size > MAX_UNZIPPED:
            raise DataError(f'{path}: unpacks to {members[0].file_size} bytes, accepted are up to {MAX_UNZIPPED}')
        return _read_npy(path, partial(archive.open, members[0]), members[0].file_size)


def file_sha256(path: Path) -> str:
    r"""SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()
