import errno
import io
import os
import stat
import sys
import threading

import pytest

from genrec_pyg.exceptions import OutputError
from genrec_pyg.utils.files import (
    check_writable,
    replacing,
    write_atomically,
    write_json,
    write_stdout,
)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_the_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'data.csv'
    for content in ('first', 'second'):
        before = path.read_text() if path.exists() else None
        with replacing(path) as temporary:
            assert temporary.name == path.name and temporary != path
            temporary.write_text(content)
            assert (path.read_text() if path.exists() else None) == before
        assert path.read_text() == content
    assert os.listdir(path.parent) == ['data.csv']


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError('the disk is full')])
def test_an_error_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / 'data.csv'
    path.write_text('old')
    with (
        pytest.raises(error if isinstance(error, type) else type(error)),
        replacing(path) as temporary,
    ):
        temporary.write_text('half')
        raise error
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['data.csv']


def test_a_block_that_writes_nothing_replaces_nothing(tmp_path):
    path = tmp_path / 'data.csv'
    path.write_text('old')
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['data.csv']


def test_nothing_of_a_killed_process_is_taken_for_data(tmp_path):
    path = tmp_path / 'data.csv'
    with replacing(path) as temporary:
        temporary.write_text('half')
        assert not list(tmp_path.glob('*.csv')) and temporary.parent.parent == tmp_path


def test_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / 'file'
    write_json(path, {'a': 1})

    def fail(file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OutputError, match='file: cannot be written .*No space left'):
        write_atomically(path, fail)
    assert path.read_text() == '{\n  "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('mask,mode', [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_new_files_have_the_permissions_of_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    write_json(tmp_path / 'new' / 'file.json', {})
    assert stat.S_IMODE((tmp_path / 'new' / 'file.json').stat().st_mode) == mode


def test_a_replaced_file_keeps_its_permissions(tmp_path, umask):
    path = tmp_path / 'private'
    path.touch(0o600)
    write_json(path, {})
    assert path.read_text() == '{}\n' and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_links_are_followed(tmp_path):
    target, dangling = tmp_path / 'there' / 'target', tmp_path / 'later' / 'target'
    target.parent.mkdir()
    target.write_text('old')
    for name, place in (('link', target), ('dangling', dangling)):
        link = tmp_path / name
        link.symlink_to(place)
        write_json(link, [name])
        assert (
            link.is_symlink()
            and place.read_text() == f'[\n  "{name}"\n]\n'
            and os.listdir(place.parent) == ['target']
        )


def test_a_pipe_is_written_to(tmp_path):
    path = tmp_path / 'pipe'
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    content = os.urandom(1 << 20)  # more than a pipe holds
    write_atomically(path, lambda file: file.write(content))
    reader.join(timeout=20)
    assert (
        got == [content] and stat.S_ISFIFO(path.stat().st_mode) and os.listdir(tmp_path) == ['pipe']
    )


def test_a_device_is_written_to():
    before = os.stat('/dev/null')
    write_json('/dev/null', {})
    assert os.stat('/dev/null') == before
    with pytest.raises(OutputError, match='No space left'):
        write_json('/dev/full', {})


def test_an_open_file_is_written_to_where_it_stands(tmp_path):
    path = tmp_path / 'log'
    with path.open('ab') as file:
        file.write(b'before ')
        file.flush()
        check_writable(f'/dev/fd/{file.fileno()}')
        write_atomically(f'/dev/fd/{file.fileno()}', lambda target: target.write(b'and after'))
    assert path.read_text() == 'before and after'


def test_a_file_that_is_mounted_on_its_own_is_written_to(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    path = tmp_path / 'mounted'
    path.write_text('a longer text than the new one')
    monkeypatch.setattr(os, 'replace', refuse)
    write_json(path, {})
    assert path.read_text() == '{}\n' and os.listdir(tmp_path) == ['mounted']


def test_unusable_destinations_are_told_before_the_work(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    for path, message in (
        (tmp_path, 'is a folder'),
        (f'{tmp_path}/new/', 'is a folder'),
        (tmp_path / 'file' / 'new', 'is no folder'),
    ):
        with pytest.raises(OutputError, match=message):
            check_writable(path)
    check_writable(tmp_path / 'deep' / 'er' / 'new')
    check_writable('/dev/null')
    # the superuser may write everywhere
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    for path in (tmp_path / 'file', tmp_path / 'deep' / 'new'):
        with pytest.raises(OutputError, match='no permission'):
            check_writable(path)
    assert os.listdir(tmp_path) == ['file']


class Raw(io.RawIOBase):
    """Takes at most 1,000 bytes at a time and, like a full pipe, sometimes none."""

    def __init__(self, room=1 << 30):
        self.content, self.room, self.calls = bytearray(), room, 0

    def writable(self):
        return True

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)

    def write(self, block):
        self.calls += 1
        if self.calls % 3 == 0:
            return None
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = bytes(block[: min(1000, self.room)])
        self.room -= len(part)
        self.content += part
        return len(part)


@pytest.mark.parametrize('buffered', [False, True])
def test_standard_output_gets_everything(monkeypatch, buffered):
    raw, content = Raw(), os.urandom(12_345)
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw) if buffered else raw, encoding='utf-8', write_through=True
    )
    monkeypatch.setattr(sys, 'stdout', stream)
    write_stdout(content)
    assert raw.content == content
    write_stdout('text\n')
    assert raw.content == content + b'text\n'
    raw.room = 4_000
    with pytest.raises(OutputError, match='standard output: cannot be written .*No space left'):
        write_stdout(content)


def test_standard_output_of_other_kinds(monkeypatch):
    for stream, expected in (
        (io.StringIO(), 'ü\n'),
        (io.TextIOWrapper(io.BytesIO(), encoding='ascii'), '\\xfc\n'),
    ):
        monkeypatch.setattr(sys, 'stdout', stream)
        write_stdout('ü\n')
        stream.seek(0)
        assert stream.read() == expected
    monkeypatch.setattr(sys, 'stdout', None)
    with pytest.raises(OutputError, match='standard output is closed'):
        write_stdout('x')
