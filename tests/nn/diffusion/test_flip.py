import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import FlipProcess, SparseRows, cumulative_flips, flip_rates


def rows_from(x):
    return SparseRows.from_dense(torch.tensor(x))


def test_rates_decay_to_a_tenth_and_are_bounded():
    rates = flip_rates(density=0.2, num_steps=5)
    assert rates.gamma[0].item() == pytest.approx(0.1 * 0.2 + 0.001)
    assert rates.gamma[-1].item() == pytest.approx(rates.gamma[0].item() / 10)
    assert rates.epsilon[0].item() == pytest.approx(0.005 * 0.8 + 0.0001)
    assert rates.epsilon[-1].item() == pytest.approx(rates.epsilon[0].item() / 10)
    assert float(flip_rates(0.0, scale=100.0).epsilon.max()) == 0.01


@pytest.mark.parametrize('scale', [-1.0, 1000.0])
def test_rates_that_are_no_noise_are_refused(scale):
    with pytest.raises(ConfigError, match='noise_scale: got'):
        flip_rates(0.1, scale=scale)


def test_cumulative_flips_equal_the_matrix_product():
    gamma = torch.tensor([0.1, 0.05, 0.2], dtype=torch.float64)
    epsilon = torch.tensor([0.3, 0.02, 0.1], dtype=torch.float64)
    up, down = cumulative_flips(gamma, epsilon)
    product = torch.eye(2, dtype=torch.float64)
    for t in range(3):
        step = torch.stack(
            [torch.stack([1 - gamma[t], gamma[t]]), torch.stack([epsilon[t], 1 - epsilon[t]])]
        )
        product = product @ step
        assert product.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
        assert up[t].item() == pytest.approx(product[0, 1].item(), abs=1e-14)
        assert down[t].item() == pytest.approx(product[1, 0].item(), abs=1e-14)


def test_without_return_path_the_cumulative_flip_is_one_minus_the_product():
    gamma = torch.tensor([0.1, 0.05, 0.2], dtype=torch.float64)
    up, down = cumulative_flips(gamma, torch.zeros_like(gamma))
    assert torch.allclose(up, 1 - (1 - gamma).cumprod(0))
    assert bool((down == 0).all())


def test_posterior_equals_enumeration_of_the_chain():
    process = FlipProcess(num_steps=4)
    rates = flip_rates(0.3, 4, scale=8.0)
    for t in range(1, 4):
        table = process.posterior(t, rates)
        for x_0 in range(2):
            prior_one = rates.gamma_bar[t - 1] if x_0 == 0 else 1 - rates.epsilon_bar[t - 1]
            for x_t in range(2):
                from_one = (1 - rates.epsilon[t]) if x_t == 1 else rates.epsilon[t]
                from_zero = rates.gamma[t] if x_t == 1 else 1 - rates.gamma[t]
                joint_one, joint_zero = prior_one * from_one, (1 - prior_one) * from_zero
                assert table[x_t, x_0].item() == pytest.approx(
                    (joint_one / (joint_one + joint_zero)).item(), abs=1e-12
                )


def test_posterior_without_noise_is_the_clean_value():
    table = FlipProcess(num_steps=3).posterior(1, flip_rates(0.1, 3, scale=0.0))
    assert table.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_noiseless_reverse_chain_with_a_perfect_prediction_returns_the_clean_rows():
    process = FlipProcess(num_steps=5, scale=0.0)
    clean = rows_from([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    rates = process.rates(clean)
    state = process.diffuse(clean, torch.full((3,), 4), rates)
    for t in range(4, 0, -1):
        state = process.reverse(state, clean.dense(), t, rates)
        assert torch.equal(state.dense(), clean.dense())


def test_reverse_draws_follow_the_mixed_posterior():
    torch.manual_seed(0)
    process = FlipProcess(num_steps=3, scale=15.0)
    state = rows_from([[1, 0]] * 20_000)
    rates = process.rates(rows_from([[1, 0, 0, 0]]))
    probability = torch.tensor([0.3, 0.6]).expand(20_000, 2).contiguous()
    drawn = process.reverse(state, probability, 2, rates).dense().mean(dim=0)
    table = process.posterior(2, rates)
    expected = [
        float(0.7 * table[1, 0] + 0.3 * table[1, 1]),
        float(0.4 * table[0, 0] + 0.6 * table[0, 1]),
    ]
    assert drawn.tolist() == pytest.approx(expected, abs=0.015)


def test_reverse_without_drawing_takes_the_likelier_value():
    process = FlipProcess(num_steps=3, scale=15.0, sample_noise=False)
    state = rows_from([[1, 0, 1, 0]])
    rates = process.rates(rows_from([[1, 0, 0, 0]]))
    estimate = torch.tensor([[0.9, 0.1, 0.001, 0.95]])
    table = process.posterior(2, rates)
    expected = [
        float((1 - p) * table[x, 0] + p * table[x, 1]) > 0.5
        for x, p in zip((1, 0, 1, 0), estimate[0].tolist())
    ]
    found = process.reverse(state, estimate, 2, rates)
    assert found.dense()[0].bool().tolist() == expected and sum(expected) == 2


def test_forward_marginals():
    torch.manual_seed(0)
    process = FlipProcess(num_steps=2, scale=10.0)
    clean = rows_from([[1, 0, 0, 1, 0]] * 20_000)
    rates = process.rates(clean)
    noisy = process.diffuse(clean, torch.ones(20_000, dtype=torch.long), rates).dense().mean(dim=0)
    up, keep = float(rates.gamma_bar[1]), 1 - float(rates.epsilon_bar[1])
    assert noisy.tolist() == pytest.approx([keep, up, up, keep, up], abs=0.015)


@pytest.mark.parametrize('arguments', [dict(weighting='best'), dict(num_steps=0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        FlipProcess(**arguments)


def test_rows_round_trip():
    x = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]])
    rows = SparseRows.from_dense(x)
    assert torch.equal(rows.dense(), x.float())
    assert rows.count().tolist() == [2, 0, 2]
    assert rows.row().tolist() == [0, 0, 2, 2]
