import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import EASE


def test_weights_by_hand():
    model = EASE(TrainingGraph(3, 2, torch.tensor([[0, 0, 1, 2], [0, 1, 0, 1]])), l2=1.0)
    assert torch.allclose(model.weight, torch.tensor([[0, 1 / 3], [1 / 3, 0]]), atol=1e-6)
    assert torch.allclose(model.score(torch.tensor([1, 0])), torch.tensor([[0, 1 / 3], [1 / 3, 1 / 3]]), atol=1e-6)


def test_solves_the_constrained_regression():
    matrix = (torch.rand(40, 9, generator=torch.Generator().manual_seed(1)) < 0.3).double()
    model = EASE(TrainingGraph(40, 9, matrix.nonzero().t().contiguous()), l2=3.0)
    weight = model.weight.double().requires_grad_()
    loss = (matrix - matrix @ weight).square().sum() + 3.0 * weight.square().sum()
    gradient = torch.autograd.grad(loss, weight)[0]
    assert float((gradient - torch.diag(gradient.diagonal())).abs().max()) < 1e-3
    assert not model.weight.diagonal().any()


def test_refuses_what_it_cannot_hold():
    graph = TrainingGraph(1, 50, torch.tensor([[0], [0]]))
    with pytest.raises(ConfigError, match='50 x 50 numbers twice .* accepted are up to max_items=40'):
        EASE(graph, max_items=40)
    with pytest.raises(ConfigError, match='l2: got 0'):
        EASE(graph, l2=0.0)


def test_matrix_stays_out_of_checkpoints():
    model = EASE(TrainingGraph(2, 3, torch.tensor([[0, 1], [0, 2]])))
    assert 'weight' not in model.state_dict()
