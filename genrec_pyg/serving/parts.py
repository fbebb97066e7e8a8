r"""Parts of scores from the tables of a bundle, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.table_reader import TableReader


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


def exact_scores(inner: Inner, query: np.ndarray, extra: np.ndarray | None) -> Any:
    r"""What scores some items exactly: inner products with a query, and other parts ``[I]``."""

    def score(item: np.ndarray) -> np.ndarray:
        found = inner.exact(query, item)
        return (found if extra is None else found + extra[item]).astype(np.float32)

    return score


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
