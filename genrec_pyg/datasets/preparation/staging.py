r"""From files of text to numbered rows, sorted by user and item, out of core in DuckDB."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from genrec_pyg.datasets.io.logs import as_text, check_same_roles, read_log
from genrec_pyg.datasets.io.roles import ROLES
from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.datasets.io.values import LABELS, PADDING, WHOLE
from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.exceptions import ConfigError, DataError, OutputError

#: Rows that leave the engine at a time.
BLOCK = 1 << 20
#: What a number is written with; DuckDB would also take ``1_0``, blanks and hexadecimal digits.
_NUMBER = '[-+]?[0-9]*[.]?[0-9]+[.]?([eE][-+]?[0-9]+)?'


class Staged(NamedTuple):
    r"""Distinct rows of a log by the numbers of their ids, sorted by user, then item.

    Args:
        user: Users ``[P]``, int32.
        item: Items ``[P]``, int32.
        row: Places in the log ``[P]``, int64.
        time: Times ``[P]``, int64 or float64, or :obj:`None`.
        rating: Ratings ``[P]``, float32, or :obj:`None`.
        label: Splits ``[P]`` of a column of the log, int8, or :obj:`None`.
    """

    user: np.ndarray
    item: np.ndarray
    row: np.ndarray
    time: np.ndarray | None
    rating: np.ndarray | None
    label: np.ndarray | None

    def release(self) -> None:
        r"""Gives the memory of mapped files back that has been read: it counts for the process
        until the system needs it.
        """
        for column in self:
            mapped = getattr(column, '_mmap', None)
            if mapped is not None and hasattr(mmap, 'MADV_DONTNEED'):
                mapped.madvise(mmap.MADV_DONTNEED)


def connect(folder: Path, memory: str) -> Any:
    r"""An engine whose database and overflow lie in ``folder``.

    Raises:
        ConfigError: If DuckDB is not installed, or ``memory`` is no amount.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ConfigError(
            'prepare: needs DuckDB, which is not installed; accepted is pip install '
            '"genrec_pyg[prepare]"'
        ) from error
    with engine_errors():
        con = duckdb.connect(str(folder / 'work.duckdb'))
        con.execute(
            "SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET "
            'enable_progress_bar = false'
        )
        con.execute('SET temp_directory = ?', [str(folder / 'overflow')])
        affinity = getattr(os, 'sched_getaffinity', None)
        con.execute(f'SET threads = {len(affinity(0)) if affinity else os.cpu_count()}')
    try:
        con.execute('SET memory_limit = ?', [memory])
    except duckdb.Error as error:
        raise ConfigError(f"memory: got {memory!r}, accepted are amounts such as '2GB'") from error
    return con


@contextmanager
def engine_errors() -> Iterator[None]:
    r"""Errors of the engine within this context are those of this package.

    Raises:
        OutputError: If the disk is full, or the memory too small.
    """
    import duckdb

    try:
        yield
    except (
        duckdb.IOException,
        duckdb.OutOfMemoryException,
        duckdb.FatalException,
        pa.ArrowException,
    ) as error:
        raise OutputError(
            f'prepare: the engine cannot go on ({str(error).splitlines()[0][:300]}); accepted are '
            f'more space on the disk of --output and more --memory'
        ) from error


def execute(con: Any, sql: str, values: Sequence[Any] = ()) -> Any:
    r"""Runs a statement."""
    return con.execute(sql, list(values))


def stream(con: Any, sql: str) -> pa.RecordBatchReader:
    r"""The rows of a query, block by block."""
    return con.sql(sql).to_arrow_reader(BLOCK)


def load(con: Any, paths: Sequence[Path], options: Options, report: Report) -> list[str]:
    r"""Fills the table ``raw`` with the rows of all files as text, and returns the roles of its
    columns.

    Raises:
        ConfigError: If a column is missing, or the files have different ones.
        DataError: If a file cannot be read.
    """
    bad = BadRows(options.on_bad_row == 'skip')
    readers = []
    for path in paths:
        roles, batches = read_log(path, options.columns, ('user', 'item'), options.form, bad)
        readers.append((path, roles, batches))
    check_same_roles([(path, roles) for path, roles, _ in readers])
    roles = [role for role in ROLES if role in readers[0][1]]
    failure: list[BaseException] = []

    def rows() -> Iterator[pa.RecordBatch]:
        place = 0
        try:
            for path, _, batches in readers:
                for batch in batches:
                    columns = dict(zip(batch.schema.names, as_text(batch, str(path))))
                    number = pa.array(np.arange(place, place + batch.num_rows))
                    place += batch.num_rows
                    yield pa.RecordBatch.from_arrays(
                        [*(columns[role] for role in roles), number], schema=schema
                    )
        except BaseException as error:  # the engine would pass on its text alone
            failure.append(error)
            raise

    schema = pa.schema([*((role, pa.string()) for role in roles), ('row', pa.int64())])
    con.register('stream', pa.RecordBatchReader.from_batches(schema, rows()))
    try:
        execute(con, 'CREATE TABLE raw AS SELECT * FROM stream')
    except Exception:
        if failure:
            raise failure[0] from None
        raise
    finally:
        con.unregister('stream')
    count = execute(con, 'SELECT count(*) FROM raw').fetchall()[0][0]
    dropped = sum(bad.counts.values())
    report.steps['read'] = {'files': len(paths), 'rows': count + dropped}
    report.steps.setdefault('not readable', {}).update(bad.counts)
    report.examples.update(bad.examples)
    return roles


