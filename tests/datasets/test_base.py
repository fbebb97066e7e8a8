import os
import pickle
import pwd
import stat
import tempfile
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from torch_geometric.transforms import BaseTransform, Compose

from genrec_pyg import recommend, train
from genrec_pyg.datasets import DiffMMDataset, MMRecDataset, load_dataset, parse_modalities
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import modality_names
from genrec_pyg.transforms import KCore


def test_modalities_of_the_command_line():
    assert parse_modalities(None) is None and parse_modalities([]) == {}
    assert parse_modalities(['image', 'text=all-MiniLM-L6-v2']) == {
        'image': None,
        'text': 'all-MiniLM-L6-v2',
    }


@pytest.mark.parametrize('names', [['=x'], ['text='], ['image', 'image=a'], ['']])
def test_bad_entries_are_named(names):
    with pytest.raises(ConfigError, match='modalities: got'):
        parse_modalities(names)


def test_one_name_is_a_list_of_one():
    assert parse_modalities('image') == {'image': None}


def write_layout(folder, layout, **features):
    """Two users and items in either layout, and constant features."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == 'mmrec':
        (folder / f'{folder.name}.inter').write_text(
            'userID\titemID\tx_label\n0\t0\t0\n1\t1\t0\n0\t1\t1\n1\t0\t2\n'
        )
    else:
        for name, entries in (
            ('trnMat.pkl', [[1, 0], [0, 1]]),
            ('valMat.pkl', [[0, 1], [0, 0]]),
            ('tstMat.pkl', [[0, 0], [1, 0]]),
        ):
            (folder / name).write_bytes(pickle.dumps(sp.coo_matrix(np.array(entries, dtype=float))))
    for name, value in features.items():
        np.save(folder / f'{name}.npy', np.full((2, 3), float(value)))
    return folder


@pytest.mark.parametrize('layout', ['mmrec', 'diffmm'])
def test_the_file_that_is_named_is_the_one_that_is_read(tmp_path, layout):
    folder = write_layout(tmp_path / 'both', layout, image_feat=1, image=7, text_feat=2)

    def mean(entry):
        return float(load_dataset('both', tmp_path, [entry])[entry.partition('=')[0]].x.mean())

    assert mean('image=image.npy') == mean('photo=image.npy') == 7
    assert mean('image=image_feat.npy') == mean('image=image_feat') == mean('x=image_feat') == 1
    assert (
        mean('text') == mean('text=text') == mean('image=text') == mean('image=text_feat.npy') == 2
    )
    for entry in ('image', 'image=image', 'photo=image'):
        with pytest.raises(
            ConfigError,
            match=r"has 2 files for 'image' \(image.npy, image_feat.npy\), accepted is one; say "
            'which with (image|photo)=image.npy',
        ):
            mean(entry)
    for file in (
        'text.npy',
        '../both/text_feat.npy',
        '/text_feat.npy',
        str(folder / 'text_feat.npy'),
        'text_feat.npy.zip',
    ):
        with pytest.raises(ConfigError, match='has no features for .*accepted are image, text'):
            mean(f'text={file}')


@pytest.mark.parametrize('layout', ['mmrec', 'diffmm'])
def test_an_archive_is_read_where_it_is_named_or_alone(tmp_path, layout):
    folder = write_layout(tmp_path / 'mine', layout, image_feat=1)
    with zipfile.ZipFile(folder / 'image_feat.npy.zip', 'w') as archive:
        np.save(folder / 'other.npy', np.full((2, 3), 5.0))
        archive.write(folder / 'other.npy', 'image_feat.npy')
    (folder / 'other.npy').unlink()
    (folder / '._image_feat.npy').write_bytes(b'resource fork of another system')
    assert float(load_dataset('mine', tmp_path)['image'].x.mean()) == 1
    assert float(load_dataset('mine', tmp_path, ['image'])['image'].x.mean()) == 1
    assert (
        float(load_dataset('mine', tmp_path, ['image=image_feat.npy.zip'])['image'].x.mean()) == 5
    )
    (folder / 'image_feat.npy').unlink()
    assert float(load_dataset('mine', tmp_path)['image'].x.mean()) == 5
    assert float(load_dataset('mine', tmp_path, ['image'])['image'].x.mean()) == 5


def mean(root, name='mine', **options):
    dataset = MMRecDataset(str(root), name, **options)
    return float(dataset[0]['image'].x.mean())


def test_changed_content_is_seen_whatever_size_and_time_say(tmp_path):
    file = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1) / 'image_feat.npy'
    for value in (1, 2, 1):
        np.save(file, np.full((2, 3), float(value)))
        os.utime(file, ns=(10**18, 10**18))
        assert mean(tmp_path) == value


def test_one_graph_is_kept_per_choice(tmp_path):
    folder = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1, text_feat=1)
    load_dataset('mine', tmp_path, ['text'])
    for value in range(4):
        np.save(folder / 'image_feat.npy', np.full((2, 3), float(value)))
        os.utime(folder / 'mine.inter', (value, value))
        assert mean(tmp_path) == mean(tmp_path, modalities=['image']) == value
    kept = {path.name for path in (folder / 'processed').iterdir()}
    assert len(kept) == 3  # all, image and text
    load_dataset('mine', tmp_path, ['text'])
    os.utime(folder / 'mine.inter', (9, 9))
    mean(tmp_path)
    # a new time alone changes nothing
    assert {path.name for path in (folder / 'processed').iterdir()} == kept


class Scale(BaseTransform):
    """A transform with an argument that its ``repr`` leaves out."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, data):
        data['image'].x = data['image'].x * self.factor
        return data


