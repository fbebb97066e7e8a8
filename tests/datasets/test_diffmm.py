import http.server
import json
import os
import pickle
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from genrec_pyg.datasets import DiffMMDataset, diffmm, load_dataset
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, modality_names, split_edges, training_graph

U, I = 5, 6
SPLITS = {'trnMat.pkl': ([0, 0, 1, 2, 3], [0, 1, 1, 2, 5]), 'valMat.pkl': ([0], [3]), 'tstMat.pkl': ([1, 2], [4, 0])}


def write_files(folder, features=('image', 'text')):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (user, item) in SPLITS.items():
        (folder / name).write_bytes(pickle.dumps(sp.coo_matrix((np.ones(len(user)), (user, item)), shape=(U, I))))
    for width, name in enumerate(features, start=3):
        np.save(folder / f'{name}_feat.npy', np.random.default_rng(0).standard_normal((I, width)).astype(np.float16))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('GENREC_MIRROR', raising=False)


@pytest.mark.parametrize('nested', ['', 'raw'])
def test_graph_from_files_put_there_by_hand(tmp_path, nested):
    write_files(tmp_path / 'mine' / nested)
    data = load_dataset('mine', tmp_path)
    assert (data['user'].num_nodes, data['item'].num_nodes) == (U, I)
    for split, (user, item) in zip(('train', 'val', 'test'), SPLITS.values()):
        assert split_edges(data, split).tolist() == [user, item]
    assert modality_names(data) == ['image', 'text'] and data['text'].x.dtype == torch.float32
    assert training_graph(data).modalities['image'].edge_index is None


def test_any_subset_of_modalities(tmp_path):
    write_files(tmp_path / 'mine')
    assert modality_names(load_dataset('mine', tmp_path, ['text'])) == ['text']
    assert modality_names(load_dataset('mine', tmp_path, [])) == []
    assert modality_names(load_dataset('mine', tmp_path, ['words=text'])) == ['words']
    with pytest.raises(ConfigError, match="modalities: .* has no features for 'audio', accepted are image, text"):
        load_dataset('mine', tmp_path, ['audio'])


def test_changed_files_are_read_again_and_damaged_results_made_again(tmp_path):
    folder = write_files(tmp_path / 'mine')
    first = load_dataset('mine', tmp_path)
    processed = list((folder / 'processed').glob('graph-*.pt'))
    assert len(processed) == 1
    processed[0].write_bytes(b'damaged')
    assert torch.equal(load_dataset('mine', tmp_path)[INTERACTS].edge_index, first[INTERACTS].edge_index)
    np.save(folder / 'text_feat.npy', np.full((I, 9), 2.0))
    assert load_dataset('mine', tmp_path)['text'].x.shape == (I, 9)


def test_read_only_folder_uses_the_cache(tmp_path, monkeypatch):
    folder = write_files(tmp_path / 'mine')
    allowed = os.access
    monkeypatch.setattr(os, 'access', lambda path, mode: False if Path(path) == folder else allowed(path, mode))
    load_dataset('mine', tmp_path)
    assert not (folder / 'processed').exists()
    assert list((tmp_path / 'cache' / 'genrec_pyg').glob('mine-*/graph-*.pt'))


def test_a_failing_read_keeps_the_processed_graph(tmp_path):
    folder = write_files(tmp_path / 'mine')
    load_dataset('mine', tmp_path)
    before = sorted((folder / 'processed').glob('graph-*.pt'))
    (folder / 'text_feat.npy').write_bytes(b'broken')
    with pytest.raises(DataError, match='text_feat.npy: not a readable'):
        load_dataset('mine', tmp_path)
    assert sorted((folder / 'processed').glob('*')) >= before


