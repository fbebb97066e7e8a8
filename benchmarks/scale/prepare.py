r"""Time and memory of ``python -m genrec_pyg.prepare`` on a generated log, beside plain scans of
the same file.

.. code-block:: console

    python -m benchmarks.scale.prepare --rows 100_000_000 --folder DIR

The log is a CSV file of ``user,item,rating,time`` with text ids, users and items drawn with
exponentially falling popularity, rows in no order. Beside the preparation stand scans of the same
file by itself: reading its bytes, and parsing its columns with Arrow (one thread) without doing
anything with them; a third one is DuckDB's, the largest value of each column in one thread. Memory
is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

#: Rows that are generated at a time.
BLOCK = 1 << 20


def write_log(path: Path, rows: int, users: int, items: int, seed: int = 0) -> None:
    r"""Writes a log of ``rows`` rows over at most ``users`` users and ``items`` items."""
    generator = np.random.default_rng(seed)
    names = ('user', 'item', 'rating', 'time')
    with path.open('wb') as file:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            user = np.minimum(generator.exponential(users / 6, count).astype(np.int64), users - 1)
            item = np.minimum(generator.exponential(items / 8, count).astype(np.int64), items - 1)
            table = pa.table(
                dict(
                    zip(
                        names,
                        (
                            pc.binary_join_element_wise('u-', pa.array(user).cast(pa.string()), ''),
                            pc.binary_join_element_wise(
                                'sku-', pa.array(item).cast(pa.string()), ''
                            ),
                            pa.array(generator.integers(1, 6, count)),
                            pa.array(generator.integers(1_500_000_000, 1_700_000_000, count)),
                        ),
                    )
                )
            )
            arrow_csv.write_csv(
                table, file, arrow_csv.WriteOptions(include_header=start == 0, quoting_style='none')
            )


def read_bytes(path: Path) -> float:
    r"""Seconds of reading a file once."""
    begin = time.perf_counter()
    with path.open('rb', buffering=0) as file:
        while file.read(1 << 24):
            pass
    return time.perf_counter() - begin


def parse(path: Path) -> float:
    r"""Seconds of parsing the columns of a file once, in one thread."""
    begin = time.perf_counter()
    with arrow_csv.open_csv(
        path, arrow_csv.ReadOptions(use_threads=False, block_size=1 << 24)
    ) as reader:
        for _ in reader:
            pass
    return time.perf_counter() - begin


def scan(path: Path) -> float:
    r"""Seconds in which DuckDB reads every column of a file once, in one thread."""
    import duckdb

    begin = time.perf_counter()
    with duckdb.connect(config={'threads': 1}) as con:
        con.execute(
            'SELECT max("user"), max(item), max(rating), max(time) FROM read_csv(?)', [str(path)]
        ).fetchall()
    return time.perf_counter() - begin


def prepare(path: Path, output: Path, memory: str, k_core: int) -> dict[str, Any]:
    r"""Seconds, peak memory in GB and counts of a preparation, in a process of its own."""
    shutil.rmtree(output, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            '-m',
            'genrec_pyg.prepare',
            str(path),
            '--k_core',
            str(k_core),
            '--min_rating',
            '2',
            '--memory',
            memory,
            '--output',
            str(output),
        ],
        check=True,
        env=thread_environment(1),
    )
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads((output / 'manifest.json').read_text())
    return {
        'seconds': seconds,
        'processor seconds': after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
        'memory': after.ru_maxrss / 2**20,
        'report': found['report'],
        'bytes': sum(entry['bytes'] for entry in found['files'].values()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.scale.prepare', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--rows', type=positive, default=100_000_000, help='rows of the log')
    parser.add_argument('--users', type=positive, help='users (default: a twentieth of the rows)')
    parser.add_argument('--items', type=positive, help='items (default: a hundredth of the rows)')
    parser.add_argument('--k_core', type=int, default=5, help='core of the preparation')
    parser.add_argument('--memory', default='2GB', help='what the engine may hold')
    parser.add_argument(
        '--folder', type=Path, required=True, help='folder of the log and of what is prepared'
    )
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder of the report')
    parser.add_argument('--name', default='prepare', help='name of the report')
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log = arguments.folder / f'log-{arguments.rows}.csv'
    if not log.is_file():
        write_log(
            log,
            arguments.rows,
            arguments.users or arguments.rows // 20,
            arguments.items or arguments.rows // 100,
        )
    scans = {'bytes': read_bytes(log), 'parse': parse(log), 'duckdb': scan(log)}
    found = prepare(log, arguments.folder / 'prepared', arguments.memory, arguments.k_core)
    size = log.stat().st_size
    rows = [
        ['read the bytes', f'{scans["bytes"]:.1f}', '', '', ''],
        ['parse the columns', f'{scans["parse"]:.1f}', '', '', ''],
        ['DuckDB reads the columns', f'{scans["duckdb"]:.1f}', '', '', ''],
        [
            'prepare',
            f'{found["seconds"]:.1f}',
            f'{found["processor seconds"]:.1f}',
            f'{found["memory"]:.2f}',
            f'{found["bytes"] / 1e9:.2f}',
        ],
    ]
    steps = [
        f'* {name}: {", ".join(f"{what} {value:,}" for what, value in figures.items())}'
        for name, figures in found['report'].items()
        if figures
    ]
    facts = machine(1)
    text = '\n'.join(
        [
            f'# Preparing a log of {arguments.rows:,} rows ({size / 1e9:.2f} GB of CSV)',
            '',
            machine_line(facts),
            '',
            f'`--k_core {arguments.k_core} --min_rating 2 --memory {arguments.memory}`',
            '',
            markdown_table(
                ['step', 'seconds', 'processor seconds', 'peak memory [GB]', 'written [GB]'], rows
            ),
            '',
            *steps,
            '',
        ]
    )
    document = {
        'machine': facts,
        'rows': arguments.rows,
        'bytes': size,
        'scans': scans,
        'prepare': found,
    }
    write_report(arguments.output / arguments.name, document, text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
