import math

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.ops import info_nce


def plain(x, y, temperature, bank=None, positive=None):
    x, bank = F.normalize(x), F.normalize(y if bank is None else bank)
    positive = torch.arange(x.size(0)) if positive is None else positive
    return F.cross_entropy(x @ bank.t() / temperature, positive)


@pytest.mark.parametrize('block_size', [1, 3, 100])
@pytest.mark.parametrize('temperature', [0.5, 0.05, 0.005])
def test_equals_plain_formula_and_gradients(block_size, temperature):
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    loss = info_nce(x, y, temperature, block_size=block_size)
    assert torch.allclose(loss, plain(x, y, temperature))
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(torch.autograd.grad(loss, (x, y)),
                                                               torch.autograd.grad(plain(x, y, temperature), (x, y))))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, block_size=block_size), (x, y))


@pytest.mark.parametrize('block_size', [2, 100])
def test_larger_bank(block_size):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    bank = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    positive = torch.tensor([3, 0, 3, 8])
    loss = info_nce(x, None, 0.2, bank, positive, block_size)
    assert torch.allclose(loss, plain(x, None, 0.2, bank, positive))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, None, 0.2, b, positive, block_size), (x, bank))


@pytest.mark.parametrize('rows,temperature', [(4, 0.5), (7, 0.2)])
def test_orthonormal_rows_by_hand(rows, temperature):
    x = torch.eye(rows)
    expected = -1 / temperature + math.log(math.exp(1 / temperature) + rows - 1)
    assert float(info_nce(x, x, temperature)) == pytest.approx(expected, abs=1e-5)


def test_one_positive_one_negative_by_hand():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = info_nce(bank[:1], None, 0.2, bank, torch.tensor([0]))
    assert float(loss) == pytest.approx(0.0067, abs=5e-5)


def test_scale_of_the_anchors_does_not_matter():
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    gradient = torch.autograd.grad(info_nce(x, torch.randn(5, 4, dtype=torch.float64), 0.3), x)[0]
    assert float((x * gradient).sum(dim=1).abs().max()) < 1e-12


def test_zero_rows_are_finite():
    x = torch.zeros(3, 4, requires_grad=True)
    loss = info_nce(x, torch.randn(3, 4), 0.5)
    loss.backward()
    assert float(loss) == pytest.approx(math.log(3), abs=1e-6) and bool(torch.isfinite(x.grad).all())
