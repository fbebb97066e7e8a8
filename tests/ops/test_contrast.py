import math

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import info_nce, softmax_against_bank, unit_info_nce, unit_rows


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
    for found, expected in zip(
        torch.autograd.grad(loss, (x, y)),
        torch.autograd.grad(plain(x, y, temperature), (x, y)),
        strict=True,
    ):
        assert torch.allclose(found, expected, atol=1e-9)
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, block_size=block_size), (x, y))
    assert torch.autograd.gradgradcheck(
        lambda a, b: info_nce(a, b, 0.5, block_size=block_size), (x, y)
    )


@pytest.mark.parametrize('block_size', [2, 100])
def test_larger_bank(block_size):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    bank = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    positive = torch.tensor([3, 0, 3, 8])
    loss = info_nce(x, None, 0.2, bank, positive, block_size)
    assert torch.allclose(loss, plain(x, None, 0.2, bank, positive))
    assert torch.autograd.gradcheck(
        lambda a, b: info_nce(a, None, 0.2, b, positive, block_size), (x, bank)
    )
    assert torch.autograd.gradgradcheck(
        lambda a, b: info_nce(a, None, 0.2, b, positive, block_size), (x, bank)
    )


@pytest.mark.parametrize('block_size', [2, 100])
@pytest.mark.parametrize('temperature', [0.5, 0.005])
def test_own_positive_beside_a_bank_of_negatives(block_size, temperature):
    x, y, bank = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 5, 9))

    def found(x, y, bank):
        return softmax_against_bank(x, y, temperature, bank, block_size)

    def expected(x, y, bank):
        x, y, bank = (F.normalize(rows) for rows in (x, y, bank))
        logit = torch.cat([(x * y).sum(dim=1, keepdim=True), x @ bank.t()], dim=1) / temperature
        return F.cross_entropy(logit, torch.zeros(5, dtype=torch.long))

    assert torch.allclose(found(x, y, bank), expected(x, y, bank))
    pairs = zip(
        *(torch.autograd.grad(loss(x, y, bank), (x, y, bank)) for loss in (found, expected))
    )
    assert all(torch.allclose(*pair, atol=1e-9) for pair in pairs)
    if temperature == 0.5:
        assert torch.autograd.gradgradcheck(found, (x, y, bank))


@pytest.mark.parametrize('block_size', [1, 3, 100])
@pytest.mark.parametrize('temperature', [0.5, 0.05, 0.005])
def test_excluded_rows_are_no_candidates(block_size, temperature):
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    own = torch.tensor([0, 1, 2, 3, 4])

    def loss(x, y):
        x, y = unit_rows(x), unit_rows(y)
        return unit_info_nce(x, y, temperature, torch.cat([x, y]), block_size, excluded=own)

    def expected(x, y):
        x, y = F.normalize(x), F.normalize(y)
        logit = x @ torch.cat([x, y]).t() / temperature
        return F.cross_entropy(logit.scatter(1, own.unsqueeze(1), -torch.inf), 5 + own)

    assert torch.allclose(loss(x, y), expected(x, y))
    for found, wanted in zip(
        torch.autograd.grad(loss(x, y), (x, y)),
        torch.autograd.grad(expected(x, y), (x, y)),
        strict=True,
    ):
        assert torch.allclose(found, wanted, atol=1e-9)
    if temperature == 0.5:
        assert torch.autograd.gradcheck(loss, (x, y))
        assert torch.autograd.gradgradcheck(loss, (x, y))


def test_without_negatives_the_positive_is_certain():
    x = torch.randn(3, 4, requires_grad=True)
    loss = softmax_against_bank(x, torch.randn(3, 4), 0.01, torch.empty(0, 4))
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-6) and float(x.grad.abs().max()) < 1e-4


def test_rows_that_are_unit_already_need_no_normalization():
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    assert torch.equal(unit_info_nce(unit_rows(x), unit_rows(y), 0.2), info_nce(x, y, 0.2))


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
    assert float((x.detach() * gradient).sum(dim=1).abs().max()) < 1e-12


