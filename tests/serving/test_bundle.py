import hashlib
import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.bundle import MANIFEST, VERSION, manifest_state, read_bundle
from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.table_file import parse_tables


@pytest.fixture
def bundle(export, demo_data, tmp_path):
    """A bundle of one's own to spoil."""
    return shutil.copytree(export('LightGCN', demo_data)[1], tmp_path / 'bundle')


def change(folder, **entries):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def replace(folder, role, content):
    """Puts other content under a name and digest that fit it, as an attacker would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    old = manifest['files'][role]['name']
    digest = hashlib.sha256(content).hexdigest()
    name = f'{role}-{digest[:16]}.{old.rpartition(".")[2]}'
    (folder / old).unlink()
    (folder / name).write_bytes(content)
    manifest['files'][role] = {'name': name, 'sha256': digest, 'bytes': len(content)}
    change(folder, files=manifest['files'])
    return name


def test_a_bundle_says_what_it_is(bundle):
    found = read_bundle(bundle)
    assert found.manifest['version'] == VERSION and found.manifest['metrics'] == {
        'test': {'recall@20': 0.25}
    }
    assert len(found.users) == 120 and len(found.items) == 80 and found.titles is None
    assert found.name == hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    for entry in found.manifest['files'].values():
        assert hashlib.sha256((bundle / entry['name']).read_bytes()).hexdigest() == entry['sha256']


@pytest.mark.parametrize('version', [2, 0, '1', True, None])
def test_another_version_is_refused(bundle, version):
    change(bundle, version=version)
    with pytest.raises(DataError, match='version is .* reads version 1'):
        read_bundle(bundle)


def test_another_format_is_refused(bundle):
    change(bundle, format='somebody else')
    with pytest.raises(DataError, match="format is 'somebody else'"):
        read_bundle(bundle)
    (bundle / MANIFEST).write_text('[' * 100_000)
    with pytest.raises(DataError, match='manifest.json is no JSON'):
        read_bundle(bundle)


def test_changed_content_is_refused_by_name(bundle):
    path = next(bundle.glob('tables-*'))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f'{path.name}: its SHA-256 is'):
        read_bundle(bundle)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f'{path.name}: has .* bytes'):
        read_bundle(bundle)


@pytest.mark.parametrize(
    'name',
    [
        '../tables-0123456789abcdef.safetensors',
        '/etc/passwd',
        'tables.pkl',
        'tables-0.json',
        'users-0123456789abcdef.json',
        '',
        None,
        7,
    ],
)
def test_names_that_lead_elsewhere_are_refused(bundle, name):
    files = json.loads((bundle / MANIFEST).read_text())['files']
    change(bundle, files={**files, 'tables': {**files['tables'], 'name': name}})
    with pytest.raises(DataError, match="files names .* as 'tables'"):
        read_bundle(bundle)
    change(bundle, files={**files, 'code': files['tables']})
    with pytest.raises(DataError, match="as 'code'"):
        read_bundle(bundle)


def test_a_link_is_refused(bundle, tmp_path):
    path = next(bundle.glob('tables-*'))
    path.rename(tmp_path / 'elsewhere')
    path.symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(DataError, match=f'{path.name}: cannot be read'):
        read_bundle(bundle)


def test_a_pickle_is_refused_wherever_it_lies(bundle):
    (bundle / 'model.pkl').write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="holds 'model.pkl'"):
        read_bundle(bundle)
    (bundle / 'model.pkl').unlink()
    name = replace(bundle, 'tables', pickle.dumps({'a': 1}))
    with pytest.raises(DataError, match=f'{name}: is a pickle'):
        read_bundle(bundle)


@pytest.mark.parametrize(
    'content',
    [
        struct.pack('<Q', 2**63) + b'{}' * 50,
        struct.pack('<Q', 2**20 + 1) + b' ' * 2**21,
        b'',
        b'short',
        b'\xff' * 64,
        struct.pack('<Q', 2) + b'[]',
        struct.pack('<Q', 2) + b'{"',
        struct.pack('<Q', 3) + b'{}}',
    ],
)
def test_headers_that_are_none_are_refused(bundle, content):
    name = replace(bundle, 'tables', content)
    with pytest.raises(DataError, match=name):
        read_bundle(bundle)


@pytest.mark.parametrize(
    'entry',
    [
        {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 8]},
        {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 2**62]},
        {'dtype': 'F32', 'shape': [-2], 'data_offsets': [0, 8]},
        {'dtype': 'O', 'shape': [1], 'data_offsets': [0, 8]},
        {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 8]},
    ],
)
def test_positions_that_do_not_fit_are_refused(entry, tmp_path):
    header = json.dumps({'x': entry}).encode()
    with pytest.raises(DataError, match='here'):
        parse_tables(struct.pack('<Q', len(header)) + header + bytes(8), tmp_path / 'here')


def spoil(bundle, name, new):
    from safetensors.numpy import save

    tables = dict(read_bundle(bundle).tables)
    tables[name] = new(tables[name].copy())
    replace(bundle, 'tables', save({key: np.ascontiguousarray(x) for key, x in tables.items()}))


def put(x, place, value):
    x.reshape(-1)[place] = value
    return x


@pytest.mark.parametrize(
    'name,new',
    [
        ('m0.users', lambda x: put(x, 3, np.nan)),
        ('m0.users', lambda x: x[:-1]),
        ('m0.items', lambda x: x.astype('f8') > 0),
        ('known.col', lambda x: put(x, 0, 80)),
        ('known.col', lambda x: put(x, 0, -1)),
        ('known.rowptr', lambda x: put(x, 1, 10**9)),
        ('trained.rowptr', lambda x: put(x, -1, 0)),
        ('fold_in.map', lambda x: x.T.copy()),
        ('rank.map', lambda x: x[1:]),
    ],
)
def test_tables_that_do_not_fit_are_refused(bundle, name, new):
    with pytest.raises(DataError, match=f'{name.split(".")[0]}'):
        spoil(bundle, name, new)
        Engine(read_bundle(bundle))


@pytest.mark.parametrize(
    'entries',
    [
        {'members': []},
        {'members': [{}]},
        {'members': [{'weight': 1, 'parts': [{'kind': 'code'}]}]},
        {'members': [3]},
        {'members': [{'weight': float('nan'), 'parts': [{'kind': 'inner', 'name': 'm0'}]}]},
        {'fold_in': 3},
        {'rank': None},
        {'num_users': -1},
        {'num_items': 10**12},
        {'unable': 3},
        {'files': {}},
        {
            'members': [
                {
                    'weight': 1,
                    'parts': [{'kind': 'kernel', 'name': 'm0', 'hops': 10**9, 'weight': 1}],
                }
            ]
        },
    ],
)
def test_manifests_that_do_not_fit_are_refused(bundle, entries):
    change(bundle, **entries)
    with pytest.raises(DataError):
        Engine(read_bundle(bundle))


def test_ids_that_do_not_fit_are_refused(bundle):
    name = replace(bundle, 'items', json.dumps({'ids': list(range(79)), 'titles': None}).encode())
    with pytest.raises(DataError, match=f'{name}: ids are not 80'):
        read_bundle(bundle)
    replace(bundle, 'items', json.dumps({'ids': list(range(80)), 'titles': [1] * 80}).encode())
    with pytest.raises(DataError, match='titles are not 80 texts'):
        read_bundle(bundle)


def test_no_bundle(tmp_path):
    with pytest.raises(DataError, match='holds no manifest.json'):
        read_bundle(tmp_path)
    assert manifest_state(tmp_path) is None


def test_a_header_of_any_length_is_read():
    """The first byte of its length is that of a pickle, and the first two those of an archive."""
    from safetensors.numpy import save

    x = np.arange(3, dtype=np.float32)
    for length in (0x180, 0x4B50):
        for name in range(1, 0x4B50):
            content = save({'x': x}, {'a': 'a' * name})
            missing = length - int.from_bytes(content[:8], 'little')
            if missing <= 0:
                break
            content = save({'x': x}, {'a': 'a' * (name + missing)})
            if int.from_bytes(content[:8], 'little') == length:
                break
        assert content[:2] == length.to_bytes(2, 'little')
        np.testing.assert_array_equal(parse_tables(content, Path('x'))['x'], x)
