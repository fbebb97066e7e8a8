import io

import pytest

from genrec_pyg.encoders.item_images import open_image
from genrec_pyg.exceptions import DataError


def test_a_place_is_a_file_or_a_key_of_an_lmdb_file(tmp_path):
    lmdb = pytest.importorskip(
        'lmdb',
        reason='LMDB IS NOT INSTALLED: no picture of an LMDB file is tested (pip install lmdb)',
    )
    pillow = pytest.importorskip('PIL.Image')
    file = io.BytesIO()
    pillow.new('RGB', (5, 4), (200, 100, 50)).save(file, 'PNG')
    (tmp_path / 'one.png').write_bytes(file.getvalue())
    path = tmp_path / 'all.lmdb'
    with (
        lmdb.open(str(path), subdir=False, map_size=1 << 20) as store,
        store.begin(write=True) as transaction,
    ):
        transaction.put(b'7', file.getvalue())
    assert open_image(str(tmp_path / 'one.png')).size == open_image(f'{path}#7').size == (5, 4)
    with pytest.raises(DataError, match=r"all.lmdb: has no key '8', accepted are the keys"):
        open_image(f'{path}#8')
