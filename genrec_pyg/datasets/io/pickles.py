r"""Pickled SciPy matrices, read by a small machine of its own that runs no code of the file's
choice.

:class:`pickle.Unpickler` with an allow list is not enough. A pickle may set any state on an
admitted ``numpy.dtype``, and numpy then takes bytes of the file for pointers; a single opcode
reserves gigabytes for the memo; a tuple nested deeply enough overflows the stack of the interpreter
when it is hashed. Here :func:`pickletools.genops` splits the file into opcodes, names stay text,
and the few objects that a sparse matrix is made of are stand-ins that check every state they are
given.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from genrec_pyg.datasets.io.regular import is_packed, open_regular
from genrec_pyg.exceptions import DataError

ACCEPTED = (
    'accepted are SciPy sparse matrices in COO, CSR or CSC form, pickled with protocol 2 or later'
)
#: A pickled matrix takes about 150 opcodes, whatever its size.
_MAX_OPCODES = 5000
#: Largest number of rows or columns that an int64 index can name.
_MAX_SIZE = 2**63 - 1

_MATRICES = {
    f'{form}_{kind}': form for form in ('coo', 'csr', 'csc') for kind in ('matrix', 'array')
}
_MATRIX_MODULES = (
    'scipy.sparse',
    *(f'scipy.sparse.{prefix}{form}' for prefix in ('', '_') for form in ('coo', 'csr', 'csc')),
)
_DTYPES = {'b1', 'f2', 'f4', 'f8', *(f'{kind}{size}' for kind in 'iu' for size in (1, 2, 4, 8))}
_FUNCTIONS = {
    ('_codecs', 'encode'): 'encode',
    ('numpy', 'ndarray'): 'ndarray',
    ('numpy', 'dtype'): 'dtype',
}
for _core in ('numpy.core', 'numpy._core'):
    _FUNCTIONS[f'{_core}.multiarray', '_reconstruct'] = 'reconstruct'
    _FUNCTIONS[f'{_core}.multiarray', 'scalar'] = 'scalar'
    _FUNCTIONS[f'{_core}.numeric', '_frombuffer'] = 'frombuffer'

_MARK = object()
_VALUES = {
    'BININT',
    'BININT1',
    'BININT2',
    'LONG1',
    'LONG4',
    'BINFLOAT',
    'BINUNICODE',
    'SHORT_BINUNICODE',
    'BINUNICODE8',
    'BINBYTES',
    'SHORT_BINBYTES',
    'BINBYTES8',
    'BYTEARRAY8',
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': (), 'MARK': _MARK}
_SHORT_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


class _Damaged(Exception):
    r"""The opcodes make no sparse matrix."""


def load_scipy_pickle(path: Path) -> sp.coo_matrix:
    r"""Reads a pickled SciPy sparse matrix without executing anything.

    Stored zeros are dropped; all other entries count as ones for the callers.

    Raises:
        DataError: If the file is missing or damaged, holds anything but a sparse matrix of finite
            numbers, or has indices outside its shape.
    """
    try:
        with open_regular(path) as file:
            content = file.read()
        if is_packed(content):
            raise DataError(f'{path}: is compressed, unpack it first; {ACCEPTED}')
        found = _Machine(content, path).run()
    except DataError:
        raise
    except _Damaged as error:
        raise DataError(f'{path}: not a readable pickle of a sparse matrix ({error})') from error
    except Exception as error:  # a damaged file can lead the splitting into opcodes anywhere
        raise DataError(
            f'{path}: not a readable pickle ({type(error).__name__}: {str(error)[:200]})'
        ) from error
    if not isinstance(found, _Matrix):
        kind = 'ndarray' if isinstance(found, _Array) else type(found).__name__.lstrip('_')
        raise DataError(f'{path}: holds {kind}, {ACCEPTED}')
    try:
        matrix = found.to_coo()
    except Exception as error:  # what fits no check of ours may still not suit SciPy
        raise DataError(f'{path}: damaged sparse matrix ({str(error)[:200]})') from error
    if not np.isfinite(matrix.data).all():
        raise DataError(f'{path}: entries are not finite, accepted are finite numbers')
    keep = matrix.data != 0
    return sp.coo_matrix(
        (matrix.data[keep], (matrix.row[keep], matrix.col[keep])), shape=matrix.shape
    )


class _DType:
    r"""Stand-in for :class:`numpy.dtype`: a plain number type, of whose state nothing but the byte
    order is taken.
    """

    def __init__(self, name: Any):
        text = name.lstrip('<>|=') if isinstance(name, str) else ''
        if text not in _DTYPES or len(name) > 3:
            raise _Damaged(
                'type of an array, accepted are booleans, integers and floats of up to 8 bytes'
            )
        self.name, self.order = text, name[0] if len(name) == 3 else '='

    def set_state(self, state: Any) -> None:
        if (
            not isinstance(state, tuple)
            or len(state) < 2
            or not isinstance(state[1], str)
            or state[1] not in tuple('<>|=')
        ):
            raise _Damaged('state of a dtype')
        self.order = state[1]

    def to_numpy(self) -> np.dtype:
        return np.dtype(self.order + self.name)


class _Array:
    r"""Stand-in for :class:`numpy.ndarray`: a vector whose bytes and length fit together."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _Damaged('state of an array')
        _, shape, dtype, _, content = state
        self.fill(content, dtype, shape)

    def fill(self, content: Any, dtype: Any, shape: Any) -> None:
        if (
            not isinstance(content, (bytes, bytearray))
            or not isinstance(dtype, _DType)
            or not isinstance(shape, tuple)
        ):
            raise _Damaged('content of an array')
        kind, size = dtype.to_numpy(), 1
        for length in shape:
            size *= _as_size(length)
            if size > len(content):  # every entry takes a byte at least
                raise _Damaged('length of an array')
        if size * kind.itemsize != len(content):
            raise _Damaged('length of an array')
        self.values = np.frombuffer(content, kind).reshape([int(length) for length in shape])


