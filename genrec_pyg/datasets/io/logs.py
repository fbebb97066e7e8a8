r"""Columns of interaction logs of any origin: delimited text, JSON lines, Parquet and data frames, block by block."""
from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from genrec_pyg.datasets.io.layouts import Layout, line_of, recognize
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.roles import ROLES, check_columns, check_roles, find_columns
from genrec_pyg.exceptions import ConfigError, DataError

#: Bytes of text that are parsed at a time, rows of Parquet.
_BLOCK = 1 << 24
_ROWS = 1 << 17
#: Examples of bad rows that are kept, and their letters.
_EXAMPLES, _LETTERS = 3, 200


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


def expand(sources: Sequence[str]) -> list[Path]:
    r"""Files by name, by pattern (``logs/*.csv.gz``) or by folder, each once, in the order of their names.

    Raises:
        ConfigError: If a pattern or a folder has no file.
    """
    found: list[Path] = []
    for source in sources:
        if os.path.isdir(source):
            names = [Path(source) / name for name in list_folder(Path(source)) if (Path(source) / name).is_file()]
        elif not os.path.lexists(source) and glob.has_magic(source):
            names = [Path(name) for name in sorted(glob.glob(source, recursive=True)) if os.path.isfile(name)]
        else:
            names = [Path(source)]
        if not names:
            raise ConfigError(f'log: {source} has no file, accepted are files, folders of files and patterns')
        found += names
    return list(dict.fromkeys(found))


def read_columns(source: Any, columns: Optional[Mapping[str, str]] = None, required: Sequence[str] = ('user', 'item'),
                 bad: Optional[BadRows] = None) -> tuple[dict[str, pa.ChunkedArray], str]:
    r"""Reads the columns of a log that have a role; others are not converted.

    Args:
        source: Path of a file, see :func:`~genrec_pyg.datasets.io.layouts.recognize`, or a data frame (pandas, Polars, Arrow,
            or a mapping from names to columns).
        columns: Role (``'user'``, ``'item'``, ``'rating'``, ``'time'``, ``'split'``) to name; the others are looked for by
            usual names. In text numbers from 1 are positions, and say that the file has no header.
        required: Roles that must be there.
        bad: Takes what cannot be read; :obj:`None` refuses it.

    Returns:
        Role to column, and the name of the source for messages.

    Raises:
        ConfigError: On an unknown role, or a column that is not there or not found by itself; the message names the flag.
        DataError: If the source cannot be read.
    """
    columns = check_roles(columns)
    if not isinstance(source, (str, Path)):
        return _from_frame(source, columns, required), 'table'
    path = Path(source)
    roles, batches = read_log(path, columns, required, None, bad or BadRows(), coded=True)
    chunks: dict[str, list[pa.Array]] = {role: [] for role in roles}
    for batch in batches:
        for role in roles:
            chunks[role].append(batch.column(role))
    kinds = {role: chunk[0].type if chunk else pa.string() for role, chunk in chunks.items()}
    return {role: pa.chunked_array(chunk, kinds[role]) for role, chunk in chunks.items()}, str(path)


def read_log(path: Path, columns: Mapping[str, str], required: Sequence[str], form: Optional[str], bad: BadRows,
             coded: bool = False, roles: Sequence[str] = ROLES) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    r"""Roles of the columns of a file, and its rows block by block.

    Args:
        path: File.
        columns: See :func:`read_columns`.
        required: Roles that must be there.
        form: Layout in place of the recognized one, see :func:`~genrec_pyg.datasets.io.layouts.recognize`.
        bad: Counts rows with another number of fields, invalid UTF-8 or invalid JSON.
        coded: Whether text of few values is dictionary-encoded.
        roles: Roles that are looked for.

    Raises:
        ConfigError: See :func:`read_columns`.
        DataError: See :func:`read_columns`; while blocks are taken, too.
    """
    layout = recognize(path, form)
    if columns and all(name.isdecimal() for name in columns.values()) and layout.kind == 'text' and layout.header \
            and not set(columns.values()) & set(layout.names):
        layout = recognize(path, form, positions=True)
    if layout.kind == 'text' and not layout.header:
        chosen = dict(columns or layout.known or {})
        check_columns(layout.names, chosen, str(path), required)
    else:
        chosen = find_columns(layout.names, columns, str(path), required, roles)
    if layout.kind == 'parquet':
        return list(chosen), _from_parquet(path, chosen)
    if layout.kind == 'json':
        return list(chosen), _from_json(path, layout, chosen, bad)
    return list(chosen), _from_text(path, layout, chosen, bad, coded)


