r"""Cluster prototypes of learned rows, found on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import unit_rows
from genrec_pyg.utils.precision import full_precision

#: Rows per block of distances.
_BLOCK = 8192


def fit_prototypes(
    x: Tensor,
    num_clusters: int,
    centroids: Tensor | None = None,
    spherical: bool = True,
    max_rounds: int = 25,
    tolerance: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    r"""K-means of the rows of ``x``: k-means++ seeds, then Lloyd's rounds.

    Distances are held for a block of rows at a time. An empty cluster starts again at the row
    farthest from its centroid. Seeds come from torch's global generator. (Clusters of fixed item
    features are made once, by :mod:`genrec_pyg.nn.cluster`.)

    Args:
        x: Rows ``[n, d]``.
        num_clusters: Clusters ``K``, from 1 to ``n``.
        centroids: Centroids ``[K, d]`` to start from instead of seeds.
        spherical: Whether unit rows are clustered by cosine, so that a row belongs to the nearest
            prototype in the sense of a contrastive loss; else by Euclidean distance.
        max_rounds: Most rounds.
        tolerance: Share of rows below whose change of cluster the rounds end.

    Returns:
        Centroids ``[K, d]`` (unit rows if ``spherical``) and labels ``[n]``.

    Raises:
        ConfigError: If there are fewer rows than clusters, or fewer than one cluster.
    """
    if not 1 <= num_clusters <= x.size(0):
        raise ConfigError(
            f'num_clusters: got {num_clusters}, accepted are 1 to the number of rows, {x.size(0)}'
        )
    with torch.no_grad(), full_precision(x):
        x = unit_rows(x.detach()) if spherical else x.detach()
        centroids = _seeds(x, num_clusters) if centroids is None else centroids.to(x.dtype)
        label = x.new_full((x.size(0),), -1, dtype=torch.long)
        for _ in range(max_rounds):
            found, distance = _assign(x, centroids, spherical)
            changed = (found != label).to(x.dtype).mean()
            label = found
            centroids = _means(x, label, centroids, distance, spherical)
            if float(changed) < tolerance:
                break
        return centroids, _assign(x, centroids, spherical)[0]


def _seeds(x: Tensor, num_clusters: int) -> Tensor:
    chosen = [torch.randint(x.size(0), (1,), device=x.device)]
    nearest = None
    for _ in range(num_clusters - 1):
        distance = (x - x[chosen[-1]]).square().sum(dim=1)
        nearest = distance if nearest is None else torch.minimum(nearest, distance)
        # Where all rows are taken (repeated rows) any will do.
        weight = nearest + torch.finfo(x.dtype).tiny
        share = torch.rand(1, dtype=torch.float64, device=x.device)
        total = weight.double().cumsum(0)
        chosen.append(torch.searchsorted(total, share * total[-1]).clamp(max=x.size(0) - 1))
    return x[torch.cat(chosen)]


def _assign(x: Tensor, centroids: Tensor, spherical: bool) -> tuple[Tensor, Tensor]:
    r"""Nearest centroid of every row and a distance that grows with the true one."""
    offset = 0 if spherical else centroids.square().sum(dim=1) / 2
    parts = [(offset - block @ centroids.t()).min(dim=1) for block in x.split(_BLOCK)]
    distance = torch.cat([part.values for part in parts])
    label = torch.cat([part.indices for part in parts])
    return label, distance if spherical else distance + x.square().sum(dim=1) / 2


def _means(
    x: Tensor, label: Tensor, centroids: Tensor, distance: Tensor, spherical: bool
) -> Tensor:
    total = torch.zeros_like(centroids).index_add_(0, label, x)
    count = torch.bincount(label, minlength=centroids.size(0))
    means = unit_rows(total) if spherical else total / count.clamp(min=1).unsqueeze(1)
    empty = (count == 0).nonzero().view(-1)
    means[empty] = x[distance.topk(empty.numel()).indices]
    return means
