r"""Rows of delimited text, JSON lines and Parquet, block by block, and what of them cannot be
read.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from genrec_pyg.datasets.io.layouts import Layout, line_of
from genrec_pyg.exceptions import DataError

#: What a row does that cannot be read: it ends the reading, or is left out and counted.
ON_BAD_ROW = ('error', 'skip')
#: Bytes of text that are parsed at a time, rows of Parquet.
_BLOCK = 1 << 24
#: Longest line of JSON: a packed file may hold one without an end.
_LONGEST_LINE = 1 << 26
_ROWS = 1 << 17
#: Examples of bad rows that are kept, and their letters.
_EXAMPLES, _LETTERS = 3, 200
#: What stands for a byte that is no UTF-8, a code point that is no letter, and such bytes as Python
#: decodes them.
_MARK = '\U0010ffff'
_ESCAPED = re.compile('[\ud800-\udfff]')


@dataclass
class BadRows:
    r"""Rows that cannot be read, counted by reason.

    Args:
        skip: Whether they are left out; otherwise the first one is an error.
        counts: Reason to number of rows.
        examples: Reason to a few rows.
    """

    skip: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, text: str, number: int = 1) -> None:
        r"""Counts rows, of which ``text`` is one."""
        self.counts[reason] = self.counts.get(reason, 0) + number
        shown = self.examples.setdefault(reason, [])
        if len(shown) < _EXAMPLES:
            shown.append(text[:_LETTERS])


def from_text(
    path: Path, layout: Layout, chosen: Mapping[str, str], bad: BadRows, coded: bool
) -> Iterator[pa.RecordBatch]:
    r"""The columns of delimited text by their roles, see
    :func:`~genrec_pyg.datasets.io.logs.read_log`.

    Raises:
        DataError: On the first row that cannot be read, unless ``bad`` takes it.
    """
    # whatever the header repeats or leaves empty
    internal = [f'c{number}' for number in range(len(layout.names))]
    place = {role: internal[layout.names.index(name)] for role, name in chosen.items()}
    few = {column for role, column in place.items() if coded and role in ('user', 'item', 'split')}
    kinds = {
        column: pa.dictionary(pa.int32(), pa.string())
        if column in few and not bad.skip
        else pa.string()
        for column in place.values()
    }
    convert = arrow_csv.ConvertOptions(
        column_types=kinds, include_columns=list(kinds), null_values=[], strings_can_be_null=False
    )

    def on_row(row: arrow_csv.InvalidRow) -> str:
        bad.add('fields', f'{path}: {row.text.replace(_MARK, chr(0xFFFD))}')
        return 'skip'

    parse = arrow_csv.ParseOptions(
        delimiter=layout.delimiter,
        quote_char='"' if layout.quotes else False,
        newlines_in_values=layout.quotes,
        invalid_row_handler=on_row if bad.skip else None,
    )

    def batches(threads: bool) -> Iterator[pa.RecordBatch]:
        read = arrow_csv.ReadOptions(
            use_threads=threads,
            column_names=internal,
            skip_rows=int(layout.header),
            block_size=_BLOCK,
        )
        with pa.input_stream(str(path), compression=layout.compression) as stream:
            if bad.skip:
                decoder = codecs.getincrementaldecoder('utf-8')('surrogateescape')
                stream = pa.lib.TransformInputStream(stream, functools.partial(_marked, decoder))
            with arrow_csv.open_csv(
                stream, read_options=read, parse_options=parse, convert_options=convert
            ) as reader:
                yield from reader

    try:
        for batch in batches(True):
            found = pa.RecordBatch.from_arrays(
                [batch.column(column) for column in place.values()], list(place)
            )
            yield _unmarked(found, path, bad) if bad.skip else found
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f'{path}: cannot be read ({_first_error(batches, error)}); accepted are rows of '
            f'{len(layout.names)} fields in UTF-8; on_bad_row=skip leaves others out (from_table, '
            f'--on_bad_row skip of python -m genrec_pyg.train and genrec_pyg.prepare)'
        ) from error


def _first_error(batches: Any, error: BaseException) -> str:
    r"""The message with the number of the row, which one thread knows."""
    try:
        for _ in batches(False):
            pass
    except (pa.ArrowException, OSError, UnicodeDecodeError) as again:
        return line_of(again)
    return line_of(error)


def _marked(decoder: codecs.IncrementalDecoder, block: bytes) -> bytes:
    r"""A block of text whose bytes that are no UTF-8 are marked: Arrow refuses all of it for one of
    them.
    """
    text = decoder.decode(block, len(block) == 0)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _ESCAPED.sub(_MARK, text).encode()


def _unmarked(batch: pa.RecordBatch, path: Path, bad: BadRows) -> pa.RecordBatch:
    r"""The rows that are UTF-8; others are counted."""
    wrong = functools.reduce(
        pc.or_, (pc.match_substring(column, _MARK) for column in batch.columns)
    )
    for row in batch.filter(wrong).to_pylist():
        bad.add('utf-8', f'{path}: {", ".join(row.values()).replace(_MARK, chr(0xFFFD))}')
    return batch.filter(pc.invert(wrong))


def from_json(
    path: Path, layout: Layout, chosen: Mapping[str, str], bad: BadRows
) -> Iterator[pa.RecordBatch]:
    r"""The fields of JSON lines as text, by their roles; see :func:`from_text`. What a row does not
    have is empty.
    """
    schema = pa.schema([(role, pa.string()) for role in chosen])
    try:
        with pa.input_stream(str(path), compression=layout.compression) as stream:
            for numbered in _blocks_of_lines(stream, path):
                rows = [
                    row
                    for row in (
                        _json_row(line, number, chosen, path, bad) for number, line in numbered
                    )
                    if row is not None
                ]
                columns = zip(*rows) if rows else [()] * len(chosen)
                yield pa.RecordBatch.from_arrays(
                    [pa.array(column, pa.string()) for column in columns], schema=schema
                )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f'{path}: cannot be read ({line_of(error)})') from error


def _blocks_of_lines(stream: Any, path: Path) -> Iterator[list[tuple[int, bytes]]]:
    rest, number = b'', 1
    while block := stream.read(_BLOCK):
        *lines, rest = (rest + bytes(block)).split(b'\n')
        if len(rest) > _LONGEST_LINE:
            raise DataError(
                f'{path}: line {number + len(lines)} is longer than {_LONGEST_LINE} bytes, '
                'accepted are JSON lines'
            )
        yield list(enumerate(lines, start=number))
        number += len(lines)
    yield [(number, rest)]


def _json_row(
    line: bytes, number: int, chosen: Mapping[str, str], path: Path, bad: BadRows
) -> list[str] | None:
    if not line.strip():
        return None
    try:
        entry = json.loads(line.decode('utf-8-sig'))
        if isinstance(entry, dict):
            values = [entry.get(name) for name in chosen.values()]
            if not any(isinstance(value, (dict, list, bool)) for value in values):
                texts = [
                    '' if value is None else value if isinstance(value, str) else repr(value)
                    for value in values
                ]
                ''.join(texts).encode()  # escapes may name halves of letters
                return texts
        reason = 'accepted are objects with texts and numbers'
    except (ValueError, RecursionError) as error:
        reason = line_of(error)
    if not bad.skip:
        raise DataError(
            f'{path}: line {number} is no row ({reason}): '
            f'{line[:_LETTERS].decode(errors="replace")!r}'
        )
    bad.add('json', f'{path}: line {number}: {line[:_LETTERS].decode(errors="replace")}')
    return None


def from_parquet(path: Path, chosen: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    r"""The columns of a Parquet file by their roles, of the types that they have there.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with parquet.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(chosen.values()))):
                batch.validate(full=True)  # Parquet's own reader takes text that is no UTF-8
                yield pa.RecordBatch.from_arrays(
                    [batch.column(name) for name in chosen.values()], list(chosen)
                )
    except Exception as error:  # damage can lead the reader anywhere
        raise DataError(f'{path}: not a readable Parquet file ({line_of(error)})') from error
