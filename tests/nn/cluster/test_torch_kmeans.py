import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster.torch_kmeans import fit_prototypes


@pytest.mark.parametrize('spherical', [True, False])
def test_finds_planted_clusters(spherical):
    center = torch.eye(6)[:5] * 3
    truth = torch.arange(200) % 5
    x = center[truth] + 0.1 * torch.randn(200, 6)
    centroids, label = fit_prototypes(x, 5, spherical=spherical)
    assert len({(int(a), int(b)) for a, b in zip(truth, label)}) == 5
    if spherical:
        assert torch.allclose(centroids.norm(dim=1), torch.ones(5))
    else:
        assert torch.allclose(centroids[label], center[truth], atol=0.1)


def test_spherical_and_euclidean_assignment_differ():
    x = torch.tensor([[0.1, 0.0], [0.0, 0.05], [2.0, 0.0]])
    centroids = torch.tensor([[0.0, 0.05], [2.0, 0.0]])
    assert fit_prototypes(x, 2, centroids, spherical=False)[1].tolist() == [0, 0, 1]
    assert fit_prototypes(x, 2, centroids, spherical=True)[1].tolist() == [1, 0, 1]


@pytest.mark.parametrize('num_clusters', [1, 3, 5])
def test_every_cluster_lives_and_rows_may_repeat(num_clusters):
    x = torch.cat([torch.eye(5), torch.eye(5)])
    centroids, label = fit_prototypes(x, num_clusters, torch.ones(num_clusters, 5))
    assert label.unique().numel() == num_clusters and bool(torch.isfinite(centroids).all())
    same = torch.ones(6, 3)
    assert bool(torch.isfinite(fit_prototypes(same, 4)[0]).all())


def test_one_row_and_too_many_clusters():
    assert fit_prototypes(torch.ones(1, 3), 1)[1].tolist() == [0]
    for count in (0, 2):
        with pytest.raises(ConfigError, match='num_clusters: got'):
            fit_prototypes(torch.ones(1, 3), count)


def test_seed_repeats():
    x = torch.randn(50, 4)
    torch.manual_seed(2)
    first = fit_prototypes(x, 6)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, fit_prototypes(x, 6)))
