r"""Tables of items with texts: TSV, CSV and Parquet."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.datasets.io.roles import TYPED, find_columns
from genrec_pyg.datasets.io.values import read_ids
from genrec_pyg.exceptions import ConfigError, DataError

#: What happens to rows of an item that has one already.
DUPLICATES = ('error', 'first', 'join')
_COMPRESSION = {b'\x1f\x8b': 'gzip', b'BZh': 'bz2', b'\x28\xb5\x2f\xfd': 'zstd'}
_DELIMITERS = '\t,;|'
#: Longest field in characters.
_LONGEST_FIELD = 1 << 24

Ids = np.ndarray | list[str]


class ItemTexts(NamedTuple):
    r"""Items and their texts.

    Args:
        ids: Item ids in order, int64 ``[n]`` or texts.
        texts: One list per item: a text for each row of the table that it has.
        repeated: Rows of items that had one already.
    """

    ids: Ids
    texts: list[list[str]]
    repeated: int


def read_item_texts(
    path: Path,
    columns: Sequence[str],
    item: str | None = None,
    on_duplicate: str = 'error',
    unescape: bool = False,
) -> ItemTexts:
    r"""Reads a text per item.

    The delimiter of a text file is told by its first line. In a tab separated file quotes are
    letters like others, in others they keep delimiters and line breaks within a field.

    Args:
        path: Text file (plain, gzip, bzip2 or zstd) with a header, or Parquet, told by content.
        columns: Columns whose texts are joined by blanks; lists in Parquet are joined too. In a
            text file numbers from 1 are positions, and say that it has no header.
        item: Column of item ids, by default the one with a usual name (``item_id``, ``asin``).
        on_duplicate: A second row of an item is refused by ``'error'``, left out by ``'first'``,
            and another text of it with ``'join'``.
        unescape: Whether HTML entities such as ``&amp;`` are letters.

    Raises:
        ConfigError: If a column is not there, or on another ``on_duplicate``.
        DataError: If the file cannot be read, has an empty id, or an item has several rows.
    """
    if on_duplicate not in DUPLICATES:
        raise ConfigError(
            f'on_duplicate: got {on_duplicate!r}, accepted are {", ".join(DUPLICATES)}'
        )
    with open_regular(path) as file:
        start = file.read(4)
    if start == b'PAR1':
        raw, texts = _from_parquet(path, columns, item)
    else:
        compression = next(
            (name for magic, name in _COMPRESSION.items() if start.startswith(magic)), None
        )
        raw, texts = _from_text(path, compression, columns, item)
    if not raw:
        raise DataError(f'{path}: has no row')
    ids, number = read_ids(pa.chunked_array([pa.array(raw)]), 'item', str(path))
    found: list[list[str]] = [[] for _ in range(len(ids))]
    repeated = 0
    for row, place in enumerate(number.tolist()):
        if found[place] and on_duplicate != 'join':
            repeated += 1
            if on_duplicate == 'error':
                raise DataError(
                    f'{path}: row {row + 1} is a second one of item {str(ids[place])!r}; accepted '
                    f'are --on_duplicate first, which takes the first row, and join'
                )
            continue
        repeated += bool(found[place])
        found[place].append(html.unescape(texts[row]) if unescape else texts[row])
    return ItemTexts(ids, found, repeated)


def _from_text(
    path: Path, compression: str | None, columns: Sequence[str], item: str | None
) -> tuple[list[str], list[str]]:
    rows = _rows(path, compression)
    header = next(rows, [])
    if not header:
        raise DataError(f'{path}: has no row')
    typed = [TYPED.fullmatch(name) for name in header]
    if all(typed):
        header = [found[1] for found in typed]
    asked = [*columns, *([item] if item else [])]
    if asked and all(name.isdecimal() for name in asked) and not set(asked) & set(header):
        if item is None:
            raise ConfigError(
                f'{path}: --item must be a position too, such as 1, where --columns are'
            )
        places = [int(name) - 1 for name in (item, *columns)]
        if min(places) < 0 or max(places) >= len(header):
            raise ConfigError(
                f'{path}: columns {", ".join(asked)}: accepted are positions from 1 to '
                f'{len(header)}'
            )
        rows = _chain([header], rows)
    else:
        places = [header.index(name) for name in _names(path, header, columns, item)]
    raw, texts = [], []
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(
                f'{path}: row {number} has {len(row)} fields, accepted are {len(header)}'
            )
        raw.append(row[places[0]])
        texts.append(' '.join(filter(None, (row[place].strip() for place in places[1:]))))
    return raw, texts


def _rows(path: Path, compression: str | None) -> Iterator[list[str]]:
    number = 0
    try:
        with (
            pa.input_stream(str(path), compression=compression) as stream,
            io.TextIOWrapper(stream, encoding='utf-8-sig', newline='') as text,
        ):
            first = text.readline(_LONGEST_FIELD)
            if '\0' in first:
                raise DataError(
                    f'{path}: is no text; accepted are TSV, CSV (plain, gzip, bzip2, zstd) '
                    'and Parquet'
                )
            delimiter = next((mark for mark in _DELIMITERS if mark in first), ',')
            before = csv.field_size_limit(_LONGEST_FIELD)
            try:
                quoting = csv.QUOTE_NONE if delimiter == '\t' else csv.QUOTE_MINIMAL
                for row in csv.reader(
                    _chain([first], text), delimiter=delimiter, quoting=quoting, strict=True
                ):
                    if row:
                        yield row
                    number += 1
            finally:
                csv.field_size_limit(before)
    except (csv.Error, UnicodeDecodeError, OSError, pa.ArrowException) as error:
        raise DataError(
            f'{path}: cannot be read after row {number} ({error}); accepted is UTF-8 text '
            'with one row per line'
        ) from error


def _chain(first: Sequence[Any], rest: Iterator[Any]) -> Iterator[Any]:
    yield from first
    yield from rest


def _names(
    path: Path, header: Sequence[str], columns: Sequence[str], item: str | None
) -> list[str]:
    r"""Names of the columns of ids and texts."""
    shown = ', '.join(map(repr, header[:20]))
    for flag, name in [('--item', item), *(('--columns', column) for column in columns)]:
        if name is not None and list(header).count(name) != 1:
            there = 'is no' if name not in header else 'are several'
            raise ConfigError(
                f'{path}: {flag} {name}: there {there} such column, accepted are {shown}'
            )
    if item is None:
        try:
            item = find_columns(header, {}, str(path), ('item',))['item']
        except ConfigError as error:
            raise ConfigError(
                f'{path}: none of its columns ({shown}) is known as the item; say which '
                'with --item NAME'
            ) from error
    return [item, *columns]


def _from_parquet(
    path: Path, columns: Sequence[str], item: str | None
) -> tuple[list[Any], list[str]]:
    try:
        with parquet.ParquetFile(str(path)) as file:
            names = _names(path, file.schema_arrow.names, columns, item)
            table = file.read(names)
        raw = table.column(names[0]).to_pylist()
        parts = [table.column(name).to_pylist() for name in names[1:]]
    except (ConfigError, DataError):
        raise
    except Exception as error:  # damage can lead the reader anywhere
        raise DataError(f'{path}: not a readable Parquet file ({str(error)[:200]})') from error
    for row, value in enumerate(raw, start=1):
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            raise DataError(
                f'{path}: row {row} has the item id {value!r}, accepted are texts and whole numbers'
            )
    return raw, [' '.join(filter(None, map(_flat, values))) for values in zip(*parts)]


def _flat(value: Any) -> str:
    if isinstance(value, list):
        return ' '.join(filter(None, map(_flat, value)))
    return '' if value is None else str(value).strip()
