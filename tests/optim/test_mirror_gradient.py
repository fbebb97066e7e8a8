import copy
import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.optim import MirrorGradient

OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: torch.optim.Adam(p, lr=0.05, fused=True),
    lambda p: torch.optim.AdamW(p, lr=0.05),
    lambda p: torch.optim.RMSprop(p, lr=0.01),
]


def quadratic(optimizer, theta, curvature):
    def closure():
        optimizer.zero_grad()
        loss = 0.5 * curvature * theta.square().sum()
        loss.backward()
        return loss

    return closure


def regression(seed=0):
    """A small network with dropout, its data and a function that runs steps with an optimizer."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    x, y = torch.randn(32, 4), torch.randn(32, 1)

    def run(optimizer, steps, clip=None, scheduler=None):
        for _ in range(steps):

            def closure():
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                loss.backward()
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
                return loss

            optimizer.step(closure)
            if scheduler is not None:
                scheduler.step()

    return model, run


@pytest.mark.parametrize('alpha1,alpha2', [(1.0, 0.2), (0.7, 0.3), (1.0, 0.0)])
def test_two_steps_by_hand(alpha1, alpha2):
    eta, k = 0.1, 3.0
    theta = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = MirrorGradient(torch.optim.SGD([theta], lr=eta), alpha1, alpha2, interval=1)
    loss = optimizer.step(quadratic(optimizer, theta, k))
    expected = (
        torch.tensor([2.0, -1.0], dtype=torch.float64)
        * (1 - eta * alpha1 * k)
        * (1 + eta * alpha2 * k)
    )
    assert torch.allclose(theta.detach(), expected, rtol=1e-14)
    assert float(loss) == pytest.approx(0.5 * k * 5.0)


def test_only_every_third_batch_is_mirrored():
    eta, k = 0.1, 2.0
    theta = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = MirrorGradient(torch.optim.SGD([theta], lr=eta), 1.0, 0.5, interval=3)
    plain, mirrored = 1 - eta * k, (1 - eta * k) * (1 + eta * 0.5 * k)
    expected = 1.0
    for factor in (mirrored, plain, plain, mirrored, plain):
        optimizer.step(quadratic(optimizer, theta, k))
        expected *= factor
        assert float(theta) == pytest.approx(expected, rel=1e-12)
    optimizer.start_epoch()
    optimizer.step(quadratic(optimizer, theta, k))
    assert float(theta) == pytest.approx(expected * mirrored, rel=1e-12)


def test_second_order_effect_is_a_penalty_on_the_gradient_norm():
    """theta'' agrees to O(eta^3) with a gradient step on L + eta a1 a2 / (2 (a1 - a2)) |grad L|^2
    at rate eta (a1 - a2).
    """

    def loss(x):
        return x.pow(4).sum() + (x[0] * x[1]).sin()

    start, a1, a2 = torch.tensor([0.7, -0.4], dtype=torch.float64), 1.0, 0.3

    def error(eta):
        theta = start.clone().requires_grad_()
        optimizer = MirrorGradient(torch.optim.SGD([theta], lr=eta), a1, a2, interval=1)

        def closure():
            optimizer.zero_grad()
            value = loss(theta)
            value.backward()
            return value

        optimizer.step(closure)
        x = start.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(x), x, create_graph=True)[0]
        penalized = loss(x) + eta * a1 * a2 / (2 * (a1 - a2)) * gradient.square().sum()
        descended = start - eta * (a1 - a2) * torch.autograd.grad(penalized, x)[0]
        return float((theta.detach() - descended).abs().max())

    assert error(1e-2) / error(5e-3) > 7  # third order: halving eta divides the difference by 8


def test_prefers_the_flat_of_two_basins():
    """Two equally deep minima, curvature 100 at -1 and 1 at +1. At this rate plain steps inside the
    sharp basin stay there (|1 - 1.8| < 1); mirrored ones leave it (0.8 * (1 + 0.2 * 1.8) > 1) and
    settle in the flat one.
    """

    def ends(alpha2):
        theta = torch.linspace(-1.15, -0.85, 50).requires_grad_()
        optimizer = MirrorGradient(torch.optim.SGD([theta], lr=0.018), 1.0, alpha2, interval=1)

        def closure():
            optimizer.zero_grad()
            loss = torch.minimum(50 * (theta + 1).square(), 0.5 * (theta - 1).square()).sum()
            loss.backward()
            return loss

        for _ in range(600):
            optimizer.step(closure)
        return theta.detach()

    assert torch.allclose(ends(0.0), torch.tensor(-1.0), atol=1e-3)
    assert torch.allclose(ends(0.2), torch.tensor(1.0), atol=1e-3)


@pytest.mark.parametrize('make', OPTIMIZERS)
def test_zero_strength_is_the_wrapped_optimizer_bit_for_bit(make):
    results = []
    for wrap in (False, True):
        model, run = regression()
        optimizer = make(model.parameters())
        torch.manual_seed(1)
        run(MirrorGradient(optimizer, 1.0, 0.0) if wrap else optimizer, 7)
        results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize('make', OPTIMIZERS)
def test_resume_is_bit_for_bit(make):
    model, run = regression()
    optimizer = MirrorGradient(make(model.parameters()), alpha2=0.3, interval=3)
    torch.manual_seed(1)
    run(optimizer, 4)
    saved = copy.deepcopy(optimizer.state_dict())
    weights = copy.deepcopy(model.state_dict())
    rng = torch.get_rng_state()
    run(optimizer, 4)
    straight = [p.detach().clone() for p in model.parameters()]
    model.load_state_dict(weights)
    resumed = MirrorGradient(make(model.parameters()), alpha2=0.3, interval=3)
    resumed.load_state_dict(saved)
    torch.set_rng_state(rng)
    run(resumed, 4)
    assert resumed.batch == optimizer.batch == 8
    assert all(torch.equal(a, b) for a, b in zip(straight, model.parameters()))


def test_adam_counts_two_steps_and_keeps_one_state():
    model, run = regression()
    adam = torch.optim.Adam(model.parameters())
    optimizer = MirrorGradient(adam, interval=2)
    run(optimizer, 3)
    assert optimizer.state is adam.state and {float(s['step']) for s in adam.state.values()} == {
        5.0
    }


@pytest.mark.parametrize('around', ['wrapper', 'wrapped'])
def test_learning_rate_schedulers_act(around):
    model, run = regression()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = MirrorGradient(sgd)
    scheduler = torch.optim.lr_scheduler.StepLR(
        optimizer if around == 'wrapper' else sgd, step_size=1, gamma=0.5
    )
    run(optimizer, 3, scheduler=scheduler)
    assert sgd.param_groups[0]['lr'] == optimizer.param_groups[0]['lr'] == 0.125


@pytest.mark.parametrize(
    'make',
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=8),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, total_iters=2),
                torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
            ],
            milestones=[3],
        ),
    ],
    ids=['one cycle', 'warm restarts', 'sequence'],
)
def test_schedulers_around_the_wrapper_do_what_they_do_around_the_optimizer(make, recwarn):
    """Also to momenta, which OneCycleLR moves, and on through a resumption between two mirrored
    batches.
    """
    results = []
    for wrap, stop in ((False, None), (True, None), (True, 4)):
        model, run = regression()
        torch.manual_seed(1)

        def optimizer_and_scheduler(model=model, wrap=wrap):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
            optimizer = MirrorGradient(optimizer, 1.0, 0.0) if wrap else optimizer
            return optimizer, make(optimizer)

        optimizer, scheduler = optimizer_and_scheduler()
        run(optimizer, 7 if stop is None else stop, scheduler=scheduler)
        if stop is not None:
            states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
            optimizer, scheduler = optimizer_and_scheduler()
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
            run(optimizer, 7 - stop, scheduler=scheduler)
        results.append(
            [
                *(p.detach().clone() for p in model.parameters()),
                torch.tensor([optimizer.param_groups[0][key] for key in ('lr', 'momentum')]),
            ]
        )
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*results))
    # "call optimizer.step() before scheduler.step()"
    assert not [w for w in recwarn if 'optimizer.step' in str(w.message)]


def test_reduce_on_plateau_takes_the_wrapper():
    model, run = regression()
    optimizer = MirrorGradient(torch.optim.SGD(model.parameters(), lr=1.0))
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    for loss in (1.0, 1.0):
        run(optimizer, 1)
        scheduler.step(loss)
    assert optimizer.optimizer.param_groups[0]['lr'] == pytest.approx(0.1)


def test_a_state_loaded_into_the_wrapped_optimizer_is_seen():
    model, run = regression()
    sgd = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    optimizer = MirrorGradient(sgd)
    run(optimizer, 1)
    saved = copy.deepcopy(sgd.state_dict())
    saved['param_groups'][0]['lr'] = 0.25
    sgd.load_state_dict(saved)
    assert optimizer.param_groups is sgd.param_groups and optimizer.state is sgd.state
    assert optimizer.param_groups[0]['lr'] == 0.25


def test_bfloat16_autocast():
    """Parameters stay float32 and follow the float32 path to bfloat16's precision."""
    ends = []
    for enabled in (False, True):
        torch.manual_seed(0)
        layer, x, y = torch.nn.Linear(8, 1), torch.randn(64, 8), torch.randn(64, 1)
        optimizer = MirrorGradient(torch.optim.Adam(layer.parameters(), lr=0.02), alpha2=0.3)

        def closure(optimizer=optimizer, enabled=enabled, layer=layer, x=x, y=y):
            optimizer.zero_grad()
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
                loss = (layer(x) - y).square().mean()
            loss.backward()
            return loss

        for _ in range(30):
            optimizer.step(closure)
        ends.append(layer.weight.detach())
    assert ends[1].dtype == torch.float32 and not torch.equal(*ends)
    assert torch.allclose(*ends, atol=0.02) and float(ends[0].abs().max()) > 0.1


