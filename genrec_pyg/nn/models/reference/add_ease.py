r"""EASE on interactions plus EASE on features."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import HistoryTerm, content_features, content_kernel
from genrec_pyg.nn.modality.features import require_modalities
from genrec_pyg.nn.models.reference.ease import EASE


class AddEASE(EASE):
    r"""Add-EASE
    (`Jeunen, Van Balen, Goethals, RecSys 2020 <https://doi.org/10.1145/3383313.3418480>`_).

    .. math::
        \mathrm{score}_{uj} = d_j^{-q} \, (\mathbf{R} \mathbf{B})_{uj}
        + w \, (\mathbf{R} \mathbf{C})_{uj}

    with :math:`\mathbf{B}` of :class:`EASE` and :math:`\mathbf{C}` the same solution on features in
    place of users (:func:`~genrec_pyg.nn.closed_form.content_kernel`). Items without interactions
    are scored by :math:`\mathbf{C}` alone.

    Args:
        data: Canonical graph or training graph with at least one modality.
        modalities: Modalities to use.
        l2: See :class:`EASE`, as the three after it.
        row_weight: Power of the user degree.
        ridge_power: Power of the item degree in the ridge.
        popularity_discount: Power of the item degree in the score of the interactions.
        content_weight: Weight :math:`w` of the features.
        content_l2: Ridge of the features, positive.
        modality_weights: Weight of each modality up to a common factor; equal ones by default, 0
            switches one off.
        max_items: Largest number of items with a dense matrix.
        rank: Rank of the factors above it.
        num_neighbors: Sparse entries per item above it.

    Raises:
        ConfigError: If the graph has no modality or an argument is outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import AddEASE
        >>> from genrec_pyg.testing import toy_graph
        >>> AddEASE(toy_graph(), l2=10.0, content_weight=0.2)
        AddEASE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        l2: float = 50.0,
        row_weight: float = 0.0,
        ridge_power: float = 0.0,
        popularity_discount: float = 0.0,
        content_weight: float = 0.5,
        content_l2: float = 10.0,
        modality_weights: dict[str, float] | None = None,
        max_items: int = 20_000,
        rank: int = 256,
        num_neighbors: int = 20,
    ):
        super().__init__(
            data,
            modalities,
            l2,
            row_weight,
            ridge_power,
            popularity_discount,
            max_items,
            rank,
            num_neighbors,
        )
        require_modalities(self.graph, type(self).__name__)
        self.content_weight = content_weight
        self.fit_content(content_l2, modality_weights)

    def fit_content(
        self, content_l2: float, modality_weights: dict[str, float] | None = None
    ) -> None:
        r"""Refits the features, with the interactions as they are; arguments as in the
        constructor.
        """
        self.content = content_kernel(content_features(self.graph, modality_weights), content_l2)

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The kernel of the interactions and that of the features."""
        return (
            *super().history_terms(),
            HistoryTerm(self.content, weight=self.content_weight, path='content'),
        )
