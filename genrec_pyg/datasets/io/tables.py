r"""Interaction tables: text files of one interaction a line, with errors that name the line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.datasets.io.regular import is_packed, open_regular
from genrec_pyg.exceptions import DataError

REQUIRED = ('userID', 'itemID', 'x_label')
#: Further columns that are read.
OPTIONAL = ('rating', 'timestamp')

#: Whole numbers up to here are exact as float64.
_EXACT = 2**53
_MAX = 2**63 - 1
_RANGE = {
    'userID': (0, _MAX),
    'itemID': (0, _MAX),
    'x_label': (0, 2),
    'rating': (-_EXACT, _EXACT),
    'timestamp': (-_MAX, _MAX),
}
_ACCEPTED = {'x_label': '0, 1 and 2', 'rating': 'numbers', 'timestamp': 'numbers'}
_IDS = f'integers from 0 to {_MAX}'
#: Lines that are converted together: fewer objects than the garbage collector waits for, which
#: would take most of the time.
_BLOCK = 512


def read_interactions(path: Path) -> dict[str, np.ndarray]:
    r"""Reads a tab separated file with the header ``userID itemID ... x_label``, in the order of
    its lines.

    Ids and labels become int64, ``rating`` float32, ``timestamp`` int64 where all are whole, else
    float64. Other columns are left out. Empty lines at the end are skipped.

    Raises:
        DataError: If the file cannot be read or is no UTF-8 text, a column is missing or there
            twice, or a line has a value of the wrong type, a negative id or an unknown label; the
            message names the line.
    """
    lines = read_lines(path)
    header = next(lines, (1, ''))[1].split('\t')
    if header == ['']:
        raise DataError(
            f'{path}: has no header, accepted is tab separated with {", ".join(REQUIRED)}'
        )
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        shown = str(header)[:200]
        raise DataError(
            f'{path}: the header is {shown}, accepted is tab separated with {", ".join(REQUIRED)}'
        )
    wanted = [name for name in (*REQUIRED, *OPTIONAL) if name in header]
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise DataError(
            f'{path}: the header names {twice[0]} {header.count(twice[0])} times, accepted is once'
        )
    position = {name: header.index(name) for name in wanted}
    blocks = []
    while block := list(islice(lines, _BLOCK)):
        rows = [line.split('\t') for _, line in block]
        found = _parse_quickly(rows, len(header), position)
        blocks.append(
            found or _parse_each(rows, [number for number, _ in block], len(header), position, path)
        )
    if not blocks:
        raise DataError(f'{path}: has no interaction')
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in wanted}
    times = columns.get('timestamp')
    if (
        times is not None
        and times.dtype.kind == 'f'
        and (times == times.round()).all()
        and (np.abs(times) < _EXACT).all()
    ):
        columns['timestamp'] = times.astype(np.int64)
    return columns


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Number and text of each line of a UTF-8 file; empty ones at the end are left out, others
    stay to be reported.

    Raises:
        DataError: If the file cannot be read or is no UTF-8 text.
    """
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
            packed = is_packed(file.read(4))
        reason = 'is compressed, unpack it first' if packed else f'is not UTF-8 text ({error})'
        raise DataError(f'{path}: {reason}; accepted is a text file') from error
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror or error})') from error


def _number(text: str, name: str, path: Path, line: int) -> int | float:
    value: Any = None
    # Python would also take digits of other scripts and 1_000
    if text.isascii() and '_' not in text:
        for kind in (int, float) if name in OPTIONAL else (int,):
            try:
                value = kind(text)
                break
            except ValueError:
                continue
    low, high = _RANGE[name]
    if isinstance(value, float):
        low, high = -_EXACT, _EXACT
    if value is None or not low <= value <= high:  # comparing is false for NaN
        raise DataError(
            f'{path}: line {line} has {name} {text[:100]!r}, accepted are '
            f'{_ACCEPTED.get(name, _IDS)}'
        )
    return value


def _parse_quickly(
    rows: list[list[str]], width: int, position: dict[str, int]
) -> dict[str, np.ndarray] | None:
    r"""Converts a block column by column, or returns :obj:`None` where a value is not of the usual
    form.
    """
    if any(len(row) != width for row in rows):
        return None
    columns = list(zip(*rows))
    found = {}
    for name, place in position.items():
        text = ''.join(columns[place])
        if not text.isascii() or '_' in text:
            return None
        try:
            values = np.fromiter(
                map(float if name == 'rating' else int, columns[place]),
                dtype=np.float64 if name == 'rating' else np.int64,
                count=len(rows),
            )
        except (ValueError, OverflowError):
            return None
        low, high = _RANGE[name]
        if not ((values >= low) & (values <= high)).all():
            return None
        found[name] = values.astype(np.float32) if name == 'rating' else values
    return found


def _parse_each(
    rows: list[list[str]], numbers: list[int], width: int, position: dict[str, int], path: Path
) -> dict[str, np.ndarray]:
    r"""Converts a block line by line, to name the first line that is wrong."""
    values: dict[str, list] = {name: [] for name in position}
    for number, fields in zip(numbers, rows):
        if len(fields) != width:
            raise DataError(f'{path}: line {number} has {len(fields)} fields, accepted are {width}')
        for name, place in position.items():
            values[name].append(_number(fields[place], name, path, number))
    kinds = {
        'rating': np.float32,
        'timestamp': np.int64
        if all(isinstance(time, int) for time in values.get('timestamp', ()))
        else np.float64,
    }
    return {
        name: np.asarray(column, dtype=kinds.get(name, np.int64)) for name, column in values.items()
    }
