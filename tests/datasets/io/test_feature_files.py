"""Feature files are written with their ids and a manifest, and read back as they were."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.datasets.io.feature_files import check_ending, write_features
from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.exceptions import ConfigError, DataError

X = np.array([[1.0, 2.5], [0.0, -3.0], [4.0, 0.0]])


@pytest.mark.parametrize('name', ['text.npy', 'text.npz', 'text.parquet'])
@pytest.mark.parametrize('ids', [['b', 'a "q"', '\u65e5\u672c'], np.array([7, 3, 12])])
def test_what_is_written_is_read(tmp_path, name, ids):
    x = sp.csr_matrix(X) if name.endswith('npz') else X
    write_features(tmp_path / name, ids, x, {'encoder': 'none'})
    found = read_features(tmp_path / name, 'text')
    read = found.x.toarray() if sp.issparse(found.x) else found.x
    order = [list(found.ids).index(one) for one in ids]
    assert sorted(order) == [0, 1, 2]
    assert read.dtype == np.float32 and read[order].tolist() == X.tolist()


@pytest.mark.parametrize('name', ['text.npy', 'text.npz', 'text.parquet'])
def test_the_manifest_has_sizes_what_it_is_told_and_the_hash_of_every_file(tmp_path, name):
    x = sp.csr_matrix(X) if name.endswith('npz') else X
    write_features(tmp_path / name, ['b', 'a', 'c'], x, {'encoder': 'none'})
    found = json.loads((tmp_path / 'text.manifest.json').read_text())
    assert (found['rows'], found['width'], found['encoder']) == (3, 2, 'none')
    others = {path.name for path in tmp_path.iterdir()} - {'text.manifest.json'}
    assert others == set(found['files'])
    for other, digest in found['files'].items():
        assert hashlib.sha256((tmp_path / other).read_bytes()).hexdigest() == digest


def test_an_id_of_two_lines_needs_parquet(tmp_path):
    with pytest.raises(DataError, match=r"item 'x\\ny' has a line break, .* ends in .parquet"):
        write_features(tmp_path / 'text.npy', ['a', 'x\ny', 'c'], X, {})
    assert list(tmp_path.iterdir()) == []
    write_features(tmp_path / 'text.parquet', ['a', 'x\ny', 'c'], X, {})
    assert 'x\ny' in list(read_features(tmp_path / 'text.parquet', 'text').ids)


@pytest.mark.parametrize(
    'name,sparse', [('x.npz', False), ('x.npy', True), ('x.parquet', True), ('x.csv', False)]
)
def test_an_ending_of_the_other_kind_is_refused(name, sparse):
    with pytest.raises(ConfigError, match=f"--output: got '{name}', accepted for"):
        check_ending(Path(name), sparse)


@pytest.mark.parametrize('name,sparse', [('x.npz', True), ('x.npy', False), ('x.parquet', False)])
def test_an_ending_of_its_kind_is_taken(name, sparse):
    check_ending(Path(name), sparse)