def test_a_transform_that_does_not_say_what_it_does_leaves_no_graph(tmp_path):
    folder = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1)
    for factor in (2, 3):
        scale = Scale(factor)
        for transform in (scale, Compose([scale]), partial(Scale.forward, scale), scale.forward):
            assert mean(tmp_path, pre_transform=transform) == factor
    assert not (folder / 'processed').exists()
    assert (
        mean(tmp_path, pre_transform=KCore(1)) == 1
        and len(list((folder / 'processed').iterdir())) == 1
    )


@pytest.fixture
def nobody(monkeypatch):
    """A user id that the system does not know, without a home, as containers have."""

    def unknown(uid):
        raise KeyError(f'getpwuid(): uid not found: {uid}')

    monkeypatch.delenv('HOME')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    with pytest.raises(RuntimeError):
        Path.home()


def test_without_a_home_the_graph_lives_in_memory(tmp_path, nobody, caplog):
    folder = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1)
    folder.chmod(0o555)
    try:
        assert mean(tmp_path) == 1 and mean(tmp_path) == 1
        assert (
            train.main(
                [
                    '--root',
                    str(tmp_path),
                    '--dataset',
                    'mine',
                    '--model',
                    'LightGCN',
                    '--epochs',
                    '1',
                    '--references',
                    'false',
                    '--output',
                    str(tmp_path / 'run'),
                ]
            )
            == 0
        )
        assert (
            recommend.main(
                [str(tmp_path / 'run'), '--users', 'all', '--output', str(tmp_path / 'lists.csv')]
            )
            == 0
        )
    finally:
        folder.chmod(0o755)
    assert {path.name for path in folder.iterdir()} == {'mine.inter', 'image_feat.npy'}
    assert not [record for record in caplog.records if 'cannot be stored' in record.message]


