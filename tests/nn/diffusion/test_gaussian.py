import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import GaussianProcess, SparseRows, gaussian_rates
from genrec_pyg.nn.diffusion.gaussian import posterior_rates

CLEAN = SparseRows.from_dense(torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]]))


def test_rates_follow_the_linear_variance_schedule():
    rates = gaussian_rates()
    variance = 0.1 * torch.linspace(1e-4, 0.02, 5, dtype=torch.float64)
    assert rates.beta[0].item() == 1e-4
    for t in range(1, 5):
        expected = 1 - (1 - variance[t]) / (1 - variance[t - 1])
        assert rates.beta[t].item() == pytest.approx(expected.item(), rel=1e-12)
    assert bool((rates.alpha_bar.diff() < 0).all())
    # Replacing the first rate moves every later share by one factor.
    assert torch.allclose(
        rates.alpha_bar, (1 - variance) * (1 - 1e-4) / (1 - variance[0]), atol=1e-14, rtol=0
    )
    assert float(gaussian_rates(2, scale=1.0, first=0.0, last=0.9999).beta[1]) == 0.999


def test_marginals_are_the_composition_of_the_steps():
    rates = gaussian_rates(4, scale=200.0)
    mean, variance = 1.0, 0.0
    for t in range(4):
        beta = rates.beta[t].item()
        mean, variance = mean * math.sqrt(1 - beta), (1 - beta) * variance + beta
        assert math.sqrt(rates.alpha_bar[t].item()) == pytest.approx(mean, rel=1e-12)
        assert 1 - rates.alpha_bar[t].item() == pytest.approx(variance, rel=1e-12)


def test_draws_have_the_marginal_mean_and_variance():
    torch.manual_seed(0)
    process = GaussianProcess(num_steps=3, scale=200.0)
    rows = SparseRows.from_dense(torch.tensor([[1, 0, 0, 1, 0]] * 20_000))
    rates = process.rates(rows)
    t = torch.arange(20_000) % 3
    noisy = process.diffuse(rows, t, rates)
    for step in range(3):
        left = rates.alpha_bar[step].item()
        drawn = noisy[t == step]
        assert drawn.mean(dim=0).tolist() == pytest.approx(
            [math.sqrt(left) * x for x in (1, 0, 0, 1, 0)], abs=0.03
        )
        assert drawn.var(dim=0).tolist() == pytest.approx([1 - left] * 5, rel=0.06)


@pytest.mark.parametrize('t', [1, 2, 3])
def test_posterior_is_bayes_rule_on_a_grid(t):
    process = GaussianProcess(num_steps=4, scale=300.0)
    rates = process.rates(CLEAN)
    alpha, before = 1 - rates.beta[t], rates.alpha_bar[t - 1]
    x = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    for x_0, x_t in ((0.0, 0.4), (1.0, -0.3), (1.0, 1.2)):
        log_density = -(x_t - alpha.sqrt() * x).square() / (2 * rates.beta[t]) - (
            x - before.sqrt() * x_0
        ).square() / (2 * (1 - before))
        density = log_density.softmax(dim=0)
        mean = (density * x).sum()
        clean, noisy, variance = process.posterior(t, rates)
        assert clean * x_0 + noisy * x_t == pytest.approx(mean.item(), abs=1e-9)
        assert variance == pytest.approx((density * (x - mean).square()).sum().item(), rel=1e-6)