def number_kind(con: Any, role: str) -> tuple[str, str]:
    r"""SQL of a column as numbers, of the kind that most of its rows are: the value, null where a
    row is of another kind, and its type.
    """
    number = f"CASE WHEN regexp_full_match({role}, '{_NUMBER}') THEN TRY_CAST({role} AS DOUBLE) END"
    number = f'CASE WHEN isfinite({number}) THEN {number} END'
    whole = f'TRY_CAST({role} AS BIGINT)'
    whole = f'CASE WHEN {number} = {whole}::DOUBLE THEN {whole} END'
    if role == 'rating':
        return f'({number})::FLOAT', 'FLOAT'
    micros = f'epoch_us(TRY_CAST({role} AS TIMESTAMPTZ))'
    numbers, wholes, dates, seconds = execute(
        con,
        f"""
        SELECT count({number}), count({whole}), count({micros}),
            count(*) FILTER ({micros} % 1000000 = 0)
        FROM raw""",
    ).fetchall()[0]
    if dates > numbers:
        return (
            (f'({micros}) // 1000000', 'BIGINT')
            if seconds == dates
            else (f'({micros}) / 1e6', 'DOUBLE')
        )
    return (f'({whole})', 'BIGINT') if wholes == numbers else (f'({number})', 'DOUBLE')


def stage(
    con: Any,
    roles: Sequence[str],
    options: Options,
    report: Report,
    more_items: Sequence[str],
    folder: Path,
) -> tuple[Staged, bool, bool]:
    r"""Numbers users and items and sorts the rows; rows that cannot be used are left out or
    refused.

    Args:
        con: Engine with the table ``raw``.
        roles: Its columns.
        options: What is asked for.
        report: Takes what is left out.
        more_items: Ids of items that are numbered too, though the log may not have them.
        folder: Folder for the sorted columns.

    Returns:
        The rows, and whether all user ids and all item ids are whole numbers.

    Raises:
        DataError: If a row cannot be used (``on_bad_row='error'``), or none is left.
    """
    with_label = options.split_for(roles) is None
    values = {role: number_kind(con, role) for role in ('rating', 'time') if role in roles}
    labels = ' '.join(f"WHEN '{name}' THEN {label}" for name, label in LABELS.items())
    checks = {'no user id': '"user" = \'\'', 'no item id': "item = ''"}
    checks |= {
        f'no {role} number' if role == 'rating' else 'no time': f'{sql} IS NULL'
        for role, (sql, _) in values.items()
    }
    label = f'CASE lower(split) {labels} END'
    if with_label:
        checks['no split'] = f'{label} IS NULL'
    good = ' AND '.join(f'NOT ({check})' for check in checks.values())
    _check_rows(con, checks, roles, options.on_bad_row == 'skip', report)
    whole = tuple(
        _number_ids(con, role, good, more_items if role == 'item' else ())
        for role in ('user', 'item')
    )
    if options.min_rating is not None:
        if 'rating' not in values:
            raise DataError(
                f'min_rating: got {options.min_rating}, but the log has no ratings; accepted is '
                f'None, or --rating COLUMN'
            )
        kept, most = execute(
            con,
            f"""SELECT count(*) FILTER ({values['rating'][0]} >= ?), max({values['rating'][0]})
                                      FROM raw WHERE {good}""",
            [options.min_rating],
        ).fetchall()[0]
        if kept == 0:
            raise DataError(
                f'min_rating: no rating is at least {options.min_rating}, the largest is {most}'
            )
        report.steps[f'rating from {options.min_rating:g}'] = {'rows are kept': kept}
        good += f' AND {values["rating"][0]} >= {float(options.min_rating)!r}'
    time = [f'{values["time"][0]} AS time'] if 'time' in values else []
    rating = [f'{values["rating"][0]} AS rating'] if 'rating' in values else []
    columns = [*time, *rating, *([f'({label})::TINYINT AS label'] if with_label else [])]
    order = [
        *(['label'] if with_label else []),
        *(['time'] if time else []),
        *(['rating DESC'] if time and rating else []),
        'row',
    ]
    rows = stream(
        con,
        f"""
        SELECT users.number AS u, items.number AS i, {', '.join([*columns, 'row'])}
        FROM raw JOIN users ON raw."user" = users.id JOIN items ON raw.item = items.id WHERE {good}
        ORDER BY u, i, {', '.join(order)}""",
    )
    staged, repeated = _first_of_pairs(rows, folder)
    if staged.user.size == 0:
        raise DataError('log: has no interaction')
    report.steps['repeated pairs'] = {'rows are merged': repeated}
    return staged, *whole


