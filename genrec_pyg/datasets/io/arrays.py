r"""Feature matrices from NumPy files: nothing that they hold is executed, everything is checked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.sparse as sp

from genrec_pyg.datasets.io.regular import is_packed, open_regular
from genrec_pyg.exceptions import DataError

#: Largest unpacked size of a zipped feature file.
MAX_UNZIPPED = 4 * 2**30
_ZIP_MAGIC = b'PK\x03\x04'


def load_features(path: Path) -> np.ndarray:
    r"""Reads a feature matrix ``[I, d_m]`` from ``.npy`` or a zip archive with one ``.npy`` member,
    as float32.

    The cast comes before any arithmetic: sums of float16 features overflow. An archive is told by
    its content, read in place, never unpacked to disk.

    Raises:
        DataError: If the file is missing, damaged, pickled, not a matrix of numbers, or has values
            that are not finite.
    """
    try:
        with open_regular(path) as file:
            start = file.read(len(_ZIP_MAGIC))
        zipped = start == _ZIP_MAGIC
        if is_packed(start) and not zipped:
            raise DataError(
                f'{path}: is compressed, unpack it first; accepted are .npy files, also zipped'
            )
        x = (
            _read_zipped(path)
            if zipped
            else _read_npy(path, partial(open_regular, path), path.stat().st_size)
        )
    except DataError:
        raise
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error
    except Exception as error:
        # headers and archives are parsed by code that damage can lead anywhere
        raise DataError(
            f'{path}: not a readable .npy file without pickled objects ({str(error)[:200]})'
        ) from error
    with np.errstate(over='ignore'):  # what overflows is reported below, by row
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f'{path}: {int(bad.sum())} rows have NaN or infinite values, the first is row '
            f'{int(bad.argmax())}; accepted are finite numbers'
        )
    return x


def load_sparse_features(path: Path) -> sp.csr_matrix:
    r"""Reads a sparse matrix ``[n, d]`` that :func:`scipy.sparse.save_npz` wrote, as float32 rows.

    Raises:
        DataError: If the file is missing, damaged, too large, or no sparse matrix of numbers.
    """
    try:
        with open_regular(path) as file:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MAX_UNZIPPED:
                raise DataError(
                    f'{path}: unpacks to {size} bytes, accepted are up to {MAX_UNZIPPED}'
                )
            file.seek(0)
            x = sp.load_npz(file)
        x = sp.csr_matrix(x, dtype=np.float32)
        x.check_format(full_check=True)
        x.sum_duplicates()
    except DataError:
        raise
    except Exception as error:
        # headers and archives are parsed by code that damage can lead anywhere
        raise DataError(
            f'{path}: not a readable sparse matrix of numbers ({str(error)[:200]}); accepted is '
            'what scipy.sparse.save_npz writes'
        ) from error
    if min(x.shape) == 0:
        raise DataError(f'{path}: has shape {x.shape}, accepted are at least one row and column')
    return x


def _read_npy(path: Path, opener: Callable[[], BinaryIO], size: int) -> np.ndarray:
    r"""Reads an array after comparing the header's claim with the true size, before memory is asked
    for.
    """
    with opener() as file:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(file)
        claimed = file.tell() + dtype.itemsize * math.prod(shape)
    if dtype.hasobject:
        raise DataError(f'{path}: not a readable .npy file without pickled objects')
    if dtype.kind not in 'biuf' or len(shape) != 2 or min(shape) < 0 or shape[1] == 0:
        raise DataError(
            f'{path}: holds {str(dtype)[:100]} of shape {shape}, accepted is a matrix of '
            f'numbers [items, width]'
        )
    if claimed != size:
        raise DataError(
            f'{path}: truncated or damaged, the header announces {claimed} bytes and the '
            f'file has {size}'
        )
    with opener() as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_zipped(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = [
            m
            for m in archive.infolist()
            if m.filename.endswith('.npy') and not m.filename.startswith('__MACOSX')
        ]
        if len(members) != 1:
            raise DataError(f'{path}: has {len(members)} .npy members, accepted is exactly one')
        if members[0].file_size > MAX_UNZIPPED:
            raise DataError(
                f'{path}: unpacks to {members[0].file_size} bytes, accepted are up to '
                f'{MAX_UNZIPPED}'
            )
        return _read_npy(path, partial(archive.open, members[0]), members[0].file_size)
