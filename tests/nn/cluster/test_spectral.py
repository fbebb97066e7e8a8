import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import spectral, spectral_labels
from genrec_pyg.nn.cluster.spectral import cosine_affinity, eigengap, laplacian_eigenpairs


def planted(num_clusters=4, size=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.eye(num_clusters, 8)
    truth = torch.arange(num_clusters).repeat_interleave(size)
    return [
        centers[truth] + 0.05 * torch.randn(truth.numel(), 8, generator=generator) for _ in range(2)
    ], truth


@pytest.mark.parametrize('num_clusters', [4, 'eigengap'])
def test_planted_clusters_are_found(num_clusters):
    features, truth = planted()
    labels = spectral_labels(features, num_clusters, num_neighbors=10)
    assert len(set(zip(labels.tolist(), truth.tolist()))) == 4 and labels.unique().numel() == 4


def test_affinity_is_the_symmetrized_cosine_without_diagonal():
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


def test_eigenpairs_of_a_graph_in_components_equal_the_dense_ones():
    """Every eigenvalue 0 is found, however often it occurs, and the vectors are orthonormal."""
    parts = [cosine_affinity(torch.rand(n, 3), 4) for n in (7, 9, 6, 12, 8)]
    affinity = sp.block_diag(parts, format='csr')
    dense = affinity.toarray()
    scale = 1 / np.sqrt(dense.sum(axis=1))
    laplacian = np.eye(42) - scale[:, None] * dense * scale
    for count in (3, 5, 9):
        value, vector = laplacian_eigenpairs(affinity, count)
        assert np.allclose(value, np.linalg.eigvalsh(laplacian)[:count], atol=1e-8)
        assert np.allclose(laplacian @ vector, vector * value, atol=1e-8)
        assert np.allclose(vector.T @ vector, np.eye(count), atol=1e-8)


def test_eigenpairs_of_a_complete_graph():
    """All positive eigenvalues are n / (n - 1); the known vector of 0 is not found again."""
    value, vector = laplacian_eigenpairs(sp.csr_matrix(np.ones((6, 6)) - np.eye(6)), 4)
    assert np.allclose(value, [0, 1.2, 1.2, 1.2]) and np.allclose(
        vector.T @ vector, np.eye(4), atol=1e-8
    )


def test_lobpcg_takes_over_where_lanczos_fails(monkeypatch):
    affinity = cosine_affinity(torch.randn(60, 4), 6)
    expected = laplacian_eigenpairs(affinity, 4)[0]

    def fail(*_, **__):
        raise ArpackNoConvergence('no convergence', np.zeros(0), np.zeros((60, 0)))

    monkeypatch.setattr(spectral, 'eigsh', fail)
    value, vector = laplacian_eigenpairs(affinity, 4)
    assert np.allclose(value, expected, atol=1e-6) and vector.shape == (60, 4)


def test_eigengap_by_hand():
    assert eigengap(np.array([0, 0.1, 0.12, 0.5, 0.55])) == 3  # before 0.5
    assert eigengap(np.array([0, 0.5, 0.55, 0.7])) == 3  # a single zero says nothing
    assert eigengap(np.array([0, 1e-9, 0.5, 0.55, 0.7])) == 2  # two components do
    assert eigengap(np.array([0, 0.9])) == 1 and eigengap(np.array([0, 0, 0.0])) == 3
    few = np.concatenate([[0, 0.1, 0.3], np.linspace(0.31, 0.4, 18), [1.0]])
    assert eigengap(few) == 2  # only 20 positive ones are looked at


def test_items_that_resemble_nothing_have_no_cluster():
    features, truth = planted()
    features = [torch.cat([x, torch.zeros(3, 8)]) for x in features]
    labels = spectral_labels(features, 4, num_neighbors=10)
    assert labels[-3:].tolist() == [-1] * 3
    assert len(set(zip(labels[:-3].tolist(), truth.tolist()))) == 4
    assert spectral_labels(torch.zeros(4, 2), 2).tolist() == [-1] * 4


def test_small_cliques_do_not_take_the_clusters_of_the_rest():
    """Three planted clusters that touch, and ten cliques of duplicates: the large clusters are
    found all the same.
    """
    generator = torch.Generator().manual_seed(0)
    centers = torch.eye(3) + 0.4
    truth = torch.arange(3).repeat_interleave(80)
    large = centers[truth] + 0.25 * torch.randn(240, 3, generator=generator)
    cliques = torch.eye(10).repeat_interleave(12, dim=0)
    features = torch.block_diag(large, cliques)
    assert connected_components(cosine_affinity(features, 10), return_labels=False) == 11
    labels = spectral_labels(features, 3, num_neighbors=10)
    purity = sum(int(torch.bincount(labels[:240][truth == c]).max()) for c in range(3)) / 240
    assert purity > 0.9 and labels[:240].unique().numel() == 3
    assert labels.min() == 0 and all(
        labels[240 + 12 * c : 252 + 12 * c].unique().numel() == 1 for c in range(10)
    )


def test_a_small_component_joins_the_most_similar_cluster():
    angle = torch.tensor([0.0] * 40 + [1.2] * 40) + 0.005 * torch.arange(80).remainder(40)
    near = torch.tensor([0.35] * 3)  # three duplicates, nearest to the first
    x = torch.stack([torch.cat([angle, near]).cos(), torch.cat([angle, near]).sin()], dim=1)
    labels = spectral_labels(x, 2, num_neighbors=2)
    assert labels[80:].tolist() == [int(labels[0])] * 3 and labels[0] != labels[79]


def test_nothing_but_small_components():
    labels = spectral_labels(torch.eye(30).repeat_interleave(2, dim=0), 4)
    assert labels.unique().tolist() == [0, 1, 2, 3] and torch.equal(labels[::2], labels[1::2])


def test_one_matrix_is_a_fused_matrix():
    (first, second), _ = planted()
    assert torch.equal(spectral_labels(first, 4), spectral_labels([first], 4))


@pytest.mark.parametrize(
    'num_items,num_clusters,expected',
    [(0, 3, []), (1, 3, [-1]), (3, 20, [0, 1, 2]), (2, 'eigengap', [0, 0])],
)
def test_tiny_sets(num_items, num_clusters, expected):
    assert spectral_labels([torch.rand(num_items, 2) + 1], num_clusters).tolist() == expected


@pytest.mark.parametrize('num_clusters', [1, 3, 4, 'eigengap'])
def test_few_items(num_clusters):
    labels = spectral_labels([torch.rand(5, 3) + 0.1], num_clusters)
    assert labels.min() >= 0 and labels.max() < 5


@pytest.mark.parametrize('count', [0, 'auto'])
def test_bad_counts_are_named(count):
    with pytest.raises(ConfigError, match='num_clusters: got'):
        spectral_labels([torch.randn(5, 2)], count)
