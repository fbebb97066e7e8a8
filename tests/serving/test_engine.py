import copy

import numpy as np
import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.blend import Blend
from genrec_pyg.ops import Adjacency
from genrec_pyg.recommend import top_items, top_items_of_histories
from genrec_pyg.serving.bundle import read_bundle
from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.ranking import Query

MODELS = [
    'GenRec',
    'Popularity',
    'ItemKNN',
    'EASE',
    'GraphFilter',
    'AddEASE',
    'LightGCN',
    'SASRec',
    'ComiRecSA',
]


@pytest.fixture(scope='module')
def timed(demo_data):
    data = copy.deepcopy(demo_data)
    store = data['user', 'interacts', 'item']
    store.time = torch.arange(store.edge_index.size(1))
    return data


def lists(engine, queries):
    found = engine.lists(queries)
    return [int(i) for each in found for i in each.item], [
        float(s) for each in found for s in each.score
    ]


def users(engine, k=10, exclude=True):
    nobody = np.empty(0, dtype=np.int32)
    return [
        Query(k, engine.known.row(u) if exclude else nobody, user=u)
        for u in range(engine.num_users)
    ]


def check_ordered_histories(model, engine, data):
    if 'fold_in' in engine.unable:
        assert 'pip install "genrec_pyg[onnx]"' in engine.unable['fold_in']
        return
    sequences = model.sequences
    expected = top_items_of_histories(model, data, range(120), sequences, k=10)
    parts = np.split(sequences.item.numpy(), sequences.rowptr[1:-1].numpy())
    item, score = lists(engine, [Query(10, np.unique(own), history=own) for own in parts])
    assert score == pytest.approx(expected['score'], rel=1e-4, abs=1e-5)
    assert np.mean(np.array(item) == np.array(expected['item'])) > 0.99  # near ties


@pytest.mark.parametrize('name', MODELS)
def test_lists_are_those_of_recommend(name, export, timed):
    model, folder = export(name, timed)
    engine = Engine(read_bundle(folder))
    for exclude in ('known', 'none'):
        expected = top_items(model, timed, torch.arange(120), k=10, exclude=exclude)
        item, score = lists(engine, users(engine, exclude=exclude == 'known'))
        assert item == expected['item'] and score == pytest.approx(
            expected['score'], rel=1e-4, abs=1e-6
        )
    histories = Adjacency.from_edge_index(model.graph.edge_index, size=(120, 80))
    queries = [Query(10, engine.trained.row(u), history=engine.trained.row(u)) for u in range(120)]
    if model.reads_history:  # see test_history_encoder.py
        check_ordered_histories(model, engine, timed)
        return
    expected = top_items_of_histories(model, timed, range(120), histories, k=10)
    assert lists(engine, queries)[0] == expected['item']


def test_lists_of_an_interest_with_a_sparse_part(genrec, demo_data):
    model, folder = genrec
    engine = Engine(read_bundle(folder))
    assert model.has_sparse_scores and len(engine.members[0].others) == 1
    assert (
        lists(engine, users(engine))[0]
        == top_items(model, demo_data, torch.arange(120), k=10)['item']
    )
    histories = Adjacency.from_edge_index(model.graph.edge_index, size=(120, 80))
    queries = [Query(10, engine.trained.row(u), history=engine.trained.row(u)) for u in range(120)]
    assert (
        lists(engine, queries)[0]
        == top_items_of_histories(model, demo_data, range(120), histories, k=10)['item']
    )


def test_lists_of_a_linear_filter_and_of_a_low_rank_kernel(export, demo_data):
    low_rank = {'max_items': 10, 'rank': 16, 'popularity_discount': 0.3}
    for name, options in (('GraphFilter', {'power': 1.0}), ('EASE', low_rank)):
        model, folder = export(name, demo_data, **options)
        engine = Engine(read_bundle(folder))
        assert (
            lists(engine, users(engine))[0]
            == top_items(model, demo_data, torch.arange(120), k=10)['item']
        )


