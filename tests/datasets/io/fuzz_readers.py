"""Feeds mutated files to the readers, in child processes with little memory and a clock.

    python tests/datasets/io/fuzz_readers.py --count 100000

Each mutant must be refused with ``DataError`` (logs of whose columns none is known:
``ConfigError``) or read as what it is, every value in its range. Any other exception, a signal or
more than ``LIMIT`` seconds for one mutant is a failure; the mutant is then kept in ``--folder``.
"""

import argparse
import collections
import faulthandler
import gzip
import io
import json
import multiprocessing
import os
import pickle
import pickletools
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyarrow import parquet

from genrec_pyg.datasets.io.arrays import load_features, load_sparse_features
from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.datasets.io.logs import as_text, read_columns, read_log
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.datasets.io.rows import BadRows
from genrec_pyg.datasets.io.tables import read_interactions
from genrec_pyg.datasets.io.usable_rows import usable_rows
from genrec_pyg.datasets.io.values import read_ids, read_labels, read_numbers
from genrec_pyg.exceptions import ConfigError, DataError

#: Seconds for one mutant.
LIMIT = 20
#: Bytes of address space of a child process beyond what it starts with.
MEMORY = 2 << 30
OPCODES = bytes(sorted({ord(opcode.code) for opcode in pickletools.opcodes}))
NAMES = [
    b'dtype',
    b'ndarray',
    b'scalar',
    b'_reconstruct',
    b'_frombuffer',
    b'encode',
    b'coo_matrix',
    b'csr_matrix',
    b'memmap',
    b'matrix',
    b'O8',
    b'V8',
    b'f8',
    b'i4',
    b'U4',
    b'>i8',
    b'_shape',
    b'indptr',
    b'coords',
    b'latin1',
]
KINDS = ('pickle', 'array', 'table', 'log', 'features', 'sparse')
NUMBERS = [0, 1, 2, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]


def seeds() -> list[tuple[str, bytes]]:
    """Sound files: pickles of every form and protocol, feature files, archives, tables."""
    rng = np.random.default_rng(0)
    dense = rng.random((7, 9)) * (rng.random((7, 9)) < 0.3)
    found = []
    for form in (sp.coo_matrix, sp.csr_matrix, sp.csc_matrix, sp.coo_array, sp.csr_array):
        for kind in (np.float64, np.int32, bool, '>f4'):
            for protocol in (2, 3, 4, 5):
                matrix = form(dense)
                matrix.data = matrix.data.astype(kind)
                found.append(('pickle', pickle.dumps(matrix, protocol=protocol)))
    shape = sp.coo_matrix(dense)
    shape._shape = (np.int64(7), np.int64(9))
    found.append(('pickle', pickle.dumps(shape, protocol=2)))
    found = found + found  # pickles are most of what is tried
    for kind in (np.float16, np.float64, '>f4', np.int8, bool):
        buffer = io.BytesIO()
        np.save(buffer, np.asfortranarray(dense.astype(kind)))
        found.append(('array', buffer.getvalue()))
        for method in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
            zipfile.ZIP_BZIP2,
            zipfile.ZIP_LZMA,
        ):
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, 'w', method) as archive:
                archive.writestr('x_feat.npy', buffer.getvalue())
            found.append(('array', packed.getvalue()))
    for header in ('userID\titemID\tx_label', 'userID\titemID\trating\ttimestamp\tx_label'):
        width = header.count('\t') + 1
        lines = [header, *('\t'.join(map(str, rng.integers(3, size=width))) for _ in range(9))]
        found += [
            ('table', ('\n'.join(lines) + end).encode())
            for end in ('', '\n', '\r\n\r\n')
            for _ in range(6)
        ]
    return found + logs()


