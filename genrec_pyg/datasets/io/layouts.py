r"""Layouts of the files that logs come in, told by their first bytes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import parquet

from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.datasets.io.roles import TYPED
from genrec_pyg.exceptions import ConfigError, DataError

_COMPRESSION = {b'\x1f\x8b': 'gzip', b'BZh': 'bz2', b'\x28\xb5\x2f\xfd': 'zstd'}
_PARQUET = b'PAR1'
#: Bytes that are looked at; longest header line.
_HEADER = 1 << 20
#: JSON objects whose names are looked at.
_OBJECTS = 1000
_DELIMITERS = '\t,;| '
_ACCEPTED = 'delimited text, JSON lines (both plain, gzip, bzip2, zstd) and Parquet'
#: Names of layouts that ``--format`` takes.
FORMATS = ('csv', 'tsv', 'json', 'parquet', 'recbole', 'mmrec', 'movielens', 'amazon', 'pairs')
_ASIN, _REVIEWER = re.compile(r'B[0-9A-Z]{9}|[0-9]{9}[0-9X]'), re.compile(r'A[0-9A-Z]{9,20}')
_WHOLE = re.compile(r'[0-9]+')
_NUMBER = re.compile(r'[0-9]+(\.[0-9]+)?')
_SECONDS = re.compile(r'[0-9]{9,13}(\.[0-9]+)?')


class Layout(NamedTuple):
    r"""How a file is read.

    Args:
        kind: ``'text'``, ``'json'`` or ``'parquet'``.
        names: Names of its columns, types of RecBole taken off; ``'1'``, ``'2'`` and so on where
            there is no header.
        compression: How it is packed, in the words of Arrow.
        delimiter: What stands between fields of a text.
        header: Whether the first line of a text has names.
        quotes: Whether quotes enclose fields.
        known: Role to column, where the layout says so without names.
    """

    kind: str
    names: list[str]
    compression: str | None = None
    delimiter: str = ','
    header: bool = True
    quotes: bool = True
    known: dict[str, str] | None = None


def recognize(path: Path, form: str | None = None, positions: bool = False) -> Layout:
    r"""The layout of a file, by its content.

    Text without a header is recognized in the forms in which it is published: two whole numbers
    (SASRec's ``user item``), or user, item, rating and perhaps time (MovieLens' ``u.data`` and,
    with ``::``, ``ratings.dat``; Amazon's files of ratings, of 2018 with the item first).

    Args:
        path: File.
        form: One of :data:`FORMATS`, in place of what the content says.
        positions: Whether the caller numbers the columns of a text from 1, so that it has no
            header.

    Raises:
        ConfigError: If there is no such ``form``.
        DataError: If the file is of another kind.
    """
    if form not in (None, *FORMATS):
        raise ConfigError(f'--format: got {form!r}, accepted are {", ".join(FORMATS)}')
    with open_regular(path) as file:
        start = file.read(4)
    if form == 'parquet' or (form is None and start == _PARQUET):
        try:
            with parquet.ParquetFile(str(path)) as file:
                return Layout('parquet', file.schema_arrow.names)
        except Exception as error:  # metadata are parsed by code that damage can lead anywhere
            raise DataError(f'{path}: not a readable Parquet file ({line_of(error)})') from error
    compression = next(
        (name for magic, name in _COMPRESSION.items() if start.startswith(magic)), None
    )
    lines = _first_lines(path, compression)
    if not lines or not lines[0].strip():
        raise DataError(
            f'{path}: has no header; accepted is a first line with the names of the columns'
        )
    if form == 'json' or (form in (None, 'amazon') and lines[0].lstrip().startswith('{')):
        return Layout('json', _keys(lines), compression)
    return _text(path, lines[0], compression, form, positions)


def _first_lines(path: Path, compression: str | None) -> list[str]:
    try:
        with pa.input_stream(str(path), compression=compression) as stream:
            content = bytes(stream.read(_HEADER))
        if b'\0' in content:
            raise DataError(f'{path}: is no text; accepted are {_ACCEPTED}')
        lines = content.split(b'\n')[: _OBJECTS + 1]
        whole = lines[:-1] if len(lines) > 1 and len(content) == _HEADER else lines
        first = whole[0].decode('utf-8-sig')
        return [
            line.rstrip('\r')
            for line in (first, *(line.decode(errors='replace') for line in whole[1:]))
        ]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f'{path}: cannot be read ({line_of(error)})') from error
    except UnicodeDecodeError as error:
        raise DataError(
            f'{path}: is neither UTF-8 text nor Parquet; accepted are {_ACCEPTED}'
        ) from error


def _keys(lines: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for line in lines[:_OBJECTS]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # reported where rows are read
            continue
        found.update(dict.fromkeys(entry if isinstance(entry, dict) else ()))
    return list(found)


def _text(
    path: Path, first: str, compression: str | None, form: str | None, positions: bool
) -> Layout:
    # Arrow takes one letter: every second field is empty
    if form in (None, 'movielens') and '::' in first:
        names = [str(number) for number in range(1, first.count(':') + 2)]
        return Layout(
            'text',
            names,
            compression,
            ':',
            False,
            False,
            dict(zip(('user', 'item', 'rating', 'time'), names[::2])),
        )
    delimiter = {'csv': ',', 'tsv': '\t', 'recbole': '\t', 'mmrec': '\t'}.get(form or '') or next(
        (mark for mark in _DELIMITERS if mark in first), ','
    )
    try:
        names = next(csv.reader([first], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f'{path}: the first line cannot be read ({error})') from error
    typed = [TYPED.fullmatch(name) for name in names]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    known = None if positions else _without_header(names, form)
    if positions or known is not None:
        return Layout('text', numbers, compression, delimiter, False, known is None, known)
    quotes = not all(typed) and form not in ('recbole', 'mmrec')
    return Layout(
        'text',
        [name if found is None else found[1] for name, found in zip(names, typed)],
        compression,
        delimiter,
        True,
        quotes,
    )


def _without_header(fields: Sequence[str], form: str | None) -> dict[str, str] | None:
    r"""Role to position, where a first line is no header."""
    if form == 'pairs' or (
        form is None and len(fields) == 2 and all(map(_WHOLE.fullmatch, fields))
    ):
        return {'user': '1', 'item': '2'}
    rated = (
        3 <= len(fields) <= 4
        and _NUMBER.fullmatch(fields[2])
        and all(map(_SECONDS.fullmatch, fields[3:]))
    )
    if not rated or form not in (None, 'movielens', 'amazon') or not (form or len(fields) == 4):
        return None
    swapped = _ASIN.fullmatch(fields[0]) and _REVIEWER.fullmatch(fields[1])
    order = ('item', 'user', 'rating', 'time') if swapped else ('user', 'item', 'rating', 'time')
    return {role: str(number) for number, role in enumerate(order[: len(fields)], start=1)}


def line_of(error: BaseException) -> str:
    r"""The first line of a message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
