"""What a page says, against what runs, graph and model say."""

import json

import numpy as np
import pytest
import torch

from genrec_pyg.evaluation import read_per_user
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import split_edges
from genrec_pyg.recommend import top_items
from genrec_pyg.reporting.page import page_content
from genrec_pyg.reporting.page.charts import curve_charts
from genrec_pyg.reporting.page.flips import flips_of


def test_table_has_runs_and_their_parts(content, loaded):
    rows = {
        name: dict(zip(content['table']['columns'], values))
        for name, _, values in content['table']['rows']
    }
    for name, folder in loaded[1].items():
        written = json.loads((folder / 'metrics.json').read_text())
        assert rows[name]['recall@20'] == pytest.approx(written['test']['recall@20'])
    assert rows['GenRec, graph alone']['ndcg@20'] == pytest.approx(
        json.loads((loaded[1]['GenRec'] / 'metrics.json').read_text())['parts']['graph']['test'][
            'ndcg@20'
        ]
    )


def test_curves_are_those_of_the_history(content, loaded):
    lines = (loaded[1]['GenRec'] / 'metrics.jsonl').read_text().splitlines()
    expected = [[epoch, json.loads(line)['val']['recall@20']] for epoch, line in enumerate(lines)]
    chart = next(chart for chart in content['curves'] if chart['title'] == 'validation recall@20')
    assert chart['series'] == [{'name': 'GenRec', 'points': expected}]  # EASE has no epochs


def test_terms_of_the_loss_that_are_zero_throughout_have_no_curve():
    records = [{'epoch': e, 'loss': {'bpr': 0.5, 'l2': 0.0, 'kl': float(e)}} for e in range(2)]
    titles = [chart['title'] for chart in curve_charts({'run': records})]
    assert titles == ['loss bpr', 'loss kl']


def test_groups_are_means_of_the_values_of_users(content, loaded):
    values = read_per_user(loaded[1]['EASE'], 'test')
    activity, popularity = content['groups']
    row = next(one['values'] for one in activity['series'] if one['name'] == 'EASE')
    sizes = [int(name.split('(')[1].split()[0]) for name in activity['groups']]
    assert np.dot(sizes, row) / sum(sizes) == pytest.approx(values.users['recall@20'].mean())
    assert len(popularity['groups']) > 1 and all(
        0 <= value <= 1 for one in popularity['series'] for value in one['values']
    )


def test_lists_are_those_of_recommend(content, loaded):
    for name, run in loaded[0].items():
        for person in content['people']:
            expected = top_items(run.model, run.data, [person['user']], 20, 'seen')['item']
            assert [
                content['items'][str(row[0])]['id'] for row in person['lists'][name]
            ] == expected
            assert {row[0] for row in person['lists'][name] if row[2]} <= set(person['held_out'])


def test_history_and_held_out_items_are_those_of_the_graph(content, loaded):
    data = loaded[0]['EASE'].data
    for person in content['people']:
        for key, split in (('history', 'train'), ('held_out', 'test')):
            user, item = split_edges(data, split)
            assert person[key] == item[user == person['user']].tolist()
        assert person['id'] == data['user'].raw_id[person['user']]


def test_reasons_are_the_nearest_items_of_the_history(content, loaded):
    data = loaded[0]['EASE'].data
    user, item = split_edges(data, 'train')
    matrix = torch.zeros(60, 40, dtype=torch.float64)
    matrix[user, item] = 1
    cosine = (
        matrix.t() @ matrix / (matrix.sum(0)[:, None] * matrix.sum(0)[None]).sqrt().clamp(min=1e-9)
    )
    x = torch.nn.functional.normalize(data['text'].x, dim=1)
    person = content['people'][0]
    history = torch.tensor(person['history'])
    for listed, rows in person['reasons'].items():
        for other, how, value in rows:
            assert other in person['history']
            table = {'users': cosine, 'text': x @ x.t()}.get(how)
            if table is not None:
                assert value == pytest.approx(float(table[int(listed), history].max()), abs=1e-3)


def test_flips_are_changes_of_the_generator(content, loaded):
    model = loaded[0]['GenRec'].model
    flips = flips_of(model)
    changes, found = flips.changes, content['flips']['GenRec']
    matrix = torch.zeros(60, 40, dtype=torch.bool)
    matrix[tuple(model.graph.edge_index)] = True
    assert torch.equal(changes.added, ~matrix[changes.user, changes.item])
    assert found['added'] == int((changes.changed & changes.added).sum()) > 0
    assert found['undone_added'] + found['undone_removed'] == int(changes.undone.sum())
    assert bool((changes.changed | ~changes.undone).all())
    debias = model.generator.debias
    kept = debias._decide(
        changes.user, changes.item, changes.added
    )  # the share that is checked is 1
    assert torch.equal(changes.undone, changes.changed & ~kept)
    edges = model.generator.edges.edge_index
    for person in content['people']:
        mine = edges[1, edges[0] == person['user']].tolist()
        assert [row[0] for row in person['flips']['GenRec']['generated']] == mine
    assert flips_of(loaded[0]['EASE'].model) is None and list(content['flips']) == ['GenRec']


def test_maps_have_clusters_and_all_items_that_are_shown(content, loaded):
    labels = loaded[0]['GenRec'].model.generator.debias.labels
    assert [one['name'] for one in content['maps']] == list(labels)
    for one in content['maps']:
        points = {point[0]: point for point in one['points']}
        present = loaded[0]['GenRec'].model.graph.modalities[one['name']].present()
        assert set(points) == set(present.nonzero().view(-1).tolist())  # all of so few
        assert all(0 <= point[1] <= 1 and 0 <= point[2] <= 1 for point in points.values())
        assert all(point[3] == int(labels[one['name']][item]) for item, point in points.items())


def test_users_are_asked_for_by_id(loaded):
    wanted = loaded[0]['EASE'].data['user'].raw_id[7]
    found = page_content(*loaded, num_users=0, users=[wanted])
    assert [person['id'] for person in found['people']] == [wanted]
    with pytest.raises(ConfigError, match='no user'):
        page_content(*loaded, users=['nobody'])
