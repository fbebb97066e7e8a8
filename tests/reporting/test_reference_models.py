import torch

from genrec_pyg.config import RunConfig
from genrec_pyg.datasets import demo_graph
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.reporting import reference_models
from genrec_pyg.reporting.reference_models import fit_seconds, reference_figures, result_table


def test_references_leave_out_the_run_itself_and_say_their_settings(demo_data):
    found = reference_figures(demo_data, RunConfig(model='EASE'))
    assert set(found) == {'Popularity', 'ItemKNN', 'GraphFilter', 'ItemKNNCBF', 'AddEASE'}
    assert {'validation', 'test', 'settings'} == set(found['ItemKNN']) and found['ItemKNN'][
        'settings'
    ]['k'] > 0


def test_references_without_features_need_none():
    data = demo_graph(num_users=120, num_items=80, num_clusters=6)
    for name in ('image', 'text', 'audio'):
        del data['item', 'has', name], data[name]
    found = reference_figures(data, RunConfig(model='MFBPR'))
    assert set(found) == {'Popularity', 'ItemKNN', 'EASE', 'GraphFilter'}
    assert found['EASE']['settings'].keys() == {
        'l2',
        'ridge_power',
        'row_weight',
        'popularity_discount',
    }


def test_what_would_take_longer_than_the_training_is_left_out(demo_data, monkeypatch, caplog):
    monkeypatch.setattr(
        reference_models,
        'fit_seconds',
        lambda name, graph: {'EASE': 100.0, 'ItemKNN': 20.0}.get(name, 0.0),
    )
    with caplog.at_level('INFO'):
        found = reference_figures(demo_data, RunConfig(model='MFBPR'))
    assert 'EASE' not in found and 'ItemKNN' in found
    assert (
        'EASE is left out: its first fit takes about 100 s, longer than the 30 s that the '
        'references have' in caplog.text
    )
    assert (
        'ItemKNN: a fit takes about 20 s; the time grows with the square of the 80 items'
        in caplog.text
    )
    assert 'EASE' in reference_figures(demo_data, RunConfig(model='MFBPR'), training_seconds=200.0)


def test_time_grows_as_it_should():
    def seconds(name, num_items):
        return fit_seconds(name, TrainingGraph(2, num_items, torch.tensor([[0, 1], [0, 1]])))

    assert 50 < seconds('EASE', 20_000) / seconds('EASE', 5_000) < 65
    assert 15 < seconds('ItemKNN', 100_000) / seconds('ItemKNN', 25_000) < 17
    # low rank plus sparse above the item limit
    assert seconds('EASE', 30_000) == seconds('ItemKNN', 30_000)


def test_impossible_rows_are_called_out():
    figures = {
        'recall@20': 0.5,
        'precision@20': 0.01,
        'ndcg@20': 0.3,
        'mrr@20': 0.1,
        'coverage@20': 0.2,
    }
    table = result_table({'Broken': {'test': figures}}, 'title')
    assert 'warning: Broken: precision@20' in table and table.startswith('title')
