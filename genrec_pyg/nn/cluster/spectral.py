r"""Clusters of the fused features of several modalities."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigsh, lobpcg
from sklearn.cluster import KMeans
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import knn_graph

#: Eigenvalues among which the eigengap is searched.
MAX_EIGENGAP = 20
#: Below this an eigenvalue of the Laplacian counts as zero.
ZERO = 1e-6


def spectral_labels(features: Sequence[Tensor], num_clusters: Union[int, str] = 20, num_neighbors: int = 20,
                    seed: int = 0) -> Tensor:
    r"""Cluster of every item by spectral clustering of its fused features (GenRec-V1, specification section 6).

    The modalities' unit rows stand side by side. Affinity is the cosine to the ``num_neighbors`` nearest rows, symmetrised by
    the maximum; the leading eigenvectors of its symmetric normalisation come from Lanczos iterations, so that nothing dense
    of size I x I is formed, unlike in the released GenRec-V1. Rows of the embedding are normalised and clustered by k-means
    (Ng, Jordan, Weiss, NeurIPS 2001).

    Args:
        features: Item features per modality, ``[I, d_m]`` each; zero rows where an item lacks a modality.
        num_clusters: Number of clusters or ``'eigengap'``: the largest gap among the smallest 20 positive eigenvalues of the
            normalised Laplacian.
        num_neighbors: Neighbours per row, the row itself not counted.
        seed: Seed of the start vector and of k-means.

    Returns:
        Labels ``[I]``, int64.

    Raises:
        ConfigError: If ``num_clusters`` is neither a positive integer nor ``'eigengap'``.
    """
    if num_clusters != 'eigengap' and (isinstance(num_clusters, (bool, str)) or int(num_clusters) < 1):
        raise ConfigError(f"num_clusters: got {num_clusters!r}, accepted are integers from 1 and 'eigengap'")
    fused = torch.cat([F.normalize(x.float(), dim=1) for x in features], dim=1)
    affinity = cosine_affinity(fused, num_neighbors)
    num_items = affinity.shape[0]
    if num_clusters == 'eigengap':
        num_components = connected_components(affinity, directed=False)[0]
        eigenvalues = laplacian_eigenpairs(affinity, min(MAX_EIGENGAP + num_components, num_items - 1), seed)[0]
        positive = np.concatenate([[0.0], eigenvalues[eigenvalues > ZERO][:MAX_EIGENGAP]])
        # Components give zero eigenvalues; each gap after them adds the eigenvectors before it.
        num_clusters = num_components + int(np.diff(positive).argmax())
    num_clusters = min(int(num_clusters), num_items)
    if num_clusters >= num_items - 1:
        return torch.arange(num_items, device=fused.device) % num_clusters
    _, vectors = laplacian_eigenpairs(affinity, num_clusters, seed)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    labels = KMeans(num_clusters, random_state=seed, n_init=5).fit(embedding).labels_
    return torch.from_numpy(labels).long().to(fused.device)


def cosine_affinity(x: Tensor, num_neighbors: int) -> sp.csr_matrix:
    r"""Sparse affinity ``[n, n]``: cosines to the nearest rows, symmetrised by the maximum, without diagonal."""
    (row, col), similarity = knn_graph(x, num_neighbors, include_self=False)
    shape = (x.size(0), x.size(0))
    matrix = sp.csr_matrix((similarity.cpu().double().numpy(), (row.cpu().numpy(), col.cpu().numpy())), shape=shape)
    return matrix.maximum(matrix.T).tocsr()


def laplacian_eigenpairs(affinity: sp.csr_matrix, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    r"""Smallest ``count`` eigenvalues, ascending, and eigenvectors of the symmetric normalised Laplacian.

    They are one minus the largest eigenvalues of :math:`\mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2}`, the end of the
    spectrum where Lanczos converges fast. An isolated node counts as a component of its own. Where Lanczos fails, LOBPCG
    takes over.
    """
    degree = np.asarray(affinity.sum(axis=1)).ravel()
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    normalised = sp.diags(scale) @ affinity @ sp.diags(scale) + sp.diags((degree == 0).astype(float))
    rng = np.random.default_rng(seed)
    try:
        value, vector = eigsh(normalised, k=count, which='LA', v0=rng.standard_normal(len(degree)))
    except ArpackError:
        value, vector = lobpcg(normalised, rng.standard_normal((len(degree), count)), largest=True, tol=1e-8, maxiter=500)
    order = np.argsort(-value)
    return 1 - value[order], vector[:, order]
