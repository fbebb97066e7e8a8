r"""Clusters of the fused features of several modalities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh, lobpcg
from torch import Tensor

from genrec_pyg.nn.cluster.sklearn_kmeans import check_count, fit_kmeans
from genrec_pyg.ops import knn_graph, unit_rows

#: Eigenvalues among which the eigengap is searched.
MAX_EIGENGAP = 20
#: Below this an eigenvalue of the Laplacian counts as zero.
ZERO = 1e-6


def spectral_labels(
    features: Tensor | Sequence[Tensor],
    num_clusters: int | str = 20,
    num_neighbors: int = 20,
    seed: int = 0,
) -> Tensor:
    r"""Cluster of every item by spectral clustering of its fused features (`GenRec-V1, ACM MM 2025
    <https://doi.org/10.1145/3746027.3755734>`_).

    The modalities' unit rows stand side by side. Affinity is the cosine to the ``num_neighbors``
    nearest rows, symmetrized by the maximum; the leading eigenvectors of its symmetric
    normalization come from Lanczos iterations, so that nothing dense of size I x I is formed,
    unlike in the released GenRec-V1. Rows of the embedding are normalized and clustered by k-means
    (Ng, Jordan, Weiss, NeurIPS 2001).

    An item that resembles no other, such as one without any modality, gets label -1. A component of
    the graph that is smaller than half a cluster of mean size, such as a clique of near duplicates,
    joins the cluster with the most similar center: each would take an eigenvector of its own, and
    the rest of the items would stay undivided.

    Args:
        features: Item features per modality, ``[I, d_m]`` each, or one fused matrix; zero rows
            where an item lacks a modality.
        num_clusters: Number of clusters or ``'eigengap'``: the number before the largest gap among
            the smallest 20 positive eigenvalues of the normalized Laplacian, see :func:`eigengap`.
        num_neighbors: Neighbors per row, the row itself not counted.
        seed: Seed of the start vector and of k-means.

    Returns:
        Labels ``[I]``, int64.

    Raises:
        ConfigError: If ``num_clusters`` is neither a positive integer nor ``'eigengap'``, or
            ``num_neighbors`` is below 1.
    """
    check_count('num_clusters', num_clusters, 'eigengap')
    features = [features] if isinstance(features, Tensor) else features
    fused = torch.cat([unit_rows(x.detach()).float() for x in features], dim=1)
    affinity = cosine_affinity(fused, num_neighbors)
    labels = torch.full((affinity.shape[0],), -1, dtype=torch.long)
    linked = affinity.getnnz(axis=1) > 0
    if not linked.any():
        return labels.to(fused.device)
    core = _large_components(
        affinity, linked, MAX_EIGENGAP if num_clusters == 'eigengap' else num_clusters
    )
    rows = torch.from_numpy(np.flatnonzero(core))
    labels[rows] = _cluster(affinity[core][:, core], num_clusters, seed)
    rest = torch.from_numpy(np.flatnonzero(linked & ~core))
    fused, device = fused.cpu(), fused.device
    centers = fused.new_zeros(int(labels.max()) + 1, fused.size(1)).index_add(
        0, labels[rows], fused[rows]
    )
    labels[rest] = (fused[rest] @ unit_rows(centers).t()).argmax(dim=1)
    return labels.to(device)


def _large_components(affinity: sp.csr_matrix, linked: np.ndarray, num_clusters: int) -> np.ndarray:
    r"""Rows of the at most ``num_clusters`` components with at least half of the mean size of a
    cluster (of the largest ones if none has it).
    """
    component = connected_components(affinity, directed=False)[1]
    size = np.bincount(component[linked], minlength=component.max() + 1)
    largest = np.argsort(-size, kind='stable')[:num_clusters]
    largest = largest[size[largest] > 0]
    large = largest[2 * num_clusters * size[largest] >= linked.sum()]
    return np.isin(component, large if large.size else largest)


def _cluster(affinity: sp.csr_matrix, num_clusters: int | str, seed: int) -> Tensor:
    num_rows = affinity.shape[0]
    if num_clusters == 'eigengap':
        num_components = connected_components(affinity, directed=False, return_labels=False)
        count = min(MAX_EIGENGAP + num_components, num_rows - 1)
        num_clusters = eigengap(laplacian_eigenpairs(affinity, count, seed)[0])
    if num_clusters >= num_rows:
        return torch.arange(num_rows)
    vectors = laplacian_eigenpairs(affinity, int(num_clusters), seed)[1]
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    return fit_kmeans(embedding, int(num_clusters), seed, num_starts=5)[0]


def cosine_affinity(x: Tensor, num_neighbors: int) -> sp.csr_matrix:
    r"""Sparse affinity ``[n, n]``: positive cosines to the nearest rows, symmetrized by the
    maximum, without diagonal.
    """
    (row, col), similarity = knn_graph(x, num_neighbors, include_self=False)
    shape = (x.size(0), x.size(0))
    matrix = sp.csr_matrix(
        (similarity.cpu().double().numpy(), (row.cpu().numpy(), col.cpu().numpy())), shape=shape
    )
    return matrix.maximum(matrix.T).tocsr()


def laplacian_eigenpairs(
    affinity: sp.csr_matrix, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    r"""Smallest ``count`` eigenvalues, ascending, and eigenvectors of the symmetric normalized
    Laplacian.

    Eigenvalue 0 occurs once per component, with eigenvector :math:`\mathbf{D}^{1/2} \mathbf{1}` on
    that component. The others are one minus the largest eigenvalues of
    :math:`\mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2}` beside these vectors, the end of the
    spectrum where Lanczos converges fast; a repeated eigenvalue, which it may miss, is thus known
    beforehand. Where Lanczos fails, LOBPCG takes over.

    Args:
        affinity: Symmetric affinity :math:`\mathbf{W}` ``[n, n]`` in which every row has an entry.
        count: Number of eigenvalues, below ``n``.
        seed: Seed of the start vectors.
    """
    num_rows = affinity.shape[0]
    degree = np.asarray(affinity.sum(axis=1)).ravel()
    num_components, component = connected_components(affinity, directed=False)
    volume = np.bincount(component, weights=degree)
    kernel = sp.csr_matrix((np.sqrt(degree / volume[component]), (np.arange(num_rows), component)))
    if count <= num_components:  # dense from here on, but with no more than count columns
        return np.zeros(count), kernel[:, :count].toarray()
    scale = sp.diags(1 / np.sqrt(degree))
    normalized = scale @ affinity @ scale

    def product(x: np.ndarray) -> np.ndarray:
        # 1 becomes -2, below all other eigenvalues
        return normalized @ x - 3 * (kernel @ (kernel.T @ x))

    operator = LinearOperator(affinity.shape, matvec=product, matmat=product, dtype=np.float64)
    count -= num_components
    rng = np.random.default_rng(seed)
    try:
        value, vector = eigsh(operator, k=count, which='LA', v0=rng.standard_normal(num_rows))
    except ArpackError:
        value, vector = lobpcg(
            operator, rng.standard_normal((num_rows, count)), largest=True, tol=1e-8, maxiter=500
        )
    order = np.argsort(-value)
    return (
        np.concatenate([np.zeros(num_components), 1 - value[order]]),
        # rows x components, fewer than count columns: more have left above
        np.concatenate([kernel.toarray(), vector[:, order]], axis=1),
    )


def eigengap(eigenvalues: np.ndarray) -> int:
    r"""Number of eigenvalues before the largest gap between two positive ones, or between zero and
    the first positive one where zero is repeated (a single zero says nothing: every graph has it).

    Args:
        eigenvalues: Smallest eigenvalues of a Laplacian, ascending. Where there is no gap, the
            answer is the number of zeros.
    """
    num_zeros = int((eigenvalues <= ZERO).sum())
    skipped = 1 if num_zeros == 1 else 0
    gaps = np.diff(np.concatenate([[0.0], eigenvalues[num_zeros:][:MAX_EIGENGAP]]))[skipped:]
    return num_zeros + skipped + int(gaps.argmax()) if gaps.size else num_zeros
