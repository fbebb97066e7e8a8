"""The best items, by hand."""

import numpy as np

from genrec_pyg.serving.ranking import Query, best, masked, standardized


def test_what_is_left_out_or_not_allowed_is_not_offered():
    scores = np.array([1, 2, 3, 4], dtype='f4')
    query = Query(2, np.array([3]), user=0, allowed=np.array([0, 3]))
    assert masked(scores, query).tolist() == [1, -np.inf, -np.inf, -np.inf]
    assert scores.tolist() == [1, 2, 3, 4]
    found = best(masked(scores, query), 2, 0.0, scores.__getitem__)
    assert found.item.tolist() == [0]  # shorter than asked for, never padded


def test_ties_and_what_rounding_kept_out_are_ordered_by_exact_scores():
    exact = np.array([0.5, 0.5000002, 0.4, 0.5], dtype='f8')
    rounded = np.array([0.5000001, 0.5, 0.4, 0.5], dtype='f4')
    found = best(rounded, 1, 1e-6, exact.__getitem__)
    assert found.item.tolist() == [1]
    found = best(rounded, 3, 1e-6, exact.__getitem__)
    assert found.item.tolist() == [1, 0, 3]


def test_standardized_rows():
    np.testing.assert_allclose(
        standardized(np.array([[1, 3], [2, 2]], dtype='f4')), [[-1, 1], [0, 0]]
    )
