import os

import pytest

from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.datasets.io.regular import file_sha256, open_regular
from genrec_pyg.exceptions import DataError


def test_checksum(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert file_sha256(tmp_path / 'x') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'


@pytest.mark.parametrize('read', [open_regular, file_sha256, load_features, load_scipy_pickle])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(DataError, match='pipe: cannot be read .is a pipe or a device, accepted is a file'):
        read(tmp_path / 'pipe')
    with pytest.raises(DataError, match='cannot be read .is a folder'):
        read(tmp_path)
    (tmp_path / 'broken').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for name in ('broken', 'loop', 'missing'):
        with pytest.raises(DataError, match=f'{name}: cannot be read'):
            read(tmp_path / name)