def test_lists_of_a_blend(export, demo_data):
    members = {'a': get_model('EASE')(demo_data), 'b': get_model('LightGCN')(demo_data).eval()}
    model, folder = export(Blend(demo_data, members, {'a': 0.7, 'b': 0.3}), demo_data)
    engine = Engine(read_bundle(folder))
    assert (
        lists(engine, users(engine))[0]
        == top_items(model, demo_data, torch.arange(120), k=10)['item']
    )
    assert set(engine.unable) == {'similar', 'fold_in', 'rank'}


def test_an_answer_does_not_depend_on_the_others(genrec):
    engine = Engine(read_bundle(genrec[1]))
    together = lists(engine, users(engine))
    alone = [engine.lists([query])[0] for query in users(engine)]
    assert together[1] == [float(s) for each in alone for s in each.score]  # to the bit


def test_equal_scores_rank_by_number_and_what_is_not_offered_is_missing(export, demo_data):
    _, folder = export('Popularity', demo_data)
    engine = Engine(read_bundle(folder))
    score = engine.members[0].others[0].scores
    out, allowed = np.array([3, 5]), np.array([1, 3, 5, 7, 60])
    query = Query(80, out, user=0)
    expected = sorted(set(range(80)) - {3, 5}, key=lambda i: (-score[i], i))
    assert engine.lists([query])[0].item.tolist() == expected
    assert engine.lists([query._replace(k=7)])[0].item.tolist() == expected[:7]
    assert engine.lists([query._replace(allowed=allowed)])[0].item.tolist() == [
        i for i in expected if i in (1, 7, 60)
    ]
    assert engine.lists([query._replace(allowed=np.array([3]))])[0].item.size == 0


def test_similar_items_are_near_by_cosine(export, demo_data):
    model, folder = export('LightGCN', demo_data)
    found = Engine(read_bundle(folder)).similar(4, 5)
    with model.cached_embeddings():
        unit = torch.nn.functional.normalize(model.embeddings()[1].double())
    expected = unit @ unit[4]
    expected[4] = -2
    assert found.item.tolist() == expected.topk(5).indices.tolist()
    assert found.score.tolist() == pytest.approx(expected.topk(5).values.tolist(), abs=1e-6)
    model, folder = export('EASE', demo_data)
    assert (
        Engine(read_bundle(folder)).similar(4, 5).item.tolist()
        == model.weight[4].topk(5).indices.tolist()
    )


def test_the_approximate_index_finds_most_and_scores_exactly(genrec):
    pytest.importorskip('faiss')
    bundle = read_bundle(genrec[1])
    exact, approximate = Engine(bundle), Engine(bundle, 'approximate', num_probes=100)
    for query in users(exact, k=3):
        query = query._replace(left_out=query.left_out[:3])
        one, two = exact.lists([query])[0], approximate.lists([query])[0]
        assert two.item.tolist() == one.item.tolist() and two.score.tolist() == one.score.tolist()
    assert approximate.lists([users(exact, k=70)[0]])[0].item.size == 80 - exact.known.row(0).size
    one_cell = Engine(bundle, 'approximate', num_probes=1, num_cells=1)  # which holds all items
    query = users(exact, k=3)[0]
    assert one_cell.lists([query])[0].item.tolist() == exact.lists([query])[0].item.tolist()
    for wrong in (0, exact.num_items + 1):
        with pytest.raises(ConfigError, match=f'--num_cells: got {wrong} for'):
            Engine(bundle, 'approximate', num_cells=wrong)
    with pytest.raises(ConfigError, match="--index: got 'nearest'"):
        Engine(bundle, 'nearest')


def test_the_approximate_index_needs_embeddings(export, demo_data):
    _, folder = export('EASE', demo_data)
    with pytest.raises(ConfigError, match="--index: got 'approximate' for EASE"):
        Engine(read_bundle(folder), 'approximate')
