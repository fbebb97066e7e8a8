import os

import pytest

from genrec_pyg.files import replacing


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
    with pytest.raises(error if isinstance(error, type) else type(error)), replacing(path) as temporary:
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
