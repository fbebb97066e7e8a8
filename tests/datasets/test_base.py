import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp

from genrec_pyg.datasets import load_dataset, parse_modalities
from genrec_pyg.exceptions import ConfigError


def test_modalities_of_the_command_line():
    assert parse_modalities(None) is None and parse_modalities([]) == {}
    assert parse_modalities(['image', 'text=all-MiniLM-L6-v2']) == {'image': None, 'text': 'all-MiniLM-L6-v2'}


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
        (folder / f'{folder.name}.inter').write_text('userID\titemID\tx_label\n0\t0\t0\n1\t1\t0\n0\t1\t1\n1\t0\t2\n')
    else:
        for name, entries in (('trnMat.pkl', [[1, 0], [0, 1]]), ('valMat.pkl', [[0, 1], [0, 0]]),
                              ('tstMat.pkl', [[0, 0], [1, 0]])):
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
    assert mean('text') == mean('text=text') == mean('image=text') == mean('image=text_feat.npy') == 2
    for entry in ('image', 'image=image', 'photo=image'):
        with pytest.raises(ConfigError, match=r"has 2 files for 'image' \(image.npy, image_feat.npy\), accepted is one; say "
                                              'which with (image|photo)=image.npy'):
            mean(entry)
    for file in ('text.npy', '../both/text_feat.npy', '/text_feat.npy', str(folder / 'text_feat.npy'), 'text_feat.npy.zip'):
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
    assert float(load_dataset('mine', tmp_path, ['image=image_feat.npy.zip'])['image'].x.mean()) == 5
    (folder / 'image_feat.npy').unlink()
    assert float(load_dataset('mine', tmp_path)['image'].x.mean()) == 5
    assert float(load_dataset('mine', tmp_path, ['image'])['image'].x.mean()) == 5
