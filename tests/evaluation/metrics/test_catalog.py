"""Metrics of all lists together, by hand and against PyG."""

import math

import pytest
import torch
from helpers.listed import LABEL, make
from torch_geometric.metrics import LinkPredPersonalization

from genrec_pyg.evaluation.metrics.catalog import gini, personalization


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
