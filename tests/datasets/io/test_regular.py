import bz2
import gzip
import lzma
import os

import pytest

from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.datasets.io.regular import file_sha256, list_folder, open_regular
from genrec_pyg.datasets.io.tables import read_interactions
from genrec_pyg.exceptions import DataError


def test_checksum(tmp_path):
    (tmp_path / 'x').write_bytes(b'abc')
    assert (
        file_sha256(tmp_path / 'x')
        == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )


@pytest.mark.parametrize('read', [open_regular, file_sha256, load_features, load_scipy_pickle])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(
        DataError, match='pipe: cannot be read .is a pipe or a device, accepted is a file'
    ):
        read(tmp_path / 'pipe')
    with pytest.raises(DataError, match='cannot be read .is a folder'):
        read(tmp_path)
    (tmp_path / 'broken').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    for name in ('broken', 'loop', 'missing'):
        with pytest.raises(DataError, match=f'{name}: cannot be read'):
            read(tmp_path / name)


@pytest.mark.parametrize('pack', [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize('read', [load_features, load_scipy_pickle, read_interactions])
def test_what_is_compressed_is_named(tmp_path, read, pack):
    (tmp_path / 'file').write_bytes(pack(bytes(100)))
    with pytest.raises(DataError, match='file: is compressed, unpack it first'):
        read(tmp_path / 'file')


def test_folders_are_listed_or_named(tmp_path):
    for name in ('b.x', 'a.x', '.hidden.x', 'c.y'):
        (tmp_path / name).touch()
    assert list_folder(tmp_path, '*.x') == ['a.x', 'b.x'] and list_folder(tmp_path) == [
        'a.x',
        'b.x',
        'c.y',
    ]
    assert list_folder(tmp_path / 'a.x') == list_folder(tmp_path / 'missing') == []
