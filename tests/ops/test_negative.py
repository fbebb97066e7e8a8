import pytest
import torch

from genrec_pyg.ops import sample_negatives

ROWPTR, COL = torch.tensor([0, 2, 2, 7, 10]), torch.tensor([0, 3, 0, 1, 2, 3, 4, 1, 2, 4])


@pytest.mark.parametrize('dtype', [torch.int32, torch.int64])
def test_never_a_training_item_and_uniform_over_the_rest(dtype):
    user = torch.arange(4).repeat_interleave(20_000)
    item, valid = sample_negatives(user, ROWPTR.to(dtype), COL.to(dtype), 5)
    for u, free in {0: [1, 2, 4], 1: [0, 1, 2, 3, 4], 3: [0, 3]}.items():
        count = torch.bincount(item[user == u], minlength=5)
        assert count.nonzero().view(-1).tolist() == free
        assert bool((count[free].float() / 20_000 - 1 / len(free)).abs().max() < 0.02)
    assert valid[user != 2].all() and not valid[user == 2].any()


def test_long_random_rows():
    matrix = torch.rand(50, 200) < torch.rand(50, 1)
    rowptr = torch.cat([torch.zeros(1, dtype=torch.long), matrix.sum(dim=1).cumsum(0)])
    user = torch.randint(50, (20_000,))
    item, valid = sample_negatives(user, rowptr, matrix.nonzero()[:, 1], 200)
    assert not matrix[user[valid], item[valid]].any()
    assert bool(((item >= 0) & (item < 200)).all())


def test_generator_makes_it_repeatable_and_empty_input_works():
    draws = [sample_negatives(torch.zeros(50, dtype=torch.long), ROWPTR, COL, 5, torch.Generator().manual_seed(3))[0]
             for _ in range(2)]
    assert torch.equal(*draws)
    assert sample_negatives(torch.empty(0, dtype=torch.long), ROWPTR, COL, 5)[0].numel() == 0
    nobody = torch.zeros(3, dtype=torch.long)
    assert sample_negatives(torch.tensor([0, 1]), nobody, torch.empty(0, dtype=torch.long), 4)[1].all()
