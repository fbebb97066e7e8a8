import numpy as np
import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import spectral_labels
from genrec_pyg.nn.cluster.spectral import cosine_affinity, laplacian_eigenpairs


def planted(num_clusters=4, size=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(num_clusters, 8)
    truth = torch.arange(num_clusters).repeat_interleave(size)
    return [centres[truth] + 0.05 * torch.randn(truth.numel(), 8, generator=generator) for _ in range(2)], truth


@pytest.mark.parametrize('num_clusters', [4, 'eigengap'])
def test_planted_clusters_are_found(num_clusters):
    features, truth = planted()
    labels = spectral_labels(features, num_clusters, num_neighbors=10)
    assert len(set(zip(labels.tolist(), truth.tolist()))) == 4 and labels.unique().numel() == 4


def test_affinity_is_the_symmetrised_cosine_without_diagonal():
    x = torch.randn(15, 3)
    matrix = cosine_affinity(x, 4).toarray()
    cosine = torch.nn.functional.normalize(x.double(), dim=1)
    cosine = (cosine @ cosine.t()).numpy()
    assert np.allclose(matrix, matrix.T) and not matrix.diagonal().any()
    kept = matrix > 0
    assert np.allclose(matrix[kept], cosine[kept], atol=1e-6)
    assert (kept.sum(axis=1) >= np.minimum(4, (cosine > 1e-9).sum(axis=1) - 1)).all()


def test_eigenpairs_equal_the_dense_laplacian():
    affinity = cosine_affinity(torch.randn(20, 3), 5)
    value, vector = laplacian_eigenpairs(affinity, 4)
    dense = affinity.toarray()
    scale = 1 / np.sqrt(dense.sum(axis=1))
    laplacian = np.eye(20) - scale[:, None] * dense * scale
    assert np.allclose(value, np.linalg.eigvalsh(laplacian)[:4], atol=1e-8)
    assert np.allclose(laplacian @ vector, vector * value, atol=1e-8)


def test_isolated_items_and_tiny_sets():
    features, _ = planted()
    features = [torch.cat([x, torch.zeros(3, 8)]) for x in features]
    labels = spectral_labels(features, 5, num_neighbors=10)
    assert labels.shape == (103,)
    assert spectral_labels([torch.randn(3, 2)], 20).tolist() == [0, 1, 2]


@pytest.mark.parametrize('count', [0, 'auto'])
def test_bad_counts_are_named(count):
    with pytest.raises(ConfigError, match='num_clusters: got'):
        spectral_labels([torch.randn(5, 2)], count)