def _from_text(path: Path, layout: Layout, chosen: Mapping[str, str], bad: BadRows, coded: bool) -> Iterator[pa.RecordBatch]:
    internal = [f'c{number}' for number in range(len(layout.names))]  # whatever the header repeats or leaves empty
    place = {role: internal[layout.names.index(name)] for role, name in chosen.items()}
    few = {column for role, column in place.items() if coded and role in ('user', 'item', 'split')}
    kind = pa.binary() if bad.skip else pa.string()  # Arrow refuses a block for one letter that is no UTF-8
    kinds = {column: pa.dictionary(pa.int32(), kind) if column in few and not bad.skip else kind for column in place.values()}
    convert = arrow_csv.ConvertOptions(column_types=kinds, include_columns=list(kinds), null_values=[],
                                       strings_can_be_null=False)

    def on_row(row: arrow_csv.InvalidRow) -> str:
        bad.add('fields', f'{path}: {row.text}')
        return 'skip'

    parse = arrow_csv.ParseOptions(delimiter=layout.delimiter, quote_char='"' if layout.quotes else False,
                                   newlines_in_values=layout.quotes, invalid_row_handler=on_row if bad.skip else None)

    def batches(threads: bool) -> Iterator[pa.RecordBatch]:
        read = arrow_csv.ReadOptions(use_threads=threads, column_names=internal, skip_rows=int(layout.header),
                                     block_size=_BLOCK)
        with pa.input_stream(str(path), compression=layout.compression) as stream, \
                arrow_csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader:
            yield from reader

    try:
        for batch in batches(True):
            found = pa.RecordBatch.from_arrays([batch.column(column) for column in place.values()], list(place))
            yield _decoded(found, path, bad) if bad.skip else found
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: cannot be read ({_first_error(batches, error)}); accepted are rows of {len(layout.names)} '
                        'fields in UTF-8') from error


def _first_error(batches: Any, error: BaseException) -> str:
    r"""The message with the number of the row, which one thread knows."""
    try:
        for _ in batches(False):
            pass
    except (pa.ArrowException, OSError, UnicodeDecodeError) as again:
        return line_of(again)
    return line_of(error)


def _decoded(batch: pa.RecordBatch, path: Path, bad: BadRows) -> pa.RecordBatch:
    r"""Bytes as text; rows that are no UTF-8 are left out."""
    try:
        return pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in batch.columns], batch.schema.names)
    except pa.ArrowInvalid:
        kept = []
        for number, row in enumerate(zip(*(column.to_pylist() for column in batch.columns))):
            try:
                for value in row:
                    value.decode()
                kept.append(number)
            except UnicodeDecodeError:
                bad.add('utf-8', f'{path}: {row}')
        return _decoded(batch.take(pa.array(kept, pa.int64())), path, bad)


def _from_json(path: Path, layout: Layout, chosen: Mapping[str, str], bad: BadRows) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([(role, pa.string()) for role in chosen])
    try:
        with pa.input_stream(str(path), compression=layout.compression) as stream:
            for numbered in _blocks_of_lines(stream):
                rows = [row for row in (_json_row(line, number, chosen, path, bad) for number, line in numbered)
                        if row is not None]
                columns = zip(*rows) if rows else [()] * len(chosen)
                yield pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], schema=schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f'{path}: cannot be read ({line_of(error)})') from error


def _blocks_of_lines(stream: Any) -> Iterator[list[tuple[int, bytes]]]:
    rest, number = b'', 1
    while block := stream.read(_BLOCK):
        *lines, rest = (rest + bytes(block)).split(b'\n')
        yield list(enumerate(lines, start=number))
        number += len(lines)
    yield [(number, rest)]


def _json_row(line: bytes, number: int, chosen: Mapping[str, str], path: Path, bad: BadRows) -> Optional[list[str]]:
    if not line.strip():
        return None
    try:
        entry = json.loads(line.decode('utf-8-sig'))
        if isinstance(entry, dict):
            values = [entry.get(name) for name in chosen.values()]
            if not any(isinstance(value, (dict, list, bool)) for value in values):
                texts = ['' if value is None else value if isinstance(value, str) else repr(value) for value in values]
                ''.join(texts).encode()  # escapes may name halves of letters
                return texts
        reason = 'accepted are objects with texts and numbers'
    except (ValueError, RecursionError) as error:
        reason = line_of(error)
    if not bad.skip:
        raise DataError(f'{path}: line {number} is no row ({reason}): {line[:_LETTERS].decode(errors="replace")!r}')
    bad.add('json', f'{path}: line {number}: {line[:_LETTERS].decode(errors="replace")}')
    return None


def _from_parquet(path: Path, chosen: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    try:
        with parquet.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(chosen.values()))):
                yield pa.RecordBatch.from_arrays([batch.column(name) for name in chosen.values()], list(chosen))
    except (GeneratorExit, ConfigError):
        raise
    except Exception as error:  # damage can lead the reader anywhere
        raise DataError(f'{path}: not a readable Parquet file ({line_of(error)})') from error


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
                        f'or a mapping from names to columns of equal length ({line_of(error)})') from error
    chosen = find_columns(table.column_names, columns, 'table', required)
    return {role: table.column(name) for role, name in chosen.items()}


def as_text(batch: pa.RecordBatch) -> Iterable[pa.Array]:
    r"""The columns of a block as text: what a file of text would have in their place. Times are whole seconds, or seconds
    with a fraction, since 1970."""
    for column in batch.columns:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_temporal(kind):
            micros = column.cast(pa.timestamp('us', getattr(kind, 'tz', None))).cast(pa.int64())
            whole = pc.all(pc.equal(pc.multiply(pc.divide(micros, 10 ** 6), 10 ** 6), micros)).as_py()
            column = pc.divide(micros, 10 ** 6) if whole else pc.divide(micros.cast(pa.float64()), 1e6)
        yield pc.fill_null(column.cast(pa.string()), '')
