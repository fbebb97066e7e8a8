import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.modality.spectral import SpectralFilter


def make(channels, real, imag=()):
    module = SpectralFilter(channels).double()
    with torch.no_grad():
        module.real.copy_(torch.tensor(real))
        module.imag.copy_(torch.tensor(imag))
    return module


def rows(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_filter_by_hand():
    x = rows(1, 2, 3, 4)
    assert make(4, [1.0, 0, 2], [1.0])(x).view(-1).tolist() == pytest.approx([0.5, 4.5, 2.5, 2.5])
    assert make(4, [1.0, 1, 1], [0.0])(x).view(-1).tolist() == pytest.approx([1, 2, 3, 4])
    found = make(5, [1.0, 0, 0], [1.0, 0.0])(rows(1, 2, 3, 4, 5))
    assert found.view(-1).tolist() == pytest.approx(
        [1.623618, 3.525731, 4.701302, 3.525731, 1.623618], abs=1e-6
    )


def test_fusion_by_hand_is_circular_convolution_in_any_order():
    x, y = rows(1, 2, 3, 4), rows(1, 0, -1, 2)
    one = make(4, [1.0, 1, 1], [0.0])
    assert one.fuse([x, y]).view(-1).tolist() == pytest.approx([1, 2, 5, 2])
    assert torch.allclose(one.fuse([y, x]), one.fuse([x, y]))
    assert make(4, [1.0, 0, 2], [1.0]).fuse([x, y]).view(-1).tolist() == pytest.approx(
        [3.5, 3.5, 3.5, -0.5]
    )


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 7, 8])
def test_linear_map_equals_the_transform(channels):
    module = SpectralFilter(channels).double()
    x = torch.randn(6, channels, dtype=torch.float64)
    assert torch.allclose(module(x), module.fuse([x]), atol=1e-12)
    assert module.real.numel() + module.imag.numel() == channels  # every number matters
    assert (
        torch.linalg.matrix_rank(
            torch.autograd.functional.jacobian(
                lambda real: torch.func.functional_call(module, {'real': real}, (x,)).sum(0),
                module.real.detach(),
            )
        )
        >= 1
    )
    assert torch.autograd.gradcheck(
        lambda r, i: torch.func.functional_call(module, {'real': r, 'imag': i}, (x,)),
        (module.real, module.imag),
    )
    assert torch.autograd.gradcheck(
        lambda a, b: module.fuse([a, b]), (x.clone().requires_grad_(), x.clone().requires_grad_())
    )


def test_an_input_that_is_absent_is_left_out_of_the_product():
    module = SpectralFilter(4).double()
    x, y = torch.randn(2, 3, 4, dtype=torch.float64)
    found = module.fuse([x, y], [torch.tensor([[1], [1], [0]]), torch.tensor([[1], [0], [0]])])
    assert torch.allclose(found[0], module.fuse([x, y])[0]) and torch.allclose(
        found[1], module.fuse([x])[1]
    )
    assert not bool(found[2].any())


def test_starts():
    assert torch.equal(
        SpectralFilter(6, 'identity').circulant().detach().round(decimals=5), torch.eye(6)
    )
    module = SpectralFilter(4000)
    assert module.real.std().item() == pytest.approx(
        1, rel=0.1
    ) and module.imag.std().item() == pytest.approx(1, rel=0.1)
    x = torch.randn(3, 8)
    assert torch.allclose(
        SpectralFilter(8, 'identity').fuse([x, x]).sum(1),
        x.sum(1).square() / math.sqrt(8),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    'arguments, name',
    [(dict(channels=0), 'hidden_channels'), (dict(channels=2, init='x'), 'filter_init')],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ConfigError, match=f'{name}: got'):
        SpectralFilter(**arguments)