def logs() -> list[tuple[str, bytes]]:
    """Logs of every layout, and Parquet files and sparse matrices of features."""
    rows = [
        ('A2SUAM1J3GNN3B', '0000013714', 5, 1252800000),
        ('A10000012B7CGYKOMPQ4L', 'B00YQ6X8EO', 3, 1355443200),
        ('A2SUAM1J3GNN3B', 'B00YQ6X8EX', 1, 1300000000),
    ]
    names = ('reviewerID', 'asin', 'overall', 'unixReviewTime')
    amazon = ''.join(
        json.dumps({**dict(zip(names, row)), 'helpful': [0, 1], 'title': 'a "b"\n'}) + '\n'
        for row in rows
    )
    texts = {
        'json': amazon,
        'json 2023': amazon.replace('asin', 'parent_asin').replace('reviewerID', 'user_id'),
        'amazon': ''.join(
            f'{user},{item},{rating}.0,{time}\n' for user, item, rating, time in rows
        ),
        'amazon 2018': ''.join(
            f'{item},{user},{rating}.0,{time}\n' for user, item, rating, time in rows
        ),
        'movielens': ''.join(f'{n}\t{n * 7 % 5}\t{n % 5 + 1}\t{881250949 + n}\n' for n in range(9)),
        'movielens 1m': ''.join(
            f'{n}::{n * 7 % 5}::{n % 5 + 1}::{978300760 + n}\n' for n in range(9)
        ),
        'movielens 25m': 'userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,306,3.5,1147868817\n',  # noqa: E501
        'recbole': 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t"9\t5\t3\n8\t9\t1\t4.5\n',  # noqa: E501
        'mmrec': 'userID\titemID\tx_label\n7\t9\t2\n8\t9\t0\n',
        'pairs': '1 17\n1 3\n2 17\n',
        'quotes': 'user,item,time,split\n"a ""b""","x\ny",2024-01-02T03:04:05Z,train\nc,z,2024-01-01,test\n',  # noqa: E501
    }
    found = []
    for text in texts.values():
        found += [('log', text.encode()) for _ in range(8)]
        found.append(('log', gzip.compress(text.encode(), mtime=0)))
    users, items, ratings, times = map(list, zip(*rows))
    for when in (
        pa.array(times),
        pa.array(times, pa.timestamp('s')),
        pa.array(times, pa.timestamp('ns')),
        pa.array(map(str, times)),
    ):
        table = pa.table(
            {
                'user': pa.array(users).dictionary_encode(),
                'item': items,
                'rating': ratings,
                'time': when,
            }
        )
        for settings in ({'compression': 'none'}, {'compression': 'zstd', 'use_dictionary': False}):
            buffer = io.BytesIO()
            parquet.write_table(table, buffer, **settings)
            found += [('log', buffer.getvalue())] * 4
    for column in (
        [[1.0, 2.0], [3.0, 4.0], None],
        pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
    ):
        buffer = io.BytesIO()
        parquet.write_table(pa.table({'item': items, 'v': column}), buffer)
        found += [('features', buffer.getvalue())] * 6
    for compressed in (True, False):
        buffer = io.BytesIO()
        sp.save_npz(buffer, sp.csr_matrix([[0, 1.5], [2, 0]]), compressed=compressed)
        found += [('sparse', buffer.getvalue())] * 6
    return found


