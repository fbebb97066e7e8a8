import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.optim import ascent_sharpness, largest_curvature


def quadratic(eigenvalues, start):
    """Parameters in two tensors, the loss 0.5 x' Q diag(eigenvalues) Q' x of a random rotation Q,
    and Q.
    """
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(
        torch.randn(len(eigenvalues), len(eigenvalues), generator=generator, dtype=torch.float64)
    ).Q
    matrix = rotation @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ rotation.t()
    x = torch.tensor(start, dtype=torch.float64)
    parameters = [torch.nn.Parameter(x[:1].clone()), torch.nn.Parameter(x[1:].clone())]

    def loss():
        x = torch.cat(parameters)
        return 0.5 * x @ matrix @ x

    return parameters, loss, matrix, rotation


def test_ascent_on_a_quadratic_by_hand():
    """L(x + rho g / |g|) - L(x) = rho |g| + rho^2 g' H g / (2 |g|^2)."""
    parameters, loss, matrix, _ = quadratic([4.0, 1.0, 0.5], [1.0, -2.0, 0.5])
    g = matrix @ torch.cat(parameters).detach()
    expected = 0.1 * g.norm() + 0.01 * (g @ matrix @ g) / (2 * g.norm() ** 2)
    assert ascent_sharpness(loss, iter(parameters), 0.1) == pytest.approx(
        float(expected), rel=1e-12
    )


def test_ascent_at_a_minimum_is_zero_and_a_steeper_basin_is_sharper():
    parameters, loss, _, _ = quadratic([4.0, 1.0], [0.0, 0.0])
    assert ascent_sharpness(loss, parameters) == 0
    theta = torch.nn.Parameter(torch.tensor([0.01]))
    flat, sharp = (
        ascent_sharpness(lambda k=k: (k * theta.square()).sum(), [theta]) for k in (1, 100)
    )
    assert sharp == pytest.approx(100 * flat, rel=1e-5)


@pytest.mark.parametrize(
    'eigenvalues, expected', [([4.0, 1.0, 0.5], 4.0), ([1.0, -6.0, 2.0], -6.0)]
)
def test_curvature_of_a_quadratic(eigenvalues, expected):
    parameters, loss, _, rotation = quadratic(eigenvalues, [1.0, -2.0, 0.5])
    value, direction = largest_curvature(loss, parameters, num_iterations=40)
    assert value == pytest.approx(expected, rel=1e-8)
    eigenvector = rotation[:, eigenvalues.index(expected)]
    assert abs(float(torch.cat(direction) @ eigenvector)) == pytest.approx(1, abs=1e-8)
    assert largest_curvature(loss, parameters, 1, direction=direction).value == pytest.approx(
        expected, rel=1e-8
    )


def test_curvature_is_that_of_autograd():
    torch.manual_seed(0)
    x = torch.randn(4, 3, dtype=torch.float64)
    theta = torch.nn.Parameter(torch.randn(3, dtype=torch.float64))

    def loss(t=theta):
        return torch.nn.functional.softplus(x @ t).sum() + t.pow(4).sum()

    hessian = torch.autograd.functional.hessian(loss, theta.detach())
    largest = torch.linalg.eigvalsh(hessian).abs().max()
    assert largest_curvature(loss, [theta], num_iterations=60).value == pytest.approx(
        float(largest), rel=1e-5
    )


def test_a_kernel_with_a_gradient_of_its_own():
    """Hessian products of a model with contrastive kernels agree with differences of its loss: v'Hv
    of the direction found.
    """
    from genrec_pyg.datasets import demo_graph
    from genrec_pyg.loader import InteractionLoader
    from genrec_pyg.nn.models import SGL

    torch.manual_seed(0)
    model = SGL(demo_graph(60, 48, 4), hidden_channels=8).double().eval()
    model.start_epoch(0)
    batch = next(iter(InteractionLoader(model.graph, 64)))
    parameters = list(model.trained_parameters())

    def loss():
        return sum(model.loss(batch).values())

    value, direction = largest_curvature(loss, parameters, num_iterations=40)
    again, _ = largest_curvature(loss, parameters, 1, 1e-4, direction)

    def at(shift):
        with torch.no_grad():
            for p, v in zip(parameters, direction):
                p.add_(v, alpha=shift)
            found = float(loss())
            for p, v in zip(parameters, direction):
                p.sub_(v, alpha=shift)
        return found

    h = 1e-3
    assert (at(h) - 2 * at(0) + at(-h)) / h**2 == pytest.approx(again, rel=1e-3)
    assert again == pytest.approx(value, rel=0.05) and again > 0


def test_nothing_else_changes():
    torch.manual_seed(0)
    layer, unused = torch.nn.Linear(3, 2), torch.nn.Parameter(torch.ones(2))
    x = torch.randn(5, 3)
    layer(x).sum().backward()
    parameters = [*layer.parameters(), unused]
    before = [p.detach().clone() for p in parameters]
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    state = torch.get_rng_state()

    def loss():
        return layer(x).square().mean()

    with torch.no_grad():  # also where gradients are off
        assert (
            ascent_sharpness(loss, parameters, 0.3) > 0
            and largest_curvature(loss, parameters, 3).value > 0
        )
    assert all(torch.equal(a, b) for a, b in zip(before, parameters)) and torch.equal(
        torch.get_rng_state(), state
    )
    assert unused.grad is None and all(
        torch.equal(a, p.grad) for a, p in zip(gradients[:2], parameters)
    )

    def failing():
        raise RuntimeError('no loss')

    with pytest.raises(RuntimeError, match='no loss'):
        largest_curvature(failing, parameters)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters))


def test_bad_arguments_are_named():
    theta = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ConfigError, match='radius: got 0'):
        ascent_sharpness(theta.sum, [theta], 0)
    with pytest.raises(ConfigError, match='num_iterations, step: got 0 and 0.001'):
        largest_curvature(theta.sum, [theta], 0)
