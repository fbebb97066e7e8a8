from genrec_pyg.config import RunConfig
from genrec_pyg.datasets import demo_graph
from genrec_pyg.reporting.reference_models import reference_figures, result_table


def test_references_leave_out_the_run_itself():
    found = reference_figures(demo_graph(), RunConfig(model='EASE'))
    assert set(found) == {'Popularity', 'ItemKNN'} and {'validation', 'test'} == set(found['ItemKNN'])


def test_impossible_rows_are_called_out():
    figures = {'recall@20': 0.5, 'precision@20': 0.01, 'ndcg@20': 0.3, 'mrr@20': 0.1, 'coverage@20': 0.2}
    table = result_table({'Broken': {'test': figures}}, 'title')
    assert 'warning: Broken: precision@20' in table and table.startswith('title')
