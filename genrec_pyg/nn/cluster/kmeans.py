r"""Clusters of one modality's features."""
from __future__ import annotations

from typing import Optional, Union

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Grid of the automatic choice (GenRec-V1, specification section 6).
GRID = range(3, 237, 10)
#: Items above which mini-batches replace full passes.
MINI_BATCH_FROM = 20_000
#: Items that the automatic choice looks at; the inertia curve of a sample has its bend in the same place.
AUTO_SAMPLE = 4_000


def kmeans_labels(x: Tensor, num_clusters: Union[int, str], seed: int = 0, present: Optional[Tensor] = None,
                  variant: str = 'principled') -> Tensor:
    r"""Cluster of every item by k-means on standardised columns (zero mean, unit variance; constant columns zero).

    Args:
        x: Item features ``[I, d_m]``.
        num_clusters: Number of clusters (no more than distinct rows are made) or ``'auto'``, see
            :func:`choose_num_clusters`.
        seed: Seed of the initial centres.
        present: Boolean ``[I]``, which items have features; the others get label -1.
        variant: ``'principled'`` or ``'released'``, relevant to ``'auto'``.

    Returns:
        Labels ``[I]``, int64.

    Raises:
        ConfigError: If ``num_clusters`` is neither a positive integer nor ``'auto'``.
    """
    if num_clusters != 'auto' and (isinstance(num_clusters, (bool, str)) or int(num_clusters) < 1):
        raise ConfigError(f"clusters: got {num_clusters!r}, accepted are integers from 1 and 'auto'")
    labels = torch.full((x.size(0),), -1, dtype=torch.long)
    rows = torch.arange(x.size(0)) if present is None else present.cpu().nonzero().view(-1)
    if rows.numel() == 0:
        return labels.to(x.device)
    features = StandardScaler().fit_transform(x.cpu()[rows].numpy().astype(np.float32))
    if num_clusters == 'auto':
        num_clusters = choose_num_clusters(features, seed, variant)
    num_clusters = min(int(num_clusters), len(np.unique(features, axis=0)))
    labels[rows] = torch.from_numpy(_fit(features, num_clusters, seed).labels_).long()
    return labels.to(x.device)


def choose_num_clusters(features: np.ndarray, seed: int = 0, variant: str = 'principled') -> int:
    r"""Number of clusters at the sharpest bend of the inertia curve over the grid 3, 13, ..., 233.

    The principled variant returns the grid point with the largest second difference. The released GenRec-V1 takes the index
    of the smallest one plus 4, which mixes index and number (the stride of 10 is forgotten).

    Args:
        features: Standardised features ``[n, d]``.
        seed: Seed of the sample and of the initial centres.
        variant: ``'principled'`` or ``'released'``.
    """
    if len(features) > AUTO_SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(features), AUTO_SAMPLE, replace=False)
        features = features[np.sort(chosen)]
    grid = [k for k in GRID if k <= len(np.unique(features, axis=0))]
    if len(grid) < 3:
        return grid[-1] if grid else 1
    inertia = np.array([MiniBatchKMeans(k, random_state=seed, n_init=1, batch_size=1024).fit(features).inertia_ for k in grid])
    bend = np.diff(inertia, 2)
    if variant == 'released':
        return int(bend.argmin()) + 4
    return grid[int(bend.argmax()) + 1]


def _fit(features: np.ndarray, num_clusters: int, seed: int) -> Union[KMeans, MiniBatchKMeans]:
    if len(features) > MINI_BATCH_FROM:
        return MiniBatchKMeans(num_clusters, random_state=seed, n_init=3, batch_size=4096).fit(features)
    return KMeans(num_clusters, random_state=seed, n_init=3).fit(features)
