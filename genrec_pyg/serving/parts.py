r"""Parts of scores from the tables of a bundle, in numpy."""

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


class Constant:
    r"""The same scores for everybody."""

    def __init__(
        self, reader: TableReader, spec: Mapping[str, Any], num_users: int, num_items: int
    ):
        self.scores = reader.get(str(spec.get('name')), num_items)

    def add(self, out: np.ndarray, history: np.ndarray, scale: float | None) -> None:
        r"""Adds scores of a history to ``out`` ``[I]``."""
        out += self.scores


class Kernel:
    r"""Sums of item rows over a history, see :class:`genrec_pyg.nn.closed_form.ItemKernel`;
    ``scale`` ``[U]``, where there is
    one, multiplies the rows of a user.
    """

    def __init__(
        self, reader: TableReader, spec: Mapping[str, Any], num_users: int, num_items: int
    ):
        name = str(spec.get('name'))
        self.hops, self.weight = _hops_and_weight(reader, spec)
        self.dense = reader.optional(f'{name}.weight', num_items, num_items)
        self.query = reader.optional(f'{name}.query', num_items, None)
        self.key = (
            None
            if self.query is None
            else reader.get(f'{name}.key', num_items, self.query.shape[1])
        )
        self.rows = (
            reader.csr(name, num_items, num_items) if f'{name}.rowptr' in reader.tables else None
        )
        self.item_weight = reader.optional(f'{name}.item_weight', num_items)
        self.scale = reader.optional(f'{name}.scale', num_users)
        if self.hops > 1 and self.rows is None:
            raise DataError(
                f'{reader.place}: the part {name!r} has {self.hops} hops and no sparse rows to '
                'apply'
            )
        self._transposed = self.rows.matrix(num_items).T.tocsr() if self.hops > 1 else None

    def add(self, out: np.ndarray, history: np.ndarray, scale: float | None) -> None:
        r"""Adds scores of a history to ``out`` ``[I]``; ``scale`` multiplies the sparse rows."""
        if (
            self.hops == 1
            and self.item_weight is None
            and self.weight == 1
            and self.dense is None
            and self.query is None
        ):
            self._add_rows(out, history, scale)
            return
        scores = np.zeros_like(out)
        if self.dense is not None and history.size > 0:
            scores += self.dense[history].sum(axis=0)
        if self.query is not None:
            scores += self.key @ self.query[history].sum(axis=0)
        self._add_rows(scores, history, scale)
        for _ in range(self.hops - 1):
            scores = self._transposed @ scores
        if self.item_weight is not None:
            scores *= self.item_weight
        out += scores if self.weight == 1 else np.float32(self.weight) * scores

    def _add_rows(self, out: np.ndarray, history: np.ndarray, scale: float | None) -> None:
        if self.rows is not None and history.size > 0:
            column, value = self.rows.entries(history)
            np.add.at(out, column, value if scale is None else value * np.float32(scale))


class Filter:
    r"""The exact linear filter, see :class:`genrec_pyg.nn.closed_form.LinearFilter`."""

    def __init__(
        self, reader: TableReader, spec: Mapping[str, Any], num_users: int, num_items: int
    ):
        name = str(spec.get('name'))
        self.hops, self.weight = _hops_and_weight(reader, spec)
        self.diagonal = reader.get(f'{name}.diagonal', num_items)
        self.item_weight = reader.optional(f'{name}.item_weight', num_items)
        self._forward = reader.csr(name, num_users, num_items).matrix(num_items)
        self._back = self._forward.T.tocsr()
        self.scale = None

    def add(self, out: np.ndarray, history: np.ndarray, scale: float | None) -> None:
        r"""Adds scores of a history to ``out`` ``[I]``."""
        x = np.zeros_like(out)
        x[history] = 1
        for _ in range(self.hops):
            x = self._back @ (self._forward @ x) - x * self.diagonal
        if self.item_weight is not None:
            x *= self.item_weight
        out += x if self.weight == 1 else np.float32(self.weight) * x


class Inner:
    r"""Inner products of embeddings, the best of several interests."""

    def __init__(
        self, reader: TableReader, spec: Mapping[str, Any], num_users: int, num_items: int
    ):
        name = str(spec.get('name'))
        self.items = reader.get(f'{name}.items', num_items, None)
        width = self.items.shape[1]
        several = name + '.users' in reader.tables and reader.tables[name + '.users'].ndim == 3
        self.users = reader.get(
            f'{name}.users', num_users, *((None, width) if several else (width,))
        )
        #: Largest norm of an item, for bounds of rounding errors.
        self.largest = float(
            np.sqrt(np.square(self.items, dtype=np.float64).sum(axis=1).max(initial=0))
        )

    def scores(self, queries: np.ndarray) -> np.ndarray:
        r"""Scores ``[B, I]`` of queries ``[B, d]`` or ``[B, K, d]``."""
        if queries.ndim == 2:
            return queries @ self.items.T
        best = queries[:, 0] @ self.items.T
        for interest in range(1, queries.shape[1]):
            np.maximum(best, queries[:, interest] @ self.items.T, out=best)
        return best

    def rounding(self, query: np.ndarray) -> float:
        r"""Bound of the error of a score of :meth:`scores` in practice: a few units in the last
        place for each of the
        :math:`\sqrt{d}` that errors of ``d`` products add up to.
        """
        norm = float(np.sqrt(np.square(query, dtype=np.float64).sum(axis=-1).max()))
        return 4 * float(np.finfo(np.float32).eps) * query.shape[-1] ** 0.5 * norm * self.largest

    def exact(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        r"""Scores of some items in float64, the same whatever else is asked for at the same
        time.
        """
        found = self.items[item].astype(np.float64) @ query.astype(np.float64).T
        return found if query.ndim == 1 else found.max(axis=1)


PARTS = {'constant': Constant, 'kernel': Kernel, 'filter': Filter}


def _hops_and_weight(reader: TableReader, spec: Mapping[str, Any]) -> tuple[int, float]:
    hops, weight = spec.get('hops'), spec.get('weight')
    if (
        type(hops) is not int
        or not 1 <= hops <= 8
        or type(weight) not in (int, float)
        or not abs(weight) < 1e30
    ):
        raise DataError(
            f'{reader.place}: hops and weight of a part are {str(hops)[:40]!r} and '
            f'{str(weight)[:40]!r}, accepted are an integer from 1 to 8 and a number'
        )
    return hops, float(weight)
