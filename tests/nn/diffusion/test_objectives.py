import math

import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import FlipProcess, ItemViews, SparseRows, flip_rates
from genrec_pyg.nn.diffusion.modality_terms import modality_contrast, signal_error
from genrec_pyg.nn.diffusion.objectives import (
    Bernoulli,
    Multinomial,
    SquaredError,
    binary_cross_entropy,
    focal_loss,
    multinomial_loss,
    sampled_multinomial,
    squared_error,
)
from genrec_pyg.nn.diffusion.variational import variational_loss
from genrec_pyg.nn.models.multimodal.genrec_released import ReleasedFocal

X = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]])
ROWS = SparseRows.from_dense(X)


@pytest.fixture
def logits():
    return torch.randn(3, 6, dtype=torch.float64, requires_grad=True)


def test_sampled_multinomial_of_all_items_is_the_multinomial_loss():
    torch.manual_seed(0)
    query = torch.randn(ROWS.num_rows, 4, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(ROWS.num_items, 4, dtype=torch.float64, requires_grad=True)
    loss, ones, others = sampled_multinomial(query, keys, ROWS, torch.arange(ROWS.num_items))
    logits = query @ keys.t()
    plain = multinomial_loss(logits, ROWS)
    assert torch.allclose(loss, plain, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(loss, (query, keys), retain_graph=True),
        torch.autograd.grad(plain, (query, keys)),
    ):
        assert torch.allclose(a, b, atol=1e-12)
    expected = logits.detach().softmax(dim=1)
    assert torch.allclose(ones, expected[ROWS.row(), ROWS.col.long()], atol=1e-12)
    expected[ROWS.row(), ROWS.col.long()] = 0
    assert torch.allclose(others, expected, atol=1e-12)


def test_sampled_normalizer_is_unbiased():
    """The mean of the estimated normalizer over samples is the normalizer."""
    torch.manual_seed(0)
    query, keys = torch.randn(1, 3, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    rows = SparseRows.from_dense((torch.arange(30) % 10 == 0).long().unsqueeze(0))
    exact = (query @ keys.t()).logsumexp(dim=1).exp()
    first = float(query @ keys[0])
    estimates = []
    for _ in range(4000):
        sample = torch.randperm(30)[:8].sort().values
        _, ones, _ = sampled_multinomial(query, keys, rows, sample)
        estimates.append(math.exp(first) / float(ones[0]))
    assert sum(estimates) / len(estimates) == pytest.approx(float(exact), rel=0.02)


def test_multinomial_by_hand():
    loss = multinomial_loss(torch.zeros(3, 6, dtype=torch.float64), ROWS)
    # two rows with ones, log 6 each
    assert float(loss) == pytest.approx(torch.tensor(6.0).log().item())


def test_multinomial_equals_plain_formula(logits):
    log_share = logits.log_softmax(dim=1)
    expected = (
        -((log_share[0, 0] + log_share[0, 2]) / 2 + (log_share[2, 1] + log_share[2, 5]) / 2) / 2
    )
    assert torch.allclose(multinomial_loss(logits, ROWS), expected)


def test_binary_cross_entropy_equals_torch(logits):
    expected = F.binary_cross_entropy_with_logits(logits, X.double(), reduction='sum') / 3
    assert torch.allclose(binary_cross_entropy(logits, ROWS), expected)


def test_focal_equals_plain_formula_and_its_weights_are_positive(logits):
    p, ones, zeros = logits.sigmoid(), 4, 14
    weight_one, weight_zero = 0.25 * 18 / ones, 0.75 * 18 / zeros
    assert weight_one * ones + weight_zero * zeros == pytest.approx(18)
    plain = torch.where(
        X == 1, -weight_one * (1 - p) ** 2 * p.log(), -weight_zero * p**2 * (1 - p).log()
    ).mean()
    assert torch.allclose(focal_loss(logits, ROWS), plain)
    assert float(focal_loss(torch.full((3, 6), 12.0), ROWS)) > float(
        focal_loss(torch.zeros(3, 6), ROWS)
    )


def test_squared_error_equals_plain_formula(logits):
    weight = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    error = (X - logits).square().mean(dim=1)
    assert torch.allclose(squared_error(logits, ROWS), error.mean())
    assert torch.allclose(squared_error(logits, ROWS, weight), (weight * error).mean())
    assert float(squared_error(X.double(), ROWS)) == 0
    assert torch.autograd.gradcheck(lambda z: squared_error(z, ROWS, weight), logits)


def test_signal_error_equals_plain_formula_and_reaches_the_estimate(logits):
    features, items = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    views = ItemViews(features * items, 1, torch.rand(6), features, items)
    expected = F.mse_loss(logits @ features, X.double() @ items)
    assert torch.allclose(signal_error(logits, ROWS, views), expected)
    same = views._replace(features=items)
    assert float(signal_error(X.double(), ROWS, same)) == pytest.approx(0.0, abs=1e-12)
    assert float(torch.autograd.grad(signal_error(logits, ROWS, views), logits)[0].abs().sum()) > 0


def test_released_focal_rewards_predicting_ones_everywhere():
    sparse = SparseRows.from_dense(torch.eye(40).long()[:10])
    everywhere = ReleasedFocal().loss(torch.full((10, 40), 10.0), sparse)
    assert (
        float(everywhere) < float(ReleasedFocal().loss(torch.zeros(10, 40), sparse))
        and float(everywhere) < 0
    )


@pytest.mark.parametrize('alpha', [0.0, 1.0, 260.0])
def test_focal_alpha_out_of_range(alpha, logits):
    with pytest.raises(ConfigError, match='focal alpha: got'):
        focal_loss(logits, ROWS, alpha)


def test_clean_probability_of_the_multinomial_is_the_chance_of_at_least_one_draw(logits):
    p = Multinomial().probability(logits, torch.tensor([2, 0, 5]))
    share = logits.softmax(dim=1)
    expected = torch.stack([1 - (1 - share[0]) ** 2, share[1], 1 - (1 - share[2]) ** 5])
    assert torch.allclose(p, expected)
    assert torch.equal(Bernoulli().probability(logits, ROWS.count()), logits.sigmoid())
    clean = SquaredError().probability(torch.tensor([[-0.2, 0.3, 1.4]]), ROWS.count())
    assert torch.equal(clean, torch.tensor([[0, 0.3, 1]]))


def test_variational_term_equals_plain_formula_and_vanishes_for_the_truth(logits):
    process = FlipProcess(num_steps=4)
    rates = flip_rates(0.2, 4, scale=10.0)
    noisy_dense = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1]])
    noisy = SparseRows.from_dense(noisy_dense)
    t = torch.tensor([1, 3, 0])
    posterior = torch.stack(
        [
            torch.zeros(2, 2, dtype=torch.float64),
            *(process.posterior(step, rates) for step in (1, 2, 3)),
        ]
    )
    p = logits.sigmoid()
    expected = 0.0
    for b in range(3):
        if t[b] == 0:
            continue
        table = process.posterior(int(t[b]), rates)
        for i in range(6):
            q = table[noisy_dense[b, i], X[b, i]]
            mixed = (1 - p[b, i]) * table[noisy_dense[b, i], 0] + p[b, i] * table[
                noisy_dense[b, i], 1
            ]
            kl = q * (q / mixed).log() + (1 - q) * ((1 - q) / (1 - mixed)).log()
            expected = expected + min(int(t[b]) / 4, 0.5) * kl
    assert torch.allclose(variational_loss(p, ROWS, noisy, t, posterior), expected / 3)
    truth = variational_loss(X.double(), ROWS, noisy, t, posterior)
    assert float(truth) == pytest.approx(0.0, abs=1e-9)
    assert torch.autograd.gradcheck(
        lambda z: variational_loss(z.sigmoid(), ROWS, noisy, t, posterior), logits
    )


def test_rows_without_ones_have_a_loss_and_a_gradient_of_zero():
    rows = SparseRows.from_dense(torch.zeros(2, 5))
    views = ItemViews(torch.randn(5, 4), 2, torch.rand(5))
    logits = torch.randn(2, 5, requires_grad=True)
    for loss in (
        multinomial_loss(logits, rows),
        modality_contrast(logits.softmax(dim=1) @ views.embedding, rows, views),
        sampled_multinomial(logits[:, :3], torch.randn(5, 3), rows, torch.tensor([0, 2]))[0],
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert float(loss) == 0 and not bool(gradient.any())
