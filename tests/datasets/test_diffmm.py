import http.server
import json
import os
import pickle
import shutil
import threading
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from genrec_pyg.datasets import DiffMMDataset, diffmm, load_dataset
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, modality_names, split_edges, training_graph
from genrec_pyg.transforms import KCore, LeaveOneOut

U, I = 5, 6
SPLITS = {
    'trnMat.pkl': ([0, 0, 1, 2, 3], [0, 1, 1, 2, 5]),
    'valMat.pkl': ([0], [3]),
    'tstMat.pkl': ([1, 2], [4, 0]),
}


def write_matrix(path, shape, user=(), item=()):
    path.write_bytes(pickle.dumps(sp.coo_matrix((np.ones(len(user)), (user, item)), shape=shape)))


def write_files(folder, features=('image', 'text')):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (user, item) in SPLITS.items():
        write_matrix(folder / name, (U, I), user, item)
    for width, name in enumerate(features, start=3):
        np.save(
            folder / f'{name}_feat.npy',
            np.random.default_rng(0).standard_normal((I, width)).astype(np.float16),
        )
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'genrec_pyg'


@pytest.mark.parametrize('nested', ['', 'raw'])
def test_graph_from_files_put_there_by_hand(tmp_path, nested):
    write_files(tmp_path / 'mine' / nested)
    data = load_dataset('mine', tmp_path)
    assert (data['user'].num_nodes, data['item'].num_nodes) == (U, I)
    for split, (user, item) in zip(('train', 'val', 'test'), SPLITS.values()):
        assert split_edges(data, split).tolist() == [user, item]
    assert modality_names(data) == ['image', 'text'] and data['text'].x.dtype == torch.float32
    assert training_graph(data).modalities['image'].edge_index is None


def test_a_matrix_has_no_order_of_interactions(tmp_path):
    write_files(tmp_path / 'mine')
    for _ in range(2):  # read from the files, then from the processed graph
        data = KCore(1)(load_dataset('mine', tmp_path))
        with pytest.raises(
            DataError,
            match=r'no order, so no item is the last one; accepted are LeaveOneOut\(seed=0\)',
        ):
            LeaveOneOut()(data)
        assert bool(LeaveOneOut(seed=0)(data)[INTERACTS].test_mask.any())


def test_any_subset_of_modalities(tmp_path):
    write_files(tmp_path / 'mine')
    assert modality_names(load_dataset('mine', tmp_path, ['text'])) == ['text']
    assert modality_names(load_dataset('mine', tmp_path, [])) == []
    assert modality_names(load_dataset('mine', tmp_path, ['words=text'])) == ['words']
    with pytest.raises(
        ConfigError, match="modalities: .* has no features for 'audio', accepted are image, text"
    ):
        load_dataset('mine', tmp_path, ['audio'])


def test_changed_files_are_read_again_and_damaged_results_made_again(tmp_path):
    folder = write_files(tmp_path / 'mine')
    first = load_dataset('mine', tmp_path)
    processed = list((folder / 'processed').glob('graph-*.pt'))
    assert len(processed) == 1
    processed[0].write_bytes(b'damaged')
    assert torch.equal(
        load_dataset('mine', tmp_path)[INTERACTS].edge_index, first[INTERACTS].edge_index
    )
    np.save(folder / 'text_feat.npy', np.full((I, 9), 2.0))
    assert load_dataset('mine', tmp_path)['text'].x.shape == (I, 9)


def test_read_only_folder_uses_the_cache(tmp_path, cache):
    folder = write_files(tmp_path / 'mine')
    folder.chmod(0o555)
    first = load_dataset('mine', tmp_path)
    assert not (folder / 'processed').exists()
    assert len(list(cache.glob('mine-*/graph-*.pt'))) == 1
    assert torch.equal(load_dataset('mine', tmp_path)['text'].x, first['text'].x)
    folder.chmod(0o755)


