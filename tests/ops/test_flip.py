import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import flip_dense, released_flip_probability, sample_flips

DENSE = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])


def csr(dense):
    return torch.cat(
        [torch.zeros(1, dtype=torch.long), dense.sum(dim=1).cumsum(0)]
    ), dense.nonzero()[:, 1]


def densify(rowptr, col, num_cols):
    x = torch.zeros(rowptr.numel() - 1, num_cols)
    row = torch.repeat_interleave(rowptr.diff())
    x[row, col] += 1
    assert float(x.max()) <= 1 or x.numel() == 0
    return x


@pytest.mark.parametrize('kappa,expected', [(1, 0.3810), (10, 0.0718), (100, 0.0097)])
def test_released_probability_by_hand(kappa, expected):
    assert float(released_flip_probability(torch.tensor(0.005), kappa)) == pytest.approx(
        expected, abs=5e-5
    )


def test_released_probability_tends_to_the_rate():
    alpha = torch.tensor([0.005, 0.3, 0.9])
    assert torch.allclose(released_flip_probability(alpha, 1e6).float(), alpha, atol=1e-5)


def test_released_probability_is_the_marginal_of_two_draws():
    torch.manual_seed(0)
    for kappa in (1.0, 10.0):
        inner = torch.sigmoid((0.2 - torch.rand(400_000)) * kappa)
        assert float(torch.bernoulli(inner).mean()) == pytest.approx(
            float(released_flip_probability(torch.tensor(0.2), kappa)), abs=0.004
        )


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_no_flip_and_every_flip(share):
    rate = torch.full((3,), share)
    out = densify(*sample_flips(*csr(DENSE), 8, rate, rate), 8)
    assert torch.equal(out, DENSE.float() if share == 0 else 1 - DENSE.float())


@pytest.mark.parametrize('p01,p10', [(0.05, 0.3), (0.4, 0.1)])
def test_sparse_and_dense_draws_have_the_same_law(p01, p10):
    torch.manual_seed(0)
    copies = 4000
    x = DENSE.repeat(copies, 1)
    up, down = torch.full((3 * copies,), p01), torch.full((3 * copies,), p10)
    sparse = densify(*sample_flips(*csr(x), 8, up, down), 8).view(copies, 3, 8)
    dense = flip_dense(x.float(), up, down).view(copies, 3, 8)
    expected = torch.where(DENSE == 1, 1 - p10, p01)
    assert torch.allclose(sparse.mean(dim=0), expected, atol=0.03) and torch.allclose(
        dense.mean(dim=0), expected, atol=0.03
    )
    # entries are independent: the variance of the number of ones is the sum of the variances
    variance = (expected * (1 - expected)).sum(dim=1)
    assert torch.allclose(sparse.sum(dim=2).var(dim=0), variance, rtol=0.12)


def test_columns_ascend_and_rates_differ_by_row():
    torch.manual_seed(0)
    rowptr, col = sample_flips(
        *csr(torch.zeros(2, 1000, dtype=torch.long)),
        1000,
        torch.tensor([0.0, 0.09]),
        torch.zeros(2),
    )
    assert int(rowptr[1]) == 0 and 50 < int(rowptr[2]) < 140
    assert bool((col.diff() > 0).all())


def test_no_rows():
    nothing = torch.empty(0, dtype=torch.long)
    rowptr, col = sample_flips(
        torch.zeros(1, dtype=torch.long), nothing, 5, torch.empty(0), torch.empty(0)
    )
    assert rowptr.tolist() == [0] and col.numel() == 0


def test_every_subset_of_the_zeros_is_equally_likely():
    torch.manual_seed(0)
    rows, rate = 200_000, 0.1
    x = torch.tensor([[1, 0, 0, 1, 0, 0]]).repeat(rows, 1)
    out = densify(*sample_flips(*csr(x), 6, torch.full((rows,), rate), torch.zeros(rows)), 6)
    pattern = (out[:, [1, 2, 4, 5]].long() * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    count = torch.bincount(pattern, minlength=16).double()
    ones = torch.tensor([bin(i).count('1') for i in range(16)]).double()
    expected = rows * rate**ones * (1 - rate) ** (4 - ones)
    enough = expected > 15
    statistic = ((count - expected)[enough] ** 2 / expected[enough]).sum()
    # 14 degrees of freedom: exceeded once in 4,000 seeds
    assert int(enough.sum()) >= 15 and float(statistic) < 40


def test_dense_and_sparse_rows_in_one_call_and_in_blocks(monkeypatch):
    monkeypatch.setattr('genrec_pyg.ops.flip._DENSE_ENTRIES', 3 * 200)
    torch.manual_seed(0)
    x = (torch.rand(40, 200) < 0.05).long()
    up = torch.tensor([0.02, 0.38]).repeat(20)
    out = densify(*sample_flips(*csr(x), 200, up, torch.full((40,), 0.25)), 200)
    flipped = (out != x) & (x == 0)
    assert float(flipped[::2].float().mean()) == pytest.approx(0.02 * 0.95, abs=0.008)
    assert float(flipped[1::2].float().mean()) == pytest.approx(0.38 * 0.95, abs=0.03)
    assert float((out[x == 1]).mean()) == pytest.approx(0.75, abs=0.06)


def test_rows_with_hardly_any_zero_end():
    torch.manual_seed(0)
    x = torch.ones(2000, 300, dtype=torch.long)
    x[:, 7] = x[:, 299] = 0
    out = densify(*sample_flips(*csr(x), 300, torch.full((2000,), 0.1), torch.zeros(2000)), 300)
    assert float(out[:, [7, 299]].mean()) == pytest.approx(0.1, abs=0.02) and bool(
        (out.sum(dim=1) >= 298).all()
    )


def test_generator_makes_it_repeatable():
    rate = torch.full((3,), 0.09)
    first, second = (
        sample_flips(*csr(DENSE), 8, rate, rate, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize('name', ['p01', 'p10'])
@pytest.mark.parametrize(
    'rate',
    [torch.tensor([0.1, 1.1, 0.0]), torch.tensor([0.1, float('nan'), 0.0]), torch.tensor([0.1])],
)
def test_probabilities_are_checked(name, rate):
    with pytest.raises(ConfigError, match=f'{name}: got .*accepted'):
        sample_flips(*csr(DENSE), 8, **{'p01': torch.zeros(3), 'p10': torch.zeros(3), name: rate})


def test_released_probability_at_the_ends():
    alpha = torch.tensor([0.0, 0.005, 1.0])
    assert torch.equal(released_flip_probability(alpha, float('inf')), alpha.double())
    assert torch.allclose(
        released_flip_probability(alpha, 1e-6),
        torch.full((3,), 0.5, dtype=torch.float64),
        atol=1e-6,
    )
    with pytest.raises(ConfigError, match='kappa: got 0'):
        released_flip_probability(alpha, 0)
