r"""Terms that tie what a denoiser predicts to the modalities of the items."""

from __future__ import annotations

from torch import Tensor

from genrec_pyg.nn.diffusion.states import ItemViews, SparseRows, row_product
from genrec_pyg.ops import info_nce


def modality_contrast(
    profile: Tensor, rows: SparseRows, views: ItemViews, temperature: float = 0.2
) -> Tensor:
    r"""Modality-aware contrastive term:
    :math:`\sum_m \mathrm{InfoNCE}(\mathbf{x}_0 \mathbf{V}_m, \hat{\mathbf{x}}_0 \mathbf{V}_m)` with
    :math:`\hat{\mathbf{x}}_0` the prediction itself, so that its gradient reaches the denoiser.

    InfoNCE normalizes rows, so the prediction may be given up to a factor per row: probabilities of
    binary objectives, expected draws of the multinomial one. In the released GenRec-V1 this term
    stands on a Bernoulli draw and its gradient is zero.

    Args:
        profile: Product :math:`\hat{\mathbf{x}}_0 \mathbf{V}` ``[B, M * d]`` of the predicted rows
            with all views.
        rows: Clean rows; those without a one are left out.
        views: Item views.
        temperature: Temperature.
    """
    filled = rows.count() > 0
    if not bool(filled.any()):  # the mean over zero rows is undefined
        return 0 * profile.sum()
    clean = row_product(rows, views.embedding)[filled]
    generated = profile[filled]
    terms = [
        info_nce(x, y, temperature)
        for x, y in zip(
            clean.chunk(views.num_modalities, dim=1), generated.chunk(views.num_modalities, dim=1)
        )
    ]
    return sum(terms)


def signal_error(estimate: Tensor, rows: SparseRows, views: ItemViews) -> Tensor:
    r"""Modality signal injection (DiffMM): the features of the estimated items are to meet the
    embeddings of the true ones.

    .. math::
        \frac{1}{B d} \sum_b \Vert \hat{\mathbf{x}}_b \mathbf{F}_m
        - \mathbf{x}_b \mathbf{E}_i \Vert^2

    Args:
        estimate: Estimate ``[B, I]``.
        rows: Clean rows.
        views: Item views with ``features`` and ``items``.
    """
    return (estimate @ views.features - row_product(rows, views.items)).square().mean()
