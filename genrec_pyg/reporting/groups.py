r"""Groups of users by activity and of items by popularity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Group(NamedTuple):
    r"""Users or held-out pairs with a number in a range.

    Args:
        name: The range and how many there are.
        mask: Which of them, bool.
    """

    name: str
    mask: np.ndarray


def quantile_groups(number: np.ndarray, parts: int, unit: str) -> list[Group]:
    r"""Groups of about equal size by a number; equal numbers are in one group, and 0 has a group of
    its own.

    Args:
        number: Whole numbers from 0 ``[n]``.
        parts: Most groups of numbers above 0.
        unit: What is counted, in the plural, for the names.
    """
    groups = (
        [Group(f'0 ({int((number == 0).sum())} {unit})', number == 0)]
        if bool((number == 0).any())
        else []
    )
    positive = np.sort(number[number > 0])
    if positive.size == 0:
        return groups
    edges = np.unique(
        positive[np.minimum(np.arange(1, parts + 1) * positive.size // parts, positive.size) - 1]
    )
    low = 1
    for high in edges.tolist():
        mask = (number >= low) & (number <= high)
        name = (
            f'{positive[positive >= low].min()}'
            if positive[positive >= low].min() == high
            else f'{low}–{high}'
        )
        groups.append(Group(f'{name} ({int(mask.sum())} {unit})', mask))
        low = high + 1
    return groups
