r"""Interaction tables: text files of one interaction a line, with errors that name the line."""
from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np

from genrec_pyg.datasets.io.regular import open_regular
from genrec_pyg.exceptions import DataError

REQUIRED = ('userID', 'itemID', 'x_label')
#: Further columns that are read.
OPTIONAL = ('rating', 'timestamp')

#: First bytes of gzip, zip, bzip2, xz and zstd.
_PACKED = (b'\x1f\x8b', b'PK', b'BZh', b'\xfd7zX', b'\x28\xb5\x2f\xfd')
_ACCEPTED = {'x_label': '0, 1 and 2', 'rating': 'numbers', 'timestamp': 'numbers'}
_MAX_ID = 2 ** 63 - 1
#: Whole numbers up to here are exact as float64.
_EXACT = 2 ** 53


def read_interactions(path: Path) -> dict[str, np.ndarray]:
    r"""Reads a tab separated file with the header ``userID itemID ... x_label``, in the order of its lines.

    Ids and labels become int64, ``rating`` float32, ``timestamp`` int64 where all are whole, else float64. Other columns are
    left out. Empty lines at the end are skipped.

    Raises:
        DataError: If the file cannot be read or is no UTF-8 text, a column is missing or there twice, or a line has a value of
            the wrong type, a negative id or an unknown label; the message names the line.
    """
    lines = _lines(path)
    header = next(lines, (1, ''))[1].split('\t')
    if header == ['']:
        raise DataError(f"{path}: has no header, accepted is tab separated with {', '.join(REQUIRED)}")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        shown = str(header)[:200]
        raise DataError(f"{path}: the header is {shown}, accepted is tab separated with {', '.join(REQUIRED)}")
    wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in header]
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise DataError(f'{path}: the header names {twice[0]} {header.count(twice[0])} times, accepted is once')
    position = [header.index(name) for name in wanted]
    values: list[list[Union[int, float]]] = [[] for _ in wanted]
    for number, line in lines:
        fields = line.split('\t')
        if len(fields) != len(header):
            raise DataError(f'{path}: line {number} has {len(fields)} fields, accepted are {len(header)}')
        for name, place, column in zip(wanted, position, values):
            column.append(_number(fields[place], name, path, number))
    if not values[0]:
        raise DataError(f'{path}: has no interaction')
    return {name: _column(name, column) for name, column in zip(wanted, values)}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line; empty ones at the end are left out, others stay to be reported."""
    empty: list[int] = []
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding='utf-8-sig') as text:
            for number, line in enumerate(text, start=1):
                if not line.strip(' \n'):
                    empty.append(number)
                    continue
                yield from ((skipped, '') for skipped in empty)
                empty.clear()
                yield number, line.rstrip('\n')
    except UnicodeDecodeError as error:
        with open_regular(path) as file:
            packed = file.read(4).startswith(_PACKED)
        reason = 'is compressed, unpack it first' if packed else f'is not UTF-8 text ({error})'
        raise DataError(f'{path}: {reason}; accepted is a tab separated text file') from error
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error


def _number(text: str, name: str, path: Path, line: int) -> Union[int, float]:
    value: Any = None
    if text.isascii() and '_' not in text:  # Python would also take digits of other scripts and 1_000
        try:
            value = int(text)
        except ValueError:
            try:
                value = float(text) if name in OPTIONAL else None
            except ValueError:
                value = None
    if name == 'x_label':
        valid = value in (0, 1, 2)
    elif name in OPTIONAL:  # comparing is false for NaN
        valid = value is not None and abs(value) < (_EXACT if isinstance(value, float) or name == 'rating' else _MAX_ID)
    else:
        valid = value is not None and 0 <= value <= _MAX_ID
    if not valid:
        accepted = _ACCEPTED.get(name, f'integers from 0 to {_MAX_ID}')
        raise DataError(f'{path}: line {line} has {name} {text[:100]!r}, accepted are {accepted}')
    return value


def _column(name: str, values: list[Union[int, float]]) -> np.ndarray:
    if name == 'rating':
        return np.asarray(values, dtype=np.float32)
    if name != 'timestamp' or all(isinstance(value, int) for value in values):
        return np.asarray(values, dtype=np.int64)
    column = np.asarray(values, dtype=np.float64)
    whole = (column == column.round()).all() and (np.abs(column) < _EXACT).all()
    return column.astype(np.int64) if whole else column
