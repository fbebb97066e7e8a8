import pytest
import torch

from genrec_pyg.ops import masked_topk, topk_excluding


def plain(scores, k, excluded):
    rows = []
    for row, out in zip(scores.tolist(), excluded):
        order = sorted((i for i in range(len(row)) if i not in out), key=lambda i: (-row[i], i))[:k]
        rows.append(order + [len(row)] * (k - len(order)))
    return rows


def csr(excluded):
    counts = torch.tensor([len(e) for e in excluded])
    return torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]), torch.tensor([i for e in excluded for i in sorted(e)])


@pytest.mark.parametrize('k', [1, 3, 6, 9])
@pytest.mark.parametrize('levels', [2, 3, 1000])
def test_equals_plain_ranking_with_ties_and_exclusions(k, levels):
    scores = torch.randint(levels, (40, 6)).float()
    excluded = [set(torch.randperm(6)[:int(torch.randint(7, ()))].tolist()) for _ in range(40)]
    value, index = topk_excluding(scores, k, *csr(excluded))
    assert index.tolist() == plain(scores, k, excluded)
    real = index < 6
    assert torch.equal(value[real], scores.gather(1, index.clamp(max=5))[real]) and bool((value[~real] == -torch.inf).all())


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
