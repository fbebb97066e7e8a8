r"""Pictures in an LMDB file, read without unpickling."""

from __future__ import annotations

import os
import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from genrec_pyg.exceptions import ConfigError, DataError

ACCEPTED = (
    'accepted are encoded pictures, and pickled objects LMDB_Image with channels, size and image'
)
#: A pickled picture takes about 25 opcodes, whatever its size.
_MAX_OPCODES = 100
_MARK = object()
#: Files that are open: LMDB lets a process open one once only.
_OPEN: dict[str, Any] = {}
_VALUES = {
    'BININT',
    'BININT1',
    'BININT2',
    'LONG1',
    'BINUNICODE',
    'SHORT_BINUNICODE',
    'BINBYTES',
    'SHORT_BINBYTES',
    'BINBYTES8',
}
_TUPLES = {'EMPTY_TUPLE': 0, 'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class RawImage(NamedTuple):
    r"""A decoded picture.

    Args:
        height: Rows.
        width: Columns.
        content: ``height * width * 3`` bytes, row by row, RGB.
    """

    height: int
    width: int
    content: bytes


class LmdbImages:
    r"""The pictures of an LMDB file or folder by key.

    Values are files of pictures, or the pickles that `IDvs.MoRec
    <https://github.com/westlake-repl/IDvs.MoRec>`_ writes. Keys that start with two underscores are
    not pictures. The file is opened on first use in every process.

    Args:
        path: A single file, or a folder with ``data.mdb``.

    Raises:
        ConfigError: If the package lmdb is not installed.
        DataError: If the file cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._read() as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        try:
            self.keys = [key.decode() for key in keys if not key.startswith(b'__')]
        except UnicodeDecodeError as error:
            raise DataError(f'{path}: has the key {error.object!r}, accepted are texts') from error

    def get(self, key: str) -> bytes | None:
        r"""The value of a key, :obj:`None` where there is none."""
        with self._read() as transaction:
            value = transaction.get(key.encode())
        return None if value is None else bytes(value)

    @contextmanager
    def _read(self) -> Iterator[Any]:
        try:
            import lmdb
        except ImportError as error:
            raise ConfigError(
                f'{self.path}: reading LMDB files needs the package lmdb: '
                'pip install genrec_pyg[lmdb]'
            ) from error
        try:
            key = os.path.realpath(self.path)
            if key not in _OPEN:
                _OPEN[key] = lmdb.open(
                    str(self.path),
                    subdir=self.path.is_dir(),
                    readonly=True,
                    lock=False,
                    readahead=False,
                    meminit=False,
                    create=False,
                )
            with _OPEN[key].begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f'{self.path}: cannot be read as an LMDB file ({error})') from error


def _close_all() -> None:
    while _OPEN:
        _OPEN.popitem()[1].close()


if hasattr(os, 'register_at_fork'):  # a child can neither use what its parent has open nor open it
    os.register_at_fork(before=_close_all)


def is_pickle(value: bytes) -> bool:
    r"""Whether a value is a pickle of protocol 2 or later: no format of pictures starts so."""
    return value[:1] == b'\x80'


def unpack_image(value: bytes, name: str) -> RawImage:
    r"""Reads a pickled ``LMDB_Image`` from its opcodes; no name that it holds is looked up.

    Args:
        value: The pickle.
        name: What it is called in messages.

    Raises:
        DataError: If it is another object, damaged, or of another size than it says.
    """
    try:
        state = _run(value, name)
        height, width = state['size']
        content, channels = state['image'], state['channels']
    except DataError:
        raise
    except Exception as error:  # damage can lead the splitting into opcodes anywhere
        raise DataError(
            f'{name}: cannot be read ({type(error).__name__}: {str(error)[:200]}), {ACCEPTED}'
        ) from error
    numbers = all(type(number) is int for number in (height, width, channels))
    if (
        not numbers
        or not isinstance(content, bytes)
        or channels != 3
        or min(height, width) < 1
        or len(content) != height * width * 3
    ):
        size = len(content) if isinstance(content, bytes) else type(content).__name__
        raise DataError(
            f'{name}: has {size} bytes for {height} x {width} x {channels}, accepted are '
            'height x width x 3 bytes'
        )
    return RawImage(height, width, content)


def _run(value: bytes, name: str) -> dict[str, Any]:
    stack: list[Any] = []
    made = False  # whether the one object that is accepted was asked for
    for number, (opcode, argument, _) in enumerate(pickletools.genops(value)):
        kind = opcode.name
        if number > _MAX_OPCODES:
            raise DataError(f'{name}: the pickle has more than {_MAX_OPCODES} opcodes, {ACCEPTED}')
        if kind in _VALUES:
            stack.append(argument)
        elif kind in _TUPLES:
            count = _TUPLES[kind]
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif kind in ('EMPTY_DICT', 'MARK'):
            stack.append({} if kind == 'EMPTY_DICT' else _MARK)
        elif kind in ('GLOBAL', 'STACK_GLOBAL'):
            found = argument.rpartition(' ')[2] if kind == 'GLOBAL' else stack.pop()
            if kind == 'STACK_GLOBAL':
                stack.pop()
            if found != 'LMDB_Image' or made:
                raise DataError(f'{name}: the pickle asks for {ascii(found)[:100]}, {ACCEPTED}')
            made = True
        elif kind == 'NEWOBJ':
            if not made or stack.pop() != ():
                raise DataError(f'{name}: the pickle makes another object, {ACCEPTED}')
        elif kind == 'SETITEMS':
            mark = len(stack) - 1 - stack[::-1].index(_MARK)
            entries = stack[mark + 1 :]
            del stack[mark:]
            stack[-1].update(
                {
                    key: entry
                    for key, entry in zip(entries[::2], entries[1::2])
                    if isinstance(key, str)
                }
            )
        elif kind == 'STOP':
            return stack[-1]
        elif kind not in ('PROTO', 'FRAME', 'MEMOIZE', 'BINPUT', 'LONG_BINPUT', 'BUILD'):
            raise DataError(f'{name}: the pickle has the opcode {kind}, {ACCEPTED}')
    raise DataError(f'{name}: the pickle has no end, {ACCEPTED}')
