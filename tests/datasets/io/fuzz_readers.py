"""Feeds mutated files to the readers, in child processes with little memory and a clock.

    python tests/datasets/io/fuzz_readers.py --count 100000

Each mutant must be refused with ``DataError`` or read as what it is, every value in its range. Any other exception, a
signal or more than ``LIMIT`` seconds for one mutant is a failure; the mutant is then kept in ``--folder``.
"""
import argparse
import collections
import faulthandler
import io
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
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.datasets.io.tables import read_interactions
from genrec_pyg.exceptions import DataError

#: Seconds for one mutant.
LIMIT = 20
#: Bytes of address space of a child process beyond what it starts with.
MEMORY = 2 << 30
OPCODES = bytes(sorted({ord(opcode.code) for opcode in pickletools.opcodes}))
NAMES = [b'dtype', b'ndarray', b'scalar', b'_reconstruct', b'_frombuffer', b'encode', b'coo_matrix', b'csr_matrix', b'memmap',
         b'matrix', b'O8', b'V8', b'f8', b'i4', b'U4', b'>i8', b'_shape', b'indptr', b'coords', b'latin1']
NUMBERS = [0, 1, 2, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2 ** 40, 2 ** 63 - 1, 2 ** 64 - 1]


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
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, 'w', method) as archive:
                archive.writestr('x_feat.npy', buffer.getvalue())
            found.append(('array', packed.getvalue()))
    for header in ('userID\titemID\tx_label', 'userID\titemID\trating\ttimestamp\tx_label'):
        width = header.count('\t') + 1
        lines = [header, *('\t'.join(map(str, rng.integers(3, size=width))) for _ in range(9))]
        found += [('table', ('\n'.join(lines) + end).encode()) for end in ('', '\n', '\r\n\r\n') for _ in range(6)]
    return found


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to six random changes: bits, opcodes, names, numbers, pieces cut, doubled, moved or taken from another file."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        place = rng.randrange(len(found) + 1)
        end = min(len(found), place + rng.choice((1, 2, 4, 8, 40)))
        kind = rng.randrange(9)
        if kind == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place:place + 1] = bytes([rng.choice(OPCODES)])
        elif kind == 2:
            found[place:place] = bytes([rng.choice(OPCODES)])
        elif kind == 3:
            del found[place:end]
        elif kind == 4:
            found[place:place] = found[place:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            number = struct.pack('<Q', rng.choice(NUMBERS))[:rng.choice((1, 2, 4, 8))]
            found[place:place + len(number)] = number
        elif kind == 6:
            old, new = rng.choice(NAMES), rng.choice(NAMES)
            found = bytearray(bytes(found).replace(old, new, 1))
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            found[place:end] = other[start:start + rng.choice((4, 40, 400))]
        else:
            found[place:end] = rng.randbytes(end - place)
    return bytes(found)


def try_mutants(first: int, count: int, seed: int, folder: str) -> None:
    """Child process: tries ``count`` mutants and leaves their outcomes in a file; a failure ends it."""
    faulthandler.enable()
    with open('/proc/self/statm') as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    base = seeds()
    contents = [content for _, content in base]
    path = Path(folder) / f'mutant-{first}'
    outcomes, slowest = collections.Counter(), 0.0
    for number in range(first, first + count):
        rng = random.Random(f'{seed} {number}')
        kind, content = rng.choice(base)
        path.write_bytes(mutate(content, contents, rng))
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        start = time.perf_counter()
        try:
            if kind == 'pickle':
                matrix = load_scipy_pickle(path)
                rows, cols = matrix.shape
                assert matrix.nnz == len(matrix.row) == len(matrix.col) == len(matrix.data)
                if matrix.nnz:
                    assert 0 <= matrix.row.min() and matrix.row.max() < rows and 0 <= matrix.col.min()
                    assert matrix.col.max() < cols and np.isfinite(matrix.data).all() and (matrix.data != 0).all()
            elif kind == 'table':
                columns = read_interactions(path)
                assert len({len(column) for column in columns.values()}) == 1 and columns['userID'].dtype == np.int64
                assert columns['userID'].min() >= 0 <= columns['itemID'].min() and set(columns['x_label']) <= {0, 1, 2}
                assert all(np.isfinite(column).all() for column in columns.values())
            else:
                x = load_features(path)
                assert x.dtype == np.float32 and x.ndim == 2 and np.isfinite(x).all()
            outcomes[kind, 'read'] += 1
        except DataError as error:
            assert str(path) in str(error) and len(str(error)) < 2000, error
            outcomes[kind, 'refused'] += 1
        slowest = max(slowest, time.perf_counter() - start)
        faulthandler.cancel_dump_traceback_later()
    path.with_name(f'outcome-{first}').write_bytes(pickle.dumps((outcomes, slowest)))
    path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=100_000, help='mutants in all')
    parser.add_argument('--block', type=int, default=1000, help='mutants per child process')
    parser.add_argument('--workers', type=int, default=os.cpu_count())
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', help='where a mutant that fails is kept')
    arguments = parser.parse_args()
    folder = arguments.folder or tempfile.mkdtemp(prefix='fuzz-')
    context = multiprocessing.get_context('fork')
    waiting = [(first, min(arguments.block, arguments.count - first)) for first in range(0, arguments.count, arguments.block)]
    running: dict[int, multiprocessing.Process] = {}
    total, slowest, failed = collections.Counter(), 0.0, 0
    while waiting or running:
        while waiting and len(running) < arguments.workers:
            first, count = waiting.pop(0)
            running[first] = context.Process(target=try_mutants, args=(first, count, arguments.seed, folder))
            running[first].start()
        for first, process in list(running.items()):
            process.join(0.05)
            if process.exitcode is None:
                continue
            del running[first]
            if process.exitcode:
                failed += 1
                print(f'block {first}: exit status {process.exitcode}, mutant {folder}/mutant-{first}', flush=True)
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
