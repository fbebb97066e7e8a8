"""Novelty, calibration and popularity bias, worked out by hand."""

import math

import pytest
import torch
from helpers.listed import LABEL, make

from genrec_pyg.evaluation.metrics.popularity import (
    miscalibration,
    novelty,
    popularity_groups,
    popularity_lift,
)


def test_novelty():
    edges = ((0, 1, 2, 3, 0), (0, 0, 0, 0, 1))  # all four users have item 0, one has item 1
    found = novelty(make([[0, 1], [0, 5], [4, 1], [5, 5]], edges), LABEL)
    assert found[:3].tolist() == [1.0, 0.0, 2.0] and bool(found[3].isnan())


def test_groups_of_popularity():
    assert popularity_groups(torch.tensor([2, 1, 1, 5, 1])).tolist() == [1, 1, 2, 0, 2]


def test_miscalibration():
    degree = ((0, 1, 2, 3, 4), (3, 3, 3, 3, 3))
    edges = (
        degree[0] + (0, 1, 2, 3, 4),
        degree[1] + (0, 0, 1, 2, 4),
    )  # item 3 popular, 2 and 4 rare
    found = miscalibration(
        make([[3, 1], [3, 3], [2, 4], [4, 5], [5, 5]], edges, num_users=6), LABEL
    )
    assert popularity_groups(torch.bincount(torch.tensor(edges[1]))).tolist() == [1, 1, 2, 0, 2]
    assert found[0] == pytest.approx(0)  # one popular and one middling item, as in the profile
    p, q, m = (0.5, 0.5), (1.0, 0.0), (0.75, 0.25)
    jensen = sum(a * math.log2(a / c) for pair in (p, q) for a, c in zip(pair, m) if a) / 2
    assert float(found[1]) == pytest.approx(jensen)
    assert float(found[2]) == pytest.approx(1) and bool(found[4].isnan())


def test_lift_is_that_of_each_group_of_users():
    # Item 0 is popular: users 0 to 3 have it alone, user 4 has a rare item and is the niche.
    edges = ((0, 1, 2, 3, 4), (0, 0, 0, 0, 1))
    found = popularity_lift(make([[0], [0], [0], [1], [0]], edges), LABEL)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {'niche': 3.0, 'diverse': 0.0, 'blockbuster': -0.75}
    )


def test_users_without_training_items_have_no_lift():
    edges = ((0, 1), (0, 0))
    assert float(popularity_lift(make([[0], [0], [0]], edges), LABEL)['diverse']) == 0.0
