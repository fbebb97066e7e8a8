import math

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.nn.losses import bpr_loss, grouped_info_nce, squared_norm


def test_bpr_by_hand():
    user = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = bpr_loss(user, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert float(loss) == pytest.approx(0.3133, abs=1e-4)
    assert torch.autograd.grad(loss, user)[0].tolist()[0] == pytest.approx([-0.2689, 0.2689], abs=1e-4)


def test_bpr_of_equal_scores_is_log_two_and_far_scores_stay_finite():
    row = torch.ones(3, 4)
    assert float(bpr_loss(row, row, row)) == pytest.approx(math.log(2))
    user = torch.tensor([[1.0]], requires_grad=True)
    loss = bpr_loss(user, torch.tensor([[-200.0]]), torch.tensor([[200.0]]))
    assert float(loss) == pytest.approx(400.0)
    assert float(torch.autograd.grad(loss, user)[0]) == pytest.approx(400.0)


def test_squared_norm():
    assert float(squared_norm(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]))) == 14.0


@pytest.mark.parametrize('group_size,groups', [(100, 1), (6, 2), (4, 3), (1, 12)])
def test_grouped_contrast_is_the_weighted_mean_of_its_groups(group_size, groups):
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    expected = 0.0
    for a, b in zip(x.chunk(groups), y.chunk(groups)):
        logits = F.normalize(a) @ F.normalize(b).t() / 0.5
        expected = expected + F.cross_entropy(logits, torch.arange(len(a)), reduction='sum') / 12
    assert float(grouped_info_nce(x, y, 0.5, group_size)) == pytest.approx(float(expected), abs=1e-10)
