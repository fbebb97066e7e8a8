r"""Values of the columns of a log: ids, numbers, labels of splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrec_pyg.exceptions import DataError

#: Whole numbers as they are usually written, in RE2 and in Python.
WHOLE = '0|-?[1-9][0-9]{0,17}'
#: What columns of splits hold, in lower case, and the number of the split.
LABELS = {
    '0': 0,
    'train': 0,
    'training': 0,
    '1': 1,
    'val': 1,
    'valid': 1,
    'validation': 1,
    'dev': 1,
    '2': 2,
    'test': 2,
}
#: Digits within an id count by value up to this length.
_PLACES = 20
#: Regular expressions (RE2) and their replacements that pad digits to that length, one after the
#: other.
PADDING = (('([0-9]+)', '0' * _PLACES + r'\1'), (f'[0-9]*([0-9]{{{_PLACES}}})', r'\1'))


def check_kind(kind: pa.DataType, role: str, source: str) -> None:
    r"""Refuses a column of a type that no values of its role have: ids are text or integers, times
    may be dates too.

    Raises:
        DataError: Naming the role and the type.
    """
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_integer,
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_null,
        )
    ):
        return
    accepted = ['text', 'integers']
    if role in ('rating', 'time', 'split'):
        accepted[1:] = ['numbers']
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return
    if role == 'time':
        accepted += ['dates']
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return
    raise DataError(
        f'{source}: its column of the {role} is of type {kind}, accepted are {", ".join(accepted)}'
    )


def as_micros(
    dates: pa.Array | pa.ChunkedArray, role: str, source: str
) -> pa.Array | pa.ChunkedArray:
    r"""Dates as whole microseconds since 1970, int64; what is finer is cut off.

    Raises:
        DataError: If a date is out of range.
    """
    unit = pa.timestamp('us', getattr(dates.type, 'tz', None))
    try:
        return pc.cast(dates, options=pc.CastOptions(unit, allow_time_truncate=True)).cast(
            pa.int64()
        )
    except pa.ArrowException as error:
        raise DataError(
            f'{source}: its column of the {role} has dates out of range ({str(error)[:200]})'
        ) from error


def read_ids(
    column: pa.ChunkedArray, role: str, source: str
) -> tuple[np.ndarray | list[str], np.ndarray]:
    r"""Distinct ids in order, and the number of each row's id among them.

    Ids that are all whole numbers are numbers, in ascending order. Others are text, ordered as
    people do: digits within them by value, so that ``u-9`` comes before ``u-10`` and renamed
    numbers keep their order.

    Args:
        column: Text or integers.
        role: What they are, for messages.
        source: Of what, for messages.

    Returns:
        Ids (int64 ``[n]`` or a list of texts) and numbers int64 ``[rows]``.

    Raises:
        DataError: On another type or a missing id; the message names the row.
    """
    check_kind(column.type, role, source)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(f'{source}: row {row} has no {role} id')
    if pa.types.is_string_view(column.type):  # which Arrow can take from no dictionary
        column = column.cast(pa.large_string())
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # of no row
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    used, index = np.unique(coded.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    values = coded.dictionary.take(pa.array(used))
    text = values.cast(pa.string())
    empty = pc.equal(text, '')
    if pc.any(empty).as_py():
        row = int(np.argmax(index == pc.index(empty, True).as_py())) + 1
        raise DataError(f'{source}: row {row} has an empty {role} id')
    found, order = order_ids(text)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return found, number[index]


def order_ids(ids: pa.Array) -> tuple[np.ndarray | list[str], np.ndarray]:
    r"""Distinct texts in their order, see :func:`read_ids`: int64 ``[n]`` or a list of texts, and
    the place ``[n]`` of each among ``ids``.
    """
    if len(ids) and pc.all(pc.match_substring_regex(ids, f'^({WHOLE})$')).as_py():
        whole = ids.cast(pa.int64()).to_numpy()
        order = whole.argsort()
        return whole[order], order
    key = ids
    for pattern, replacement in PADDING:
        key = pc.replace_substring_regex(key, pattern, replacement)
    order = pc.sort_indices(
        pa.table({'key': key, 'id': ids}), [('key', 'ascending'), ('id', 'ascending')]
    ).to_numpy()
    return ids.take(pa.array(order)).to_pylist(), order


def read_numbers(column: pa.ChunkedArray, role: str, source: str) -> np.ndarray:
    r"""Numbers of a column; dates become seconds since 1970 (UTC where they name no zone).

    Args:
        column: Numbers, dates, or text of either; dates in text are ISO 8601.
        role: ``'rating'`` or ``'time'``, for messages.
        source: Of what, for messages.

    Returns:
        int64 where all are whole, else float64.

    Raises:
        DataError: On a value that is missing, not finite or of another kind; the message names the
            row.
    """
    accepted = 'numbers' if role == 'rating' else 'numbers and ISO dates'
    check_kind(column.type, role, source)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(f'{source}: row {row} has no {role}, accepted are {accepted}')
    kinds = [pa.int64(), pa.float64()]
    if role == 'time':
        kinds += [pa.timestamp('us'), pa.timestamp('us', 'UTC')]
    if pa.types.is_temporal(column.type):
        return _seconds(as_micros(column, role, source))
    if pa.types.is_floating(column.type):
        kinds = kinds[1:2]
    elif (
        not pa.types.is_integer(column.type)
        and pc.any(pc.match_substring(column, 'x', ignore_case=True)).as_py()
    ):
        kinds = kinds[1:]  # whole numbers would be read from hexadecimal digits
    for kind in kinds:
        try:
            values = column.cast(kind)
            break
        except (pa.ArrowException, NotImplementedError):
            # no cast to this kind: the next may do, the last is refused below
            continue
    else:
        row, value = _first_wrong(column, kinds)
        raise DataError(
            f'{source}: row {row} has {role} {str(value)[:100]!r}, accepted are {accepted}'
        )
    if pa.types.is_timestamp(values.type):
        return _seconds(as_micros(values, role, source))
    found = values.to_numpy()
    wrong = ~np.isfinite(found) if found.dtype.kind == 'f' else np.zeros(0, dtype=bool)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f'{source}: row {row + 1} has {role} {found[row]}, accepted are finite {accepted}'
        )
    exact = (
        found.dtype.kind == 'f' and (found == found.round()).all() and (np.abs(found) < 2**53).all()
    )
    return found.astype(np.int64) if exact else found


def _seconds(micros: pa.ChunkedArray) -> np.ndarray:
    found = micros.to_numpy()
    return found // 10**6 if not (found % 10**6).any() else found / 1e6


def _first_wrong(column: pa.ChunkedArray, kinds: Sequence[pa.DataType]) -> tuple[int, Any]:
    r"""Row, from 1, and value at which the kind that takes most values fails."""
    best = (1, column[0].as_py() if len(column) else None)
    for kind in kinds:
        # the first ``low`` values can be cast, the first ``high`` cannot
        low, high = 0, len(column)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                column.slice(0, middle).cast(kind)
                low = middle
            except (pa.ArrowException, NotImplementedError):
                high = middle
        if low + 1 > best[0]:
            best = (low + 1, column[low].as_py())
    return best


def read_labels(column: pa.ChunkedArray, source: str) -> np.ndarray:
    r"""Splits of rows as 0, 1 and 2 ``[rows]``, from these numbers or from ``train``, ``val``
    (``valid``, ``validation``, ``dev``) and ``test``.

    Raises:
        DataError: On another value.
    """
    check_kind(column.type, 'split', source)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    coded = pc.cast(column, pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        return np.empty(0, dtype=np.int64)
    values = coded.dictionary.to_pylist()
    unknown = [value for value in values if value.lower() not in LABELS]
    if coded.null_count or unknown:
        raise DataError(
            f'{source}: its split is {unknown[0] if unknown else None!r} in a row, accepted are '
            f'0, 1, 2 and train, val, test'
        )
    return np.array([LABELS[value.lower()] for value in values])[coded.indices.to_numpy()]
