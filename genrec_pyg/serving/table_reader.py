r"""Tables of a bundle, handed out once their types and shapes are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genrec_pyg.exceptions import DataError


class TableReader:
    r"""Hands out the tables of a bundle once their types and shapes are checked.

    Args:
        tables: Arrays by name.
        place: Where they come from, for errors.
    """

    def __init__(self, tables: Mapping[str, np.ndarray], place: str):
        self.tables = tables
        self.place = place

    def get(self, name: str, *shape: int | None, dtype: str = 'f4') -> np.ndarray:
        r"""The table ``name`` of ``shape``, in which :obj:`None` is any length.

        Raises:
            DataError: If it is missing, of another type or shape, or holds NaN or infinity.
        """
        x = self.tables.get(name)
        if (
            x is None
            or x.dtype != np.dtype(dtype)
            or len(x.shape) != len(shape)
            or any(wanted not in (None, size) for size, wanted in zip(x.shape, shape))
        ):
            found = 'missing' if x is None else f'{x.dtype} of shape {x.shape}'
            raise DataError(
                f'{self.place}: the table {str(name)[:80]!r} is {found}, accepted is '
                f'{np.dtype(dtype)} of shape {shape}'
            )
        if x.dtype.kind == 'f' and not np.isfinite(x).all():
            raise DataError(
                f'{self.place}: the table {name!r} holds NaN or infinity, accepted are finite '
                'numbers'
            )
        return x

    def optional(self, name: str, *shape: int | None) -> np.ndarray | None:
        r"""As :meth:`get`, or :obj:`None` where there is no such table."""
        return self.get(name, *shape) if name in self.tables else None

    def csr(self, name: str, num_rows: int, num_columns: int, values: bool = True) -> SparseRows:
        r"""The sparse matrix ``name``.

        Raises:
            DataError: If its offsets or columns are out of range.
        """
        rowptr = self.get(f'{name}.rowptr', num_rows + 1, dtype='i8')
        col = self.get(f'{name}.col', None, dtype='i4')
        if (
            rowptr[0] != 0
            or rowptr[-1] != col.size
            or (np.diff(rowptr) < 0).any()
            or (col.size > 0 and not 0 <= col.min() <= col.max() < num_columns)
        ):
            raise DataError(
                f'{self.place}: the rows {name!r} do not fit, accepted are ascending offsets up '
                f'to the number of entries and columns from 0 to {num_columns - 1}'
            )
        return SparseRows(rowptr, col, self.get(f'{name}.value', col.size) if values else None)


class SparseRows:
    r"""Rows of a sparse matrix.

    Args:
        rowptr: Row offsets ``[M + 1]``.
        col: Columns ``[nnz]``.
        value: Entries ``[nnz]``.
    """

    def __init__(self, rowptr: np.ndarray, col: np.ndarray, value: np.ndarray | None):
        self.rowptr, self.col, self.value = rowptr, col, value

    def row(self, index: int) -> np.ndarray:
        r"""Columns of a row."""
        return self.col[self.rowptr[index] : self.rowptr[index + 1]]

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Columns and entries of several rows, one after the other."""
        begin, end = self.rowptr[rows], self.rowptr[rows + 1]
        count = end - begin
        place = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
        return self.col[place], self.value[place]

    def matrix(self, num_columns: int) -> Any:
        r"""The same as a SciPy matrix."""
        from scipy.sparse import (
            csr_array,
        )  # imported by the few models that multiply whole matrices

        return csr_array(
            (self.value, self.col, self.rowptr), shape=(self.rowptr.size - 1, num_columns)
        )