class _Matrix:
    r"""Stand-in for a sparse matrix: its attributes, looked at when the file has been read."""

    def __init__(self, form: str):
        self.form = form
        self.attributes: dict[str, Any] = {}

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise _Damaged('state of a sparse matrix')
        self.attributes = state

    def to_coo(self) -> sp.coo_matrix:
        r"""Builds the matrix after checking its arrays, before compiled code of SciPy touches
        them.
        """
        shape = self.attributes.get('_shape')
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise _Damaged('shape, accepted are two numbers')
        rows, cols = (_as_size(size) for size in shape)
        data = self._vector('data')
        if self.form == 'coo':
            coords = self.attributes.get('coords')
            if isinstance(coords, tuple) and len(coords) == 2:
                row, col = _as_index(coords[0], rows), _as_index(coords[1], cols)
            else:
                row, col = self._index('row', rows), self._index('col', cols)
        else:
            major, minor = (rows, cols) if self.form == 'csr' else (cols, rows)
            inner = self._index('indices', minor)
            pointer = self._index('indptr', len(inner) + 1)
            if (
                len(pointer) - 1 != major
                or pointer[0] != 0
                or pointer[-1] != len(inner)
                or (np.diff(pointer) < 0).any()
            ):
                raise _Damaged('its arrays do not fit together')
            outer = np.repeat(np.arange(major), np.diff(pointer))
            row, col = (outer, inner) if self.form == 'csr' else (inner, outer)
        if not len(row) == len(col) == len(data):
            raise _Damaged('its arrays do not fit together')
        kind = (
            np.float32
            if data.dtype.itemsize == 2 and data.dtype.kind == 'f'
            else data.dtype.newbyteorder('=')
        )
        # SciPy knows no float16
        return sp.coo_matrix((data.astype(kind), (row, col)), shape=(rows, cols))

    def _vector(self, name: str) -> np.ndarray:
        return _as_vector(self.attributes.get(name))

    def _index(self, name: str, size: int) -> np.ndarray:
        return _as_index(self.attributes.get(name), size)


def _as_vector(value: Any) -> np.ndarray:
    if not isinstance(value, _Array) or value.values is None or value.values.ndim != 1:
        raise _Damaged('an array is missing or no vector')
    return value.values


def _as_index(value: Any, size: int) -> np.ndarray:
    r"""A checked index vector as int64."""
    index = _as_vector(value)
    if index.dtype.kind not in 'iu':
        raise _Damaged(f'indices of type {index.dtype}, accepted are integers')
    if len(index) and (int(index.min()) < 0 or int(index.max()) >= size):
        raise _Damaged(
            f'indices run from {index.min()} to {index.max()}, accepted are 0 to {size - 1}'
        )
    return index.astype(np.int64)


def _as_size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SIZE:
        raise _Damaged('a size, accepted are integers from 0')
    return value


