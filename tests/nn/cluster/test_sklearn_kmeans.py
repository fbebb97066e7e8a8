import numpy as np
import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import choose_num_clusters, kmeans_labels
from genrec_pyg.nn.cluster import sklearn_kmeans as kmeans
from genrec_pyg.nn.models.multimodal.genrec_released import released_num_clusters


def blobs(num_clusters, size=30, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_clusters, 6)) * 3
    truth = np.repeat(np.arange(num_clusters), size)
    return torch.from_numpy(
        centers[truth] + spread * rng.standard_normal((len(truth), 6))
    ).float(), truth


def same_partition(labels, truth):
    return (
        len(set(zip(labels.tolist(), truth.tolist())))
        == len(set(truth.tolist()))
        == len(set(labels.tolist()))
    )


def test_planted_clusters_are_found_whatever_the_column_scale():
    x, truth = blobs(5)
    assert same_partition(kmeans_labels(x, 5), truth)
    assert same_partition(kmeans_labels(x * torch.tensor([1, 1000, 1, 1, 0.001, 1]), 5), truth)


def test_items_without_the_modality_have_no_cluster():
    x, truth = blobs(3)
    present = torch.ones(90, dtype=torch.bool)
    present[[4, 50]] = False
    x[4] = 1e6
    labels = kmeans_labels(x, 3, present=present)
    assert labels[~present].tolist() == [-1, -1]
    assert same_partition(labels[present], truth[present.numpy()])
    assert kmeans_labels(x, 3, present=torch.zeros(90, dtype=torch.bool)).unique().tolist() == [-1]


def test_constant_columns_and_more_clusters_than_rows():
    x = torch.ones(4, 3)
    x[0, 0] = 2
    assert sorted(kmeans_labels(x, 10).unique().tolist()) == [0, 1]


def standardized(x):
    return ((x - x.mean(dim=0)) / x.std(dim=0)).numpy()


def test_automatic_choice_returns_a_grid_point_at_the_bend():
    x, truth = blobs(13, size=40, spread=0.01)
    assert choose_num_clusters(standardized(x)) == 13
    assert same_partition(kmeans_labels(x, 'auto'), truth)


def test_automatic_choice_takes_the_grid_point_of_the_largest_second_difference(monkeypatch):
    """Inertia 100, 60, 30, 25, 24: second differences 10, 25, 4, so the bend is at the third point,
    23 clusters.
    """
    monkeypatch.setattr(
        kmeans,
        'fit_kmeans',
        lambda f, k, *_, **__: (None, {3: 100, 13: 60, 23: 30, 33: 25, 43: 24}[k]),
    )
    features = np.arange(50.0)[:, None]
    assert choose_num_clusters(features) == 23
    assert released_num_clusters(features) == 2 + 4  # the index of the smallest, stride forgotten


@pytest.mark.parametrize('distinct,expected', [(2, 1), (3, 3), (20, 13)])
def test_automatic_choice_without_a_bend(distinct, expected):
    features = np.repeat(np.arange(float(distinct)), 3)[:, None]
    assert choose_num_clusters(features) == expected


def test_automatic_choice_on_a_sample(monkeypatch):
    x, _ = blobs(13, size=40, spread=0.01)
    monkeypatch.setattr(kmeans, 'AUTO_SAMPLE', 300)
    assert choose_num_clusters(standardized(x)) == 13


def test_mini_batches_find_planted_clusters(monkeypatch):
    x, truth = blobs(5, size=60)
    monkeypatch.setattr(kmeans, 'MINI_BATCH_FROM', 100)
    assert same_partition(kmeans_labels(x, 5), truth)


def test_labels_do_not_depend_on_the_number_of_threads():
    x, _ = blobs(9, size=100, spread=3.0)
    labels = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        labels.append(kmeans_labels(x, 9))
        assert torch.get_num_threads() == threads
    assert torch.equal(*labels)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_other_precisions(dtype):
    x, truth = blobs(3)
    assert same_partition(kmeans_labels(x.to(dtype).requires_grad_(), 3), truth)


def test_same_seed_same_labels():
    x, _ = blobs(7, spread=2.0)
    assert torch.equal(kmeans_labels(x, 7, seed=3), kmeans_labels(x, 7, seed=3))


@pytest.mark.parametrize('count', [0, -2, 2.5, None, 'many', True])
def test_bad_counts_are_named(count):
    with pytest.raises(ConfigError, match='clusters: got'):
        kmeans_labels(torch.randn(5, 2), count)
