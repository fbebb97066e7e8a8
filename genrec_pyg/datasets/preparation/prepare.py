r"""From raw logs to a prepared folder, out of core."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from genrec_pyg.datasets.io.item_features import ItemFeatures, read_features
from genrec_pyg.datasets.io.item_table import read_titles
from genrec_pyg.datasets.io.logs import expand
from genrec_pyg.datasets.preparation.core import core_members
from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.datasets.preparation.splitting import label_by_time, split_blocks
from genrec_pyg.datasets.preparation.staging import (
    BLOCK,
    Staged,
    connect,
    engine_errors,
    execute,
    load,
    stage,
    stream,
)
from genrec_pyg.datasets.prepared import FolderWriter
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import ITEM, MASKS, USER
from genrec_pyg.utils.folders import creating


def prepare_log(logs: Sequence[str], output: Path, options: Options, command: str = '') -> Report:
    r"""Reads logs, filters, numbers and splits them, and writes a folder that ``train --dataset``
    takes.

    The rows may be in any order and in any of the accepted files: with times the folder has the
    same content, and without times, when the order of rows is the order in which they happened, the
    same pairs in the same splits where the split does not ask for an order. The graph of the folder
    is that of :func:`~genrec_pyg.datasets.from_table` with the same arguments.

    Args:
        logs: Files, folders of files and patterns.
        output: Folder to make.
        options: What is asked for.
        command: The command line, for the manifest.

    Returns:
        What each step left out.

    Raises:
        ConfigError: On an argument outside its accepted values, a column that is not there, or a
            folder that is.
        DataError: If a file cannot be read, or nothing is left; the message names the step.
        OutputError: If the system refuses (disk full, no permission); nothing is left of the
            folder.
    """
    report = Report()
    paths = expand(logs)
    for name in options.features:
        if name in (USER, ITEM):
            raise ConfigError(
                f'features: {name!r} cannot name a modality, accepted are other names'
            )
    features = {name: read_features(file, name) for name, file in options.features.items()}
    titles = (
        None
        if options.items is None
        else read_titles(Path(options.items), report.steps, options.columns.get('item'))
    )
    with (
        creating(output, 'preparing') as folder,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix='work-') as work,
    ):
        con = connect(Path(work), options.memory)
        try:
            with engine_errors():
                _prepare(
                    con,
                    paths,
                    Path(work),
                    FolderWriter(folder),
                    options,
                    report,
                    features,
                    titles,
                    command,
                )
        finally:
            with suppress(Exception):  # of a full disk, where there is nothing to keep
                con.close()
            gc.collect()  # maps of files in the folder that goes
    return report


def _prepare(
    con: Any,
    paths: Sequence[Path],
    work: Path,
    writer: FolderWriter,
    options: Options,
    report: Report,
    features: dict[str, ItemFeatures],
    titles: dict[str, str] | None,
    command: str,
) -> None:
    roles = load(con, paths, options, report)
    described = sorted({str(raw) for found in features.values() for raw in found.ids})
    staged, *whole = stage(con, roles, options, report, described, work)
    execute(con, 'DROP TABLE raw')
    user_kept, item_kept, num_pairs = _core(con, staged, options, bool(features), report)
    split = options.split_for(roles)
    rows = _final_rows(staged, user_kept, item_kept, num_pairs, split, options.seed)
    con.register('rows', pa.RecordBatchReader.from_batches(rows[0], rows[1]))
    execute(con, 'CREATE TABLE pairs AS SELECT * FROM rows')
    con.unregister('rows')
    order = '"time", mixed, "user", item' if staged.time is not None else 'row'
    names = [
        'user',
        'item',
        *(name for name in ('time', 'rating') if getattr(staged, name) is not None),
        'split',
    ]
    ordered = stream(
        con, f"""SELECT {', '.join(f'"{name}"' for name in names)} FROM pairs ORDER BY {order}"""
    )
    counts = _write_pairs(ordered, writer, num_pairs, split)
    _write_training(con, writer, int(user_kept.sum()), int(item_kept.sum()), counts[0])
    ids = {
        role: _write_ids(con, writer, role, kept, is_whole, titles if role == 'item' else None)
        for role, kept, is_whole in (('user', user_kept, whole[0]), ('item', item_kept, whole[1]))
    }
    for name, found in features.items():
        _write_features(writer, name, found, ids['item'], report)
    named = split or 'column of the log'
    report.steps[f'split: {named}'] = {
        name: counts[number] for number, name in enumerate(MASKS) if counts[number]
    }
    report.steps['kept'] = {
        'users': int(user_kept.sum()),
        'items': int(item_kept.sum()),
        'interactions': num_pairs,
    }
    if counts[0] == 0:
        raise DataError('split: the training split has no interaction')
    writer.finish(
        {
            'command': command,
            'logs': [{'name': str(path), 'bytes': path.stat().st_size} for path in paths],
            'counts': {
                'users': int(user_kept.sum()),
                'items': int(item_kept.sum()),
                'interactions': num_pairs,
                **{name: counts[number] for number, name in enumerate(MASKS)},
            },
            'order': 'time' if staged.time is not None else 'rows',
            'split': named,
            'seed': options.seed,
            'report': report.steps,
        }
    )


def _core(
    con: Any, staged: Staged, options: Options, with_features: bool, report: Report
) -> tuple[np.ndarray, np.ndarray, int]:
    sizes = [
        execute(con, f'SELECT count(*) FROM {table}').fetchall()[0][0]
        for table in ('users', 'items')
    ]
    before = len(staged.user)
    if options.min_rating is None and options.k_core == 0:
        return np.ones(sizes[0], bool), np.ones(sizes[1], bool), before
    # Items that features describe stay without interactions, where no core is asked for.
    bounds = (max(options.k_core, 1), options.k_core or (0 if with_features else 1))
    user_kept, item_kept, left = core_members(staged.user, staged.item, *sizes, bounds)
    staged.release()
    if left == 0:
        lower = (
            ''
            if options.min_rating is None
            else f', or a --min_rating below {options.min_rating:g}'
        )
        raise DataError(
            f'k_core: no interaction is left by a {options.k_core}-core of {before} pairs, '
            f'accepted is a smaller one{lower}'
        )
    if options.k_core:
        report.steps[f'{options.k_core}-core'] = {
            'users are left out': int((~user_kept).sum()),
            'items are left out': int((~item_kept).sum()),
            'pairs are left out': before - left,
        }
    return user_kept, item_kept, left


def _final_rows(
    staged: Staged,
    user_kept: np.ndarray,
    item_kept: np.ndarray,
    num_pairs: int,
    split: str | None,
    seed: int,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    more = [
        (name, getattr(staged, name))
        for name in ('time', 'rating')
        if getattr(staged, name) is not None
    ]
    schema = pa.schema(
        [
            ('user', pa.int32()),
            ('item', pa.int32()),
            ('split', pa.int8()),
            ('mixed', pa.uint64()),
            ('row', pa.int64()),
            *((name, pa.from_numpy_dtype(column.dtype)) for name, column in more),
        ]
    )
    blocks = split_blocks(staged, user_kept, item_kept, num_pairs, split, seed)

    def rows() -> Iterator[pa.RecordBatch]:
        for block in blocks:
            columns = [
                block.user,
                block.item,
                block.label,
                block.order,
                staged.row[block.place],
                *(column[block.place] for _, column in more),
            ]
            yield pa.RecordBatch.from_arrays(
                [pa.array(np.array(column)) for column in columns], schema=schema
            )
            staged.release()

    # what is wrong with the split is raised here, not through the engine
    first = next(blocks_of := rows(), None)
    return schema, _chain(first, blocks_of)


def _chain(
    first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    if first is not None:
        yield first
    yield from rest


def _write_pairs(
    reader: pa.RecordBatchReader, writer: FolderWriter, num_pairs: int, split: str | None
) -> list[int]:
    counts, first = np.zeros(len(MASKS), dtype=np.int64), 0
    place = reader.schema.names.index('split')
    with writer.table('interactions', reader.schema) as table:
        for batch in reader:
            labels = label_by_time(first, batch.num_rows, num_pairs, split)
            if labels is not None:
                batch = batch.set_column(place, 'split', pa.array(labels))
            counts += np.bincount(batch.column(place).to_numpy(), minlength=len(MASKS))
            first += batch.num_rows
            table.write_batch(batch)
    return [int(count) for count in counts]


def _write_training(
    con: Any, writer: FolderWriter, num_users: int, num_items: int, num_pairs: int
) -> None:
    r"""Writes the arrays of training pairs, whose labels are those of the written table."""
    written = parquet.ParquetFile(writer.folder / 'interactions.parquet')
    with written:
        columns = written.iter_batches(BLOCK, columns=['user', 'item', 'split'])
        schema = pa.schema([written.schema_arrow.field(name) for name in ('user', 'item', 'split')])
        con.register('labelled', pa.RecordBatchReader.from_batches(schema, columns))
        ordered = stream(
            con, 'SELECT "user", item FROM labelled WHERE split = 0 ORDER BY "user", item'
        )
        writer.training(ordered, num_users, num_items, num_pairs)
        con.unregister('labelled')


def _write_ids(
    con: Any,
    writer: FolderWriter,
    role: str,
    kept: np.ndarray,
    whole: bool,
    titles: dict[str, str] | None,
) -> list[str]:
    r"""Writes the table of ids in the order of their numbers; returns those of items."""
    kind = pa.int64() if whole else pa.string()
    fields = [('id', kind)] + ([('title', pa.string())] if titles is not None else [])
    rows = stream(con, f'SELECT id, number FROM {role}s ORDER BY number')
    ids: list[str] = []
    with writer.table(f'{role}s', pa.schema(fields)) as table:
        for batch in rows:
            text = batch.column('id').filter(pa.array(kept[batch.column('number').to_numpy()]))
            columns = [text.cast(kind)]
            if role == 'item':
                ids += (names := text.to_pylist())
                columns += (
                    []
                    if titles is None
                    else [pa.array([titles.get(name, '') for name in names], pa.string())]
                )
            table.write_batch(pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)))
    return ids


def _write_features(
    writer: FolderWriter, name: str, found: ItemFeatures, items: Sequence[str], report: Report
) -> None:
    place = {raw: number for number, raw in enumerate(items)}
    number = np.array([place.get(str(raw), -1) for raw in found.ids], dtype=np.int64)
    order = number.argsort(kind='stable')
    order = order[number[order] >= 0]
    report.steps[f'features: {name}'] = {
        'items have them': len(order),
        'items have none': len(items) - len(order),
        'rows are of other items': len(number) - len(order),
    }
    if not len(order):
        raise DataError(
            f'features: {name!r} has no item of the log, accepted are ids such as '
            f'{next(iter(items), None)!r}'
        )
    writer.features(name, number[order], found.x[order])
