import numpy as np
import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import choose_num_clusters, kmeans_labels


def blobs(num_clusters, size=30, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((num_clusters, 6)) * 3
    truth = np.repeat(np.arange(num_clusters), size)
    return torch.from_numpy(centres[truth] + spread * rng.standard_normal((len(truth), 6))).float(), truth


def same_partition(labels, truth):
    return len(set(zip(labels.tolist(), truth.tolist()))) == len(set(truth.tolist())) == len(set(labels.tolist()))


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


def test_automatic_choice_returns_a_grid_point_at_the_bend():
    x, _ = blobs(13, size=40, spread=0.01)
    features = (x - x.mean(dim=0)) / x.std(dim=0)
    assert choose_num_clusters(features.numpy()) == 13
    assert same_partition(kmeans_labels(x, 'auto'), _)


def test_released_choice_mixes_index_and_number():
    x, _ = blobs(13, size=40, spread=0.01)
    features = ((x - x.mean(dim=0)) / x.std(dim=0)).numpy()
    assert choose_num_clusters(features, variant='released') in range(4, 4 + 22)


def test_same_seed_same_labels():
    x, _ = blobs(7, spread=2.0)
    assert torch.equal(kmeans_labels(x, 7, seed=3), kmeans_labels(x, 7, seed=3))


@pytest.mark.parametrize('count', [0, -2, 'many', True])
def test_bad_counts_are_named(count):
    with pytest.raises(ConfigError, match='clusters: got'):
        kmeans_labels(torch.randn(5, 2), count)