def try_log(path: Path, rng: random.Random) -> None:
    """Reads a log as ``from_table`` does, also without its bad rows, and as ``prepare --on_bad_row
    skip`` does.
    """
    way = rng.randrange(3)
    if way == 0:
        bad = BadRows(skip=True)
        table, name = read_columns(path, bad=bad)
        rows = len(table['user'])
        table = usable_rows(table, name, bad)
        assert {len(column) for column in table.values()} == {len(table['user'])}
        assert len(table['user']) >= rows - sum(bad.counts.values())
        for role, column in table.items():  # what is kept can be read
            if role in ('user', 'item'):
                read_ids(column, role, name)
            elif role == 'split':
                read_labels(column, name)
            elif len(column):
                assert np.isfinite(read_numbers(column, role, name)).all()
        return
    if way == 1:
        _, batches = read_log(path, {}, ('user', 'item'), None, BadRows(skip=True))
        for batch in batches:
            for column in as_text(batch, str(path)):
                column.validate(full=True)
                assert column.null_count == 0 and len(column) == batch.num_rows
        return
    table, name = read_columns(path)
    for role, column in table.items():
        if role in ('user', 'item'):
            ids, number = read_ids(column, role, name)
            assert len(number) == len(column) and len(set(map(str, ids))) == len(ids)
            assert np.array_equal(np.unique(number), np.arange(len(ids)))
            assert [str(ids[place]) for place in number] == [
                str(value) for value in column.to_pylist()
            ]
        elif role == 'split':
            assert set(read_labels(column, name).tolist()) <= {0, 1, 2}
        else:
            found = read_numbers(column, role, name)
            assert (
                found.dtype.kind in 'if' and len(found) == len(column) and np.isfinite(found).all()
            )


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to six random changes: bits, opcodes, names, numbers, pieces cut, doubled, moved or taken
    from another file.
    """
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(found) + 1)
        end = min(len(found), place + rng.choice((1, 2, 4, 8, 40)))
        kind = rng.randrange(9)
        if kind == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place : place + 1] = bytes([rng.choice(OPCODES)])
        elif kind == 2:
            found[place:place] = bytes([rng.choice(OPCODES)])
        elif kind == 3:
            del found[place:end]
        elif kind == 4:
            found[place:place] = found[place:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            number = struct.pack('<Q', rng.choice(NUMBERS))[: rng.choice((1, 2, 4, 8))]
            found[place : place + len(number)] = number
        elif kind == 6:
            old, new = rng.choice(NAMES), rng.choice(NAMES)
            found = bytearray(bytes(found).replace(old, new, 1))
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            found[place:end] = other[start : start + rng.choice((4, 40, 400))]
        else:
            found[place:end] = rng.randbytes(end - place)
    return bytes(found)


def try_mutants(first: int, count: int, seed: int, folder: str, kinds: Sequence[str]) -> None:
    """Child process: tries ``count`` mutants and leaves their outcomes in a file; a failure ends
    it.
    """
    faulthandler.enable()
    with open('/proc/self/statm') as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    base = [seed for seed in seeds() if seed[0] in kinds]
    contents = [content for _, content in base]
    base_path = Path(folder) / f'mutant-{first}'
    outcomes, slowest = collections.Counter(), 0.0
    for number in range(first, first + count):
        rng = random.Random(f'{seed} {number}')
        kind, content = rng.choice(base)
        path = base_path.with_name(f'{base_path.name}.parquet') if kind == 'features' else base_path
        path.write_bytes(mutate(content, contents, rng))
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        start = time.perf_counter()
        try:
            if kind == 'pickle':
                matrix = load_scipy_pickle(path)
                rows, cols = matrix.shape
                assert matrix.nnz == len(matrix.row) == len(matrix.col) == len(matrix.data)
                if matrix.nnz:
                    assert (
                        matrix.row.min() >= 0 and matrix.row.max() < rows and matrix.col.min() >= 0
                    )
                    assert (
                        matrix.col.max() < cols
                        and np.isfinite(matrix.data).all()
                        and (matrix.data != 0).all()
                    )
            elif kind == 'log':
                try_log(path, rng)
            elif kind == 'features':
                found = read_features(f'{path}:v', 'v')
                assert (
                    len(found.ids) == len(found.x)
                    and found.x.dtype == np.float32
                    and np.isfinite(found.x).all()
                )
            elif kind == 'sparse':
                x = load_sparse_features(path)
                assert x.dtype == np.float32 and x.indices.max(initial=0) < x.shape[1]
            elif kind == 'table':
                columns = read_interactions(path)
                assert (
                    len({len(column) for column in columns.values()}) == 1
                    and columns['userID'].dtype == np.int64
                )
                assert columns['userID'].min() >= 0 <= columns['itemID'].min() and set(
                    columns['x_label']
                ) <= {0, 1, 2}
                assert all(np.isfinite(column).all() for column in columns.values())
            else:
                x = load_features(path)
                assert x.dtype == np.float32 and x.ndim == 2 and np.isfinite(x).all()
            outcomes[kind, 'read'] += 1
        except (ConfigError, DataError) as error:
            # of which columns may be named
            assert isinstance(error, DataError) or kind in ('log', 'features')
            assert str(path) in str(error) and len(str(error)) < 2000, error
            outcomes[kind, 'refused'] += 1
        slowest = max(slowest, time.perf_counter() - start)
        faulthandler.cancel_dump_traceback_later()
    base_path.with_name(f'outcome-{first}').write_bytes(pickle.dumps((outcomes, slowest)))
    for path in (base_path, base_path.with_name(f'{base_path.name}.parquet')):
        path.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=100_000, help='mutants in all')
    parser.add_argument('--block', type=int, default=1000, help='mutants per child process')
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--kinds', nargs='+', choices=KINDS, default=KINDS, help='kinds of files that are changed'
    )
    parser.add_argument('--folder', help='where a mutant that fails is kept')
    arguments = parser.parse_args()
    folder = arguments.folder or tempfile.mkdtemp(prefix='fuzz-')
    Path(folder).mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context('fork')
    waiting = [
        (first, min(arguments.block, arguments.count - first))
        for first in range(0, arguments.count, arguments.block)
    ]
    running: dict[int, multiprocessing.Process] = {}
    total, slowest, failed = collections.Counter(), 0.0, 0
    while waiting or running:
        while waiting and len(running) < arguments.workers:
            first, count = waiting.pop(0)
            running[first] = context.Process(
                target=try_mutants, args=(first, count, arguments.seed, folder, arguments.kinds)
            )
            running[first].start()
        for first, process in list(running.items()):
            process.join(0.05)
            if process.exitcode is None:
                continue
            del running[first]
            if process.exitcode:
                failed += 1
                print(
                    f'block {first}: exit status {process.exitcode}, mutant '
                    f'{folder}/mutant-{first}',
                    flush=True,
                )
                continue
            outcome = Path(folder) / f'outcome-{first}'
            outcomes, seconds = pickle.loads(outcome.read_bytes())
            outcome.unlink()
            total, slowest = total + outcomes, max(slowest, seconds)
    for (kind, outcome), number in sorted(total.items()):
        print(f'{kind:>8} {outcome:<8} {number:>8}')
    print(f'slowest mutant {slowest:.3f} s, blocks that failed: {failed}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