def test_gradients_accumulated_over_parts_of_a_batch():
    """A closure may call backward several times: the step is that of the whole batch."""
    ends = []
    for parts in (1, 4):
        torch.manual_seed(0)
        layer, x = torch.nn.Linear(3, 1).double(), torch.randn(8, 3, dtype=torch.float64)
        optimizer = MirrorGradient(torch.optim.SGD(layer.parameters(), lr=0.1), interval=2)

        def closure(optimizer=optimizer, layer=layer, x=x, parts=parts):
            optimizer.zero_grad()
            losses = [layer(part).square().sum() / len(x) for part in x.chunk(parts)]
            for loss in losses:
                loss.backward()
            return sum(losses).detach()

        for _ in range(5):
            optimizer.step(closure)
        ends.append(layer.weight.detach())
    assert torch.allclose(*ends, rtol=1e-12)


def test_clipping_in_the_closure_applies_to_both_steps():
    theta = torch.tensor([10.0], requires_grad=True)
    optimizer = MirrorGradient(torch.optim.SGD([theta], lr=1.0), 1.0, 0.25, interval=1)

    def closure():
        optimizer.zero_grad()
        loss = 50 * theta.square().sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([theta], 1.0)
        return loss

    optimizer.step(closure)
    assert float(theta) == pytest.approx(10 - 1 + 0.25, rel=1e-5)


