import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import masked_topk, topk_excluding


def plain(scores, k, excluded):
    rows = []
    for row, out in zip(scores.tolist(), excluded, strict=True):
        order = sorted((i for i in range(len(row)) if i not in out), key=lambda i: (-row[i], i))[:k]
        rows.append(order + [len(row)] * (k - len(order)))
    return rows


def csr(excluded):
    counts = torch.tensor([len(e) for e in excluded])
    col = torch.tensor([i for e in excluded for i in sorted(e)], dtype=torch.long)
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]), col


@pytest.mark.parametrize('k', [1, 3, 6, 9])
@pytest.mark.parametrize('levels', [2, 3, 1000])
def test_equals_plain_ranking_with_ties_and_exclusions(k, levels):
    scores = torch.randint(levels, (40, 6)).float()
    excluded = [set(torch.randperm(6)[: int(torch.randint(7, ()))].tolist()) for _ in range(40)]
    value, index = topk_excluding(scores, k, *csr(excluded))
    assert index.tolist() == plain(scores, k, excluded)
    real = index < 6
    assert torch.equal(value[real], scores.gather(1, index.clamp(max=5))[real]) and bool(
        (value[~real] == -torch.inf).all()
    )


def test_input_stays_and_nothing_excluded():
    scores = torch.randn(3, 5)
    copy = scores.clone()
    topk_excluding(scores, 2, *csr([{0}, {1}, set()]))
    assert torch.equal(scores, copy)
    assert topk_excluding(scores, 2)[1].tolist() == plain(scores, 2, [set()] * 3)


@pytest.mark.parametrize('block_size', [1, 3, 64])
def test_blocks_of_embeddings(block_size):
    user, item = torch.randn(7, 4), torch.randn(9, 4)
    excluded = [set(torch.randperm(9)[:u].tolist()) for u in range(7)]
    value, index = masked_topk(user, item, 4, *csr(excluded), block_size=block_size)
    expected = topk_excluding(user @ item.t(), 4, *csr(excluded))
    assert torch.equal(index, expected[1]) and torch.allclose(value, expected[0])
    assert masked_topk(user[:0], item, 4)[1].shape == (0, 4)


def test_constant_scores_rank_by_id():
    value, index = topk_excluding(torch.zeros(3, 5000), 4, *csr([{0, 2}, set(), set(range(4998))]))
    assert index.tolist() == [[1, 3, 4, 5], [0, 1, 2, 3], [4998, 4999, 5000, 5000]]
    assert value[2].tolist() == [0, 0, -torch.inf, -torch.inf]


def test_long_ties_across_the_border():
    scores = torch.randint(3, (50, 700)).float()
    assert topk_excluding(scores, 300)[1].tolist() == plain(scores, 300, [set()] * 50)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    scores = torch.randn(6, 40).to(dtype)
    assert topk_excluding(scores, 7)[1].tolist() == plain(scores, 7, [set()] * 6)


def test_nothing_to_rank():
    assert topk_excluding(torch.randn(3, 5), 0)[1].shape == (3, 0)
    value, index = topk_excluding(torch.empty(2, 0), 3)
    assert index.tolist() == [[0] * 3] * 2 and bool((value == -torch.inf).all())


@pytest.mark.parametrize(
    'call',
    [
        lambda: topk_excluding(torch.zeros(2, 3), -1),
        lambda: topk_excluding(torch.zeros(2, 3), 1, *csr([{0}])),
        lambda: masked_topk(torch.zeros(2, 3), torch.zeros(4, 3), 1, *csr([{0}])),
        lambda: masked_topk(torch.zeros(2, 3), torch.zeros(4, 3), 1, block_size=0),
    ],
)
def test_arguments_are_checked(call):
    with pytest.raises(ConfigError, match='accepted'):
        call()
