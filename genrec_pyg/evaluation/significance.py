r"""Paired tests between models over the same users, intervals, effect sizes, and corrections for
many tests.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from genrec_pyg.exceptions import ConfigError

#: Paired tests: of means (Student's t) and of ranks (Wilcoxon's signed ranks, zeros split as Pratt
#: does).
TESTS = ('t', 'wilcoxon')

Name = TypeVar('Name', bound=Hashable)


class Comparison(NamedTuple):
    r"""Paired comparison of two models over the same users.

    Args:
        difference: Mean difference.
        low: Lower end of its 95% confidence interval.
        high: Upper end.
        p: Two-sided p-value.
        effect: Mean difference in standard deviations of the differences, Cohen's :math:`d_z`
            (`Lakens 2013, equation 6 <https://doi.org/10.3389/fpsyg.2013.00863>`_).
        better: Users with a larger value.
        equal: Users with the same value.
        worse: Users with a smaller value.
    """

    difference: float
    low: float
    high: float
    p: float
    effect: float
    better: int
    equal: int
    worse: int


def paired_comparison(mine: np.ndarray, base: np.ndarray, test: str = 't') -> Comparison:
    r"""Compares ``mine`` with ``base``, a value per user in each ``[n]``, ``n`` from 2. The
    interval is that of the t-test.

    Raises:
        ConfigError: On an unknown test, or values that do not pair.
    """
    if test not in TESTS:
        raise ConfigError(f'test: got {test!r}, accepted are {", ".join(map(repr, TESTS))}')
    mine, base = np.asarray(mine, dtype=np.float64), np.asarray(base, dtype=np.float64)
    if mine.shape != base.shape or mine.ndim != 1 or mine.size < 2:
        raise ConfigError(
            f'values: got {mine.shape} and {base.shape}, accepted are two of equal length, from 2'
        )
    difference = mine - base
    mean = float(difference.mean())
    counts = (
        int((difference > 0).sum()),
        int((difference == 0).sum()),
        int((difference < 0).sum()),
    )
    if np.ptp(difference) == 0:  # nothing varies, so there is no scale to measure the mean by
        return Comparison(
            mean,
            mean,
            mean,
            1.0 if mean == 0 else 0.0,
            0.0 if mean == 0 else float(np.copysign(np.inf, mean)),
            *counts,
        )
    found = stats.ttest_rel(mine, base)
    interval = found.confidence_interval(0.95)
    p = float(
        found.pvalue
        if test == 't'
        else stats.wilcoxon(difference, zero_method='pratt', method='approx').pvalue
    )
    return Comparison(
        mean,
        float(interval.low),
        float(interval.high),
        p,
        mean / float(difference.std(ddof=1)),
        *counts,
    )


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    r"""P-values corrected for their number by Holm's step-down method (Holm, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979).
    """
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = largest
    return corrected