def test_bfloat16_parameters_sparse_gradients_and_missing_gradients():
    torch.manual_seed(0)
    table = torch.nn.Embedding(5, 2, sparse=True)
    unused = torch.nn.Parameter(torch.ones(2))
    half = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    before = table.weight.detach().clone()
    optimizer = MirrorGradient(
        torch.optim.SGD([table.weight, unused, half], lr=0.5), 1.0, 0.5, interval=1
    )

    def closure():
        optimizer.zero_grad()
        loss = table(torch.tensor([1, 3])).sum() + half.float().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = before.clone()
    expected[[1, 3]] -= 0.5 * (1 - 0.5)
    assert torch.allclose(table.weight, expected) and torch.equal(unused, torch.ones(2))
    assert torch.allclose(half.float(), torch.full((2,), 0.75), atol=1e-2)


def test_copy_and_new_groups():
    model, run = regression()
    optimizer = MirrorGradient(torch.optim.Adam(model.parameters()), alpha2=0.1, interval=2)
    run(optimizer, 1)
    other = copy.deepcopy(optimizer)
    assert (other.batch, other.alpha2, other.interval) == (
        1,
        0.1,
        2,
    ) and other.param_groups is other.optimizer.param_groups
    optimizer.add_param_group({'params': [torch.nn.Parameter(torch.zeros(1))], 'lr': 0.5})
    assert len(optimizer.optimizer.param_groups) == len(optimizer.param_groups) == 2
    assert repr(optimizer) == 'MirrorGradient(Adam, alpha1=1.0, alpha2=0.1, interval=2)'


@pytest.mark.parametrize(
    'arguments',
    [
        dict(alpha1=0.2, alpha2=0.2),
        dict(alpha2=-0.1),
        dict(alpha1=math.inf),
        dict(alpha1=math.nan),
        dict(interval=0),
        dict(interval=1.5),
        dict(interval=True),
    ],
)
def test_bad_arguments_are_named(arguments):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        MirrorGradient(optimizer, **arguments)


def test_what_cannot_be_wrapped_or_loaded():
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    sgd = torch.optim.SGD(parameters, lr=0.1)
    for wrong in (torch.optim.LBFGS(parameters), MirrorGradient(sgd), parameters):
        with pytest.raises(ConfigError, match='optimizer: got'):
            MirrorGradient(wrong)
    with pytest.raises(ConfigError, match='state_dict: got the keys'):
        MirrorGradient(sgd).load_state_dict(sgd.state_dict())
    with pytest.raises(ConfigError, match='closure: got None'):
        MirrorGradient(sgd).step(None)
