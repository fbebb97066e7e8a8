import io
import os
import zipfile

import numpy as np
import pytest

from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.exceptions import DataError


class System:
    def __reduce__(self):
        return os.system, ('touch executed',)


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
    for array, message in (
        (
            np.array([[1.0, 2.0], [np.nan, 1.0]]),
            '1 rows have NaN or infinite values, the first is row 1',
        ),
        (np.array([[1e300]]), 'infinite'),
        (np.ones(3), 'accepted is a matrix'),
        (np.array([['a']]), 'accepted is a matrix'),
    ):
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
    np.lib.format.write_array_header_1_0(
        header, {'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 2**10)}
    )
    (tmp_path / 'x.npy').write_bytes(header.getvalue() + b'1234')
    with pytest.raises(DataError, match='truncated or damaged'):
        load_features(tmp_path / 'x.npy')