def test_a_graph_that_cannot_be_stored_is_used_from_memory(tmp_path, monkeypatch, caplog):
    folder = write_files(tmp_path / 'mine')

    def full(*arguments, **options):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    assert load_dataset('mine', tmp_path)['user'].num_nodes == U
    assert 'cannot be stored' in caplog.text and not list((folder / 'processed').iterdir())


@pytest.mark.parametrize('name', ['pre_transform.pt', 'pre_filter.pt', 'graph'])
def test_nothing_beside_the_processed_graph_is_unpickled(tmp_path, name):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    folder = write_files(tmp_path / 'mine')
    load_dataset('mine', tmp_path)
    path = (
        next((folder / 'processed').glob('graph-*.pt'))
        if name == 'graph'
        else folder / 'processed' / name
    )
    torch.save(Payload(), path)
    assert load_dataset('mine', tmp_path)['user'].num_nodes == U
    assert not (tmp_path / 'executed').exists()


def test_each_choice_of_modalities_has_its_own_processed_graph(tmp_path):
    write_files(tmp_path / 'mine')
    one = load_dataset('mine', tmp_path, {'a': 'image', 'b': 'text'})
    other = load_dataset('mine', tmp_path, {'a': 'text', 'b': 'image'})
    assert torch.equal(one['a'].x, other['b'].x) and torch.equal(one['b'].x, other['a'].x)


def test_modality_names_that_no_graph_can_hold_are_refused(tmp_path):
    folder = write_files(tmp_path / 'mine', ('item',))
    with pytest.raises(ConfigError, match="modalities: 'item' cannot name a modality"):
        load_dataset('mine', tmp_path)
    assert modality_names(load_dataset('mine', tmp_path, ['photo=item_feat.npy'])) == ['photo']
    (folder / 'item_feat.npy').rename(folder / 'v1.5_feat.npy')
    with pytest.raises(ConfigError, match=r"modalities: 'v1\.5' cannot name a modality"):
        load_dataset('mine', tmp_path)


def test_an_empty_raw_folder_hides_nothing(tmp_path):
    folder = write_files(tmp_path / 'mine')
    (folder / 'raw').mkdir()
    assert load_dataset('mine', tmp_path)['user'].num_nodes == U


def test_a_file_that_is_not_the_public_one_is_used_and_reported(tmp_path, caplog):
    write_files(tmp_path / 'tiktok')
    load_dataset('tiktok', tmp_path)
    assert 'trnMat.pkl: is not the public file of that name' in caplog.text


def test_a_failing_read_keeps_the_processed_graph(tmp_path):
    folder = write_files(tmp_path / 'mine')
    load_dataset('mine', tmp_path)
    before = sorted((folder / 'processed').glob('graph-*.pt'))
    (folder / 'text_feat.npy').write_bytes(b'broken')
    with pytest.raises(DataError, match='text_feat.npy: not a readable'):
        load_dataset('mine', tmp_path)
    assert sorted((folder / 'processed').glob('*')) >= before


@pytest.mark.parametrize(
    'change,message',
    [
        (
            lambda f: np.save(f / 'image_feat.npy', np.ones((4, 2))),
            "features of modality 'image' have 4 rows, accepted are 6",
        ),
        (
            lambda f: (f / 'valMat.pkl').unlink(),
            "dataset 'mine': valMat.pkl missing in .*mine; put the files there",
        ),
        (
            lambda f: write_matrix(f / 'valMat.pkl', (9, 9)),
            r'valMat.pkl: shape \(9, 9\), accepted is \(5, 6\), that of trnMat.pkl',
        ),
        (lambda f: write_matrix(f / 'trnMat.pkl', (U, I)), 'the training split has no interaction'),
    ],
)
def test_files_that_do_not_fit(tmp_path, change, message):
    change(write_files(tmp_path / 'mine'))
    with pytest.raises(DataError, match=message):
        load_dataset('mine', tmp_path)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    write_files(tmp_path / 'served' / 'tiktok', ('image', 'text', 'audio'))
    shapes = {'image_feat.npy': (I, 3), 'text_feat.npy': (I, 4), 'audio_feat.npy': (I, 5)}
    monkeypatch.setitem(diffmm.DOWNLOADABLE, 'tiktok', shapes)
    monkeypatch.setattr(diffmm, 'download_file', partial(diffmm.download_file, pause=0.01))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Handler, directory=str(tmp_path / 'served'))
    ) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


