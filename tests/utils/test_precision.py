import pytest
import torch

from genrec_pyg.utils.precision import full_precision, widened


def test_products_are_full_within_autocast():
    x = torch.randn(3, 3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    x = torch.tensor([0.5, -3.0], dtype=dtype)
    assert widened(x).dtype == torch.float32 and widened(x).tolist() == [0.5, -3.0]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_full_precision_is_left_alone(dtype):
    x = torch.ones(2, dtype=dtype)
    assert widened(x) is x
