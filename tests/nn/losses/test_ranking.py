import math

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.losses import (
    bank_contrast,
    batch_l2,
    bpr_loss,
    challenged_contrast,
    cosine_distance,
    first_of_list,
    grouped_info_nce,
    hinge_loss,
    loss_in_parts,
    row_penalty,
    squared_norm,
    two_view_contrast,
)


def test_bpr_by_hand():
    user = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = bpr_loss(user, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert float(loss) == pytest.approx(0.3133, abs=1e-4)
    assert torch.autograd.grad(loss, user)[0].tolist()[0] == pytest.approx(
        [-0.2689, 0.2689], abs=1e-4
    )


def test_bpr_of_equal_scores_is_log_two_and_far_scores_stay_finite():
    row = torch.ones(3, 4)
    assert float(bpr_loss(row, row, row)) == pytest.approx(math.log(2))
    user = torch.tensor([[1.0]], requires_grad=True)
    loss = bpr_loss(user, torch.tensor([[-200.0]]), torch.tensor([[200.0]]))
    assert float(loss) == pytest.approx(400.0)
    assert float(torch.autograd.grad(loss, user)[0]) == pytest.approx(400.0)


def test_bpr_of_triples_that_take_part():
    user, zero = torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1)
    positive = torch.tensor([[2.0], [0.0]])
    found = bpr_loss(user, positive, zero, torch.tensor([True, False]))
    assert float(found) == pytest.approx(float(bpr_loss(user[:1], positive[:1], zero[:1])))
    assert float(bpr_loss(user, positive, zero, torch.zeros(2, dtype=torch.bool))) == 0


def test_squared_norm():
    assert float(squared_norm(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]))) == 14.0


@pytest.mark.parametrize('group_size,groups', [(100, 1), (6, 2), (4, 3), (1, 12)])
def test_grouped_contrast_is_the_weighted_mean_of_its_groups(group_size, groups):
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randn(12, 5, dtype=torch.float64)
    expected = 0.0
    for a, b in zip(x.chunk(groups), y.chunk(groups)):
        logits = F.normalize(a) @ F.normalize(b).t() / 0.5
        expected = expected + F.cross_entropy(logits, torch.arange(len(a)), reduction='sum') / 12
    assert float(grouped_info_nce(x, y, 0.5, group_size)) == pytest.approx(
        float(expected), abs=1e-10
    )


def test_batch_penalty_by_hand():
    assert (
        float(
            batch_l2(
                torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
            )
        )
        == 1.5
    )


@pytest.mark.parametrize(
    'shape,expected',
    [('frobenius', (3 + 5) / 2), ('l2', (9 + 25) / 4), ('mean_square', 9 / 6 + 25 / 4)],
)
def test_shapes_of_the_penalty_by_hand(shape, expected):
    tables = (
        torch.tensor([[1.0, 0.0], [2.0, 0.0], [2.0, 0.0]]),
        torch.tensor([[0.0, 3.0], [4.0, 0.0]]),
    )
    assert row_penalty(*tables, shape=shape).item() == pytest.approx(expected)
    zero = torch.zeros(2, 3, requires_grad=True)
    row_penalty(zero, shape=shape).backward()
    assert not zero.grad.any() and bool(torch.isfinite(zero.grad).all())


def test_unknown_shape_of_the_penalty_is_named():
    with pytest.raises(ConfigError, match="shape: got 'l1', accepted are 'frobenius'"):
        row_penalty(torch.ones(1, 1), shape='l1')


def test_bank_contrast_by_hand():
    anchors, bank = torch.eye(2), torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    for index, expected in (([0], 1.1711), ([1], 1.7839), ([0, 1, 1], (1.1711 + 2 * 1.7839) / 3)):
        assert float(bank_contrast(anchors, bank, torch.tensor(index), 0.5)) == pytest.approx(
            expected, abs=1e-4
        )
    both = (
        bank_contrast(anchors, bank, torch.tensor([0]), 0.5)
        + bank_contrast(bank, anchors, torch.tensor([0]), 0.5)
    ) / 2
    assert float(
        bank_contrast(anchors, bank, torch.tensor([0]), 0.5, symmetric=True)
    ) == pytest.approx(float(both))


def test_two_view_contrast_by_hand():
    """Orthogonal anchors that equal their positives: own e^2, others 1 in either view."""
    x = torch.eye(3, dtype=torch.float64)
    expected = math.log(math.exp(2) + 2 + 2) - 2
    assert two_view_contrast(x, 5 * x, 0.5).item() == pytest.approx(expected)
    # An anchor alone has no negative: it is no negative of itself.
    assert two_view_contrast(x[:1], x[:1], 0.5).item() == pytest.approx(0)
    # All rows alike: 2 n - 1 candidates of equal weight.
    ones = torch.ones(4, 2, dtype=torch.float64)
    assert two_view_contrast(ones, ones, 0.2).item() == pytest.approx(math.log(7))


def test_cosine_distance_by_hand():
    a = torch.tensor([[3.0, 4.0]], requires_grad=True)
    b = torch.tensor([[4.0, 3.0]], requires_grad=True)
    loss = cosine_distance(a, b)
    assert loss.item() == pytest.approx(0.04)
    loss.backward()
    assert b.grad is None and bool(a.grad.any())
    assert (
        cosine_distance(a, 7 * b).item() == pytest.approx(0.04) == cosine_distance(7 * a, b).item()
    )
    assert cosine_distance(a, a).item() == pytest.approx(0.0, abs=1e-6) and cosine_distance(
        a, -a
    ).item() == pytest.approx(2)


