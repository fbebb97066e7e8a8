import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.closed_form import (
    InteractionStatistics,
    content_features,
    content_kernel,
    dense_interaction_kernel,
    feature_prior_kernel,
)
from genrec_pyg.ops import Adjacency


def plain_content(x, l2):
    """EASE on features, by the inverse of items x items."""
    inverse = torch.linalg.inv(x @ x.t() + l2 * torch.eye(x.size(0), dtype=x.dtype))
    return (-inverse / inverse.diagonal()).fill_diagonal_(0)


@pytest.mark.parametrize('width', [3, 30])
def test_kernel_equals_the_formula_and_ease_on_features(width):
    x = torch.randn(12, width, dtype=torch.float64)
    features = x.t()
    inner = torch.linalg.inv(features @ features.t() + 2.0 * torch.eye(width, dtype=x.dtype))
    projection = features.t() @ inner @ features
    expected = (projection / (1 - projection.diagonal())).fill_diagonal_(0)
    found = content_kernel(x.float(), 2.0)
    assert torch.allclose(found.to_dense().double(), expected, atol=1e-4)
    assert torch.allclose(expected, plain_content(x, 2.0), atol=1e-8)
    assert found.query.shape == (12, width) and found.weight is None and found.neighbors.nnz <= 12


def test_kernel_by_hand():
    # One feature of value 1 for both items: K = 1 / (2 + 2), C_01 = (1/4) / (3/4).
    weight = content_kernel(torch.ones(2, 1), 2.0).to_dense()
    assert torch.allclose(weight, torch.tensor([[0, 1 / 3], [1 / 3, 0]]), atol=1e-6)


def test_items_without_features_have_no_weights():
    x = torch.randn(6, 3)
    x[2] = 0
    weight = content_kernel(x, 1.0).to_dense()
    assert not weight[2].any() and not weight[:, 2].any()
    with pytest.raises(ConfigError, match='content_l2: got 0'):
        content_kernel(x, 0.0)


def test_features_are_weighted_cosines():
    x, y = torch.randn(7, 4), torch.randn(7, 3)
    graph = TrainingGraph(
        1,
        7,
        torch.tensor([[0], [0]]),
        {'image': Modality('image', x, 7), 'text': Modality('text', y, 7)},
    )
    found = content_features(graph, {'image': 3.0, 'text': 1.0})
    cosine = [
        torch.nn.functional.cosine_similarity(z.unsqueeze(1), z.unsqueeze(0), dim=2)
        for z in (x - x.mean(dim=0), y - y.mean(dim=0))
    ]
    assert torch.allclose(found @ found.t(), 0.75 * cosine[0] + 0.25 * cosine[1], atol=1e-5)
    assert content_features(graph, {'image': 0.0, 'text': 1.0}).shape == (7, 3)
    with pytest.raises(ConfigError, match='modality_weights: got'):
        content_features(graph, {'image': 0.0, 'text': 0.0})


def test_constant_features_say_nothing():
    graph = TrainingGraph(
        1, 9, torch.tensor([[0], [0]]), {'image': Modality('image', torch.full((9, 5), 0.1), 9)}
    )
    assert not content_features(graph).any()


@pytest.mark.parametrize('strength', [0.0, 0.7, 20.0])
def test_feature_prior_minimizes_its_objective(strength):
    """Newton's method on the free entries: the objective is quadratic, so that one step from
    anywhere is the minimum.
    """
    num_items = 6
    matrix = (torch.rand(30, num_items) < 0.4).double()
    content = content_kernel(torch.randn(num_items, 3), 1.5)
    prior = content.to_dense().double()
    statistics = InteractionStatistics.of(
        Adjacency.from_edge_index(matrix.nonzero().t(), size=matrix.shape), 0.25
    )
    ridge = statistics.ridge(2.0, 0.3)
    rows = matrix * matrix.sum(dim=1, keepdim=True).clamp(min=1) ** -0.25
    free = ~torch.eye(num_items, dtype=torch.bool)

    def objective(entries):
        weight = torch.zeros(num_items, num_items, dtype=torch.float64).index_put((free,), entries)
        return (
            (rows - rows @ weight).square().sum()
            + (ridge.double().unsqueeze(1) * weight.square()).sum()
            + strength * (weight - prior).square().sum()
        )

    start = torch.randn(num_items * (num_items - 1), dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(objective, start)
    gradient = torch.autograd.functional.jacobian(objective, start)
    best = start - torch.linalg.solve(hessian, gradient)
    found = feature_prior_kernel(statistics, ridge, content, strength).weight
    assert torch.allclose(found[free].double(), best, atol=1e-5) and not found.diagonal().any()


def test_a_weak_prior_is_ease_and_a_strong_one_is_the_content():
    matrix = (torch.rand(30, 6) < 0.4).double()
    statistics = InteractionStatistics.of(
        Adjacency.from_edge_index(matrix.nonzero().t(), size=matrix.shape)
    )
    ridge, content = statistics.ridge(2.0), content_kernel(torch.randn(6, 3), 1.5)
    assert torch.allclose(
        feature_prior_kernel(statistics, ridge, content, 0.0).weight,
        dense_interaction_kernel(statistics, ridge).weight,
        atol=1e-5,
    )
    assert torch.allclose(
        feature_prior_kernel(statistics, ridge, content, 1e5).weight, content.to_dense(), atol=1e-2
    )
    with pytest.raises(ConfigError, match='prior_strength: got -1'):
        feature_prior_kernel(statistics, ridge, content, -1.0)
