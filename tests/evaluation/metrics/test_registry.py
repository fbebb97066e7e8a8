import pytest
import torch

from genrec_pyg.evaluation import Evaluator
from genrec_pyg.evaluation.metrics import METRICS, find_metrics, get_metric
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import EASE

SOURCE = """
import torch

def first(lists, label):
    hit = torch.zeros(lists.user.numel())
    row, item = label
    hit[row[lists.item[row, 0] == item]] = 1
    return hit

def broken(lists, label):
    return torch.zeros(3)

name = 'no function'
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / 'shop_metrics.py').write_text(SOURCE)
    metadata = tmp_path / 'shop_metrics-1.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: shop_metrics\nVersion: 1.0\n')
    points = [
        f'{name} = shop_metrics:{place}'
        for name, place in (
            ('first', 'first'),
            ('broken', 'broken'),
            ('absent', 'absent'),
            ('gini', 'first'),
        )
    ]
    (metadata / 'entry_points.txt').write_text('\n'.join(['[genrec_pyg.metrics]', *points]))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_metrics_of_this_package_are_measured(demo_data):
    measured = Evaluator(demo_data, ks=(5, 10)).measure(EASE(demo_data))
    assert {f'gini@{k}' for k in (5, 10)} | {'diversity_text@5', 'popularity_lift_niche@10'} <= set(
        measured.further
    )
    users = measured.users.users
    assert users['novelty@5'].mean() == pytest.approx(measured.further['novelty@5'])
    assert 'gini@5' not in users and 'diversity_text@5' in users


def test_installed_metrics_are_measured_and_broken_ones_named(demo_data, package, caplog):
    evaluator = Evaluator(demo_data, ks=(1, 5))
    measured = evaluator.measure(EASE(demo_data))
    assert measured.further['first@5'] == pytest.approx(measured.figures['hit@1'])
    assert not any(name.startswith(('broken', 'absent')) for name in measured.further)
    assert 'broken@1 is left out (ValueError: returned the shape (3,)' in caplog.text
    assert "metric: got 'absent', which cannot be imported" in caplog.text
    assert 'gini of an installed package has a name of this package' in caplog.text
    assert find_metrics()['gini'] is METRICS['gini']


@pytest.mark.parametrize(
    'name,message',
    [
        ('gin', 'accepted are gini, .*first.* or package.module:function'),
        ('shop_metrics:name', 'a function of lists'),
        ('shop_metrics:absent', 'cannot be imported'),
    ],
)
def test_other_names_are_refused(name, message, package):
    with pytest.raises(ConfigError, match=message):
        get_metric(name)


def test_a_value_that_nobody_has_is_no_figure(demo_data):
    def nothing(lists, label):
        return torch.full((lists.user.numel(),), float('nan'))

    measured = Evaluator(demo_data, ks=(5,)).measure(EASE(demo_data), {'nothing': nothing})
    assert measured.further == {} and 'nothing@5' in measured.users.metrics
