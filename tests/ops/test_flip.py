import pytest
import torch

from genrec_pyg.ops import flip_dense, released_flip_probability, sample_flips

DENSE = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])


def csr(dense):
    return torch.cat([torch.zeros(1, dtype=torch.long), dense.sum(dim=1).cumsum(0)]), dense.nonzero()[:, 1]


def densify(rowptr, col, num_cols):
    x = torch.zeros(rowptr.numel() - 1, num_cols)
    row = torch.repeat_interleave(rowptr.diff())
    x[row, col] += 1
    assert float(x.max()) <= 1 or x.numel() == 0
    return x


@pytest.mark.parametrize('kappa,expected', [(1, 0.3810), (10, 0.0718), (100, 0.0097)])
def test_released_probability_by_hand(kappa, expected):
    assert float(released_flip_probability(torch.tensor(0.005), kappa)) == pytest.approx(expected, abs=5e-5)


def test_released_probability_tends_to_the_rate():
    alpha = torch.tensor([0.005, 0.3, 0.9])
    assert torch.allclose(released_flip_probability(alpha, 1e6).float(), alpha, atol=1e-5)


def test_released_probability_is_the_marginal_of_two_draws():
    torch.manual_seed(0)
    for kappa in (1.0, 10.0):
        inner = torch.sigmoid((0.2 - torch.rand(400_000)) * kappa)
        assert float(torch.bernoulli(inner).mean()) == pytest.approx(
            float(released_flip_probability(torch.tensor(0.2), kappa)), abs=0.004)


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
    assert torch.allclose(sparse.mean(dim=0), expected, atol=0.03) and torch.allclose(dense.mean(dim=0), expected, atol=0.03)
    # entries are independent: the variance of the number of ones is the sum of the variances
    variance = (expected * (1 - expected)).sum(dim=1)
    assert torch.allclose(sparse.sum(dim=2).var(dim=0), variance, rtol=0.12)


def test_columns_ascend_and_rates_differ_by_row():
    torch.manual_seed(0)
    rowptr, col = sample_flips(*csr(torch.zeros(2, 1000, dtype=torch.long)), 1000, torch.tensor([0.0, 0.09]), torch.zeros(2))
    assert int(rowptr[1]) == 0 and 50 < int(rowptr[2]) < 140
    assert bool((col.diff() > 0).all())


def test_no_rows():
    rowptr, col = sample_flips(torch.zeros(1, dtype=torch.long), torch.empty(0, dtype=torch.long), 5, torch.empty(0), torch.empty(0))
    assert rowptr.tolist() == [0] and col.numel() == 0