class _Machine:
    r"""Runs the opcodes of one pickle; names are looked up in a table of this module and nowhere
    else.

    Args:
        content: The file.
        path: Its path, for messages.
    """

    def __init__(self, content: bytes, path: Path):
        self.content, self.path = content, path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0
        self.functions: dict[str, Callable[[tuple], Any]] = {
            'encode': self._encode,
            'dtype': self._dtype,
            'reconstruct': self._reconstruct,
            'scalar': self._scalar,
            'frombuffer': self._frombuffer,
        }

    def run(self) -> Any:
        r"""Returns what the pickle holds: plain values and stand-ins."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.content)):
            if number >= _MAX_OPCODES:
                raise DataError(
                    f'{self.path}: the pickle has more than {_MAX_OPCODES} opcodes, {ACCEPTED}'
                )
            if opcode.name == 'STOP':
                return self._pop()
            self._step(opcode.name, argument)
        raise _Damaged('no end')

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ('MEMOIZE', 'BINPUT', 'LONG_BINPUT', 'PUT'):
            self.memo[len(self.memo) if name == 'MEMOIZE' else argument] = self._top()
        elif name in ('BINGET', 'LONG_BINGET', 'GET'):
            self.stack.append(self.memo[argument])
        elif name in _SHORT_TUPLES:
            self.stack.append(tuple([self._pop() for _ in range(_SHORT_TUPLES[name])][::-1]))
        elif name == 'TUPLE':
            self.stack.append(tuple(self._pop_to_mark()))
        elif name in ('EMPTY_DICT', 'EMPTY_LIST'):
            self.stack.append({} if name == 'EMPTY_DICT' else [])
        elif name in ('SETITEM', 'SETITEMS'):
            self._set_items(
                [self._pop(), self._pop()][::-1] if name == 'SETITEM' else self._pop_to_mark()
            )
        elif name in ('APPEND', 'APPENDS'):
            values = [self._pop()] if name == 'APPEND' else self._pop_to_mark()
            self._top(list).extend(values)
        elif name == 'GLOBAL':
            module, _, attribute = argument.partition(' ')
            self.stack.append(self._find(module, attribute))
        elif name == 'STACK_GLOBAL':
            attribute, module = self._pop(str), self._pop(str)
            self.stack.append(self._find(module, attribute))
        elif name in ('REDUCE', 'NEWOBJ'):
            arguments, function = self._pop(tuple), self._pop(_Name)
            self.stack.append(self._call(function, arguments, name))
        elif name == 'BUILD':
            state = self._pop()
            self._top((_DType, _Array, _Matrix)).set_state(state)
        elif name in ('PERSID', 'BINPERSID'):
            raise DataError(f'{self.path}: the pickle refers to an outside object, {ACCEPTED}')
        elif name not in ('PROTO', 'FRAME'):
            raise DataError(f'{self.path}: the pickle has the opcode {name}, {ACCEPTED}')

    def _find(self, module: str, attribute: str) -> _Name:
        if module in _MATRIX_MODULES and attribute in _MATRICES:
            return _Name('matrix', _MATRICES[attribute])
        if (module, attribute) not in _FUNCTIONS:
            shown = ascii(f'{module}.{attribute}'[:100])[1:-1]
            raise DataError(f'{self.path}: the pickle asks for {shown}, {ACCEPTED}')
        return _Name(_FUNCTIONS[module, attribute])

    def _call(self, function: _Name, arguments: tuple, opcode: str) -> Any:
        if function.kind == 'matrix' and opcode == 'NEWOBJ' and arguments == ():
            return _Matrix(function.form)
        if opcode == 'NEWOBJ' or function.kind not in self.functions:
            raise _Damaged('an object that is no part of a sparse matrix')
        return self.functions[function.kind](arguments)

    def _encode(self, arguments: tuple) -> bytes:
        r"""``codecs.encode`` of bytes that protocol 2 writes as text."""
        text = arguments[0] if len(arguments) == 2 else None
        if (
            not isinstance(text, str)
            or not isinstance(arguments[1], str)
            or arguments[1] != 'latin1'
        ):
            raise _Damaged('encoding of bytes')
        self.encoded += len(text)
        # the same text, encoded again and again, would fill the memory
        if self.encoded > len(self.content):
            raise _Damaged('encoding of more bytes than the file has')
        return text.encode('latin1')

    @staticmethod
    def _dtype(arguments: tuple) -> _DType:
        return _DType(arguments[0] if arguments else None)

    @staticmethod
    def _reconstruct(arguments: tuple) -> _Array:
        if (
            len(arguments) != 3
            or not isinstance(arguments[0], _Name)
            or arguments[0].kind != 'ndarray'
        ):
            raise _Damaged('an array of another class')
        return _Array()

    @staticmethod
    def _frombuffer(arguments: tuple) -> _Array:
        if len(arguments) < 3:
            raise _Damaged('content of an array')
        array = _Array()
        array.fill(*arguments[:3])
        return array

    @staticmethod
    def _scalar(arguments: tuple) -> Any:
        if len(arguments) != 2:
            raise _Damaged('a number')
        array = _Array()
        array.fill(arguments[1], arguments[0], ())
        return array.values.item()

    def _set_items(self, entries: list) -> None:
        target = self._top(dict)
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            # other keys may take forever to hash, or overflow the stack
            if not isinstance(key, str):
                raise _Damaged('name of an attribute')
            target[key] = value

    def _top(self, kind: Any = object) -> Any:
        value = self.stack[-1]
        if value is _MARK or not isinstance(value, kind):
            raise _Damaged('opcodes in a wrong order')
        return value

    def _pop(self, kind: Any = object) -> Any:
        value = self._top(kind)
        self.stack.pop()
        return value

    def _pop_to_mark(self) -> list:
        values = []
        while self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        self.stack.pop()
        return values[::-1]


class _Name:
    r"""A name that the pickle asks for, as text; nothing of numpy or SciPy is handed out."""

    def __init__(self, kind: str, form: str = ''):
        self.kind, self.form = kind, form
