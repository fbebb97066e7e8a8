r"""Columns of interaction logs of any origin: delimited text, JSON lines, Parquet and data frames,
block by block.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from genrec_pyg.datasets.io.layouts import line_of, recognize
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.roles import ROLES, check_columns, check_roles, find_columns
from genrec_pyg.datasets.io.rows import BadRows, from_json, from_parquet, from_text
from genrec_pyg.datasets.io.values import as_micros, check_kind
from genrec_pyg.exceptions import ConfigError, DataError


def expand(sources: Sequence[str]) -> list[Path]:
    r"""Files by name, by pattern (``logs/*.csv.gz``) or by folder, each once, in the order of their
    names.

    Raises:
        ConfigError: If a pattern or a folder has no file.
    """
    found: list[Path] = []
    for source in sources:
        if os.path.isdir(source):
            names = [
                Path(source) / name
                for name in list_folder(Path(source))
                if (Path(source) / name).is_file()
            ]
        elif not os.path.lexists(source) and glob.has_magic(source):
            names = [
                Path(name)
                for name in sorted(glob.glob(source, recursive=True))
                if os.path.isfile(name)
            ]
        else:
            names = [Path(source)]
        if not names:
            raise ConfigError(
                f'log: {source} has no file, accepted are files, folders of files and patterns'
            )
        found += names
    return list(dict.fromkeys(found))


def logs_of(pattern: str, root: str | Path) -> list[Path]:
    r"""Files under ``root`` that a pattern (``logs/day-*.csv.gz``) names, in the order of their
    names; none where it is no pattern, or a file has that name.
    """
    path = Path(root) / pattern
    if '\0' in pattern or not glob.has_magic(pattern) or os.path.lexists(path):
        return []
    folder = glob.escape(str(root))
    found = glob.glob(os.path.join(folder, pattern), recursive=True)
    return [Path(name) for name in sorted(found) if os.path.isfile(name)]


def read_columns(
    source: Any,
    columns: Mapping[str, str] | None = None,
    required: Sequence[str] = ('user', 'item'),
    bad: BadRows | None = None,
    form: str | None = None,
) -> tuple[dict[str, pa.ChunkedArray], str]:
    r"""Reads the columns of a log that have a role; others are not converted.

    Args:
        source: Path of a file, see :func:`~genrec_pyg.datasets.io.layouts.recognize`, a folder of
            files, a pattern, a list of these, or a data frame (pandas, Polars, Arrow, or a mapping
            from names to columns).
        columns: Role (``'user'``, ``'item'``, ``'rating'``, ``'time'``, ``'split'``) to name; the
            others are looked for by usual names. In text numbers from 1 are positions, and say that
            the file has no header.
        required: Roles that must be there.
        bad: Takes what cannot be read; :obj:`None` refuses it.
        form: Layout of files in place of the recognized one.

    Returns:
        Role to column, and the name of the source for messages.

    Raises:
        ConfigError: On an unknown role, or a column that is not there or not found by itself; the
            message names the flag.
        DataError: If the source cannot be read.
    """
    columns = check_roles(columns)
    several = (
        isinstance(source, (list, tuple))
        and len(source) > 0
        and all(isinstance(one, (str, Path)) for one in source)
    )
    if not several and not isinstance(source, (str, Path)):
        if form is not None:
            raise ConfigError(f'format: got {form!r} for a data frame, accepted is None')
        return _from_frame(source, columns, required), 'table'
    paths = expand([str(one) for one in (source if several else [source])])
    name = str(paths[0]) + (f' and {len(paths) - 1} more' if len(paths) > 1 else '')
    readers = [
        (path, *read_log(path, columns, required, form, bad or BadRows(), coded=True))
        for path in paths
    ]
    check_same_roles([(path, roles) for path, roles, _ in readers])
    chunks: dict[str, list[pa.Array]] = {role: [] for role in readers[0][1]}
    for path, _, batches in readers:
        for batch in batches:
            # as text, where a file of text may stand beside one of numbers
            columns_of = batch.columns if len(paths) == 1 else as_text(batch, str(path))
            for role, column in zip(batch.schema.names, columns_of):
                chunks[role].append(column)
    kinds = {role: chunk[0].type if chunk else pa.string() for role, chunk in chunks.items()}
    return {role: pa.chunked_array(chunk, kinds[role]) for role, chunk in chunks.items()}, name


def check_same_roles(files: Sequence[tuple[Path, Sequence[str]]]) -> None:
    r"""Checks that files of one log have columns of the same roles.

    Raises:
        ConfigError: Naming two files that do not.
    """
    for path, roles in files:
        if set(roles) != set(files[0][1]):
            raise ConfigError(
                f'{path}: has columns for {", ".join(sorted(roles))}, {files[0][0]} for '
                f'{", ".join(sorted(files[0][1]))}; accepted are files with the same columns'
            )


def read_log(
    path: Path,
    columns: Mapping[str, str] | None,
    required: Sequence[str],
    form: str | None,
    bad: BadRows,
    coded: bool = False,
    roles: Sequence[str] = ROLES,
) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    r"""Roles of the columns of a file, and its rows block by block.

    Args:
        path: File.
        columns: See :func:`read_columns`; :obj:`None` where the user has no say in it.
        required: Roles that must be there.
        form: Layout in place of the recognized one, see
            :func:`~genrec_pyg.datasets.io.layouts.recognize`.
        bad: Counts rows with another number of fields, invalid UTF-8 or invalid JSON.
        coded: Whether text of few values is dictionary-encoded.
        roles: Roles that are looked for.

    Raises:
        ConfigError: See :func:`read_columns`.
        DataError: See :func:`read_columns`; while blocks are taken, too.
    """
    layout = recognize(path, form)
    if (
        columns
        and all(name.isdecimal() for name in columns.values())
        and layout.kind == 'text'
        and layout.header
        and not set(columns.values()) & set(layout.names)
    ):
        layout = recognize(path, form, positions=True)
    if layout.kind == 'text' and not layout.header:
        chosen = dict(columns or layout.known or {})
        check_columns(layout.names, chosen, str(path), required)
    else:
        chosen = find_columns(layout.names, columns, str(path), required, roles)
    if layout.kind == 'parquet':
        return list(chosen), from_parquet(path, chosen)
    if layout.kind == 'json':
        return list(chosen), from_json(path, layout, chosen, bad)
    return list(chosen), from_text(path, layout, chosen, bad, coded)


def _from_frame(
    source: Any, columns: dict[str, str], required: Sequence[str]
) -> dict[str, pa.ChunkedArray]:
    try:
        if isinstance(source, pa.Table):
            table = source
        elif hasattr(source, '__arrow_c_stream__') or isinstance(source, Mapping):
            table = pa.table(source)
        else:
            table = pa.Table.from_pandas(source, preserve_index=False)
    except (pa.ArrowException, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f'table: got {type(source).__name__}, accepted are a path, a data frame of pandas, '
            f'Polars or Arrow, or a mapping from names to columns of equal length '
            f'({line_of(error)})'
        ) from error
    chosen = find_columns(table.column_names, columns, 'table', required)
    return {role: table.column(name) for role, name in chosen.items()}


def as_text(batch: pa.RecordBatch, source: str) -> Iterable[pa.Array]:
    r"""The columns of a block as text: what a file of text would have in their place. Times are
    whole seconds, or seconds with a fraction, since 1970.

    Raises:
        DataError: If a column is of a type that its role cannot have.
    """
    for role, column in zip(batch.schema.names, batch.columns):
        check_kind(column.type, role, source)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_temporal(kind):
            micros = as_micros(column.cast(kind), role, source)
            whole = pc.all(pc.equal(pc.multiply(pc.divide(micros, 10**6), 10**6), micros)).as_py()
            column = (
                pc.divide(micros, 10**6)
                if whole
                else pc.divide(micros.cast(pa.float64(), safe=False), 1e6)
            )
        yield pc.fill_null(column.cast(pa.string()), '')
