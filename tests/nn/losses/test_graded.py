import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.losses import graded
from genrec_pyg.nn.losses.graded import (
    bernoulli_divergence,
    graded_neighbor_contrast,
    weighted_bpr_loss,
)


@pytest.mark.parametrize('gap, expected', [(0.0, 0.510253), (1.0, 0.280604)])
def test_weighted_bpr_by_hand(gap, expected):
    found = weighted_bpr_loss(*(torch.tensor([x]) for x in (gap, 0.686139, 0.05)))
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    'a, b, expected',
    [(1.0, 0.0, 0.231059), (2.0, -1.0, 1.835567), (0.7, 0.7, 0.0), (200.0, 0.0, 100.0)],
)
def test_divergence_by_hand(a, b, expected):
    found = bernoulli_divergence(torch.ones(1, 1), torch.tensor([[a]]), torch.tensor([[b]]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_divergence_equals_the_four_logarithms_in_any_blocks(monkeypatch):
    users, first, second = (
        torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 4, 4)
    )
    p, q = (users @ first.t()).sigmoid(), (users @ second.t()).sigmoid()
    expected = ((p - q) * (p.log() - q.log()) + (q - p) * ((1 - p).log() - (1 - q).log())).mean()
    gradients = torch.autograd.grad(expected, (users, first, second))
    for rows in (100, 2):
        monkeypatch.setattr(graded, 'rows_per_block', lambda *_, rows=rows: rows)
        found = bernoulli_divergence(users, first, second)
        assert torch.allclose(found, expected, atol=1e-12)
        assert all(
            map(torch.allclose, torch.autograd.grad(found, (users, first, second)), gradients)
        )


def test_graded_contrast_by_hand():
    """One anchor with cosines 1, 1/2, 0 and one positive per grade."""
    rows = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5], [0.0, 1.0]], dtype=torch.float64)
    found = graded_neighbor_contrast([rows], torch.tensor([0]), 1)
    assert found.item() == pytest.approx(0.085097 + 0.078890, abs=1e-6)


def by_hand(views, anchors, count, present):
    losses = []
    cosines = [F.normalize(view)[anchors] @ F.normalize(view).t() for view in views]
    shares = [
        cosine.softmax(1) * known[anchors].unsqueeze(1) for cosine, known in zip(cosines, present)
    ]
    for cosine, share, known in zip(cosines, shares, present):
        for row, item in enumerate(anchors.tolist()):
            if known[item]:
                order = (sum(s[row] for s in shares) + share[row]).argsort(descending=True).tolist()
                first = set(order[:count])
                rest = [j for j in share[row].argsort(descending=True).tolist() if j not in first]
                e = (cosine[row] / 0.2).exp()
                losses.append(
                    -(e[list(first)].sum() / e.sum()).log()
                    - (e[rest[:count]].sum() / e[rest].sum()).log()
                )
    return torch.stack(losses).mean()


def test_graded_contrast_of_several_views_in_any_blocks(monkeypatch):
    views = [torch.randn(12, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    anchors = torch.tensor([0, 3, 4, 9, 11])
    present = [torch.ones(12, dtype=torch.bool) for _ in views]
    present[1][3] = False
    expected = by_hand(views, anchors, 3, present)
    gradients = torch.autograd.grad(expected, views)
    for rows in (100, 2):
        monkeypatch.setattr(graded, 'rows_per_block', lambda *_, rows=rows: rows)
        found = graded_neighbor_contrast(views, anchors, 3, 0.2, present)
        assert torch.allclose(found, expected, atol=1e-6)
        assert all(
            torch.allclose(a, b, atol=1e-6)
            for a, b in zip(torch.autograd.grad(found, views), gradients)
        )


def test_graded_contrast_of_few_items_is_finite():
    assert graded_neighbor_contrast([torch.ones(1, 2)], torch.tensor([0])).item() == 0
    assert bool(torch.isfinite(graded_neighbor_contrast([torch.randn(3, 2)], torch.arange(3))))


@pytest.mark.parametrize('arguments', [dict(num_positives=0), dict(temperature=0.0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        graded_neighbor_contrast([torch.ones(3, 2)], torch.arange(3), **arguments)
