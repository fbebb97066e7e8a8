r"""Maps of the items of a modality: nearby items look or sound alike, colors are clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.cluster import interest_labels
from genrec_pyg.nn.models import Recommender

#: Most items of a map; those of the shown users come first.
MAX_ITEMS = 1500
#: Principal components that a map is made from.
_COMPONENTS = 50


def cluster_labels(models: Sequence[Recommender], graph: TrainingGraph) -> dict[str, Tensor]:
    r"""Clusters by which a model debiases generated interests, or k-means as it would find them."""
    for model in models:
        debias = getattr(getattr(model, 'generator', None), 'debias', None)
        if debias is not None:
            return {name: label.cpu() for name, label in debias.labels.items()}
    return interest_labels(graph.modalities)


def item_maps(
    graph: TrainingGraph, labels: Mapping[str, Tensor], shown: Tensor
) -> list[dict[str, Any]]:
    r"""A map per modality.

    Args:
        graph: Training graph with all modalities.
        labels: Cluster of every item ``[I]`` by modality, or of the fused features under any name.
        shown: Items that the page speaks of ``[n]``, which a map has in any case.

    Returns:
        Per modality ``name``, ``clusters`` (how many) and ``points``: item, x and y in [0, 1],
        cluster (-1 for none).
    """
    fused = next(iter(labels.values())) if labels else torch.empty(0)
    maps = []
    for name, modality in graph.modalities.items():
        label = labels.get(name, fused)
        present = modality.present().nonzero().view(-1)
        if present.numel() < 3 or label.numel() != graph.num_items:
            continue
        first = present[torch.isin(present, shown)]
        rest = present[~torch.isin(present, shown)]
        order = torch.randperm(rest.numel(), generator=torch.Generator().manual_seed(0))
        item = torch.cat([first, rest[order[: max(0, MAX_ITEMS - first.numel())]]])
        place = _project(modality.item_features()[item].double().numpy())
        points = [
            [int(i), round(float(x), 4), round(float(y), 4), int(label[i])]
            for i, (x, y) in zip(item.tolist(), place)
        ]
        maps.append({'name': name, 'clusters': int(label.max()) + 1, 'points': points})
    return maps


def _project(x: np.ndarray) -> np.ndarray:
    r"""Places in the unit square ``[n, 2]``, by t-SNE of the principal components
    (`van der Maaten and Hinton, JMLR 2008 <https://jmlr.org/papers/v9/vandermaaten08a.html>`_).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    components = min(_COMPONENTS, *x.shape)
    x = PCA(components, random_state=0).fit_transform(x)
    if len(x) >= 10 and components >= 2:
        perplexity = min(30.0, (len(x) - 1) / 3)
        x = TSNE(init='pca', perplexity=perplexity, max_iter=500, random_state=0).fit_transform(x)
    place = np.zeros((len(x), 2))
    place[:, : min(2, x.shape[1])] = x[:, :2]
    span = np.ptp(place, axis=0)
    return (place - place.min(axis=0)) / np.where(span > 0, span, 1.0)
