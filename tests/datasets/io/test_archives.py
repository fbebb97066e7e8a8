import zipfile

import pytest

from genrec_pyg.datasets.io.archives import unpack
from genrec_pyg.exceptions import DataError


def archive(tmp_path, **files):
    path = tmp_path / 'files.zip'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name.replace('__', '/').replace('_dot_', '.'), content)
    return path


def test_only_what_matches_is_unpacked(tmp_path):
    path = archive(tmp_path, images__a_dot_jpg='1', other_dot_py='2')
    assert unpack(path, tmp_path / '.', r'images/[a-z]\.jpg') == 1
    assert (tmp_path / 'images' / 'a.jpg').read_text() == '1'
    assert not (tmp_path / 'other.py').exists()


def test_names_that_lead_out_are_refused_whatever_the_pattern(tmp_path):
    path = tmp_path / 'files.zip'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('../out', 'x')
    inner = tmp_path / 'inner'
    inner.mkdir()
    with pytest.raises(DataError, match="'../out' leads out of its folder"):
        unpack(path, inner, '.*')
    assert not (tmp_path / 'out').exists()


def test_damaged_archives_are_refused_and_leave_no_file(tmp_path):
    path = archive(tmp_path, a_dot_jpg='x' * 100_000)
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match='files.zip: cannot be unpacked'):
        unpack(path, tmp_path, r'a\.jpg')
    path.write_bytes(bytes(content[:50]))
    with pytest.raises(DataError, match='accepted is a whole zip archive'):
        unpack(path, tmp_path, r'a\.jpg')
    assert [one.name for one in tmp_path.iterdir()] == ['files.zip']


def test_an_archive_without_what_is_wanted(tmp_path):
    with pytest.raises(DataError, match='has no file called as b'):
        unpack(archive(tmp_path, a='x'), tmp_path, 'b')


def test_a_bomb_is_refused_by_what_it_announces(tmp_path, monkeypatch):
    path = archive(tmp_path, a='x' * 1_000_000)
    monkeypatch.setattr('shutil.disk_usage', lambda folder: type('', (), {'free': 999_999}))
    with pytest.raises(DataError, match='announces 1 files of 1000000 bytes together'):
        unpack(path, tmp_path, 'a')
    assert not (tmp_path / 'a').exists()
