import pytest
import torch

from genrec_pyg.nn.interest.deviation import key_covariance, score_variance, unit_scores


def test_variance_is_that_of_the_scores():
    query, key = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    # scores 1, 2, 3
    assert float(score_variance(query, key_covariance(key))) == pytest.approx(2 / 3)


def test_unit_scores_of_constant_or_zero_queries():
    keys = torch.randn(20, 3)
    out = unit_scores(torch.tensor([[0.0, 0, 0], [1.0, 2, 3]]), keys)
    assert not out[0].any()
    assert float((out[1] @ keys.t()).std(correction=0)) == pytest.approx(1.0, abs=1e-5)
