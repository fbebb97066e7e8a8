"""Numbers worked by hand, or checked against released programs, of sampled softmax, hard negatives,
in-batch softmax.
"""

import math

import pytest
import torch

from genrec_pyg.nn.losses import (
    in_batch_softmax,
    in_row_blocks,
    logistic_loss,
    sampled_softmax,
    softmax_over_items,
)
from genrec_pyg.nn.losses import sampled as module

POSITIVE, NEGATIVE = torch.tensor([2.0]), torch.tensor([[1.0, 0.0, -1.0]])


def test_sampled_softmax():
    assert float(sampled_softmax(POSITIVE, NEGATIVE)) == pytest.approx(0.440190, abs=1e-6)
    constant = torch.tensor(0.01).log()
    assert float(sampled_softmax(POSITIVE, NEGATIVE, constant, constant)) == pytest.approx(
        0.440190, abs=1e-6
    )
    found = sampled_softmax(
        POSITIVE, NEGATIVE, torch.tensor([0.4]).log(), torch.tensor([0.1, 0.2, 0.3]).log()
    )
    assert float(found) == pytest.approx(1.032676, abs=1e-6)


@pytest.mark.parametrize(
    'beta,expected',
    [(0.01, 0.442237), (0.1, 0.460586), (1, 0.613559), (10, 0.743653), (1e-7, 0.440190)],
)
def test_hard_negatives(beta, expected):
    assert float(sampled_softmax(POSITIVE, NEGATIVE, beta=beta)) == pytest.approx(
        expected, abs=2e-6
    )


@pytest.mark.parametrize(
    'arguments,expected',
    [
        (dict(beta=1.0), (0.489940, -0.004635, -0.026725, -0.458580)),
        (dict(beta=1.0, detach_weights=True), (0.397503, 0.053796, 0.007281, -0.458580)),
        ({}, (0.236883, 0.087144, 0.032059, -0.356086)),
    ],
)
def test_gradients_of_hard_negatives(arguments, expected):
    negative, positive = NEGATIVE.clone().requires_grad_(), POSITIVE.clone().requires_grad_()
    sampled_softmax(positive, negative, **arguments).sum().backward()
    found = torch.cat([negative.grad[0], positive.grad])
    assert (
        torch.allclose(found, torch.tensor(expected), atol=2e-6) and abs(float(found.sum())) < 1e-6
    )


@pytest.mark.parametrize('arguments', [{}, dict(beta=2.0), dict(beta=2.0, detach_weights=True)])
def test_adding_a_constant_changes_nothing(arguments):
    first = sampled_softmax(POSITIVE, NEGATIVE, **arguments)
    assert torch.allclose(
        first, sampled_softmax(POSITIVE + 7, NEGATIVE + 7, **arguments), atol=1e-5
    )


def test_an_accidental_hit():
    negative, hit = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[True, False, False]])
    assert float(sampled_softmax(POSITIVE, negative)) == pytest.approx(0.917576, abs=1e-6)
    assert float(sampled_softmax(POSITIVE, negative, mask=hit)) == pytest.approx(0.407606, abs=1e-6)
    for beta in (0.0, 1.0):
        left = sampled_softmax(POSITIVE, negative[:, 1:], beta=beta)
        assert torch.allclose(
            sampled_softmax(POSITIVE, negative, mask=hit, beta=beta), left, atol=1e-6
        )


def test_no_negative_left_is_no_loss_and_has_a_finite_gradient():
    negative, positive = NEGATIVE.clone().requires_grad_(), POSITIVE.clone().requires_grad_()
    for beta in (0.0, 3.0):
        loss = sampled_softmax(
            positive, negative, mask=torch.ones(1, 3, dtype=torch.bool), beta=beta
        )
        loss.sum().backward()
        assert float(loss) == 0
        assert bool(torch.isfinite(negative.grad).all()) and bool(
            torch.isfinite(positive.grad).all()
        )


def test_hard_negatives_of_large_scores_are_stable():
    torch.manual_seed(0)
    scores = torch.rand(8, 40, dtype=torch.float64) * 100 - 50
    weight = torch.exp(10 * scores)
    expected = (weight / weight.mean(dim=1, keepdim=True) * scores.exp()).sum(dim=1).log()
    assert bool(torch.isinf(torch.exp(10 * scores.float())).any())  # the direct form overflows
    found = sampled_softmax(torch.zeros(8), scores.float(), beta=10.0)
    assert torch.allclose(
        found.double(), torch.logaddexp(expected, torch.zeros(8, dtype=torch.float64)), rtol=1e-5
    )


