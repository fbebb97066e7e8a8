"""Folders that are damaged, of another version or not whole are refused."""

import json
import shutil

import pytest

from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.preparation import Options, prepare_log
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS

pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is prepared (pip install .[prepare])'
)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp('prepared')
    (folder / 'log.csv').write_text('user,item\na,x\nb,y\na,y\n')
    prepare_log([str(folder / 'log.csv')], folder / 'out', Options(split='none'))
    return folder / 'out'


@pytest.fixture
def copied(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / 'out')


def test_every_file_counts(copied):
    assert load_dataset('out', copied.parent)[INTERACTS].edge_index.size(1) == 3
    for name in ('interactions', 'users', 'items'):
        content = (copied / f'{name}.parquet').read_bytes()
        (copied / f'{name}.parquet').write_bytes(content[:-1] + b'x')
        with pytest.raises(DataError, match=f'{name}.parquet: is not the file of the manifest'):
            load_dataset('out', copied.parent)
        (copied / f'{name}.parquet').unlink()
        with pytest.raises(DataError, match=f'{name}.parquet: is missing'):
            load_dataset('out', copied.parent)
        (copied / f'{name}.parquet').write_bytes(content)


@pytest.mark.parametrize(
    'change,message',
    [
        ({'version': 2}, 'has version 2 of the layout, accepted is 1'),
        ({'files': []}, 'names no file'),
        ({'files': 5}, 'is no manifest'),
        ({'features': {'../../x': {}}}, 'names no file'),
    ],
)
def test_another_manifest_is_refused(copied, change, message):
    found = json.loads((copied / 'manifest.json').read_text())
    (copied / 'manifest.json').write_text(json.dumps({**found, **change}))
    with pytest.raises(DataError, match=message):
        load_dataset('out', copied.parent)


def test_flags_that_the_preparation_has_decided_are_refused(copied):
    with pytest.raises(ConfigError, match="modalities: got 'text', accepted are those"):
        load_dataset('out', copied.parent, ['text'])
    with pytest.raises(ConfigError, match='which is prepared'):
        load_dataset('out', copied.parent, columns={'user': 'u'})
