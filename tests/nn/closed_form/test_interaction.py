import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.closed_form import (
    InteractionStatistics,
    LowRankKernelPath,
    dense_interaction_kernel,
    interaction_kernel,
    low_rank_interaction_kernel,
)
from genrec_pyg.ops import Adjacency, leading_eigenpairs

#: Users 0 (items 0, 1), 1 (item 0), 2 (item 1).
SMALL = Adjacency.from_edge_index(torch.tensor([[0, 0, 1, 2], [0, 1, 0, 1]]), size=(3, 2))


def random_interactions(num_users=60, num_items=25, density=0.2):
    matrix = (
        torch.rand(num_users, num_items) < density * torch.linspace(0.3, 2, num_items)
    ).double()
    return matrix, Adjacency.from_edge_index(matrix.nonzero().t(), size=matrix.shape)


def plain_kernel(matrix, alpha, beta, l2):
    """The formula, as it is written."""
    degree, popularity = matrix.sum(dim=1).clamp(min=1), matrix.sum(dim=0).clamp(min=1)
    ridge = l2 * popularity ** (2 * beta) / (popularity ** (2 * beta)).mean()
    inverse = torch.linalg.inv(
        matrix.t() @ torch.diag(degree ** (-2 * alpha)) @ matrix + torch.diag(ridge)
    )
    kernel = -inverse / inverse.diagonal()
    return kernel.fill_diagonal_(0)


def test_statistics_by_hand():
    statistics = InteractionStatistics.of(SMALL, row_weight=0.5)
    assert statistics.user_weight.tolist() == [0.5, 1.0, 1.0]  # user 0 has two items: 2^(-2 * 0.5)
    assert statistics.gram().tolist() == [
        [1.5, 0.5],
        [0.5, 1.5],
    ] and statistics.gram_diagonal.tolist() == [1.5, 1.5]
    assert statistics.degree.tolist() == [2.0, 2.0]


def test_ridge_by_hand():
    interactions = Adjacency.from_edge_index(
        torch.tensor([[0, 1, 2, 3, 0], [0, 0, 0, 0, 1]]), size=(4, 2)
    )
    statistics = InteractionStatistics.of(interactions)
    assert statistics.ridge(10.0).tolist() == [10.0, 10.0]
    # 4 users and 1 user, of mean 2.5
    assert statistics.ridge(10.0, power=0.5).tolist() == [16.0, 4.0]


def test_weighted_kernel_by_hand():
    statistics = InteractionStatistics.of(SMALL, row_weight=0.5)
    # G + 0.5 I = [[2, 0.5], [0.5, 2]], whose inverse is proportional to [[2, -0.5], [-0.5, 2]].
    weight = dense_interaction_kernel(statistics, statistics.ridge(0.5)).weight
    assert torch.allclose(weight, torch.tensor([[0, 0.25], [0.25, 0]]), atol=1e-6)


@pytest.mark.parametrize('alpha', [0.0, 0.3])
@pytest.mark.parametrize('beta', [0.0, 0.15, 0.5])
def test_dense_equals_the_plain_formula(alpha, beta):
    matrix, interactions = random_interactions()
    statistics = InteractionStatistics.of(interactions, alpha)
    kernel = dense_interaction_kernel(statistics, statistics.ridge(4.0, beta))
    assert torch.allclose(kernel.weight.double(), plain_kernel(matrix, alpha, beta, 4.0), atol=1e-5)


def test_full_rank_equals_the_dense_kernel():
    matrix, interactions = random_interactions()
    statistics = InteractionStatistics.of(interactions, 0.25)
    kernel = low_rank_interaction_kernel(
        statistics, statistics.ridge(4.0, 0.15), rank=25, num_neighbors=5
    )
    assert torch.allclose(
        kernel.to_dense().double(), plain_kernel(matrix, 0.25, 0.15, 4.0), atol=1e-4
    )


def test_sparse_entries_bring_a_low_rank_nearer(demo_data):
    interactions = Adjacency.from_edge_index(split_edges(demo_data, 'train'), size=(120, 80))
    statistics = InteractionStatistics.of(interactions)
    ridge = statistics.ridge(8 * float(statistics.gram_diagonal.mean()), 0.15)
    expected = dense_interaction_kernel(statistics, ridge).weight
    distance = {}
    for num_neighbors in (0, 10, 79):
        kernel = low_rank_interaction_kernel(statistics, ridge, rank=8, num_neighbors=num_neighbors)
        found = kernel.to_dense()
        assert found.diagonal().abs().max() < 1e-6
        assert kernel.neighbors.nnz <= 80 * (num_neighbors + 1)
        distance[num_neighbors] = float((found - expected).norm() / expected.norm())
    assert distance[79] < 0.1 and distance[10] < 0.8 * distance[0]


@pytest.mark.parametrize('ridge', [0.5, 20.0])
def test_one_path_holds_the_kernels_of_all_ridges(ridge):
    _, interactions = random_interactions()
    statistics = InteractionStatistics.of(interactions, 0.25)
    shape = statistics.ridge(3.0, 0.15)
    scale = shape.rsqrt().unsqueeze(1)
    pairs = leading_eigenpairs(
        lambda y: scale * statistics.gram_product(scale * y), 25, 6, 6, shape
    )
    found = LowRankKernelPath(statistics, shape, *pairs, num_neighbors=5).kernel(ridge).to_dense()
    expected = low_rank_interaction_kernel(
        statistics, ridge * shape, rank=6, num_neighbors=5
    ).to_dense()
    assert torch.allclose(found, expected, atol=1e-4)


def test_item_limit_chooses_the_form(caplog):
    _, interactions = random_interactions()
    statistics = InteractionStatistics.of(interactions)
    assert interaction_kernel(statistics, statistics.ridge(1.0), max_items=25).weight is not None
    with caplog.at_level('INFO'):
        kernel = interaction_kernel(
            statistics, statistics.ridge(1.0), max_items=24, rank=4, num_neighbors=3
        )
    assert kernel.weight is None and kernel.query.shape == (25, 4)
    assert (
        '25 items are above max_items=24: the item-item weights are rank 4 plus 3 entries per item'
        in caplog.text
    )


def test_items_without_interactions_get_nothing():
    matrix, _ = random_interactions()
    matrix[:, [3, 24]] = 0
    interactions = Adjacency.from_edge_index(matrix.nonzero().t(), size=matrix.shape)
    statistics = InteractionStatistics.of(interactions)
    for kernel in (
        dense_interaction_kernel(statistics, statistics.ridge(3.0, 0.15)),
        low_rank_interaction_kernel(statistics, statistics.ridge(3.0, 0.15), rank=6),
    ):
        weight = kernel.to_dense()
        assert bool(torch.isfinite(weight).all())
        assert (
            float(weight[[3, 24]].abs().max()) < 1e-5
            and float(weight[:, [3, 24]].abs().max()) < 1e-5
        )


def test_singular_matrices_and_bad_ranks_are_named():
    same = torch.ones(500, 40).nonzero().t()
    statistics = InteractionStatistics.of(Adjacency.from_edge_index(same, size=(500, 40)))
    with pytest.raises(
        ConfigError,
        match='l2: got 1e-09, with which the regularized item matrix is singular in float32',
    ):
        dense_interaction_kernel(statistics, statistics.ridge(1e-9))
    with pytest.raises(ConfigError, match='rank, num_neighbors: got 0, 3'):
        low_rank_interaction_kernel(statistics, statistics.ridge(1.0), rank=0, num_neighbors=3)
