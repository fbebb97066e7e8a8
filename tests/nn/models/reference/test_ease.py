import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import EASE


def test_weights_by_hand():
    model = EASE(TrainingGraph(3, 2, torch.tensor([[0, 0, 1, 2], [0, 1, 0, 1]])), l2=1.0)
    assert torch.allclose(model.weight, torch.tensor([[0, 1 / 3], [1 / 3, 0]]), atol=1e-6)
    assert torch.allclose(
        model.score(torch.tensor([1, 0])), torch.tensor([[0, 1 / 3], [1 / 3, 1 / 3]]), atol=1e-6
    )


def test_solves_the_constrained_regression():
    matrix = (torch.rand(40, 9, generator=torch.Generator().manual_seed(1)) < 0.3).double()
    model = EASE(TrainingGraph(40, 9, matrix.nonzero().t().contiguous()), l2=3.0)
    weight = model.weight.double().requires_grad_()
    loss = (matrix - matrix @ weight).square().sum() + 3.0 * weight.square().sum()
    gradient = torch.autograd.grad(loss, weight)[0]
    assert float((gradient - torch.diag(gradient.diagonal())).abs().max()) < 1e-3
    assert not model.weight.diagonal().any()


def test_a_ridge_that_is_not_positive_is_named():
    with pytest.raises(ConfigError, match='l2: got 0'):
        EASE(TrainingGraph(1, 50, torch.tensor([[0], [0]])), l2=0.0)


def test_matrix_stays_out_of_checkpoints():
    model = EASE(TrainingGraph(2, 3, torch.tensor([[0, 1], [0, 2]])))
    assert 'weight' not in model.state_dict()


def test_popular_items_are_discounted_by_hand():
    # Item 0 has two users, item 1 has three.
    graph = TrainingGraph(4, 2, torch.tensor([[0, 0, 1, 2, 3], [0, 1, 0, 1, 1]]))
    plain, discounted = EASE(graph, l2=1.0), EASE(graph, l2=1.0, popularity_discount=0.5)
    factor = torch.tensor([2.0, 3.0]).pow(-0.5)
    assert torch.allclose(discounted.score(torch.arange(4)), plain.score(torch.arange(4)) * factor)
    plain.popularity_discount = 0.5  # no other fit
    assert torch.equal(discounted.score(torch.arange(4)), plain.score(torch.arange(4)))


def test_many_items_are_held_as_low_rank_plus_sparse(demo_data):
    model, dense = EASE(demo_data, max_items=79, rank=16, l2=200.0), EASE(demo_data, l2=200.0)
    assert model.weight is None and model.kernel.query.shape == (80, 16)
    found, expected = model.score(torch.arange(120)), dense.score(torch.arange(120))
    assert float((found - expected).norm() / expected.norm()) < 0.2
