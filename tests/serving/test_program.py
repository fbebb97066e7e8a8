import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genrec_pyg.config.build import Run
from genrec_pyg.export import export_run
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.blend import Blend
from genrec_pyg.serving.bundle import read_bundle
from genrec_pyg.serving.engine import Engine
from genrec_pyg.serving.program import make_programs
from genrec_pyg.serving.ranking import Query
from genrec_pyg.serving.tables import model_tables

INTEREST = {'interest': {'num_neighbors': 4, 'rank': 8}}
K = 9


def padded(rows):
    out = np.full((len(rows), max(1, max(map(len, rows)))), 80)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def bundle_with_programs(model, data, folder, formats):
    config = SimpleNamespace(model=type(model).__name__, dataset='demo')
    manifest = export_run(Run(config, data, model.eval(), 'no'), {}, folder, formats, K)
    assert manifest['programs']['k'] == K
    return Engine(read_bundle(folder)), manifest


def runner(folder, manifest, form, kind):
    """Calls the program in the runtime that it is for."""
    if form == 'torch':
        program = torch.export.load(folder / manifest['files'][f'program_{kind}']['name']).module()

        def run(*inputs):
            return [x.numpy() for x in program(*map(torch.from_numpy, inputs))]

        return run
    onnxruntime = pytest.importorskip(
        'onnxruntime', reason='ONNX IS NOT RUN: pip install onnxruntime'
    )
    file = folder / manifest['files'][f'onnx_{kind}']['name']
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs)))


def check(found, expected):
    score, item = found
    for row, ranked in enumerate(expected):
        count = ranked.item.size
        assert np.isneginf(score[row, count:]).all()
        assert np.allclose(score[row, :count], ranked.score, rtol=1e-4, atol=1e-6)
        same = item[row, :count] == ranked.item
        gap = np.abs(np.diff(ranked.score))
        near = np.append(gap, 0) < 1e-6 * np.abs(ranked.score).max()
        assert same[~(near | np.append(False, near[:-1]))].all()  # near ties may change places


def check_both(model, data, folder, form):
    engine, manifest = bundle_with_programs(model, data, folder, [form])
    users = np.arange(3, 40)
    known = [engine.known.row(user) for user in users]
    run = runner(folder, manifest, form, 'user')
    queries = [Query(K, left_out, user=int(user)) for user, left_out in zip(users, known)]
    check(run(users, padded(known)), engine.lists(queries))
    check(run(users[:1], padded(known[:1])), engine.lists(queries[:1]))
    if model.reads_history:
        assert 'network' in manifest['programs']['unable']['history']
        return
    run = runner(folder, manifest, form, 'history')
    histories = [engine.trained.row(user) for user in users]
    queries = [Query(K, history, history=history) for history in histories]
    check(run(padded(histories)), engine.lists(queries))


def make(name, data, **options):
    if name == 'ComiRecSA':
        data = copy.copy(data)
        store = data['user', 'interacts', 'item']
        store.time = torch.arange(store.edge_index.size(1))
    model = get_model(name)(data, **options)
    model.choose(data)
    return model.eval(), data


@pytest.mark.parametrize(
    'name,options',
    [
        ('GenRec', INTEREST),
        ('LightGCN', {}),
        ('ItemKNN', {}),
        ('EASE', {'popularity_discount': 0.2}),
        ('EASE', {'max_items': 10, 'rank': 16}),
        ('Popularity', {}),
        ('ComiRecSA', {}),
    ],
)
def test_programs_of_torch_make_the_lists_of_the_service(name, options, demo_data, tmp_path):
    check_both(*make(name, demo_data, **options), tmp_path / 'bundle', 'torch')


@pytest.mark.slow
@pytest.mark.parametrize('name,options', [('GenRec', INTEREST), ('LightGCN', {}), ('EASE', {})])
def test_programs_in_onnxruntime_make_the_lists_of_the_service(name, options, demo_data, tmp_path):
    pytest.importorskip('onnxscript', reason='ONNX IS NOT WRITTEN: pip install ".[onnx]"')
    check_both(*make(name, demo_data, **options), tmp_path / 'bundle', 'onnx')


def test_what_no_program_is_made_of_is_said(demo_data):
    members = {'a': get_model('EASE')(demo_data), 'b': get_model('ItemKNN')(demo_data)}
    blend = Blend(demo_data, members, {'a': 1.0, 'b': 1.0})
    for model, reason in (
        (get_model('GraphFilter')(demo_data), 'several times'),
        (blend, 'standardizes'),
    ):
        described, tables, _ = model_tables(model, demo_data)
        writers, unable = make_programs(
            {**described, 'num_users': 120, 'num_items': 80}, tables, ['torch'], K
        )
        assert writers == {} and set(unable) == {'user', 'history'}
        assert all(reason in text for text in unable.values())
