"""Bars are means of what users and pairs say, by hand."""

import numpy as np
import pytest

from genrec_pyg.evaluation import PerUser
from genrec_pyg.reporting.page.charts import (
    activity_chart,
    curve_charts,
    figure_charts,
    popularity_chart,
)


@pytest.fixture
def values():
    users = {
        'user': np.arange(4),
        'interactions': np.array([1, 2, 8, 9]),
        'recall@2': np.array([1.0, 0.0, 0.5, 1.0]),
    }
    pairs = {
        'user': np.array([0, 0, 1, 2]),
        'item': np.array([0, 1, 2, 3]),
        'popularity': np.array([1, 1, 1, 1]),
        'rank': np.array([1, 3, 2, 0]),  # 0: in no list
    }
    return {'run': PerUser(users, pairs, {})}


def test_activity_is_the_mean_of_users(values):
    chart = activity_chart(values, 'recall@2')
    sizes = [int(name.split('(')[1].split()[0]) for name in chart['groups']]
    found = chart['series'][0]['values']
    assert np.dot(sizes, found) / sum(sizes) == pytest.approx(2.5 / 4)
    assert chart['kind'] == 'bar' and chart['title'] == 'recall@2 by training items of the user'


def test_popularity_is_the_mean_of_users_of_their_share(values):
    chart = popularity_chart(values, 2)
    assert chart['series'] == [{'name': 'run', 'values': [pytest.approx((0.5 + 1 + 0) / 3)]}]


def test_curves_need_finite_numbers():
    records = [{'epoch': 0, 'loss': {'bpr': float('nan')}, 'val': {'recall@20': 0.25}}]
    chart = curve_charts({'run': records})
    assert [one['title'] for one in chart] == ['validation recall@20']
    assert chart[0]['series'] == [{'name': 'run', 'points': [[0, 0.25]]}]


def test_figures_that_no_run_has_have_no_chart():
    assert figure_charts({'run': {}}, 20) == []
    found = figure_charts({'a': {'gini@20': 0.5}, 'b': {}}, 20)
    assert [one['title'] for one in found] == ['gini@20']
    assert found[0]['series'] == [{'name': 'a', 'values': [0.5]}]