def test_zero_rows_are_finite():
    x = torch.zeros(3, 4, requires_grad=True)
    loss = info_nce(x, torch.randn(3, 4), 0.5)
    loss.backward()
    assert float(loss) == pytest.approx(math.log(3), abs=1e-6) and bool(
        torch.isfinite(x.grad).all()
    )


@pytest.mark.parametrize('block_size', [2, 100])
def test_zero_rows_get_no_gradient(block_size):
    x, y = torch.randn(5, 4), torch.randn(5, 4)
    x[1], y[3] = 0, 0
    x.requires_grad_(), y.requires_grad_()
    info_nce(x, y, 0.5, block_size=block_size).backward()
    assert not x.grad[1].any() and not y.grad[3].any()
    assert float(x.grad.abs().max()) < 10 and bool(x.grad[0].any())


def test_positives_beside_a_bank_that_holds_more():
    x, y, extra = torch.randn(4, 3), torch.randn(4, 3), torch.randn(5, 3)
    bank = torch.cat([y, extra])
    expected = plain(x, None, 0.2, bank, torch.arange(4))
    assert torch.allclose(info_nce(x, y, 0.2, bank), expected, atol=1e-6)


@pytest.mark.parametrize('temperature', [0.5, 0.01])
def test_low_precision_is_computed_in_float32(temperature):
    x, y = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8)
    expected = plain(x, y, temperature)
    with torch.autocast('cpu', torch.bfloat16):
        loss = info_nce(x, y, temperature)
        gradient = torch.autograd.grad(loss, x)[0]
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert torch.allclose(gradient, torch.autograd.grad(expected, x)[0], atol=1e-4)
    low = info_nce(x.bfloat16(), y.bfloat16(), temperature)
    rounded = plain(x.bfloat16().float(), y.bfloat16().float(), temperature)
    assert low.dtype == torch.float32 and torch.allclose(low, rounded, rtol=1e-5)


def test_compiled_function_gives_the_same_numbers():
    x, y = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    compiled = torch.compile(lambda a: info_nce(a, y, 0.2, block_size=4), backend='aot_eager')
    assert torch.allclose(compiled(x), info_nce(x, y, 0.2))
    assert torch.allclose(
        *(torch.autograd.grad(f(x), x)[0] for f in (compiled, lambda a: info_nce(a, y, 0.2))),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    'arguments',
    [
        {'temperature': 0.0},
        {'temperature': -1.0},
        {'y': None},
        {'y': None, 'bank': torch.ones(4, 3)},
        {'y': None, 'positive': torch.arange(2)},
        {'bank': torch.ones(4, 3), 'positive': torch.arange(2)},
        {'y': torch.ones(3, 3)},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError, match='accepted'):
        info_nce(torch.ones(2, 3), **{'y': torch.ones(2, 3), 'temperature': 0.5, **arguments})


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('scale', [1e30, 1e20, 1.0, 1e-14, 1e-30])
def test_unit_rows_of_any_scale(scale, dtype):
    x = torch.randn(6, 4, dtype=torch.float64)
    expected = x / x.norm(dim=1, keepdim=True)
    assert torch.allclose(unit_rows((x * scale).to(dtype)).double(), expected, atol=1e-6)
    assert torch.equal(unit_rows(torch.zeros(2, 3, dtype=dtype)), torch.zeros(2, 3, dtype=dtype))
    assert unit_rows(torch.zeros(2, 0, dtype=dtype)).shape == (2, 0)


def test_unit_rows_have_the_gradient_of_the_direction_and_none_near_zero():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, x)
    assert torch.autograd.gradcheck(unit_rows, (x.detach() * 1e5).requires_grad_(), eps=1e-2)
    tiny = torch.tensor([[0.0, 0.0], [1e-20, 2e-20], [3.0, 4.0]], requires_grad=True)
    unit_rows(tiny).sum().backward()
    assert tiny.grad[:2].eq(0).all() and tiny.grad[2].ne(0).all()
