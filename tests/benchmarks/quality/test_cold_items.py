"""The figure of lists of cold items."""

import pytest
import torch

from benchmarks.quality.cold_items import K, recall


def test_recall_counts_wanted_items_among_the_first():
    scores = torch.arange(K + 5.0).flip(0).repeat(2, 1)  # the first K are listed
    wanted = torch.zeros(2, K + 5, dtype=torch.bool)
    wanted[0, [0, K - 1, K, K + 4]] = True
    wanted[1, 3] = True
    assert recall(scores, wanted) == pytest.approx((2 / 4 + 1) / 2)
    assert recall(scores[:, :3], wanted[:, :3] | (torch.arange(3) == 1)) == 1.0
