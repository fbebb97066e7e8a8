import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.exceptions import DataError

MATRIX = sp.coo_matrix(
    (np.array([1.0, 1.0, 0.0, 2.0]), (np.array([0, 1, 1, 2]), np.array([3, 0, 1, 2]))), shape=(3, 4)
)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


@pytest.mark.parametrize('form', ['coo', 'csr', 'csc'])
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_sparse_matrices_are_read_and_stored_zeros_dropped(tmp_path, form, protocol):
    path = write(tmp_path / 'm.pkl', pickle.dumps(MATRIX.asformat(form), protocol=protocol))
    matrix = load_scipy_pickle(path)
    assert np.array_equal(matrix.toarray(), MATRIX.toarray()) and matrix.nnz == 3


def test_old_module_names_are_understood(tmp_path):
    content = pickle.dumps(MATRIX, protocol=2)
    old = content.replace(b'cscipy.sparse._coo\n', b'cscipy.sparse.coo\n').replace(
        b'cnumpy._core.', b'cnumpy.core.'
    )
    assert old != content
    assert load_scipy_pickle(write(tmp_path / 'old.pkl', old)).nnz == 3


class System:
    def __reduce__(self):
        return os.system, ('touch executed',)


class NumpyLoad:
    def __reduce__(self):
        return np.load, ('anything.npy',)


class Evaluate:
    def __reduce__(self):
        return eval, ("open('executed', 'w')",)


@pytest.mark.parametrize(
    'payload,name',
    [
        (System(), 'system'),
        (NumpyLoad(), 'load'),
        (Evaluate(), 'eval'),
        ([MATRIX, System()], 'system'),
    ],
)
def test_foreign_names_are_refused_and_never_executed(tmp_path, monkeypatch, payload, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / 'evil.pkl', payload)
    with pytest.raises(
        DataError, match=rf'evil.pkl: the pickle asks for .*\.{name}, accepted are SciPy'
    ):
        load_scipy_pickle(path)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'content,message',
    [
        (b'', 'not a readable pickle'),
        (b'garbage', 'not a readable pickle'),
        (pickle.dumps(MATRIX)[:-40], 'not a readable pickle'),
        (pickle.dumps([1, 2]), 'holds list'),
        (pickle.dumps(np.eye(2)), 'holds ndarray'),
    ],
)
def test_damaged_and_other_content(tmp_path, content, message):
    with pytest.raises(DataError, match=f'bad.pkl: {message}'):
        load_scipy_pickle(write(tmp_path / 'bad.pkl', content))
    with pytest.raises(DataError, match='none.pkl: cannot be read'):
        load_scipy_pickle(tmp_path / 'none.pkl')


@pytest.mark.parametrize('index', [-1, 99])
def test_indices_outside_the_shape_are_refused(tmp_path, index):
    for matrix in (MATRIX.copy(), MATRIX.tocsr()):
        (matrix.col if matrix.format == 'coo' else matrix.indices)[0] = index
        with pytest.raises(DataError, match='indices run from|do not fit'):
            load_scipy_pickle(write(tmp_path / 'm.pkl', matrix))


def test_entries_must_be_finite_numbers(tmp_path):
    matrix = MATRIX.copy()
    matrix.data[0] = np.nan
    with pytest.raises(DataError, match='not finite'):
        load_scipy_pickle(write(tmp_path / 'm.pkl', matrix))


def dtype(name, state=b''):
    """``numpy.dtype(name)`` as opcodes, with a state of the file's choice."""
    return b'cnumpy\ndtype\n(X' + struct.pack('<I', len(name)) + name + b'K\x00K\x01tR' + state


def attributes(**values):
    """A COO matrix of shape (2, 2) as opcodes, with the given attributes."""
    content = b'\x80\x02cscipy.sparse\ncoo_matrix\n)\x81}(X\x06\x00\x00\x00_shapeK\x02K\x02\x86'
    for name, value in values.items():
        content += b'X' + struct.pack('<I', len(name)) + name.encode() + value
    return content + b'ub.'


def array(content, shape=b'K\x01\x85', kind=b'i4', state=b''):
    """``_frombuffer`` of an array as opcodes."""
    return (
        b'cnumpy._core.numeric\n_frombuffer\n(B'
        + struct.pack('<I', len(content))
        + content
        + dtype(kind, state)
        + shape
        + b'X\x01\x00\x00\x00CtR'
    )


ONE, NUMBER = array(struct.pack('<i', 1)), array(struct.pack('<d', 1.0), kind=b'f8')


def test_opcodes_written_by_hand_make_a_matrix(tmp_path):
    matrix = load_scipy_pickle(write(tmp_path / 'm.pkl', attributes(row=ONE, col=ONE, data=NUMBER)))
    assert matrix.toarray().tolist() == [[0, 0], [0, 1]]
    big = array(struct.pack('>i', 1), kind=b'>i4')
    assert load_scipy_pickle(
        write(tmp_path / 'm.pkl', attributes(row=big, col=ONE, data=NUMBER))
    ).row.tolist() == [1]


