"""Terms of scores add up to them, name items of the history, and follow what the model is."""

import copy
import json

import pytest
import torch

from genrec_pyg import Trainer
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency
from genrec_pyg.recommend import top_items, top_items_of_histories, write_table
from genrec_pyg.retrieval.reasons import Reasons

MODELS = {
    'EASE': {'graph'},
    'ItemKNN': {'graph'},
    'GraphFilter': {'graph'},
    'ItemKNNCBF': {'content'},
    'AddEASE': {'graph', 'content'},
    'LightGCN': {'graph', 'audio', 'image', 'text'},
    'VBPR': {'graph', 'audio', 'image', 'text'},
    'GenRec': {'graph', 'audio', 'image', 'text', 'interest'},
}


@pytest.fixture(scope='module')
def models(demo_data):
    found = {}
    for name in MODELS:
        model = get_model(name)(copy.deepcopy(demo_data))
        if model.trainable:
            Trainer(epochs=2, batch_size=256, seed=0, progress=False, device='cpu').fit(
                model, demo_data
            )
        found[name] = model
    return found


@pytest.mark.parametrize('name', MODELS)
def test_terms_and_rest_are_the_score(models, demo_data, name):
    model = models[name]
    history = split_edges(demo_data, 'train')
    history = history[1, history[0] == 5]
    with torch.no_grad(), model.cached_embeddings():
        item = torch.arange(0, 80, 9)
        score = model.score(torch.tensor([5]))[0, item]
        reasons = Reasons(model)
        paths = reasons._paths(history, item)
        found = reasons(history, item, score, 4)
    assert set(paths) == MODELS[name]
    whole = sum(parts.sum(dim=0) for parts in paths.values())
    rest = torch.tensor([rest for _, rest in found], dtype=torch.float64)
    assert torch.allclose(whole + rest, score.double(), atol=1e-5)
    if name in ('EASE', 'ItemKNN', 'GraphFilter', 'ItemKNNCBF', 'AddEASE'):
        assert float(rest.abs().max()) < 1e-4 * float(score.abs().max())
    for listed, _ in found:
        parts = [reason.part for reason in listed]
        assert parts == sorted(parts, reverse=True) and all(part > 0 for part in parts)
        assert {reason.item for reason in listed} <= set(history.tolist()) and sum(
            r.share for r in listed
        ) <= 1 + 1e-6


def test_blocks_of_a_history_change_nothing(models, demo_data, monkeypatch):
    history, item = torch.tensor([3, 9, 40, 8, 11]), torch.arange(0, 80, 9)
    for name in ('ItemKNN', 'AddEASE'):
        reasons = Reasons(models[name])
        expected = reasons._paths(history, item)
        monkeypatch.setattr('genrec_pyg.retrieval.reasons._MOST_SCORES', 2 * 80 + 7)
        for path, found in reasons._paths(history, item).items():
            assert torch.allclose(found, expected[path]) and found.shape == (5, 9)


def test_the_interest_of_genrec_is_exact(models):
    model = models['GenRec']
    interest, weight = model.interest_in_use()
    history = model.graph.edge_index[1][model.graph.edge_index[0] == 7]
    with torch.no_grad(), model.cached_embeddings():
        found = Reasons(model)._paths(history, torch.arange(80))['interest'].sum(dim=0)
        expected = weight * interest.score(torch.tensor([7]))[0]
    assert torch.allclose(found, expected.double(), atol=1e-5) and float(expected.abs().max()) > 0


def test_an_item_of_the_history_speaks_for_its_neighbor():
    from genrec_pyg.datasets import from_table

    log = {
        'user': [1, 1, 2, 2, 3, 3, 4, 4, 5],
        'item': ['a', 'b', 'a', 'b', 'c', 'd', 'c', 'd', 'a'],
    }
    data = from_table(log, split='none')
    data['item'].title = ['A', 'B', 'C', 'D']
    columns = top_items(get_model('ItemKNN')(data), data, [4], k=1, why=3)
    assert (
        columns['item'] == ['b']
        and columns['title'] == ['B']
        and columns['rest'] == [pytest.approx(0, abs=1e-6)]
    )
    (reason,) = columns['why'][0]
    assert (reason['item'], reason['title'], reason['path'], reason['share']) == (
        'a',
        'A',
        'graph',
        pytest.approx(1),
    )


def test_reasons_are_written_in_every_form_and_for_new_users(models, demo_data, tmp_path):
    rows = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [3, 9, 4]]), size=(2, 80))
    columns = top_items_of_histories(models['LightGCN'], demo_data, ['n', 'm'], rows, k=3, why=2)
    assert {reason['item'] for listed in columns['why'][:3] for reason in listed} <= {3, 9}
    for form in ('csv', 'json', 'parquet'):
        write_table(columns, form, tmp_path / form)
    assert json.loads((tmp_path / 'json').read_text())[0]['why'] == columns['why'][0]
    assert '""path"": ""' in (tmp_path / 'csv').read_text()
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / 'parquet').column('why').to_pylist() == columns['why']


def test_models_that_are_no_sum_say_so(demo_data):
    model = get_model('Popularity')(copy.deepcopy(demo_data))
    with pytest.raises(ConfigError, match='why: the scores of Popularity are no sum'):
        Reasons(model)
