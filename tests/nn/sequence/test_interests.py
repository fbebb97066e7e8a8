"""Numbers worked by hand, most of them checked against the program that the authors of BaM
released.
"""

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.sequence import (
    DynamicRouting,
    InterestSelection,
    SelfAttentiveInterests,
    routing_penalty,
    squash,
)

ROWS = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
MASK = torch.tensor([[True, True, True, False]])
START = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.0, 0.0]])


def close(found, expected, tolerance=2e-6):
    return torch.allclose(found, torch.tensor(expected), atol=tolerance)


def test_squash():
    z = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]], requires_grad=True)
    assert close(squash(z), [[0.576923, 0.769231], [0.3, 0.4], [0.0, 0.0]])
    squash(z).sum().backward()
    assert bool(torch.isfinite(z.grad).all())


def routing(rounds=3, **arguments):
    layer = DynamicRouting(2, 2, 4, rounds=rounds, **arguments)
    torch.nn.init.eye_(layer.bilinear.weight)
    return layer


@pytest.mark.parametrize(
    'rounds,expected',
    [
        (1, [[0.575146, 0.359246], [0.359246, 0.575146]]),
        (2, [[0.591932, 0.339261], [0.339261, 0.591932]]),
        (3, [[0.608739, 0.318623], [0.318623, 0.608739]]),
    ],
)
def test_routing_over_interests(rounds, expected):
    interests, weights = routing(rounds)(ROWS, MASK, START)
    assert close(interests[0], expected)
    if rounds == 1:
        assert close(weights[0], [[0.731059, 0.268941, 0.5, 0], [0.268941, 0.731059, 0.5, 0]])


def test_routing_over_positions_as_released():
    first = routing(1, axis='position', renormalize=False)(ROWS, MASK, START)[1]
    assert close(first[0], [[0.224515, 0.082595, 0.082595, 0], [0.174878, 0.475367, 0.174878, 0]])
    last = routing(3, axis='position', renormalize=False)(ROWS, MASK, START)[0]
    assert close(last[0], [[0.123258, 0.065107], [0.197619, 0.379710]])


@pytest.mark.parametrize(
    'arguments,changes',
    [({}, False), (dict(axis='position'), False), (dict(axis='position', renormalize=False), True)],
)
def test_whether_padding_takes_a_share(arguments, changes):
    other = START.clone()
    other[0, 3] = -5
    first, second = (routing(**arguments)(ROWS, MASK, start)[0] for start in (START, other))
    assert torch.allclose(first, second) != changes
    assert torch.allclose(
        routing(**arguments)(ROWS[:, :3], MASK[:, :3], START)[0], first, atol=1e-6
    )


def test_only_the_last_round_has_a_gradient_and_noise_repeats_in_evaluation():
    torch.manual_seed(0)
    rows = torch.randn(3, 4, 2, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    layer = DynamicRouting(2, 3, 4, relu_layer=True)
    interests, weights = layer(rows, mask)
    assert not weights.requires_grad
    interests.sum().backward()
    assert (
        bool(torch.isfinite(rows.grad).all())
        and not bool(rows.grad[2].any())
        and bool(rows.grad[0].any())
    )
    layer.eval()
    assert torch.equal(layer(rows, mask)[0], layer(rows, mask)[0])
    layer.train()
    assert not torch.equal(layer(rows, mask)[0], layer(rows, mask)[0])
    other = DynamicRouting(2, 3, 4, relu_layer=True)
    assert torch.equal(other.start, layer.start) and 'start' in layer.state_dict()


def attentive():
    layer = SelfAttentiveInterests(2, 2, 3)
    with torch.no_grad():
        layer.position.copy_(torch.tensor([[[0.5, 0.0], [0.0, 0.5], [9.0, 9.0]]]))
        layer.hidden.weight.zero_()
        layer.interest.weight.zero_()
        layer.hidden.weight[0, 0] = layer.hidden.weight[1, 1] = 1
        layer.interest.weight[0, 0], layer.interest.weight[1, 1] = 1, 2
    return layer


def test_self_attention():
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    layer = attentive()
    interests, attention = layer(rows, mask)
    assert close(attention[0], [[0.712006, 0.287994, 0], [0.140602, 0.859398, 0]])
    assert torch.allclose(interests[0], attention[0, :, :2], atol=1e-6)
    with torch.no_grad():
        layer.position[0, 2] = -3
    assert torch.equal(layer(rows, mask)[0], interests)


def test_a_history_of_padding_alone_gives_zeros_and_no_gradient():
    layer, rows = attentive(), torch.randn(2, 3, 2, requires_grad=True)
    interests = layer(rows, torch.tensor([[False] * 3, [True, False, False]]))[0]
    interests.sum().backward()
    assert not bool(interests[0].any()) and not bool(rows.grad[0].any())
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters())


