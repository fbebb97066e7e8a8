r"""Clusters of one modality's features."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Grid of the automatic choice (GenRec-V1, https://doi.org/10.1145/3746027.3755734).
GRID = range(3, 237, 10)
#: Items above which mini-batches replace full passes.
MINI_BATCH_FROM = 20_000
#: Items that the automatic choice looks at; the inertia curve of a sample has its bend in the same
#: place.
AUTO_SAMPLE = 4_000

#: From standardized features ``[n, d]`` and a seed to a number of clusters.
ChooseCount = Callable[[np.ndarray, int], int]


def kmeans_labels(
    x: Tensor,
    num_clusters: int | str,
    seed: int = 0,
    present: Tensor | None = None,
    choose: ChooseCount | None = None,
) -> Tensor:
    r"""Cluster of every item by k-means on standardized columns (zero mean, unit variance; constant
    columns zero).

    Above :data:`MINI_BATCH_FROM` items mini-batches replace full passes.

    Args:
        x: Item features ``[I, d_m]``.
        num_clusters: Number of clusters (no more than distinct rows are made) or ``'auto'``, see
            :func:`choose_num_clusters`.
        seed: Seed of the initial centers.
        present: Boolean ``[I]``, which items have features; the others get label -1.
        choose: Chooses the number for ``'auto'``, by default :func:`choose_num_clusters`.

    Returns:
        Labels ``[I]``, int64.

    Raises:
        ConfigError: If ``num_clusters`` is neither a positive integer nor ``'auto'``.
    """
    check_count('clusters', num_clusters, 'auto')
    labels = torch.full((x.size(0),), -1, dtype=torch.long)
    rows = torch.arange(x.size(0)) if present is None else present.cpu().nonzero().view(-1)
    if rows.numel() == 0:
        return labels.to(x.device)
    features = StandardScaler().fit_transform(x.detach().float().cpu()[rows].numpy())
    if num_clusters == 'auto':
        num_clusters = (choose or choose_num_clusters)(features, seed)
    num_clusters = min(int(num_clusters), len(np.unique(features, axis=0)))
    labels[rows] = fit_kmeans(features, num_clusters, seed)[0]
    return labels.to(x.device)


def choose_num_clusters(features: np.ndarray, seed: int = 0) -> int:
    r"""Number of clusters at the sharpest bend of the inertia curve over the grid 3, 13, ..., 233:
    the grid point with the largest second difference.

    The grid ends at the number of distinct rows; where fewer than three points are left there is no
    bend, and its last point (or 1) is returned.

    Args:
        features: Standardized features ``[n, d]``; above :data:`AUTO_SAMPLE` rows, a sample of them
            is used.
        seed: Seed of the sample and of the initial centers.
    """
    grid, bend, _ = inertia_bends(features, seed)
    if bend is None:
        return grid[-1] if grid else 1
    return grid[int(bend.argmax()) + 1]


def inertia_bends(features: np.ndarray, seed: int = 0) -> tuple[list[int], np.ndarray | None, int]:
    r"""Grid of numbers of clusters, second differences of the inertia over it (:obj:`None` for
    fewer than three points), and the number of distinct rows; arguments as in
    :func:`choose_num_clusters`.
    """
    if len(features) > AUTO_SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(features), AUTO_SAMPLE, replace=False)
        features = features[np.sort(chosen)]
    num_distinct = len(np.unique(features, axis=0))
    grid = [k for k in GRID if k <= num_distinct]
    if len(grid) < 3:
        return grid, None, num_distinct
    return (
        grid,
        np.diff([fit_kmeans(features, k, seed, num_starts=1)[1] for k in grid], 2),
        num_distinct,
    )


def fit_kmeans(
    features: np.ndarray, num_clusters: int, seed: int = 0, num_starts: int = 3
) -> tuple[Tensor, float]:
    r"""Labels ``[n]`` (int64) and inertia of k-means.

    It runs on one thread: sums over items then have one order, so that labels repeat whatever the
    number of cores.

    Args:
        features: Features ``[n, d]``.
        num_clusters: Number of clusters.
        seed: Seed of the initial centers.
        num_starts: Initializations, of which the best is kept.
    """
    if len(features) > MINI_BATCH_FROM:
        estimator = MiniBatchKMeans(
            num_clusters, random_state=seed, n_init=num_starts, batch_size=4096
        )
    else:
        estimator = KMeans(num_clusters, random_state=seed, n_init=num_starts)
    with threadpool_limits(limits=1):
        estimator.fit(features)
    return torch.from_numpy(estimator.labels_).long(), float(estimator.inertia_)


def check_count(name: str, value: object, automatic: str) -> None:
    r"""Checks that ``value`` is a positive integer or the word ``automatic``.

    Raises:
        ConfigError: If it is not; the message names the option ``name``.
    """
    is_count = isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
    if not is_count and value != automatic:
        raise ConfigError(f'{name}: got {value!r}, accepted are integers from 1 and {automatic!r}')