@pytest.mark.parametrize(
    'name',
    ['', '.', '..', '../mine', 'mine/..', '/mine', 'mine/', 'a/b', 'a\0b', 'x' * 300, 'ü' * 200],
)
def test_a_name_is_that_of_a_folder_under_the_root(tmp_path, name):
    write_layout(tmp_path / 'mine', 'mmrec')
    write_layout(tmp_path, 'mmrec')  # what '..' would find
    (tmp_path / 'root').mkdir()
    for load in (
        load_dataset,
        lambda name, root: MMRecDataset(root, name),
        lambda name, root: DiffMMDataset(root, name),
    ):
        with pytest.raises(
            ConfigError, match='dataset: got .*, accepted is the name of a folder under .*root'
        ):
            load(name, tmp_path / 'root')


def test_a_folder_called_demo_is_reported(tmp_path, caplog):
    assert load_dataset('demo', tmp_path)['user'].num_nodes == 600 and not caplog.records
    write_layout(tmp_path / 'demo', 'mmrec')
    assert load_dataset('demo', tmp_path)['user'].num_nodes == 600
    assert 'demo is not read: the dataset demo is the generated one' in caplog.text


def test_a_folder_of_two_layouts_is_reported(tmp_path, caplog):
    write_layout(write_layout(tmp_path / 'mine', 'diffmm'), 'mmrec')
    load_dataset('mine', tmp_path)
    assert (
        r'mine has files of several layouts; *.inter are read and *Mat.pkl are not' in caplog.text
    )


@contextmanager
def as_another_user():
    """Without the rights of the superuser, which the tests may have."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(54321)
    os.seteuid(54321)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    'path,mode,works',
    [
        ('mine/mine.inter', 0, False),
        ('mine/image_feat.npy', 0, False),
        ('mine', 0, False),
        ('mine', 0o311, False),
        ('mine', 0o444, False),
        ('.', 0, False),
        ('mine/processed', 0, True),
        ('mine/processed/graph', 0, True),
    ],
)
def test_what_may_not_be_read_is_named(path, mode, works):
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        os.chmod(root, 0o755)
        write_layout(Path(root) / 'mine', 'mmrec', image_feat=1)
        load_dataset('mine', root)
        target = (
            Path(root) / path
            if path[-5:] != 'graph'
            else next((Path(root) / 'mine' / 'processed').iterdir())
        )
        before = target.stat().st_mode
        target.chmod(mode)
        try:
            with as_another_user():
                if works:
                    assert load_dataset('mine', root)['user'].num_nodes == 2
                else:
                    with pytest.raises(DataError, match='cannot be read .Permission denied'):
                        load_dataset('mine', root)
        finally:
            target.chmod(before)


@pytest.mark.parametrize(
    'make',
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink(path.parents[1] / 'target', path),
        lambda path: os.symlink(path.parents[1] / 'nothing', path),
    ],
)
def test_what_lies_in_place_of_the_processed_graph_stays(tmp_path, caplog, make):
    folder = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1)
    load_dataset('mine', tmp_path)
    graph = next((folder / 'processed').iterdir())
    graph.unlink()
    (folder / 'target').write_text('not a graph')
    make(graph)
    assert mean(tmp_path) == 1
    assert (folder / 'target').read_text() == 'not a graph' and not (folder / 'nothing').exists()
    assert (
        'is no plain file, the processed graph is not stored' in caplog.text
        and not stat.S_ISREG(graph.lstat().st_mode)
    )


def test_feature_files_of_other_kinds_are_reported(tmp_path, caplog):
    folder = write_layout(tmp_path / 'mine', 'mmrec', image_feat=1)
    (folder / 'text_feat.npz').write_bytes(b'')
    assert modality_names(load_dataset('mine', tmp_path)) == ['image']
    assert (
        caplog.text.count(
            'mine: text_feat.npz is not read, accepted are features in .npy or .npy.zip'
        )
        == 1
    )
    (folder / 'mine.inter').rename(folder / 'mine.inter.gz')
    with pytest.raises(
        ConfigError,
        match=r'no \*Mat.pkl,? .*\(found image_feat.npy, mine.inter.gz, processed, '
        r'text_feat.npz\)',
    ):
        load_dataset('mine', tmp_path)
