import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.bootstrap import Predictor
from genrec_pyg.nn.losses import cosine_distance


def test_online_side_is_linear_and_the_target_has_no_gradient():
    predictor = Predictor(3, dropout=0.0)
    x = torch.randn(5, 3, requires_grad=True)
    assert torch.allclose(predictor(x), x @ predictor.linear.weight.t() + predictor.linear.bias)
    target = predictor.target(x)
    assert torch.equal(target, x) and not target.requires_grad


def test_dropout_of_the_target_acts_in_training_alone():
    predictor, x = Predictor(4, dropout=0.25), torch.ones(1000, 4)
    target = predictor.target(x)
    assert target.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((target == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(predictor.eval().target(x), x)


def test_without_dropout_the_identity_meets_its_own_target():
    predictor, x = Predictor(3, dropout=0.0), torch.randn(5, 3)
    with torch.no_grad():
        predictor.linear.weight.copy_(torch.eye(3))
        predictor.linear.bias.zero_()
    assert cosine_distance(predictor(x), predictor.target(x)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize('dropout', [-0.1, 1.0])
def test_bad_dropout_is_named(dropout):
    with pytest.raises(ConfigError, match='dropout: got'):
        Predictor(3, dropout)
