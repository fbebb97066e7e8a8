"""Every metric on lists that are worked out by hand, and against PyG where it has the metric."""

import math

import pytest
import torch
from torch_geometric.metrics import LinkPredPersonalization

from genrec_pyg.evaluation.lists import Lists
from genrec_pyg.evaluation.metrics.catalog import gini, personalization
from genrec_pyg.evaluation.metrics.diversity import diversity
from genrec_pyg.evaluation.metrics.popularity import (
    miscalibration,
    novelty,
    popularity_groups,
    popularity_lift,
)
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.graph.modality import Modality

LABEL = torch.empty(2, 0, dtype=torch.long)


def make(item, edges=((0,), (0,)), num_users=None, num_items=5, **features):
    item = torch.tensor(item)
    modalities = {name: Modality(name, torch.tensor(x), num_items) for name, x in features.items()}
    graph = TrainingGraph(num_users or item.size(0), num_items, torch.tensor(edges), modalities)
    return Lists(torch.arange(item.size(0)), item, item.size(1), graph)


def test_gini():
    assert float(gini(make([[0, 1], [2, 3]], num_items=4), LABEL)) == pytest.approx(0)
    assert float(gini(make([[0], [0], [0]]), LABEL)) == pytest.approx(1)
    # Counts 0, 1, 3: weights -1, 0, 1 over 4 places
    assert float(gini(make([[0, 1], [0, 3], [0, 3]], num_items=3), LABEL)) == pytest.approx(3 / 4)


@pytest.mark.parametrize('padding', [0, 3])
def test_personalization_is_that_of_pyg(padding):
    torch.manual_seed(0)
    item = torch.stack([torch.randperm(30)[:6] for _ in range(40)])
    theirs = LinkPredPersonalization(6, max_src_nodes=None)
    theirs.update(item, LABEL)
    padded = torch.cat([item, item.new_full((40, padding), 30)], dim=1).tolist()
    mine = personalization(make(padded, num_items=30), LABEL)
    assert float(mine) == pytest.approx(float(theirs.compute()), abs=1e-6)
    assert float(personalization(make([[1, 2], [2, 1]]), LABEL)) == pytest.approx(0)
    assert math.isnan(personalization(make([[1, 2]]), LABEL))


def test_novelty():
    edges = ((0, 1, 2, 3, 0), (0, 0, 0, 0, 1))  # all four users have item 0, one has item 1
    found = novelty(make([[0, 1], [0, 5], [4, 1], [5, 5]], edges), LABEL)
    assert found[:3].tolist() == [1.0, 0.0, 2.0] and bool(found[3].isnan())


def test_diversity_is_one_minus_the_mean_over_pairs():
    torch.manual_seed(0)
    x = torch.randn(5, 7)
    x[4] = 0  # an item without the modality
    found = diversity(make([[0, 1, 2], [3, 4, 5], [0, 4, 1]], image=x.tolist()), LABEL)['image']
    cosine = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    expected = 1 - (cosine[0, 1] + cosine[0, 2] + cosine[1, 2]) / 3
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-6)
    assert bool(found[1].isnan()) and float(found[2]) == pytest.approx(
        float(1 - cosine[0, 1]), abs=1e-6
    )
    assert diversity(make([[0, 1]]), LABEL) == {}


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