@pytest.fixture
def no_checksums(monkeypatch):
    monkeypatch.setattr(diffmm, 'SHA256', {})


def test_download_from_a_mirror(tmp_path, mirror, no_checksums, monkeypatch):
    monkeypatch.setenv('GENREC_MIRROR', mirror)
    data = load_dataset('tiktok', tmp_path / 'data')
    assert modality_names(data) == ['audio', 'image', 'text']
    record = json.loads((tmp_path / 'data' / 'tiktok' / 'checksums.json').read_text())
    assert set(record) == {*SPLITS, 'image_feat.npy', 'text_feat.npy', 'audio_feat.npy'}


def test_only_the_wanted_features_are_downloaded(tmp_path, mirror, no_checksums):
    load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    folder = tmp_path / 'data' / 'tiktok'
    assert {p.name for p in folder.glob('*.npy')} == {'text_feat.npy'}
    data = load_dataset(
        'tiktok', tmp_path / 'data', {'sound': 'audio_feat.npy', 'text': None}, mirror=mirror
    )
    assert modality_names(data) == ['sound', 'text'] and not (folder / '.download').exists()
    with pytest.raises(
        ConfigError,
        match="no features for 'smell', accepted are audio, image, text|image, text, audio",
    ):
        load_dataset('tiktok', tmp_path / 'other', ['smell'], mirror=mirror)
    assert not (tmp_path / 'other').exists()


def test_an_interrupted_download_is_taken_up_and_never_passes_for_a_smaller_set(
    tmp_path, mirror, no_checksums
):
    (tmp_path / 'served' / 'tiktok' / 'audio_feat.npy').rename(tmp_path / 'audio')
    folder = tmp_path / 'data' / 'tiktok'
    for _ in range(2):
        with pytest.raises(
            DataError,
            match='trnMat.pkl, valMat.pkl, tstMat.pkl, image_feat.npy, text_feat.npy, '
            'audio_feat.npy missing in .*audio_feat.npy: cannot be downloaded',
        ):
            load_dataset('tiktok', tmp_path / 'data', mirror=mirror)
        assert not list(folder.glob('*.npy')) and not list(folder.glob('*.pkl'))
    (tmp_path / 'audio').rename(tmp_path / 'served' / 'tiktok' / 'audio_feat.npy')
    # what is staged is not asked for again
    (tmp_path / 'served' / 'tiktok' / 'image_feat.npy').unlink()
    assert modality_names(load_dataset('tiktok', tmp_path / 'data', mirror=mirror)) == [
        'audio',
        'image',
        'text',
    ]
    assert not (folder / '.download').exists()


def test_a_failing_download_keeps_the_processed_graph(tmp_path, mirror, no_checksums):
    load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    folder = tmp_path / 'data' / 'tiktok'
    before = {p: p.read_bytes() for p in (folder / 'processed').iterdir()}
    (tmp_path / 'served' / 'tiktok' / 'image_feat.npy').write_bytes(b'<html>sign in</html>')
    with pytest.raises(
        DataError, match='image_feat.npy: cannot be downloaded .*not a readable .npy'
    ):
        load_dataset('tiktok', tmp_path / 'data', ['image'], mirror=mirror)
    assert before and before == {p: p.read_bytes() for p in (folder / 'processed').iterdir()}
    assert not (folder / 'image_feat.npy').exists()


