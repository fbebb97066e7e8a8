import math

import pytest
import torch
import torch.nn.functional as F
from helpers.kernel_inputs import CLOSE, DEVICE, plain

from genrec_pyg.ops import DEFAULT_BACKENDS, info_nce


def plain_contrast(x, bank, temperature, positive):
    return F.cross_entropy(F.normalize(x) @ F.normalize(bank).t() / temperature, positive)


@pytest.mark.parametrize(
    'num_rows,num_bank,channels', [(1, 1, 1), (5, 70, 3), (70, 40, 64), (40, 40, 192)]
)
@pytest.mark.parametrize('temperature', [0.5, 0.01])
def test_contrast_and_gradients(num_rows, num_bank, channels, temperature):
    x, bank = torch.randn(num_rows, channels), torch.randn(num_bank, channels)
    positive = torch.randint(num_bank, (num_rows,))
    exact = [t.double().requires_grad_() for t in (x, bank)]
    expected = plain_contrast(*exact, temperature, positive)
    wanted = torch.autograd.grad(expected, exact)
    leaves = [t.to(DEVICE).requires_grad_() for t in (x, bank)]
    loss = info_nce(leaves[0], None, temperature, leaves[1], positive.to(DEVICE))
    assert (
        type(loss.grad_fn.next_functions[0][0].next_functions[0][0]).__name__
        != '_LogSumExpBackward'
    )
    torch.testing.assert_close(plain(loss), expected.detach(), rtol=1e-5, atol=1e-5)
    # The cosines are rounded to 6e-8 before they are divided by the temperature and exponentiated.
    error = {'rtol': 1e-4, 'atol': 1e-5 / temperature / num_rows}
    for found, want in zip(torch.autograd.grad(loss, leaves), wanted, strict=True):
        torch.testing.assert_close(plain(found), want, **error)


def test_contrast_equals_the_kernel_of_the_cpu(monkeypatch):
    x, y = torch.randn(2, 37, 16, device=DEVICE, requires_grad=True).unbind()
    found = info_nce(x, y, 0.2)
    gradient = torch.autograd.grad(found, (x, y))
    monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, 'csr')
    expected = info_nce(x, y, 0.2)
    torch.testing.assert_close(found, expected, **CLOSE)
    for a, b in zip(gradient, torch.autograd.grad(expected, (x, y)), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_contrast_of_opposed_rows_is_finite():
    # All logits are far below zero: what lies beyond the end of a tile must not win the maximum or
    # overflow.
    x = torch.ones(3, 4, device=DEVICE, requires_grad=True)
    bank = (-torch.ones(5, 4, device=DEVICE)).requires_grad_()
    loss = info_nce(x, None, 0.005, bank, torch.zeros(3, dtype=torch.long, device=DEVICE))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(5), abs=1e-3)
    assert bool(torch.isfinite(x.grad).all()) and bool(torch.isfinite(bank.grad).all())


def test_contrast_outside_the_kernel_takes_the_other_way():
    for x, y in (
        (torch.randn(3, 300), torch.randn(3, 300)),
        (torch.randn(3, 4).double(), torch.randn(3, 4).double()),
    ):
        positive = torch.arange(3)
        loss = info_nce(x.to(DEVICE), y.to(DEVICE), 0.5)
        torch.testing.assert_close(
            plain(loss), plain_contrast(x.double(), y.double(), 0.5, positive), **CLOSE
        )
