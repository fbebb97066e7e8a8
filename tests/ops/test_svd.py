import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import singular_value_threshold


def test_singular_value_threshold():
    # diag(3, 2, 0.5) with a third of the largest: singular values 2, 1, 0.
    assert torch.allclose(
        singular_value_threshold(torch.diag(torch.tensor([3.0, 2.0, 0.5])), 1 / 3),
        torch.diag(torch.tensor([2.0, 1.0, 0.0])),
        atol=1e-6,
    )
    x = torch.randn(20, 6, dtype=torch.float64)
    sigma = torch.linalg.svdvals(x)
    out = singular_value_threshold(x, 0.4)
    assert torch.allclose(
        torch.linalg.svdvals(out), (sigma - 0.4 * sigma[0]).clamp(min=0), atol=1e-10
    )
    assert singular_value_threshold(x, 0) is x
    assert torch.allclose(singular_value_threshold(x, 1.0), torch.zeros_like(x), atol=1e-10)
    assert bool((singular_value_threshold(torch.zeros(4, 2), 0.5) == 0).all())
    assert (
        singular_value_threshold(torch.ones(3, 2, dtype=torch.float16), 0.1).dtype == torch.float32
    )
    assert singular_value_threshold(torch.ones(0, 2), 0.1).shape == (0, 2)
    with pytest.raises(ConfigError, match='svt: got -0.1'):
        singular_value_threshold(torch.ones(2, 2), -0.1)
