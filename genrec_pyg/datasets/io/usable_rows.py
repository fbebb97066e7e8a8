r"""Which rows of a log have all that their roles ask for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.datasets.io.values import LABELS, check_kind

#: Reasons for leaving a row out, by role.
REASONS = {
    'user': 'no user id',
    'item': 'no item id',
    'rating': 'no rating number',
    'time': 'no time',
    'split': 'no split',
}


def usable_rows(
    table: Mapping[str, pa.ChunkedArray], source: str, bad: BadRows
) -> dict[str, pa.ChunkedArray]:
    r"""The rows whose columns can all be read; the others are counted.

    A column of times is of dates or of numbers, as most of its rows are.

    Args:
        table: Role to column ``[rows]``.
        source: Of what, for messages.
        bad: Takes what is left out; a row with several faults counts for each.

    Returns:
        Role to column ``[rows that are kept]``.

    Raises:
        DataError: If a column is of a type that its role cannot have.
    """
    good = np.ones(len(next(iter(table.values()))), dtype=bool)
    for role, column in table.items():
        check_kind(column.type, role, source)
        kind = column.type
        plain = column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column
        usable = _usable(plain, role)
        good &= usable
        wrong = np.flatnonzero(~usable)
        if len(wrong):
            shown = ', '.join(
                f'{name} {str(values[int(wrong[0])].as_py())[:100]!r}'
                for name, values in table.items()
            )
            bad.add(REASONS[role], f'row {wrong[0] + 1}: {shown}', len(wrong))
    if good.all():
        return dict(table)
    return {role: column.filter(pa.array(good)) for role, column in table.items()}


def _usable(column: pa.ChunkedArray, role: str) -> np.ndarray:
    r"""Whether each value ``[rows]`` is one of its role."""
    there = ~column.is_null().to_numpy()
    kind = column.type
    if role in ('user', 'item'):
        if pa.types.is_integer(kind):
            return there
        return there & _booleans(pc.not_equal(column.cast(pa.large_string()), ''))
    if role == 'split':
        names = pc.utf8_lower(column.cast(pa.large_string()))
        return there & _booleans(pc.is_in(names, pa.array(LABELS, pa.large_string())))
    if pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return there
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return there & _booleans(pc.is_finite(column.cast(pa.float64())))
    number = _numbers(column)
    if role == 'rating':
        return there & number
    found = [number, _castable(column, pa.timestamp('us'))]
    found.append(_castable(column, pa.timestamp('us', 'UTC')))
    return there & max(found, key=lambda mask: int(mask.sum()))


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    r"""Whether each text is a finite number; hexadecimal digits are none."""
    text = ~_booleans(pc.match_substring(column, 'x', ignore_case=True))
    usable = text & _castable(column, pa.float64())
    number = column.filter(pa.array(usable)).cast(pa.float64())
    usable[usable] = _booleans(pc.is_finite(number))
    return usable


def _castable(column: pa.ChunkedArray, kind: pa.DataType) -> np.ndarray:
    r"""Whether each value can be cast to ``kind``. Rows that cannot be cast at once are halved, so
    that a few wrong ones cost a few casts.
    """
    found = np.zeros(len(column), dtype=bool)
    waiting = [(0, len(column))]
    while waiting:
        start, end = waiting.pop()
        try:
            column.slice(start, end - start).cast(kind)
            found[start:end] = True
        except (pa.ArrowException, NotImplementedError):
            if end - start > 1:
                middle = (start + end) // 2
                waiting += [(start, middle), (middle, end)]
    return found


def _booleans(values: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy()
