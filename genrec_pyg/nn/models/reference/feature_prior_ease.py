r"""EASE with a prior of features on its weights."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import (
    InteractionStatistics,
    ItemKernel,
    content_features,
    content_kernel,
    feature_prior_kernel,
)
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.models.reference.ease import EASE


class FeaturePriorEASE(EASE):
    r"""EASE that is drawn to weights made from features instead of to zero (L3AE:
    `Moon, Park, Lee, CIKM 2025 <https://arxiv.org/abs/2508.13500>`_), see
    :func:`~genrec_pyg.nn.closed_form.feature_prior_kernel`.

    The features enter as EASE on features (:func:`~genrec_pyg.nn.closed_form.content_kernel`).
    Items without interactions are scored by the features alone. The matrix is dense.

    Args:
        data: Canonical graph or training graph with at least one modality.
        modalities: Modalities to use.
        l2: See :class:`EASE`, as the three after it.
        row_weight: Power of the user degree.
        ridge_power: Power of the item degree in the ridge.
        popularity_discount: Power of the item degree in the score.
        prior_strength: Strength :math:`\rho` of the prior, from 0.
        content_l2: Ridge of the features, positive.
        modality_weights: Weight of each modality up to a common factor; equal ones by default, 0
            switches one off.
        max_items: Largest number of items accepted.

    Raises:
        ConfigError: If the graph has no modality or more than ``max_items`` items, or an argument
            is outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import FeaturePriorEASE
        >>> from genrec_pyg.testing import toy_graph
        >>> FeaturePriorEASE(toy_graph(), prior_strength=5.0)
        FeaturePriorEASE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        l2: float = 50.0,
        row_weight: float = 0.0,
        ridge_power: float = 0.0,
        popularity_discount: float = 0.0,
        prior_strength: float = 50.0,
        content_l2: float = 10.0,
        modality_weights: dict[str, float] | None = None,
        max_items: int = 20_000,
    ):
        self._prior = prior_strength, content_l2, modality_weights
        super().__init__(
            data, modalities, l2, row_weight, ridge_power, popularity_discount, max_items
        )

    def _fit(self, statistics: InteractionStatistics, ridge: Tensor) -> ItemKernel:
        require_modalities(self.graph, type(self).__name__)
        if self.num_items > self.max_items:
            memory = 8 * self.num_items**2 / 2**30
            raise ConfigError(
                f'FeaturePriorEASE holds {self.num_items} x {self.num_items} numbers twice '
                f'({memory:.1f} GiB); accepted are up to max_items={self.max_items} items'
            )
        strength, content_l2, weights = self._prior
        content = content_kernel(content_features(self.graph, weights), content_l2)
        return feature_prior_kernel(statistics, ridge, content, strength)
