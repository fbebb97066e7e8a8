r"""Lists from scores: what is asked for, what is left out, what is best."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Query(NamedTuple):
    r"""A list that is asked for.

    Args:
        k: Items at most.
        left_out: Items that are not offered ``[n]``.
        user: Number of the user, or :obj:`None`.
        history: Items of somebody else ``[n]``, or :obj:`None`: distinct, or oldest first where the
            model reads their order.
        allowed: The only items that are offered ``[n]``; :obj:`None` is all.
    """

    k: int
    left_out: np.ndarray
    user: int | None = None
    history: np.ndarray | None = None
    allowed: np.ndarray | None = None


class Ranked(NamedTuple):
    r"""A list: numbers of the items ``[n]`` and scores ``[n]``, the best first; equal scores rank
    by lower number.
    """

    item: np.ndarray
    score: np.ndarray


def masked(scores: np.ndarray, query: Query) -> np.ndarray:
    r"""``scores`` with what is not offered at minus infinity."""
    if query.allowed is not None:
        kept = np.full_like(scores, -np.inf)
        kept[query.allowed] = scores[query.allowed]
        scores = kept
    else:
        scores = scores.copy()
    scores[query.left_out] = -np.inf
    return scores


def best(scores: np.ndarray, k: int, rounding: float, exact: Any) -> Ranked:
    r"""The ``k`` best of ``scores`` ``[I]`` by their ``exact`` scores, among all that rounding may
    have kept out.
    """
    if k < scores.size:
        border = np.partition(scores, scores.size - k)[scores.size - k]
        found = (
            np.flatnonzero(scores >= border - 2 * rounding)
            if border > -np.inf
            else np.flatnonzero(scores > -np.inf)
        )
    else:
        found = np.flatnonzero(scores > -np.inf)
    score = np.asarray(exact(found), dtype=np.float32)
    order = np.argsort(-score, kind='stable')[:k]
    return Ranked(found[order], score[order])


def standardized(scores: np.ndarray) -> np.ndarray:
    r"""Rows of mean 0 and deviation 1, see :func:`genrec_pyg.nn.models.blend.standardized`."""
    centered = scores - scores.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(axis=1, keepdims=True))
    floor = np.finfo(np.float32).eps * 8 * np.abs(scores).max(axis=1, keepdims=True)
    return np.divide(centered, deviation, out=np.zeros_like(centered), where=deviation > floor)