def test_posterior_by_hand():
    """Two steps of variance 1/2: x_1 given x_0 has mean x_0 / sqrt 2 and precision 2; x_2 says sqrt
    2 x_2 with precision 1. So the posterior has precision 3 and mean (2 x_0 / sqrt 2 + sqrt 2 x_2)
    / 3.
    """
    rates = posterior_rates(torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert rates.alpha_bar.tolist() == [0.5, 0.25]
    clean, noisy, variance = GaussianProcess(2).posterior(1, rates)
    assert clean == pytest.approx(math.sqrt(2) / 3) and noisy == pytest.approx(math.sqrt(2) / 3)
    assert variance == pytest.approx(1 / 3)


def test_posterior_of_the_first_step_is_the_estimate():
    process = GaussianProcess()
    assert process.posterior(0, process.rates(CLEAN)) == pytest.approx((1.0, 0.0, 0.0))


@pytest.mark.parametrize('scale', [0.0, 1.0, 100.0])
def test_chain_with_a_perfect_estimate_ranks_the_clean_entries_first(scale):
    process = GaussianProcess(scale=scale, sample_noise=False)
    rates, state = process.rates(CLEAN), CLEAN
    for t in range(4, 0, -1):
        state = process.reverse(state, CLEAN.dense(), t, rates)
        assert bool(torch.isfinite(state).all())
        assert bool(state[CLEAN.dense() == 1].min() > state[CLEAN.dense() == 0].max())


def test_reverse_takes_the_mean_or_draws_around_it():
    torch.manual_seed(0)
    rows = SparseRows.from_dense(torch.tensor([[1, 0]] * 40_000))
    estimate = torch.tensor([0.3, 0.6]).expand(40_000, 2)
    rates = gaussian_rates(scale=300.0)
    mean = GaussianProcess(sample_noise=False).reverse(rows, estimate, 2, rates)
    clean, noisy, variance = GaussianProcess().posterior(2, rates)
    assert torch.allclose(mean[0], torch.tensor([0.3 * clean + noisy, 0.6 * clean]))
    assert torch.equal(
        mean, GaussianProcess(sample_noise=False).reverse(rows.dense(), estimate, 2, rates)
    )
    drawn = GaussianProcess().reverse(rows, estimate, 2, rates)
    assert drawn.mean(dim=0).tolist() == pytest.approx(mean[0].tolist(), abs=0.01)
    assert drawn.var(dim=0).tolist() == pytest.approx([variance] * 2, rel=0.05)


def test_variational_term_is_the_divergence_of_the_posteriors():
    process = GaussianProcess(num_steps=4, scale=100.0)
    rates, t = process.rates(CLEAN), torch.tensor([1, 3, 0])
    estimate = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    noisy = torch.randn(3, 5, dtype=torch.float64)
    expected = 0.0
    for b in range(2):  # rows at the first step are left out
        clean, weight, variance = process.posterior(int(t[b]), rates)
        pair = [
            torch.distributions.Normal(clean * x + weight * noisy[b], variance**0.5)
            for x in (CLEAN.dense()[b].double(), estimate[b])
        ]
        expected = (
            expected + min(int(t[b]) / 4, 0.5) * torch.distributions.kl_divergence(*pair).sum()
        )
    assert torch.allclose(process.variational(estimate, CLEAN, noisy, t, rates), expected / 3)
    assert float(process.variational(CLEAN.dense(), CLEAN, noisy, t, rates)) == 0
    assert torch.autograd.gradcheck(
        lambda x: process.variational(x, CLEAN, noisy, t, rates), estimate
    )


def test_weights_are_falls_of_the_signal_to_noise_ratio():
    process = GaussianProcess(scale=10.0)
    rates = process.rates(CLEAN)
    ratio = rates.alpha_bar / (1 - rates.alpha_bar)
    weight = process.step_weight(CLEAN, rates)
    assert weight[0] == 1 and bool((weight > 0).all())
    assert weight[1:].sum().item() == pytest.approx((ratio[0] - ratio[-1]).item())
    assert torch.allclose(weight[1:], -ratio.diff())


@pytest.mark.parametrize(
    'function,arguments',
    [
        (GaussianProcess, dict(num_steps=0)),
        (GaussianProcess, dict(weighting='kl')),
        (GaussianProcess, dict(scale=500.0)),
        (GaussianProcess, dict(scale=-1.0)),
        (gaussian_rates, dict(first=0.1)),
    ],
)
def test_bad_arguments_are_named(function, arguments):
    name = next(iter(arguments)).replace('scale', 'noise_scale')
    with pytest.raises(ConfigError, match=f'{name}: got'):
        function(**arguments)