def _check_rows(
    con: Any, checks: dict[str, str], roles: Sequence[str], skip: bool, report: Report
) -> None:
    r"""Counts the rows that cannot be used, which later queries leave out, or refuses them."""
    counted = ', '.join(f'count(*) FILTER ({check})' for check in checks.values())
    counts = execute(con, f'SELECT {counted} FROM raw').fetchall()[0]
    for (reason, check), count in zip(checks.items(), counts):
        if not count:
            continue
        names = ', '.join(f'"{role}"' for role in roles)
        first = execute(
            con, f'SELECT row + 1, {names} FROM raw WHERE {check} ORDER BY row LIMIT 1'
        ).fetchall()[0]
        shown = ', '.join(f'{role} {str(value)[:100]!r}' for role, value in zip(roles, first[1:]))
        if not skip:
            raise DataError(
                f'log: {count} rows have {reason}, the first is row {first[0]} ({shown}); '
                f'accepted are rows with all of them, or --on_bad_row skip'
            )
        report.steps.setdefault('not readable', {})[reason] = count
        report.examples.setdefault(reason, []).append(f'row {first[0]}: {shown}')


def _number_ids(con: Any, role: str, good: str, more: Sequence[str]) -> bool:
    r"""Makes the table of distinct ids with their numbers, in the order of
    :func:`~genrec_pyg.datasets.io.values.order_ids`.
    """
    con.register('more', pa.table({'id': pa.array(list(more), pa.string())}))
    execute(
        con,
        f'CREATE TEMP TABLE found AS SELECT DISTINCT "{role}" AS id FROM raw WHERE {good} '
        f'UNION SELECT id FROM more',
    )
    con.unregister('more')
    whole = (
        execute(con, f"SELECT bool_and(regexp_full_match(id, '{WHOLE}')) FROM found").fetchall()[0][
            0
        ]
        is True
    )
    key = 'id'
    for pattern, replacement in PADDING:
        key = f"regexp_replace({key}, '{pattern}', '{replacement}', 'g')"
    order = 'id::BIGINT' if whole else f'{key}, id'
    number = f'(row_number() OVER (ORDER BY {order}) - 1)::INTEGER'
    execute(con, f'CREATE TABLE {role}s AS SELECT id, {number} AS number FROM found')
    execute(con, 'DROP TABLE found')
    return whole


def _first_of_pairs(reader: pa.RecordBatchReader, folder: Path) -> tuple[Staged, int]:
    r"""Writes the first row of every pair into one file per column, and maps these."""
    names = reader.schema.names
    kinds = dict(
        zip(('u', 'i', 'row', 'rating', 'label'), map(np.dtype, ('i4', 'i4', 'i8', 'f4', 'i1')))
    )
    if 'time' in names:
        kinds['time'] = np.dtype(
            'i8' if pa.types.is_integer(reader.schema.field('time').type) else 'f8'
        )
    files = {name: (folder / f'{name}.bin').open('wb') for name in names}
    last, repeated, total = (-1, -1), 0, 0
    try:
        for batch in reader:
            columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}
            user, item = columns['u'], columns['i']
            if not len(user):
                continue
            first = np.concatenate(
                [[(user[0], item[0]) != last], (user[1:] != user[:-1]) | (item[1:] != item[:-1])]
            )
            last = (user[-1], item[-1])
            repeated += int((~first).sum())
            total += int(first.sum())
            for name, file in files.items():
                columns[name][first].astype(kinds[name], copy=False).tofile(file)
    except OSError as error:
        raise OutputError(f'{folder}: cannot be written ({error.strerror or error})') from error
    finally:
        for file in files.values():
            file.close()
    mapped = {
        name: np.memmap(folder / f'{name}.bin', kinds[name], 'r')
        if total
        else np.empty(0, kinds[name])
        for name in names
    }
    more = [mapped.get(name) for name in ('time', 'rating', 'label')]
    return Staged(mapped['u'], mapped['i'], mapped['row'], *more), repeated
