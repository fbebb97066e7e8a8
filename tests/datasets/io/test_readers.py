import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.datasets.io.readers import file_sha256, load_features, load_scipy_pickle
from genrec_pyg.exceptions import DataError

MATRIX = sp.coo_matrix((np.array([1.0, 1.0, 0.0, 2.0]), (np.array([0, 1, 1, 2]), np.array([3, 0, 1, 2]))), shape=(3, 4))


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
    old = content.replace(b'cscipy.sparse._coo\n', b'cscipy.sparse.coo\n').replace(b'cnumpy._core.', b'cnumpy.core.')
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


@pytest.mark.parametrize('payload,name', [(System(), 'system'), (NumpyLoad(), 'load'), (Evaluate(), 'eval'),
                                          ([MATRIX, System()], 'system')])
def test_foreign_names_are_refused_and_never_executed(tmp_path, monkeypatch, payload, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / 'evil.pkl', payload)
    with pytest.raises(DataError, match=rf'evil.pkl: the pickle asks for .*\.{name}, accepted are SciPy'):
        load_scipy_pickle(path)
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize('content,message', [
    (b'', 'not a readable pickle'), (b'garbage', 'not a readable pickle'),
    (pickle.dumps(MATRIX)[:-40], 'not a readable pickle'),
    (pickle.dumps([1, 2]), 'holds list'), (pickle.dumps(np.eye(2)), 'holds ndarray')])
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


@pytest.mark.parametrize('dtype', [np.float16, np.float64, np.int32])
def test_features_become_float32(tmp_path, dtype):
    np.save(tmp_path / 'x_feat.npy', np.arange(6).reshape(3, 2).astype(dtype))
    x = load_features(tmp_path / 'x_feat.npy')
    assert x.dtype == np.float32 and x.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_zipped_features(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((3, 2)))
    path = tmp_path / 'x_feat.npy.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('../../image_feat.npy', buffer.getvalue())
        archive.writestr('__MACOSX/._image_feat.npy', b'')
    assert load_features(path).shape == (3, 2)
    assert not (tmp_path.parent.parent / 'image_feat.npy').exists()
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('other.npy', buffer.getvalue())
    with pytest.raises(DataError, match='has 2 .npy members'):
        load_features(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match='not a readable'):
        load_features(path)


def test_bad_feature_files(tmp_path):
    path = tmp_path / 'x.npy'
    for array, message in ((np.array([[1.0, 2.0], [np.nan, 1.0]]), '1 rows have NaN or infinite values, the first is row 1'),
                           (np.array([[1e300]]), 'infinite'), (np.ones(3), 'accepted is a matrix'),
                           (np.array([['a']]), 'accepted is a matrix')):
        np.save(path, array)
        with pytest.raises(DataError, match=message):
            load_features(path)
    np.save(path, np.array([[System()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match='without pickled objects'):
        load_features(path)
    np.save(path, np.ones((100, 8)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match='truncated or damaged, the header announces'):
        load_features(path)
    path.write_bytes(b'no array')
    with pytest.raises(DataError, match='not a readable'):
        load_features(path)
    with pytest.raises(DataError, match='cannot be read'):
        load_features(tmp_path / 'none.npy')


def test_header_that_claims_more_than_the_file_costs_no_memory(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {'descr': '<f4', 'fortran_order': False, 'shape': (2 ** 40, 2 ** 10)})
    (tmp_path / 'x.npy').write_bytes(header.getvalue() + b'1234')
    with pytest.raises(DataError, match='truncated or damaged'):
        load_features(tmp_path / 'x.npy')


def test_checksum(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert file_sha256(tmp_path / 'x') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
