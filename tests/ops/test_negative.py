import pytest
import torch

from genrec_pyg.ops import Adjacency, NegativeSampler

ROWPTR, COL = torch.tensor([0, 2, 2, 7, 10]), torch.tensor([0, 3, 0, 1, 2, 3, 4, 1, 2, 4])


def sampler(rowptr, col, num_items):
    return NegativeSampler(Adjacency(rowptr, col, None, (rowptr.numel() - 1, num_items)))


@pytest.mark.parametrize('dtype', [torch.int32, torch.int64])
def test_never_a_training_item_and_uniform_over_the_rest(dtype):
    user = torch.arange(4).repeat_interleave(20_000)
    item, valid = sampler(ROWPTR.to(dtype), COL.to(dtype), 5)(user)
    for u, free in {0: [1, 2, 4], 1: [0, 1, 2, 3, 4], 3: [0, 3]}.items():
        count = torch.bincount(item[user == u], minlength=5)
        assert count.nonzero().view(-1).tolist() == free
        assert bool((count[free].float() / 20_000 - 1 / len(free)).abs().max() < 0.02)
    assert valid[user != 2].all() and not valid[user == 2].any()


def test_long_random_rows():
    matrix = torch.rand(50, 200) < torch.rand(50, 1)
    rowptr = torch.cat([torch.zeros(1, dtype=torch.long), matrix.sum(dim=1).cumsum(0)])
    user = torch.randint(50, (20_000,))
    item, valid = sampler(rowptr, matrix.nonzero()[:, 1], 200)(user)
    assert not matrix[user[valid], item[valid]].any()
    assert bool(((item >= 0) & (item < 200)).all())


def test_generator_makes_it_repeatable_and_empty_input_works():
    draws = [
        sampler(ROWPTR, COL, 5)(
            torch.zeros(50, dtype=torch.long), torch.Generator().manual_seed(3)
        )[0]
        for _ in range(2)
    ]
    assert torch.equal(*draws)
    assert sampler(ROWPTR, COL, 5)(torch.empty(0, dtype=torch.long))[0].numel() == 0
    nobody = torch.zeros(3, dtype=torch.long)
    assert sampler(nobody, torch.empty(0, dtype=torch.long), 4)(torch.tensor([0, 1]))[1].all()


def test_a_full_filter_changes_no_probability(monkeypatch):
    monkeypatch.setattr('genrec_pyg.ops.negative._MOST_SLOTS', 1)  # every draw is looked up
    user = torch.zeros(40_000, dtype=torch.long)
    item, valid = sampler(ROWPTR, COL, 5)(user)
    count = torch.bincount(item, minlength=5)
    assert bool(valid.all()) and count[[0, 3]].tolist() == [0, 0]
    assert bool((count[[1, 2, 4]] / 40_000 - 1 / 3).abs().max() < 0.015)


def test_the_filter_knows_every_training_pair():
    generator = torch.Generator().manual_seed(1)
    key = torch.randperm(300 * 1_000, generator=generator)[:20_000].sort().values
    rowptr = torch.searchsorted(key // 1_000, torch.arange(301))
    known = sampler(rowptr, key % 1_000, 1_000)
    assert bool(known._filter[known._slot(key)].all())
    assert float(known._filter.float().mean()) < 1 / 16