def test_cosine_distance_of_rows_that_take_part():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert cosine_distance(a, b).item() == pytest.approx(2 / 3)
    assert cosine_distance(a, b, torch.tensor([True, False, False])).item() == 1.0
    assert cosine_distance(a, b, torch.zeros(3, dtype=torch.bool)).item() == 0.0


def test_first_of_list_by_hand():
    cosines = torch.tensor([[1.0, 0.0, -1.0]])
    assert float(first_of_list(cosines / 2)) == pytest.approx(0.6803, abs=1e-4)
    assert float(first_of_list(cosines)) == pytest.approx(0.4076, abs=1e-4)
    assert float(first_of_list(torch.zeros(3, 129))) == pytest.approx(4.8598, abs=1e-4)
    assert float(first_of_list(torch.zeros(3, 513))) == pytest.approx(6.2403, abs=1e-4)
    mask = torch.tensor([[False, True, False]])
    assert float(first_of_list(torch.zeros(1, 3), mask)) == pytest.approx(math.log(2))
    with pytest.raises(ConfigError, match='mask: got'):
        first_of_list(torch.zeros(1, 3), mask[:, :2])


def test_hinge_by_hand():
    rows = torch.tensor([[1.0], [1.0]])
    assert float(
        hinge_loss(rows, torch.tensor([[2.0], [0.0]]), torch.tensor([[0.5], [1.0]]))
    ) == pytest.approx(1.0)


def test_challenging_negatives_by_hand():
    bank = torch.eye(2)
    plain = float(F.cross_entropy(bank[:1] @ bank.t() / 0.2, torch.tensor([0])))
    assert plain == pytest.approx(0.0067, abs=5e-5)
    # the challenging negative equals the positive
    same = challenged_contrast(bank, bank, bank, 0.2, own=True)
    assert float(same) == pytest.approx(0.6965, abs=1e-4)
    # Of all but its own, the anchor meets the other row once more.
    assert float(challenged_contrast(bank, bank, bank, 0.2)) == pytest.approx(
        math.log(1 + 2 * math.exp(-5)), abs=1e-6
    )


@pytest.mark.parametrize('own', [False, True])
def test_challenging_negatives_in_blocks(own, monkeypatch):
    x, y, extra = (torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    rows = [F.normalize(table) for table in (x, y, extra)]
    expected = 0.0
    for k in range(7):
        logits = [float(rows[0][k] @ row) / 0.2 for row in rows[1]]
        logits += [float(rows[0][k] @ rows[2][j]) / 0.2 for j in range(7) if (j == k) == own]
        expected += (math.log(sum(map(math.exp, logits))) - logits[k]) / 7
    whole = challenged_contrast(x, y, extra, 0.2, own)
    assert whole.item() == pytest.approx(expected)
    monkeypatch.setattr(
        'genrec_pyg.nn.losses.ranking.rows_per_block', lambda num_columns, at_most: 3
    )
    blocks = challenged_contrast(x, y, extra, 0.2, own)
    assert blocks.item() == pytest.approx(expected)
    gradients = (torch.autograd.grad(loss, (x, y, extra)) for loss in (whole, blocks))
    assert all(torch.allclose(a, b) for a, b in zip(*gradients))


@pytest.mark.parametrize('part_rows', [1, 3, 4, 7, 100])
def test_loss_in_parts_is_the_loss_of_the_whole_batch_with_its_gradient(part_rows):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.double, requires_grad=True)
    constant = torch.randn(5, 3, generator=generator, dtype=torch.double)
    batch = torch.randint(5, (7, 3), generator=generator)
    sizes = []

    def terms(tables, rows):
        sizes.append(rows.size(0))
        user, positive, negative = (
            tables[0][index] + tables[1][index] for index in rows.unbind(dim=1)
        )
        return {'bpr': bpr_loss(user, positive, negative), 'norm': 0.1 * batch_l2(user, positive)}

    tables = [weight.tanh(), constant]
    whole = terms(tables, batch)
    (expected,) = torch.autograd.grad(sum(whole.values()), weight)
    sizes.clear()
    parts = loss_in_parts(terms, [weight.tanh(), constant], batch, part_rows)
    (found,) = torch.autograd.grad(sum(parts.values()), weight)
    assert sum(sizes) == 7 and max(sizes) <= part_rows
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        assert float(parts[name]) == pytest.approx(float(value), abs=1e-12)
    torch.testing.assert_close(found, expected)


def test_loss_in_parts_needs_no_gradient():
    table, batch = torch.ones(4, 2), torch.arange(4).view(4, 1)
    terms = loss_in_parts(
        lambda tables, rows: {'sum': tables[0][rows[:, 0]].sum(dim=1).mean()}, [table], batch, 2
    )
    assert float(terms['sum']) == 2.0 and not terms['sum'].requires_grad
    with torch.no_grad():
        terms = loss_in_parts(
            lambda tables, rows: {'sum': tables[0][rows[:, 0]].mean()},
            [table.requires_grad_()],
            batch,
            3,
        )
    assert float(terms['sum']) == 1.0