#: Interests whose products with the target are 2 and 1.
INTERESTS, TARGET = torch.tensor([[[2.0, 0.0], [1.0, 5.0]]]), torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize(
    'tau,expected', [(0, 0.5), (0.5, 0.622459), (1, 0.731059), (2, 0.880797), (10, 0.999955)]
)
def test_soft_selection(tau, expected):
    share = InterestSelection('p', 2, tau=tau).shares(INTERESTS, TARGET)
    assert close(share, [[expected, 1 - expected]])


def test_selection_by_name():
    torch.manual_seed(0)
    assert InterestSelection('hard', 2)(INTERESTS, TARGET).index.tolist() == [0]
    # ties
    assert InterestSelection('hard', 2)(
        INTERESTS[:, :1].expand(1, 3, 2), TARGET
    ).index.tolist() == [0]
    assert close(InterestSelection('uniform', 2, tau=5).shares(INTERESTS, TARGET), [[0.5, 0.5]])
    many = InterestSelection('p', 2)(
        INTERESTS.expand(100_000, 2, 2), TARGET.expand(100_000, 2)
    ).index
    assert abs(float((many == 0).float().mean()) - 0.731059) < 0.006
    layer = InterestSelection('l', 2, tau=2.0)
    a, b = layer.of_interest, layer.of_target
    expected = (
        (2 * (INTERESTS @ a.weight.t() + a.bias) @ (TARGET @ b.weight.t() + b.bias).t())
        .squeeze(2)
        .softmax(dim=1)
    )
    assert torch.allclose(layer.shares(INTERESTS, TARGET), expected, atol=1e-6)


@pytest.mark.parametrize('kind', ['hard', 'p', 'l', 'uniform'])
def test_interests_that_a_user_does_not_have_are_never_chosen(kind):
    torch.manual_seed(0)
    valid = torch.tensor([[False, True]]).expand(50, 2)
    chosen = InterestSelection(kind, 2, tau=0.0)(
        INTERESTS.expand(50, 2, 2), TARGET.expand(50, 2), valid
    )
    assert bool((chosen.index == 1).all()) and close(chosen.share, [[0.0, 1.0]] * 50)


def test_gradient_of_the_maps():
    for projection, learned in (('frozen', False), ('learned', True)):
        layer = InterestSelection('l', 2, projection=projection)
        share = layer.shares(INTERESTS.clone().requires_grad_(), TARGET)
        assert share.requires_grad == learned
        if learned:
            share[0, 0].backward()
            assert all(
                p.grad is not None for p in layer.parameters() if p is not layer.of_interest.bias
            )
        else:
            assert not any(p.requires_grad for p in layer.parameters())


def test_routing_penalty():
    attention = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]])
    assert float(routing_penalty(attention, 64)) == pytest.approx(1.525879e-4, rel=1e-5)
    assert float(routing_penalty(attention.expand(2, 2, 4), 64)) == pytest.approx(
        3.051758e-4, rel=1e-5
    )
    mask = torch.tensor([[True, True, False, False]])
    assert float(routing_penalty(attention, 64, mask)) == pytest.approx(6.103516e-5, rel=1e-5)
    assert float(routing_penalty(attention[:, :1], 64, mask)) == 0


@pytest.mark.parametrize(
    'make,message',
    [
        (lambda: InterestSelection('best', 2), "selection: got 'best'"),
        (lambda: InterestSelection('p', 2, tau=-1), 'tau: got'),
        (lambda: InterestSelection('l', 2, projection='x'), 'projection: got'),
        (lambda: InterestSelection('l', 2, projection_channels=0), 'projection_channels: got'),
        (lambda: DynamicRouting(2, 2, 2, rounds=0), 'routing_rounds: got'),
        (lambda: DynamicRouting(2, 2, 2, axis='x'), 'routing_axis: got'),
        (lambda: DynamicRouting(2, 2, 2, std=0), 'routing_std'),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
