import pytest
import torch
from helpers.kernel_inputs import CLOSE, DEVICE

from genrec_pyg.ops import masked_topk, topk_excluding


def excluding(num_users, num_items, share):
    mask = torch.rand(num_users, num_items) < share
    mask[0] = False
    mask[1] = True
    index = mask.nonzero()
    return (
        mask,
        torch.cat([torch.zeros(1, dtype=torch.long), mask.sum(dim=1).cumsum(0)]).to(DEVICE),
        index[:, 1].to(DEVICE),
    )


@pytest.mark.parametrize(
    'k,channels,share,num_users,num_items', [(3, 1, 0.3, 19, 40), (40, 50, 0.6, 9, 70)]
)
def test_ranking_with_ties_and_exclusions(k, channels, share, num_users, num_items):
    # Small integers: every product is exact, so ties are, and order must be that of the plain
    # ranking.
    user, item = (
        torch.randint(-2, 3, (n, channels)).float().to(DEVICE) for n in (num_users, num_items)
    )
    _, rowptr, col = excluding(num_users, num_items, share)
    shuffled = torch.cat(
        [
            part[torch.randperm(part.numel(), device=DEVICE)]
            for part in col.split(rowptr.diff().tolist())
        ]
    )
    value, index = masked_topk(user, item, k, rowptr, shuffled)
    expected = topk_excluding(user @ item.t(), k, rowptr, col)
    assert torch.equal(index, expected[1]) and torch.equal(value, expected[0])
    assert bool((index[1] == num_items).all())  # everything excluded


def test_ranking_of_real_scores_and_of_parts(monkeypatch):
    monkeypatch.setattr('genrec_pyg.ops.triton.topk.num_splits', lambda programs, blocks: 3)
    user, item = torch.randn(5, 20, device=DEVICE), torch.randn(80, 20, device=DEVICE)
    _, rowptr, col = excluding(7, 80, 0.1)
    # offsets of the last rows of a larger matrix
    value, index = masked_topk(user, item, 4, rowptr[2:], col)
    expected = topk_excluding(user @ item.t(), 4, rowptr[2:] - rowptr[2], col[int(rowptr[2]) :])
    assert torch.equal(index, expected[1])
    torch.testing.assert_close(value, expected[0], **CLOSE)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_ranking_in_low_precision(dtype):
    user, item = (torch.randint(-9, 9, (n, 6)).to(dtype).to(DEVICE) for n in (4, 30))
    value, index = masked_topk(user, item, 7)
    expected = topk_excluding((user.double() @ item.double().t()).to(dtype), 7)
    assert (
        value.dtype == dtype and torch.equal(index, expected[1]) and torch.equal(value, expected[0])
    )


def test_nothing_to_rank():
    user, item = torch.randn(3, 4, device=DEVICE), torch.randn(5, 4, device=DEVICE)
    value, index = masked_topk(user, item[:0], 2)
    assert index.tolist() == [[0, 0]] * 3 and bool((value == -torch.inf).all())
    assert masked_topk(user[:0], item, 2)[1].shape == (0, 2)
    assert masked_topk(user, item, 0)[1].shape == (3, 0)
    assert masked_topk(user, item, 200)[1].shape == (3, 200)  # too many for the kernel


def test_ranking_with_gradient_takes_the_differentiable_way():
    user = torch.randn(3, 4, device=DEVICE, requires_grad=True)
    assert masked_topk(user, torch.randn(5, 4, device=DEVICE), 2)[0].requires_grad
