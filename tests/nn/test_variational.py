import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.variational import Gaussian, product_of_experts


def normal(mean, variance):
    return Gaussian(
        torch.tensor([[mean]], dtype=torch.float64),
        torch.tensor([[variance]], dtype=torch.float64).log(),
    )


@pytest.mark.parametrize(
    'experts, mean, variance',
    [
        ([(0, 1), (1, 1)], 0.5, 0.5),
        ([(0, 1), (2, 4)], 0.4, 0.8),
        ([(0, 1), (2, 4), (1, 0.5)], 0.769231, 0.307692),
        ([(3, 0.6)] * 3, 3, 0.2),
        ([(2, 5)], 2, 5),
    ],
)
def test_product_by_hand_in_any_order_and_in_stages(experts, mean, variance):
    experts = [normal(float(m), float(v)) for m, v in experts]
    for order in (experts, experts[::-1]):
        found = product_of_experts(order)
        assert found.mean.item() == pytest.approx(mean, abs=1e-6)
        assert found.log_variance.exp().item() == pytest.approx(variance, abs=1e-6)
    if len(experts) == 3:
        staged = product_of_experts([product_of_experts(experts[:2]), experts[2]])
        assert staged.mean.item() == pytest.approx(mean, abs=1e-6)


def test_an_expert_that_is_absent_is_left_out_and_no_expert_is_the_standard_normal():
    experts = [
        Gaussian(torch.full((3, 1), 3.0), torch.zeros(3, 1)),
        Gaussian(torch.zeros(3, 1), torch.zeros(3, 1)),
    ]
    masks = [torch.tensor([[True], [True], [False]]), torch.tensor([[True], [False], [False]])]
    found = product_of_experts(experts, masks)
    assert found.mean.view(-1).tolist() == pytest.approx([1.5, 3, 0])
    assert found.log_variance.exp().view(-1).tolist() == pytest.approx([0.5, 1, 1])
    assert bool(torch.isfinite(torch.stack([*found])).all())


@pytest.mark.parametrize(
    'mean, log_variance, expected',
    [
        (0, 0, 0),
        (1, 0, 0.5),
        (0, math.log(2), 0.153426),
        (-2, math.log(0.25), 2.318147),
        (0, 12, 11007.732897),
    ],
)
def test_distance_from_the_standard_normal_by_hand(mean, log_variance, expected):
    gaussian = Gaussian(
        torch.full((1, 1), float(mean)).double(), torch.full((1, 1), float(log_variance)).double()
    )
    assert gaussian.kl().item() == pytest.approx(expected, abs=1e-6)
    both = Gaussian(gaussian.mean.expand(1, 3), gaussian.log_variance.expand(1, 3))
    assert both.kl().item() == pytest.approx(3 * expected, abs=3e-6)


def test_samples_have_the_moments_asked_for():
    gaussian = Gaussian(torch.full((200_000, 1), 2.0), torch.full((200_000, 1), math.log(4.0)))
    sample = gaussian.sample(0.5)
    assert sample.mean().item() == pytest.approx(
        2, abs=0.02
    ) and sample.std().item() == pytest.approx(1, rel=0.02)
    cut = Gaussian(gaussian.mean, torch.full_like(gaussian.mean, 50.0)).sample(
        1.0, max_log_variance=0.0
    )
    assert cut.std().item() == pytest.approx(1, rel=0.02)
    assert torch.equal(gaussian.sample(0.0), gaussian.mean)


def test_gradients_pass_product_sample_and_distance():
    def value(*columns):
        torch.manual_seed(0)
        experts = [Gaussian(*columns[:2]), Gaussian(*columns[2:])]
        product = product_of_experts(experts)
        return product.sample(0.1).sum(), product.kl().sum()

    assert torch.autograd.gradcheck(
        value, [torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    )


def test_no_expert_is_an_error():
    with pytest.raises(ConfigError, match='experts: got none'):
        product_of_experts([])
