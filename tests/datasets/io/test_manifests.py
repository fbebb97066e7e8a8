import json

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from pyarrow import parquet

from genrec_pyg.datasets.io.feature_files import check_ending, write_features
from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.datasets.io.manifests import check_manifest, manifest_path, source_digest
from genrec_pyg.exceptions import ConfigError, DataError

X = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def features(tmp_path):
    (tmp_path / 'items.tsv').write_text('item\ttitle\n')
    write_features(
        tmp_path / 'title.npy',
        ['a', 'b', 'c'],
        X,
        {
            'encoder': {'encoder': 'minilm'},
            'source': {'path': 'items.tsv', 'sha256': source_digest(tmp_path / 'items.tsv')},
        },
    )
    return tmp_path / 'title.npy'


def test_what_is_written_is_read(features):
    found = read_features(features, 'title')
    assert found.ids == ['a', 'b', 'c'] and (found.x == X).all()
    document = check_manifest(features)
    assert (document['rows'], document['width']) == (3, 2)
    assert check_manifest(features.with_name('other.npy')) is None


def test_features_of_another_encoder_are_refused(features):
    np.save(features, X[::-1])
    with pytest.raises(DataError, match='is not the file .* describes, of minilm; .*encode again'):
        check_manifest(features)
    features.unlink()
    with pytest.raises(DataError, match='title.npy: is missing'):
        check_manifest(features)


def test_other_content_is_refused_while_it_lies_there(features):
    (features.parent / 'items.tsv').write_text('item\ttitle\na\tNew\n')
    with pytest.raises(DataError, match='was made from other content of .*items.tsv than there'):
        check_manifest(features)
    (features.parent / 'items.tsv').unlink()
    assert check_manifest(features) is not None


def test_a_damaged_manifest_is_refused(features):
    manifest_path(features).write_text('{"version": 2}')
    with pytest.raises(DataError, match='is no manifest of version 1'):
        check_manifest(features)


def test_folders_are_told_by_names_and_sizes(tmp_path):
    (tmp_path / '1.jpg').write_bytes(b'one')
    before = source_digest(tmp_path)
    (tmp_path / '1.jpg').write_bytes(b'other')
    assert source_digest(tmp_path) != before


def test_sparse_rows_and_parquet(tmp_path):
    write_features(tmp_path / 'tags.npz', [4, 7], sp.csr_matrix([[0, 1.5], [0, 0]]), {})
    assert sp.load_npz(tmp_path / 'tags.npz').toarray().tolist() == [[0, 1.5], [0, 0]]
    assert (tmp_path / 'tags.ids.txt').read_text() == '4\n7\n'
    write_features(tmp_path / 'title.parquet', ['x\ny', 'b', 'c'], X, {})
    found = read_features(tmp_path / 'title.parquet', 'title')
    assert found.ids == ['b', 'c', 'x\ny'] and found.x.tolist() == X[[1, 2, 0]].tolist()
    table = parquet.read_table(tmp_path / 'title.parquet')
    assert table.schema.field('title').type == pa.list_(pa.float32(), 2)


def test_names_and_ids_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match='has a line break, accepted for such ids is .*parquet'):
        write_features(tmp_path / 'title.npy', ['x\ny'], X[:1], {})
    for name, sparse, accepted in (('a.txt', False, '.npy or .parquet'), ('a.npy', True, '.npz')):
        with pytest.raises(ConfigError, match=f'--output: got .*{accepted}'):
            check_ending(tmp_path / name, sparse)


def test_the_manifest_goes_first(tmp_path, monkeypatch):
    """Killed in between, the old features do not pass for the new ones."""
    write_features(tmp_path / 'a.npy', ['a'], X[:1], {})

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr('genrec_pyg.datasets.io.feature_files.write_atomically', die)
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / 'a.npy', ['b'], X[1:2], {})
    assert json.loads(manifest_path(tmp_path / 'a.npy').read_text())['rows'] == 1
    with pytest.raises(DataError, match='half written'):
        check_manifest(tmp_path / 'a.npy')


def test_damaged_sparse_features_are_refused(tmp_path):
    path = tmp_path / 'tags.npz'
    write_features(path, [4, 7], sp.csr_matrix([[0, 1.5], [0, np.nan]]), {})
    with pytest.raises(DataError, match='row 2 has NaN'):
        read_features(path, 'tags')
    write_features(path, [7, 4], sp.csr_matrix([[0, 1.5], [1, 0]]), {})
    found = read_features(path, 'tags')
    assert found.ids.tolist() == [4, 7] and found.x.toarray().tolist() == [[1, 0], [0, 1.5]]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match='not a readable sparse matrix'):
        read_features(path, 'tags')
    np.savez(
        path,
        data=np.ones(1),
        indices=np.array([9]),
        indptr=np.array([0, 1]),
        shape=np.array([1, 2]),
        format=np.array(b'csr'),
    )
    with pytest.raises(DataError, match='not a readable sparse matrix'):
        read_features(path, 'tags')
