import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from genrec_pyg.datasets.io.item_features import read_features
from genrec_pyg.exceptions import ConfigError, DataError


def save(folder, ids, x):
    np.save(folder / 'text.npy', np.asarray(x, dtype=np.float32))
    (folder / 'text.ids.txt').write_text(''.join(f'{value}\n' for value in ids))
    return folder / 'text.npy'


def test_rows_are_sorted_by_id_whatever_holds_them(tmp_path):
    expected = [[3.0, 4.0], [1.0, 2.0]]
    file = save(tmp_path, ['b10', 'b2'], [[1, 2], [3, 4]])
    parquet.write_table(
        pa.table({'item': ['b10', 'b2', 'b3'], 'v': [[1.0, 2.0], [3.0, 4.0], None]}),
        tmp_path / 'x.parquet',
    )
    for source in (file, f'{tmp_path}/x.parquet:v', (['b10', 'b2'], np.array([[1.0, 2], [3, 4]]))):
        found = read_features(source, 'text')
        assert (
            list(found.ids) == ['b2', 'b10']
            and found.x.tolist() == expected
            and found.x.dtype == np.float32
        )


@pytest.mark.parametrize(
    'ids,x,message',
    [
        (['a', 'a'], [[1.0], [2.0]], "item 'a' has several rows"),
        (['a'], [[1.0], [2.0]], 'one row per id'),
        (['a', 'b'], [[1.0], [np.nan]], '1 rows have NaN or infinite values, the first is row 1'),
    ],
)
def test_rows_that_fit_no_item_are_refused(tmp_path, ids, x, message):
    with pytest.raises(DataError, match=message):
        read_features(save(tmp_path, ids, x), 'text')


def test_other_sources_are_refused_by_name(tmp_path):
    parquet.write_table(
        pa.table({'item': ['a', 'b'], 'v': [[1.0], [1.0, 2.0]]}), tmp_path / 'x.parquet'
    )
    with pytest.raises(DataError, match='list 2 of column .v. has 2 numbers|lists of one length'):
        read_features(f'{tmp_path}/x.parquet:v', 'text')
    with pytest.raises(ConfigError, match="has no column 'text', accepted are item, v"):
        read_features(tmp_path / 'x.parquet', 'text')
    with pytest.raises(DataError, match="features: 'text' is int"):
        read_features(3, 'text')