def test_all_items_in_blocks_equal_the_whole(monkeypatch):
    torch.manual_seed(0)
    query, item = torch.randn(17, 4, requires_grad=True), torch.randn(30, 4, requires_grad=True)
    target = torch.randint(30, (17,))
    whole = softmax_over_items(query, item, target)
    expected = torch.autograd.grad(whole.sum(), (query, item))
    monkeypatch.setattr(module, 'rows_per_block', lambda candidates, rows: 5)
    found = softmax_over_items(query, item, target)
    assert torch.allclose(found, whole, atol=1e-6)
    assert all(
        torch.allclose(a, b, atol=1e-5)
        for a, b in zip(torch.autograd.grad(found.sum(), (query, item)), expected)
    )
    assert torch.allclose(
        whole, torch.nn.functional.cross_entropy(query @ item.t(), target, reduction='none')
    )
    sizes = []
    in_row_blocks(lambda rows: sizes.append(len(rows)) or rows[:, 0], (query,), 30)
    assert sizes == [5, 5, 5, 2]


def test_logistic_loss():
    score = torch.tensor([0.0, math.log(3)])
    assert float(logistic_loss(score, -score.unsqueeze(1))) == pytest.approx(
        math.log(8 / 3), abs=1e-6
    )
    assert float(logistic_loss(score[1:], -score[1:].unsqueeze(1))) == pytest.approx(
        2 * math.log(4 / 3), abs=1e-6
    )
    assert float(logistic_loss(torch.zeros(3), torch.zeros(3, 2))) == pytest.approx(
        2 * math.log(2), abs=1e-6
    )
    negative, mask = torch.tensor([[0.0, 9.0]]), torch.tensor([[False, True]])
    assert float(logistic_loss(torch.zeros(1), negative, mask)) == pytest.approx(
        2 * math.log(2), abs=1e-6
    )


def windows_loss(windows, popularity, num_items):
    """Loss of windows (``None`` is padding) in which all scores are 0."""
    width = max(map(len, windows))
    window = torch.tensor([items + [num_items] * (width - len(items)) for items in windows])
    rows = [(row, item) for row, items in enumerate(windows) for item in items[1:]]
    row, target = torch.tensor(rows).t()
    log_popularity = torch.tensor(popularity).log()
    query = torch.zeros(len(rows), 3)
    return in_batch_softmax(
        query, row, target, window, lambda item: torch.ones(len(item), 3), log_popularity
    )


def test_in_batch_softmax():
    found = windows_loss([[0, 1, 2], [3, 1]], [0.2, 0.4, 0.2, 0.2], 4)
    assert torch.allclose(found, torch.tensor([3.0, 2.0, 5.0]).log(), atol=1e-6)
    uniform = windows_loss([[0, 1, 2], [3, 1]], [0.25] * 4, 4)
    assert float(uniform.mean()) == pytest.approx((2 * math.log(2) + math.log(3)) / 3, abs=1e-6)
    assert torch.allclose(
        windows_loss([[0, 1, 2], [3, 1]], [0.02, 0.04, 0.02, 0.02], 4), found, atol=1e-6
    )


@pytest.mark.parametrize('windows', [[[1, 0, 1], [2, 3]], [[0, 1, 2], [3, 3]], [[0, 1, 2], [3, 4]]])
def test_in_batch_softmax_counts_repetitions(windows):
    found = windows_loss(windows, [0.2] * 5, 5)
    assert float(found.mean()) == pytest.approx((2 * math.log(3) + math.log(4)) / 3, abs=1e-6)


def test_in_batch_softmax_of_one_window_is_zero_and_of_blocks_the_same(monkeypatch):
    assert torch.equal(windows_loss([[0, 1, 2]], [0.2] * 5, 5), torch.zeros(2))
    whole = windows_loss([[0, 1, 2], [3, 1], [4, 2, 0]], [0.1, 0.3, 0.2, 0.2, 0.2], 5)
    monkeypatch.setattr(module, 'rows_per_block', lambda candidates, rows: 2)
    assert torch.allclose(
        windows_loss([[0, 1, 2], [3, 1], [4, 2, 0]], [0.1, 0.3, 0.2, 0.2, 0.2], 5), whole, atol=1e-6
    )
