r"""Inequalities that every row of a result table obeys."""

from __future__ import annotations

import math


def check_row(
    recall: float, precision: float, ndcg: float, k: int, rounding: float = 5e-5
) -> list[str]:
    r"""Names what is impossible about figures averaged over the same users, whatever the data.

    A user with ``n`` held-out items and ``h`` hits has recall ``h / n``, precision ``h / k``, and
    an NDCG of at least ``recall / log2(k + 1)``, since a hit earns at least that discount and an
    ideal list at most ``n``. So ``k * precision >= recall`` and ``ndcg >= recall / log2(k + 1)``.

    Args:
        recall: Mean Recall@k.
        precision: Mean Precision@k.
        ndcg: Mean NDCG@k.
        k: Length of the list.
        rounding: Half a unit of the last printed digit; 0 for unrounded figures.

    Returns:
        One sentence per violated inequality; an empty list for a possible row.
    """
    found = []
    for name, value in (('recall', recall), ('precision', precision), ('ndcg', ndcg)):
        if not -rounding <= value <= 1 + rounding:
            found.append(f'{name}@{k} = {value} is outside [0, 1]')
    if k * (precision + rounding) < recall - rounding:
        found.append(f'precision@{k} = {precision} is below recall@{k} / {k} = {recall / k:.6f}')
    if ndcg + rounding < (recall - rounding) / math.log2(k + 1):
        found.append(
            f'ndcg@{k} = {ndcg} is below recall@{k} / log2({k + 1}) = '
            f'{recall / math.log2(k + 1):.6f}'
        )
    return found
