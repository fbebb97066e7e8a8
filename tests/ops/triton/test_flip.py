import pytest
import torch
from helpers.kernel_inputs import DEVICE, binary

from genrec_pyg.ops import flip_dense, sample_flips
from genrec_pyg.ops.backends import triton_kernels


def densify(rowptr, col, num_cols):
    x = torch.zeros(rowptr.numel() - 1, num_cols, device=DEVICE)
    x.index_put_(
        (torch.repeat_interleave(rowptr.diff()), col), torch.ones(()).to(DEVICE), accumulate=True
    )
    return x


def generator(seed=3):
    return torch.Generator(DEVICE).manual_seed(seed)


def test_flips_are_the_same_draw_in_both_forms(monkeypatch):
    monkeypatch.setitem(triton_kernels().flip_dense.__globals__, '_BLOCK_COLUMNS', 64)
    x, rowptr, col = binary(4, 150, 0.2)
    x[2] = 0
    rowptr, col = torch.cat([x.new_zeros(1), x.sum(dim=1).cumsum(0)]), x.nonzero()[:, 1]
    up = torch.tensor([0.0, 0.3, 0.1, 1.0], device=DEVICE)
    down = torch.tensor([0.0, 0.5, 1.0, 1.0], device=DEVICE)
    dense = flip_dense(x.float(), up, down, generator())
    found = sample_flips(rowptr, col, 150, up, down, generator())
    assert (
        torch.equal(densify(*found, 150), dense) and found[0].dtype == found[1].dtype == torch.long
    )
    # no flip, every flip
    assert torch.equal(dense[0], x[0].float()) and torch.equal(dense[3], 1 - x[3].float())
    key = torch.repeat_interleave(found[0].diff()) * 150 + found[1]
    assert bool((key.diff() > 0).all())
    assert not torch.equal(dense, flip_dense(x.float(), up, down, generator(4)))
    for other in (x.bool(), x.double()):
        assert torch.equal(flip_dense(other, up, down, generator()), dense.to(other.dtype))


@pytest.mark.parametrize('p01,p10', [(0.005, 0.3), (0.38, 0.62)])
def test_law_of_the_flips(p01, p10):
    x, rowptr, col = binary(8, 10_000, 0.05)
    up, down = torch.full((8,), p01, device=DEVICE), torch.full((8,), p10, device=DEVICE)
    flipped = flip_dense(x.float(), up, down) != x
    for share, rate in ((flipped[x == 0], p01), (flipped[x == 1], p10)):
        assert float(share.float().mean()) == pytest.approx(
            rate, abs=5 * (rate * (1 - rate) / share.numel()) ** 0.5
        )
    # Neighbors, and the same column of neighboring rows, are independent: no flip says anything
    # about the next.
    centered = flipped.float() - torch.where(x == 1, p10, p01)
    variance = float(centered.square().mean())
    for product in (
        centered[:, 1:] * centered[:, :-1],
        centered[1:] * centered[:-1],
        centered[:, 4:] * centered[:, :-4],
    ):
        assert abs(float(product.mean())) < 5 * variance / product.numel() ** 0.5


def test_flips_of_nothing():
    nothing = torch.empty(0, dtype=torch.long, device=DEVICE)
    rowptr, col = sample_flips(nothing.new_zeros(1), nothing, 5, nothing.float(), nothing.float())
    assert rowptr.tolist() == [0] and col.numel() == 0
    rate = torch.zeros(2, device=DEVICE)
    assert sample_flips(nothing.new_zeros(3), nothing, 0, rate, rate)[0].tolist() == [0, 0, 0]
    assert flip_dense(torch.empty(2, 0, device=DEVICE), rate, rate).shape == (2, 0)
