import pytest
import torch
from helpers.toy_graphs import small_genrec, toy_data, train_steps

from benchmarks.quality import user_interests
from benchmarks.quality.user_interests import SETTINGS, report, use_of_interests
from genrec_pyg.nn.models import GenRec


def run(test, **more):
    return {
        'validation': test,
        'test': test,
        'graph': {'validation': 0.1, 'test': 0.2},
        'processor_seconds': 9.0,
        'user_recall': [test, test / 2, test],
        **more,
    }


def test_the_report_has_means_and_tests_against_one_interest(monkeypatch):
    monkeypatch.setattr(user_interests, 'machine_line', lambda machine: 'A machine.')
    settings = {
        'one interest': {'0': run(0.5), '1': run(0.7)},
        'p': {'0': run(0.4, gain=0.25, use={'balance': 0.5})},
    }
    text = report({'machine': {}, 'runs': {'data': settings}}, 4)
    assert '| one interest | 2 | 0.6000 | 0.6000 ± 0.1414 | 0.2000 |  |' in text
    row = next(line for line in text.splitlines() if line.startswith('| p |'))
    assert '| 0.4000 | 0.4000 | 0.2000 | 0.' in row and row.endswith('| 0.25 | 0.50 | 9 |')


@pytest.mark.parametrize('name', [name for name in SETTINGS if name != 'one interest'])
def test_use_counts_the_interests_that_give_the_items_of_a_list(name):
    data = toy_data(2)
    model = train_steps(GenRec(data, **small_genrec(user_interests={'count': 3, **SETTINGS[name]})))
    weight = model.interest_weight
    use = use_of_interests(model, torch.arange(8))
    assert model.interest_weight == weight
    assert 0 <= use['balance'] <= 1 and 1 / 3 <= use['largest'] <= 1
    labels, graph = model.user_interests.labels, model.graph
    expected = [
        len({int(labels[i]) for u, i in graph.edge_index.t().tolist() if u == user} - {-1})
        for user in range(8)
    ]
    assert use['per_user'] == pytest.approx(sum(expected) / 8)
