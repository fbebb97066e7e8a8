import numpy as np
import pytest

from genrec_pyg.evaluation import holm, paired_comparison
from genrec_pyg.exceptions import ConfigError


def test_paired_comparison_by_hand():
    found = paired_comparison(np.array([1.0, 2.0, 3.0]), np.zeros(3))
    # t = 2 / (1 / sqrt 3) on two degrees of freedom: p = 1 - t / sqrt(2 + t^2); 97.5% quantile
    # 4.3027
    t = 2 * 3**0.5
    assert found.difference == 2.0 and found.p == pytest.approx(1 - t / (2 + t * t) ** 0.5)
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert found.effect == 2.0 and (found.better, found.equal, found.worse) == (
        3,
        0,
        0,
    )  # deviation 1


def test_differences_that_do_not_vary():
    assert paired_comparison(np.ones(3), np.ones(3)) == (0.0, 0.0, 0.0, 1.0, 0.0, 0, 3, 0)
    assert paired_comparison(np.zeros(3), np.ones(3)) == (-1.0, -1.0, -1.0, 0.0, -np.inf, 0, 0, 3)


def test_ranks_do_not_see_how_large_an_outlier_is():
    mine, base = np.array([0.1, 0.2, 0.3, 0.4, 0.5, -0.6]), np.zeros(6)
    far = mine.copy()
    far[5] = -60.0
    assert paired_comparison(mine, base, 'wilcoxon').p == paired_comparison(far, base, 'wilcoxon').p
    assert paired_comparison(mine, base).p != paired_comparison(far, base).p
    # Ranks 1 to 5 above, 6 below: W = 15, mean 10.5, variance 22.75, no correction for continuity
    from scipy.stats import norm

    assert paired_comparison(mine, base, 'wilcoxon').p == pytest.approx(
        2 * norm.sf(4.5 / 22.75**0.5)
    )


def test_a_false_difference_is_found_as_often_as_the_level_says():
    generator = np.random.default_rng(0)
    p = [paired_comparison(*generator.binomial(4, 0.3, (2, 200)) / 4).p for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_holm():
    found = holm({'a': 0.01, 'b': 0.04, 'c': 0.03, 'd': 0.005})
    assert found == pytest.approx({'d': 0.02, 'a': 0.03, 'c': 0.06, 'b': 0.06})
    assert holm({'a': 0.9, 'b': 0.8}) == {'b': 1.0, 'a': 1.0} and holm({}) == {}


@pytest.mark.parametrize(
    'mine,base,test,message',
    [
        ([1.0, 2.0], [1.0], 't', 'accepted are two of equal length'),
        ([1.0], [2.0], 't', 'from 2'),
        ([1.0, 2.0], [1.0, 3.0], 'z', "accepted are 't', 'wilcoxon'"),
    ],
)
def test_what_does_not_pair_is_refused(mine, base, test, message):
    with pytest.raises(ConfigError, match=message):
        paired_comparison(np.array(mine), np.array(base), test)