@pytest.mark.parametrize('change,message', [
    (lambda f: np.save(f / 'image_feat.npy', np.ones((4, 2))), "features of modality 'image' have 4 rows, accepted are 6"),
    (lambda f: (f / 'valMat.pkl').unlink(), "data set 'mine': valMat.pkl missing in .*mine; put the files there"),
    (lambda f: (f / 'valMat.pkl').write_bytes(pickle.dumps(sp.coo_matrix((9, 9)))), r'valMat.pkl: shape \(9, 9\), accepted is'),
    (lambda f: (f / 'trnMat.pkl').write_bytes(pickle.dumps(sp.coo_matrix((U, I)))), 'the training split has no interaction'),
])
def test_files_that_do_not_fit(tmp_path, change, message):
    change(write_files(tmp_path / 'mine'))
    with pytest.raises(DataError, match=message):
        load_dataset('mine', tmp_path)


@pytest.fixture
def mirror(tmp_path):
    write_files(tmp_path / 'served' / 'tiktok', ('image', 'text', 'audio'))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(tmp_path / 'served'))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()


def test_download_from_a_mirror(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(diffmm, 'SHA256', {})
    monkeypatch.setenv('GENREC_MIRROR', mirror)
    data = load_dataset('tiktok', tmp_path / 'data')
    assert modality_names(data) == ['audio', 'image', 'text']
    record = json.loads((tmp_path / 'data' / 'tiktok' / 'checksums.json').read_text())
    assert set(record) == {*SPLITS, 'image_feat.npy', 'text_feat.npy', 'audio_feat.npy'}


def test_only_the_wanted_features_are_downloaded(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(diffmm, 'SHA256', {})
    load_dataset('tiktok', tmp_path / 'data', ['text'], mirror=mirror)
    assert {p.name for p in (tmp_path / 'data' / 'tiktok').glob('*.npy')} == {'text_feat.npy'}


def test_wrong_checksum_and_missing_files_on_the_server(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(diffmm, 'download_file', partial(diffmm.download_file, attempts=1))
    with pytest.raises(DataError, match='trnMat.pkl: cannot be downloaded .*checksum .*expected 1efbc49d'):
        load_dataset('tiktok', tmp_path / 'data', mirror=mirror)
    assert not list((tmp_path / 'data' / 'tiktok').glob('*Mat.pkl'))
    with pytest.raises(DataError, match=r"'baby': trnMat.pkl, valMat.pkl, tstMat.pkl, image_feat.npy.zip, text_feat.npy missing in "
                                        r'.*the server answers 404.*by hand or name a mirror'):
        load_dataset('baby', tmp_path / 'data', mirror=mirror)


def test_sports_is_fetched_by_hand(tmp_path):
    with pytest.raises(DataError, match='trnMat.pkl, valMat.pkl, tstMat.pkl missing in .*sports; download the archive'):
        load_dataset('sports', tmp_path)


def test_the_class_is_a_pyg_data_set(tmp_path):
    write_files(tmp_path / 'mine')
    dataset = DiffMMDataset(str(tmp_path), 'mine', transform=lambda data: data)
    assert len(dataset) == 1 and dataset[0]['user'].num_nodes == U
    shutil.rmtree(tmp_path / 'mine' / 'processed')
    assert DiffMMDataset(str(tmp_path), 'mine', force_reload=True)[0]['item'].num_nodes == I


def test_unknown_names(tmp_path):
    write_files(tmp_path / 'mine')
    with pytest.raises(ConfigError, match=r"dataset: got 'other', but there is no folder .*accepted are demo, tiktok, baby, sports "
                                          r'and the folders under .* \(mine\)'):
        load_dataset('other', tmp_path)
    with pytest.raises(ConfigError, match="dataset: got '../x'"):
        load_dataset('../x', tmp_path)


def test_tiktok(shared_data):
    data = load_dataset('tiktok', shared_data)
    graph = training_graph(data, ['image', 'audio'])
    assert (graph.num_users, graph.num_items) == (9308, 6710)
    assert [split_edges(data, s).size(1) for s in ('train', 'val', 'test')] == [59541, 3051, 6130]
    assert int((graph.user_degree() == 0).sum()) == 10 and int((graph.item_degree() == 0).sum()) == 465
    assert graph.modalities['image'].x.shape == (6710, 128) == graph.modalities['audio'].x.shape
    assert bool((torch.bincount(split_edges(data, 'test')[0]) <= 1).all())
