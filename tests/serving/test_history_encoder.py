"""Sequence models answer histories in a service as they do in torch."""

import copy

import numpy as np
import pytest
import torch

from genrec_pyg.exceptions import DataError
from genrec_pyg.loader import Sequences
from genrec_pyg.serving.bundle import read_bundle
from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.ranking import Query

pytest.importorskip('onnxscript', reason='NO NETWORK IS EXPORTED: pip install ".[onnx]"')
pytest.importorskip('onnxruntime', reason='NO NETWORK IS SERVED: pip install ".[onnx]"')

SMALL = {'hidden_channels': 8, 'history_length': 6}
HISTORIES = [[3], [5, 1, 9], [7, 2, 7, 4, 11, 30, 2, 8], list(range(20))]


@pytest.fixture(scope='module')
def timed(demo_data):
    data = copy.copy(demo_data)
    store = data['user', 'interacts', 'item']
    store.time = torch.arange(store.edge_index.size(1))
    return data


def expected(model, history):
    edges = torch.stack([torch.zeros(len(history), dtype=torch.long), torch.tensor(history)])
    sequences = Sequences.from_edges(edges, 1, model.num_items)
    sequences = sequences if model.repeats else sequences.without_repeats()
    return model.embed_histories(sequences)[0].detach().numpy()


def check(model, folder):
    engine = Engine(read_bundle(folder))
    assert engine.reads_order and 'fold_in' not in engine.unable
    items = model.embeddings()[1].detach().numpy()
    for history in HISTORIES:
        wanted = expected(model, history)
        found = engine._fold_in(np.array(history))[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        scores = (np.atleast_2d(wanted) @ items.T).max(axis=0)
        scores[history] = -np.inf
        ranked = engine.lists([Query(5, np.unique(history), history=np.array(history))])[0]
        assert not set(ranked.item) & set(history)
        np.testing.assert_allclose(ranked.score, np.sort(scores)[::-1][:5], rtol=1e-4, atol=1e-5)
    return engine


@pytest.mark.parametrize('name,options', [('SASRec', {}), ('ComiRecSA', {'align': 'right'})])
def test_histories_have_the_embeddings_of_the_model(name, options, timed, export):
    engine = check(*export(name, timed, **SMALL, **options))
    forward, backward = (engine._fold_in(np.array(h))[0] for h in ([1, 2, 3], [3, 2, 1]))
    assert np.abs(forward - backward).max() > 1e-4  # the order counts


@pytest.mark.slow
@pytest.mark.parametrize(
    'name,options',
    [
        ('GRU4Rec', {'repeats': True}),
        ('MIND', {'adaptive_interests': True}),
        ('MIND', {'routing_axis': 'position', 'routing_renormalize': False}),
        ('REMI', {}),
    ],
)
def test_so_have_those_of_the_others(name, options, timed, export):
    check(*export(name, timed, **SMALL, **options))


def test_what_is_no_network_of_the_bundle_is_refused(timed, export):
    bundle = read_bundle(export('SASRec', timed, **SMALL)[1])
    for change, message in (
        ({'history_encoder': b'no network'}, 'history_encoder: is no network'),
        ({'history_encoder': None}, 'accepted is what an export writes'),
    ):
        with pytest.raises(DataError, match=message):
            Engine(bundle._replace(**change))
    for change in ({'length': 0}, {'align': 'up'}, {'repeats': 1}, {'length': 7}):
        manifest = {**bundle.manifest, 'fold_in': {**bundle.manifest['fold_in'], **change}}
        with pytest.raises(DataError, match='fold_in|history_encoder'):
            Engine(bundle._replace(manifest=manifest))


def test_without_a_runtime_the_rest_is_served(timed, export, monkeypatch):
    import sys

    bundle = read_bundle(export('SASRec', timed, **SMALL)[1])
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    engine = Engine(bundle)
    assert 'needs onnxruntime' in engine.unable['fold_in'] and not engine.reads_order
    assert len(engine.lists([Query(5, engine.known.row(0), user=0)])[0].item) == 5