# The state of dtype('O') with its flags set to zero.
OBJECT = b'(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
NESTED = b')' + b'\x85' * 4000  # a tuple in a tuple in a tuple ...
# a tuple of twice the tuple before, 2 ** 60 times the first
DOUBLED = b')' + b'q\x00h\x00\x86' * 60
HOSTILE = {
    'a pointer of the choice of the file': b'\x80\x02cnumpy.core.multiarray\nscalar\n('
    + dtype(b'O8', OBJECT)
    + b'C\x08'
    + struct.pack('<Q', 0x4141414141414141)
    + b'tR.',
    'an array of pointers': attributes(
        row=ONE, col=ONE, data=array(b'A' * 8, kind=b'O8', state=OBJECT)
    ),
    'a plain dtype with the state of objects': attributes(
        row=ONE, col=ONE, data=array(b'A' * 8, kind=b'f8', state=OBJECT.replace(b'|', b'O'))
    ),
    'a field outside its array': attributes(row=ONE, col=ONE, data=array(b'A' * 8, kind=b'V8')),
    'a shape larger than its bytes': attributes(
        row=array(b'AAAA', b'J\xff\xff\xff\x7f\x85'), col=ONE, data=NUMBER
    ),
    'a negative shape': attributes(
        row=array(b'AAAA', b'J\xff\xff\xff\xff\x85'), col=ONE, data=NUMBER
    ),
    'a shape that overflows': attributes(
        row=array(b'', b'\x8a\x05\x00\x00\x00\x00\x01' * 3 + b'\x87'), col=ONE, data=NUMBER
    ),
    'a memo of gigabytes': b'\x80\x02Nr\xff\xff\xff\x7f0N.',
    'bytes of gigabytes': b'\x80\x04\x8e' + struct.pack('<Q', 2**40) + b'A.',
    'a deeply nested key': b'\x80\x02}' + NESTED + b'Ns.',
    'a key that takes forever to hash': b'\x80\x02}' + DOUBLED + b'Ns.',
    'a deeply nested shape': attributes(row=array(b'AAAA', NESTED), col=ONE, data=NUMBER),
    'an array as its own dtype': b'\x80\x02cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btRq\x01'  # noqa: E501
    b'(K\x01K\x01\x85h\x01\x89C\x01AtbK\x00.',
    'text encoded again and again': b'\x80\x02X'
    + struct.pack('<I', 10**6)
    + b'A' * 10**6
    + b'q\x00'
    + b'c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR' * 4000
    + b'.',
    'another encoding': b'\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00AX\x03\x00\x00\x00zlbtR.',
    'numpy.ndarray called': b'\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR.',
    'a matrix called': b'\x80\x02cscipy.sparse\ncsr_matrix\nJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86\x85R.',  # noqa: E501
    'a number of 5000 digits as the shape': b'\x80\x02cscipy.sparse\ncoo_matrix\n)\x81}X\x06\x00\x00\x00_shape'  # noqa: E501
    b'\x8b' + struct.pack('<i', 5000) + b'\x01' * 5000 + b'K\x01\x86sb.',
    'far too many opcodes': b'\x80\x02' + b'N0' * 10**6 + b'N.',
}


PROGRAM = """
import resource, sys
from pathlib import Path
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.exceptions import DataError
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, flush=True)
    try:
        load_scipy_pickle(path)
        sys.exit(f'{path.name} was read')
    except DataError as error:
        if 'MemoryError' in str(error) or str(path) not in str(error):
            sys.exit(str(error))
"""


@pytest.mark.slow
def test_hostile_pickles_end_in_an_error_and_nothing_worse(tmp_path):
    """In a process of their own: the first of them killed the interpreter, others filled its memory
    or never ended.
    """
    for name, content in HOSTILE.items():
        write(tmp_path / name, content)
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
    assert done.stdout.splitlines() == sorted(HOSTILE)


@pytest.mark.parametrize(
    'content',
    [
        sp.lil_matrix(MATRIX),
        sp.dok_matrix(MATRIX),
        sp.dia_matrix(np.eye(3)),
        {'a': MATRIX},
        pickle.dumps(MATRIX, protocol=0),
        pickle.dumps(MATRIX, protocol=1),
    ],
)
def test_the_message_names_the_accepted_forms(tmp_path, content):
    with pytest.raises(
        DataError,
        match='m.pkl: .*accepted are SciPy sparse matrices in COO, CSR or CSC form, pickled with '
        'protocol 2 or later',
    ):
        load_scipy_pickle(write(tmp_path / 'm.pkl', content))


@pytest.mark.parametrize(
    'kind', [bool, np.int8, np.uint16, np.int64, np.float16, np.float32, '>f8', '>i4']
)
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_every_type_of_number_and_index(tmp_path, kind, protocol):
    for form in (sp.coo_array, sp.csr_matrix, sp.csc_array):
        given = form(MATRIX)
        # SciPy itself makes none of float16 or of the other byte order
        given.data = given.data.astype(kind)
        for name in ('indices', 'indptr'):
            if hasattr(given, name):
                setattr(given, name, getattr(given, name).astype(np.int64))
        found = load_scipy_pickle(write(tmp_path / 'm.pkl', pickle.dumps(given, protocol=protocol)))
        assert (
            np.array_equal(found.toarray(), MATRIX.toarray().astype(kind))
            and found.data.dtype.isnative
        )


def test_numbers_of_numpy_in_the_shape_and_an_empty_matrix(tmp_path):
    matrix = sp.coo_matrix((3, 4))
    matrix._shape = (np.int64(3), np.int32(4))
    found = load_scipy_pickle(write(tmp_path / 'm.pkl', matrix))
    assert found.shape == (3, 4) and found.nnz == 0


@pytest.mark.slow
def test_mutated_pickles_are_read_or_refused(tmp_path):
    """A smaller run of the script; ``python tests/datasets/io/fuzz_readers.py --count 100000`` is
    the whole one.
    """
    script = Path(__file__).with_name('fuzz_readers.py')
    done = subprocess.run(
        [
            sys.executable,
            str(script),
            '--count',
            '2000',
            '--workers',
            '1',
            '--folder',
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'refused' in done.stdout and 'read' in done.stdout