def test_features_without_checksum_must_have_the_published_shape_and_the_recorded_content(
    tmp_path, mirror, no_checksums
):
    served, folder = tmp_path / 'served' / 'tiktok' / 'text_feat.npy', tmp_path / 'data' / 'tiktok'
    load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    (folder / 'text_feat.npy').unlink()
    np.save(served, np.zeros((I, 4)))
    with pytest.raises(DataError, match='text_feat.npy: .*checksum [0-9a-f]{64}, expected'):
        load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    np.save(served, np.zeros((I, 9)))
    (folder / 'checksums.json').write_text('{damaged')
    with pytest.raises(DataError, match='checksums.json: not readable .*delete it to record'):
        load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    (folder / 'checksums.json').unlink()
    with pytest.raises(DataError, match=r'features of shape \(6, 9\), expected \(6, 4\)'):
        load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)


def test_wrong_checksum_and_missing_files_on_the_server(tmp_path, mirror):
    with pytest.raises(
        DataError, match='trnMat.pkl: cannot be downloaded .*checksum .*expected 1efbc49d'
    ):
        load_dataset('tiktok', tmp_path / 'data', mirror=mirror)
    assert not [p for p in (tmp_path / 'data').rglob('*') if p.is_file()]
    names = 'trnMat.pkl, valMat.pkl, tstMat.pkl, image_feat.npy.zip, text_feat.npy'
    with pytest.raises(
        DataError,
        match=f"'baby': {names} missing in .*the server answers 404.*by hand or name a mirror",
    ):
        load_dataset('baby', tmp_path / 'data', mirror=mirror)


def test_offline_says_what_is_missing_and_where_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(diffmm, 'download_file', partial(diffmm.download_file, attempts=1))
    with pytest.raises(
        DataError,
        match="'baby': trnMat.pkl, .* text_feat.npy missing in .*baby. .*Put the files there by "
        'hand',
    ):
        load_dataset('baby', tmp_path, mirror='http://127.0.0.1:9')
    with pytest.raises(DataError, match='audio_feat.npy missing in'):
        load_dataset(
            'tiktok',
            write_files(tmp_path / 'tiktok').parent,
            ['audio', 'image'],
            mirror='http://127.0.0.1:9',
        )


def test_sports_is_fetched_by_hand(tmp_path):
    with pytest.raises(
        DataError,
        match='trnMat.pkl, valMat.pkl, tstMat.pkl missing in .*sports; download the archive',
    ):
        load_dataset('sports', tmp_path)


def test_the_class_is_a_pyg_data_set(tmp_path):
    write_files(tmp_path / 'mine')
    dataset = DiffMMDataset(str(tmp_path), 'mine', transform=lambda data: data)
    assert len(dataset) == 1 and dataset[0]['user'].num_nodes == U
    shutil.rmtree(tmp_path / 'mine' / 'processed')
    assert DiffMMDataset(str(tmp_path), 'mine', force_reload=True)[0]['item'].num_nodes == I


def test_unknown_names(tmp_path):
    write_files(tmp_path / 'mine')
    with pytest.raises(
        ConfigError,
        match=r"dataset: got 'other', but there is no folder .*accepted are demo, tiktok, baby, "
        r'sports and the folders under .* \(mine\)',
    ):
        load_dataset('other', tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(
        ConfigError, match=r"dataset: got 'empty', but .* has no \*.inter, no .* \(found nothing\)"
    ):
        load_dataset('empty', tmp_path)
    with pytest.raises(ConfigError, match="dataset: got '../x'"):
        load_dataset('../x', tmp_path)


def test_tiktok(shared_data):
    data = load_dataset('tiktok', shared_data)
    graph = training_graph(data, ['image', 'audio'])
    assert (graph.num_users, graph.num_items) == (9308, 6710)
    assert [split_edges(data, s).size(1) for s in ('train', 'val', 'test')] == [59541, 3051, 6130]
    assert (
        int((graph.user_degree() == 0).sum()) == 10 and int((graph.item_degree() == 0).sum()) == 465
    )
    assert graph.modalities['image'].x.shape == (6710, 128) == graph.modalities['audio'].x.shape
    assert bool((torch.bincount(split_edges(data, 'test')[0]) <= 1).all())
