r"""Columns of interaction logs of any origin: delimited text, Parquet and data frames, read by Arrow."""
from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.exceptions import ConfigError, DataError

#: What a column of a log can be.
ROLES = ('user', 'item', 'rating', 'time', 'split')
#: Usual names of each, compared without case, underscores, hyphens and blanks.
_NAMES = {'user': ('user', 'userid', 'uid', 'reviewerid', 'customerid', 'visitorid'),
          'item': ('item', 'itemid', 'iid', 'movieid', 'productid', 'articleid', 'asin', 'parentasin'),
          'rating': ('rating', 'overall', 'stars'),
          'time': ('time', 'timestamp', 'ts', 'unixreviewtime', 'datetime', 'date'),
          'split': ('split', 'xlabel')}
#: Types that RecBole's atomic files write behind a name.
_TYPED = re.compile(r'(.*):(token|float|token_seq|float_seq)')
_COMPRESSION = {b'\x1f\x8b': 'gzip', b'BZh': 'bz2', b'\x28\xb5\x2f\xfd': 'zstd'}
_PARQUET = b'PAR1'
#: Longest header line in bytes.
_HEADER = 1 << 20
_DELIMITERS = '\t,;| '


class Header(NamedTuple):
    r"""The first line of a delimited file.

    Args:
        names: Names of the columns, RecBole's types taken off.
        delimiter: What stands between them.
        typed: Whether all names had a type: then quotes are letters like others.
    """
    names: list[str]
    delimiter: str
    typed: bool


def read_columns(source: Any, columns: Optional[Mapping[str, str]] = None,
                 required: Sequence[str] = ('user', 'item')) -> tuple[dict[str, pa.ChunkedArray], str]:
    r"""Reads the columns of a log that have a role; others are not converted.

    Args:
        source: Path of a delimited text file (plain, gzip, bzip2 or zstd) or a Parquet file, told by content, or a data frame
            (pandas, Polars, Arrow, or a mapping from names to columns). The delimiter is told by the first line.
        columns: Role (``'user'``, ``'item'``, ``'rating'``, ``'time'``, ``'split'``) to name; the others are looked for by
            usual names. In text numbers from 1 are positions, and say that the file has no header.
        required: Roles that must be there.

    Returns:
        Role to column, and the name of the source for messages.

    Raises:
        ConfigError: On an unknown role, or a column that is not there or not found by itself; the message names the flag.
        DataError: If the source cannot be read.
    """
    columns = dict(columns or {})
    for role in columns:
        if role not in ROLES:
            raise ConfigError(f"columns: got {role!r}, accepted are {', '.join(ROLES)}")
    if not isinstance(source, (str, Path)):
        return _from_frame(source, columns, required), 'table'
    path = Path(source)
    with open_regular(path) as file:
        start = file.read(4)
    if start == _PARQUET:
        return _from_parquet(path, columns, required), str(path)
    compression = next((name for magic, name in _COMPRESSION.items() if start.startswith(magic)), None)
    return _from_text(path, compression, columns, required), str(path)


