r"""Interest clusters of a graph's items, chosen by one option."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from genrec_pyg.graph import Modality
from genrec_pyg.nn.cluster.sklearn_kmeans import ChooseCount, choose_num_clusters, kmeans_labels
from genrec_pyg.nn.cluster.spectral import spectral_labels

#: Default number of clusters (GenRec-V1, https://doi.org/10.1145/3746027.3755734).
DEFAULT_CLUSTERS = 20
#: Name of the clusters of all modalities together.
FUSED = 'fused'

Clusters = int | str | Mapping[str, int | str]


def interest_labels(
    modalities: Mapping[str, Modality],
    clusters: Clusters = DEFAULT_CLUSTERS,
    seed: int = 0,
    choose: ChooseCount = choose_num_clusters,
) -> dict[str, Tensor]:
    r"""Clusters of all items, per modality or of the fused features, as :class:`InterestDebias`
    takes them.

    Args:
        modalities: Modalities of the training graph.
        clusters: ``'spectral'`` for 20 and ``'eigengap'`` for automatically many clusters of the
            fused features; otherwise k-means per modality with a number for all, ``'auto'``, or a
            mapping from modality to either (20 where it has no entry; entries of absent modalities
            are ignored, so that one mapping serves any subset).
        seed: Seed of all clusterings.
        choose: Chooses a number of clusters for ``'auto'``.

    Returns:
        Name to labels ``[I]``, int64, -1 for items without the modality; empty without modalities.

    Raises:
        ConfigError: On a value outside these.
    """
    if not modalities:
        return {}
    if clusters in ('spectral', 'eigengap'):
        features = [modality.item_features() for modality in modalities.values()]
        return {
            FUSED: spectral_labels(
                features, DEFAULT_CLUSTERS if clusters == 'spectral' else clusters, seed=seed
            )
        }
    labels = {}
    for name, modality in modalities.items():
        count = clusters.get(name, DEFAULT_CLUSTERS) if isinstance(clusters, Mapping) else clusters
        labels[name] = kmeans_labels(
            modality.item_features(), count, seed, modality.present(), choose
        )
    return labels
