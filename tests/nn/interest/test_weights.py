import pytest
import torch

from genrec_pyg.nn.interest.held_out import CandidateScores
from genrec_pyg.nn.interest.weights import best_share, coordinate_search, mixture_weights


def two_functions(second):
    """One user, whose held-out item is the first of three; lists have one item."""
    scores = torch.tensor([[[0.0, 1.0, -1.0]], [second]])
    return CandidateScores(scores, torch.tensor([[True, False, False]]), torch.tensor([1]), 1)


def test_coordinate_search_finds_the_best_of_a_separable_function():
    weights, value = coordinate_search(
        {'a': 1.0, 'b': 0.0}, lambda w: -((w['a'] - 0.3) ** 2) - (w['b'] - 1.5) ** 2
    )
    assert weights == {'a': 0.3, 'b': 1.5} and value == pytest.approx(0.0)
    weights, _ = coordinate_search({'a': 1.0, 'b': 0.0}, lambda w: -sum(w.values()))
    assert sum(weights.values()) > 0  # never nothing at all


def test_a_mixture_starts_from_the_best_function():
    weights, recall, value = mixture_weights(two_functions([3.0, 0.0, 0.0]), ['bad', 'good'])
    assert (
        recall == {'bad': 0.0, 'good': 1.0}
        and weights == {'bad': 0.0, 'good': 1.0}
        and value == 1.0
    )


def test_a_mixture_is_reached_from_a_further_start_where_no_single_step_leads_to_it():
    """The held-out item is the first: second best of two functions, best of their sum."""
    scores = torch.tensor([[[0.0, 9.0, 0.0]], [[2.0, 3.0, -9.0]], [[2.0, -9.0, 3.0]]])
    candidates = CandidateScores(scores, torch.tensor([[True, False, False]]), torch.tensor([1]), 1)
    names = ['bad', 'first', 'second']
    assert mixture_weights(candidates, names)[2] == 0.0
    weights, recall, value = mixture_weights(candidates, names, [{'first': 1.0, 'second': 0.5}])
    assert weights == {'bad': 0.0, 'first': 1.0, 'second': 0.5}
    assert value == 1.0 and set(recall.values()) == {0.0}


def test_the_share_is_the_middle_of_what_is_equally_good():
    # (1 - w) * 0 + w * 1 is largest from w = 0.6 on: 1 - w < w.
    assert best_share(two_functions([1.0, 0.0, 0.0])) == 0.8
    assert best_share(two_functions([0.0, 1.0, 0.0])) == 0.5  # nothing is any good
