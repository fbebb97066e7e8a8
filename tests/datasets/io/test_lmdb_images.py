import os
import pickle
import sys
import types

import pytest

from genrec_pyg.datasets.io.lmdb_images import LmdbImages, is_pickle, unpack_image
from genrec_pyg.exceptions import ConfigError, DataError


class LMDB_Image:  # noqa: N801  as IDvs.MoRec calls it
    def __init__(self, content, size=(2, 2), channels=3):
        self.channels, self.size, self.image, self.id = channels, size, content, 7


def pickled(*arguments, **options):
    """As its program writes it: an object of the module ``__main__``."""
    main = sys.modules['__main__']
    before, module = getattr(main, 'LMDB_Image', None), LMDB_Image.__module__
    main.LMDB_Image, LMDB_Image.__module__ = LMDB_Image, '__main__'
    try:
        return pickle.dumps(LMDB_Image(*arguments, **options), protocol=4)
    finally:
        LMDB_Image.__module__ = module
        main.LMDB_Image = before


def test_pictures_are_read_without_unpickling(monkeypatch):
    monkeypatch.setattr(pickle, 'loads', None)
    raw = unpack_image(pickled(bytes(range(12))), 'key 7')
    assert (raw.height, raw.width, raw.content) == (2, 2, bytes(range(12)))


class Evil:
    def __reduce__(self):
        return os.system, ('touch /tmp/evil',)


@pytest.mark.parametrize(
    'value, message',
    [
        (pickle.dumps(Evil(), protocol=4), "asks for 'system'"),
        (
            pickle.dumps(types.SimpleNamespace(size=(1, 1)), protocol=4),
            "asks for 'SimpleNamespace'",
        ),
        (pickle.dumps([1, 2], protocol=4), 'accepted are encoded pictures'),
        (pickled(bytes(11)), 'has 11 bytes for 2 x 2 x 3'),
        (pickled(bytes(4), channels=1), 'has 4 bytes for 2 x 2 x 1'),
        (pickled(bytes(12), size=('2', 2)), 'has 12 bytes for 2 x 2 x 3'),
        (pickled(bytes(12))[:-5], 'cannot be read|has no end'),
        (b'\x80', 'cannot be read|has no end'),
    ],
)
def test_other_objects_and_damage_are_refused(value, message):
    assert is_pickle(value)
    with pytest.raises(DataError, match=f'key 7: .*({message})'):
        unpack_image(value, 'key 7')


@pytest.fixture
def lmdb():
    return pytest.importorskip('lmdb', reason='LMDB IS NOT INSTALLED: pip install genrec_pyg[lmdb]')


def test_keys_and_values(lmdb, tmp_path):
    with (
        lmdb.open(str(tmp_path / 'images.lmdb'), subdir=False) as file,
        file.begin(write=True) as write,
    ):
        for key, value in ((b'7', b'seven'), (b'12', b'twelve'), (b'__len__', b'2')):
            write.put(key, value)
    images = LmdbImages(tmp_path / 'images.lmdb')
    assert sorted(images.keys) == ['12', '7']
    copy = pickle.loads(pickle.dumps(images))  # as processes of loaders get it
    assert copy.get('7') == b'seven' and copy.get('8') is None


def test_what_is_no_lmdb_file_is_refused(lmdb, tmp_path):
    (tmp_path / 'a.lmdb').write_bytes(b'x' * 8192)
    with pytest.raises(DataError, match='cannot be read as an LMDB file'):
        LmdbImages(tmp_path / 'a.lmdb')


def test_the_package_is_named_where_it_is_absent(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(ConfigError, match=r'pip install genrec_pyg\[lmdb\]'):
        LmdbImages(tmp_path)