def _header(path: Path, compression: Optional[str]) -> Header:
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            content = stream.read(_HEADER)
        text = bytes(content).partition(b'\n')[0].decode('utf-8-sig').rstrip('\r')
    except (OSError, pa.ArrowException) as error:
        raise DataError(f'{path}: cannot be read ({_line(error)})') from error
    except UnicodeDecodeError as error:
        raise DataError(f'{path}: is neither UTF-8 text nor Parquet; accepted are delimited text (plain, gzip, bzip2, zstd) '
                        'and Parquet') from error
    if not text.strip():
        raise DataError(f'{path}: has no header; accepted is a first line with the names of the columns')
    if '\0' in text:
        raise DataError(f'{path}: is no text; accepted are delimited text (plain, gzip, bzip2, zstd) and Parquet')
    delimiter = next((mark for mark in _DELIMITERS if mark in text), ',')
    try:
        names = next(csv.reader([text], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f'{path}: the first line cannot be read ({error})') from error
    typed = [_TYPED.fullmatch(name) for name in names]
    return Header([name if found is None else found[1] for name, found in zip(names, typed)], delimiter, all(typed))


def _from_text(path: Path, compression: Optional[str], columns: dict[str, str],
               required: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    header = _header(path, compression)
    positions = bool(columns) and all(name.isdecimal() for name in columns.values()) \
        and not set(columns.values()) & set(header.names)
    names = [str(number) for number in range(1, len(header.names) + 1)] if positions else header.names
    chosen = columns if positions else find_columns(names, columns, str(path), required)
    if positions:
        _check_chosen(names, chosen, str(path), required)
    internal = [f'c{number}' for number in range(len(names))]  # whatever the header repeats or leaves empty
    place = {role: internal[names.index(name)] for role, name in chosen.items()}
    text, coded = pa.string(), pa.dictionary(pa.int32(), pa.string())
    convert = arrow_csv.ConvertOptions(
        column_types={column: coded if role in ('user', 'item', 'split') else text for role, column in place.items()},
        include_columns=list(dict.fromkeys(place.values())), null_values=[], strings_can_be_null=False)
    parse = arrow_csv.ParseOptions(delimiter=header.delimiter, quote_char=False if header.typed else '"',
                                   newlines_in_values=not header.typed)
    for threads in (True, False):
        read = arrow_csv.ReadOptions(use_threads=threads, column_names=internal, skip_rows=0 if positions else 1,
                                     block_size=1 << 24)
        try:
            with pa.input_stream(str(path), compression=compression) as stream:
                table = arrow_csv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
            break
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if not threads:  # one thread knows the row
                raise DataError(f'{path}: cannot be read ({_line(error)}); accepted are rows of {len(names)} fields in '
                                'UTF-8') from error
    return {role: table.column(column) for role, column in place.items()}


def _from_parquet(path: Path, columns: dict[str, str], required: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    try:
        with parquet.ParquetFile(str(path)) as file:
            chosen = find_columns(file.schema_arrow.names, columns, str(path), required)
            table = file.read(list(dict.fromkeys(chosen.values())))
    except ConfigError:
        raise
    except Exception as error:  # metadata are parsed by code that damage can lead anywhere
        raise DataError(f'{path}: not a readable Parquet file ({_line(error)})') from error
    return {role: table.column(name) for role, name in chosen.items()}


def _from_frame(source: Any, columns: dict[str, str], required: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    try:
        if isinstance(source, pa.Table):
            table = source
        elif hasattr(source, '__arrow_c_stream__') or isinstance(source, Mapping):
            table = pa.table(source)
        else:
            table = pa.Table.from_pandas(source, preserve_index=False)
    except (pa.ArrowException, TypeError, AttributeError, ValueError) as error:
        raise DataError(f'table: got {type(source).__name__}, accepted are a path, a data frame of pandas, Polars or Arrow, '
                        f'or a mapping from names to columns of equal length ({_line(error)})') from error
    chosen = find_columns(table.column_names, columns, 'table', required)
    return {role: table.column(name) for role, name in chosen.items()}


def find_columns(names: Sequence[str], columns: Mapping[str, str], source: str,
                 required: Sequence[str] = ('user', 'item')) -> dict[str, str]:
    r"""Role to the name of its column: those of ``columns``, the others by usual names.

    Raises:
        ConfigError: If a column is missing, or more than one could be meant.
    """
    chosen = dict(columns)
    for role in ROLES:
        if role in chosen:
            continue
        usual = [name for name in names if re.sub(r'[ _-]', '', _untyped(name).lower()) in _NAMES[role]
                 and name not in columns.values()]
        if len(usual) > 1:
            raise ConfigError(f"{source}: its columns {', '.join(map(repr, usual))} may all be the {role}; say which with "
                              f'--columns {role}=NAME')
        if usual:
            chosen[role] = usual[0]
    _check_chosen(names, chosen, source, required)
    return chosen


def _check_chosen(names: Sequence[str], chosen: Mapping[str, str], source: str, required: Sequence[str]) -> None:
    shown = ', '.join(map(repr, names[:20]))
    for role in required:
        if role not in chosen:
            raise ConfigError(f'{source}: none of its columns ({shown}) is known as {role}; say which with --columns '
                              f"{' '.join(f'{name}=NAME' for name in required)} (numbers from 1 where there is no header)")
    for role, name in chosen.items():
        if list(names).count(name) != 1:
            raise ConfigError(f"{source}: --columns {role}={name}: there {'is no' if name not in names else 'are several'} "
                              f'such column, accepted are {shown}')


def _untyped(name: str) -> str:
    found = _TYPED.fullmatch(name)
    return name if found is None else found[1]


def read_ids(column: pa.ChunkedArray, role: str, source: str) -> tuple[Union[np.ndarray, list[str]], np.ndarray]:
    r"""Distinct ids in order, and the number of each row's id among them.

    Ids that are all whole numbers are numbers, in ascending order. Others are text, ordered as people do:
    digits within them by value, so that ``u-9`` comes before ``u-10`` and renamed numbers keep their order.

    Args:
        column: Text or integers.
        role: What they are, for messages.
        source: Of what, for messages.

    Returns:
        Ids (int64 ``[n]`` or a list of texts) and numbers int64 ``[rows]``.

    Raises:
        DataError: On another type or a missing id; the message names the row.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
            or pa.types.is_string_view(kind)):
        raise DataError(f'{source}: its {role} ids are of type {kind}, accepted are text and integers')
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(f'{source}: row {row} has no {role} id')
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    coded = coded.unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # of no row
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    used, index = np.unique(coded.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    values = coded.dictionary.take(pa.array(used))
    ids = values.to_pylist() if pa.types.is_integer(kind) else _whole(values.to_pylist())
    if any(value == '' for value in ids):
        row = int(np.argmax(index == ids.index(''))) + 1
        raise DataError(f'{source}: row {row} has an empty {role} id')
    order = sorted(range(len(ids)), key=ids.__getitem__ if ids and isinstance(ids[0], int) else lambda n: natural_key(ids[n]))
    number = np.empty(len(ids), dtype=np.int64)
    number[order] = np.arange(len(ids))
    found = [ids[place] for place in order]
    whole = bool(found) and isinstance(found[0], int) and -2 ** 63 <= found[0] and found[-1] < 2 ** 63
    return (np.array(found, dtype=np.int64) if whole else [str(value) for value in found]), number[index]


def _whole(ids: list[str]) -> list[Any]:
    r"""The ids as integers where all are written as Python writes integers."""
    if all(re.fullmatch(r'0|-?[1-9][0-9]{0,17}', value) for value in ids):
        return [int(value) for value in ids]
    return ids


def natural_key(value: str) -> list[Any]:
    r"""Sorts texts with the digits in them by value."""
    parts = re.split('([0-9]+)', value)
    return [(len(part.lstrip('0')), part.lstrip('0')) if number % 2 else part for number, part in enumerate(parts)] + [value]


def read_numbers(column: pa.ChunkedArray, role: str, source: str) -> np.ndarray:
    r"""Numbers of a column; dates become seconds since 1970 (UTC where they name no zone).

    Args:
        column: Numbers, dates, or text of either; dates in text are ISO 8601.
        role: ``'rating'`` or ``'time'``, for messages.
        source: Of what, for messages.

    Returns:
        int64 where all are whole and not decimal, else float64.

    Raises:
        DataError: On a value that is missing, not finite or of another kind; the message names the row.
    """
    accepted = 'numbers' if role == 'rating' else 'numbers and ISO dates'
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + 1
        raise DataError(f'{source}: row {row} has no {role}, accepted are {accepted}')
    kinds = [pa.int64(), pa.float64()]
    if role == 'time':
        kinds += [pa.timestamp('us'), pa.timestamp('us', 'UTC')]
    if pa.types.is_temporal(column.type):
        kinds = kinds[2:] if role == 'time' else []
    elif pa.types.is_floating(column.type):
        kinds = kinds[1:2]
    elif pa.types.is_boolean(column.type) or pa.types.is_nested(column.type):
        kinds = []
    for kind in kinds:
        try:
            values = column.cast(kind)
            break
        except (pa.ArrowException, NotImplementedError):  # no cast to this kind: the next may do, the last is refused below
            continue
    else:
        row, value = _first_wrong(column, kinds)
        raise DataError(f'{source}: row {row} has {role} {str(value)[:100]!r}, accepted are {accepted}')
    if pa.types.is_timestamp(values.type):
        micros = values.cast(pa.int64()).to_numpy()
        return micros // 10 ** 6 if not (micros % 10 ** 6).any() else micros / 1e6
    found = values.to_numpy()
    wrong = ~np.isfinite(found) if found.dtype.kind == 'f' else np.zeros(0, dtype=bool)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f'{source}: row {row + 1} has {role} {found[row]}, accepted are finite {accepted}')
    return found


def _first_wrong(column: pa.ChunkedArray, kinds: Sequence[pa.DataType]) -> tuple[int, Any]:
    r"""Row, from 1, and value at which the kind that takes most values fails."""
    best = (1, column[0].as_py() if len(column) else None)
    for kind in kinds:
        low, high = 0, len(column)  # the first ``low`` values can be cast, the first ``high`` cannot
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
    r"""Splits of rows as 0, 1 and 2 ``[rows]``, from these numbers or from ``train``, ``val`` (``valid``, ``validation``,
    ``dev``) and ``test``.

    Raises:
        DataError: On another value.
    """
    names = {'0': 0, 'train': 0, 'training': 0, '1': 1, 'val': 1, 'valid': 1, 'validation': 1, 'dev': 1, '2': 2, 'test': 2}
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    coded = pc.cast(column, pa.string()).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        return np.empty(0, dtype=np.int64)
    values = coded.dictionary.to_pylist()
    unknown = [value for value in values if value.lower() not in names]
    if coded.null_count or unknown:
        raise DataError(f'{source}: its split is {unknown[0] if unknown else None!r} in a row, accepted are 0, 1, 2 and '
                        'train, val, test')
    return np.array([names[value.lower()] for value in values])[coded.indices.to_numpy()]


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
