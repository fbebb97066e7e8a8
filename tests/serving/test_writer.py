import json

import numpy as np
import pytest

from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.serving import writer
from genrec_pyg.serving.bundle import MANIFEST, manifest_state
from genrec_pyg.serving.writer import write_bundle

TABLES = {'x': np.arange(6, dtype='f4')}


def write(folder, number=0, **more):
    return write_bundle(
        folder, {'number': number}, {'x': TABLES['x'] + number}, {'users': {'ids': [1]}}, **more
    )


def test_a_bundle_is_replaced_by_its_manifest_alone(tmp_path, monkeypatch):
    folder = tmp_path / 'new' / 'bundle'
    first = write(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {MANIFEST, *(entry['name'] for entry in first['files'].values())}
    seen = []
    plain = writer.write_json

    def look(path, document):
        seen.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
        plain(path, document)

    monkeypatch.setattr(writer, 'write_json', look)
    state = manifest_state(folder)
    second = write(folder, 1)
    assert (
        before.items() <= seen[0].items()
    )  # the old bundle is whole until the new manifest is there
    assert (
        manifest_state(folder) != state
        and json.loads((folder / MANIFEST).read_text())['number'] == 1
    )
    assert {path.name for path in folder.iterdir()} == {
        MANIFEST,
        *(entry['name'] for entry in second['files'].values()),
    }
    assert (
        first['files']['users'] == second['files']['users']
        and first['files']['tables'] != second['files']['tables']
    )


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_an_export_that_fails_leaves_what_was_there(tmp_path, error):
    def fail(path):
        path.write_bytes(b'half')
        raise error

    folder = tmp_path / 'bundle'
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write(folder, programs={'program_user': fail})
    assert not any(folder.glob('*')) and not any(folder.glob('.*'))
    write(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write(folder, 1, programs={'program_user': fail})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_was_made_goes_with_an_export_that_wrote_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('safetensors.numpy.save_file', full)
    with pytest.raises(OutputError, match='No space left'):
        write(tmp_path / 'bundle')
    assert not (tmp_path / 'bundle').exists()


def test_what_a_killed_export_left_is_removed(tmp_path):
    (tmp_path / '.writing-abc').mkdir()
    (tmp_path / '.writing-abc' / 'tables.safetensors').write_bytes(b'half')
    (tmp_path / 'tables-0123456789abcdef.safetensors').write_bytes(b'whole')
    manifest = write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        MANIFEST,
        *(entry['name'] for entry in manifest['files'].values()),
    }


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(ConfigError, match="--output: .* holds 'thesis.tex'"):
        write(tmp_path)
    with pytest.raises(ConfigError, match='is a file'):
        write(tmp_path / 'thesis.tex')
    with pytest.raises(OutputError, match='is no folder'):
        write(tmp_path / 'thesis.tex' / 'bundle')
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_two_exports_at_once_are_refused(tmp_path):
    write(tmp_path)
    with writer._locked(tmp_path), pytest.raises(ConfigError, match='another export writes into'):
        write(tmp_path, 1)
    assert json.loads((tmp_path / MANIFEST).read_text())['number'] == 0
