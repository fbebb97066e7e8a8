import sys

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import ItemKNN

MATRIX = (torch.rand(15, 8, generator=torch.Generator().manual_seed(0)) < 0.4).double()


def graph():
    return TrainingGraph(15, 8, MATRIX.nonzero().t().contiguous())


def test_cosine_by_hand():
    model = ItemKNN(
        TrainingGraph(3, 2, torch.tensor([[0, 0, 1, 2], [0, 1, 0, 1]])), k=1, shrink=0.0
    )
    assert model.score(torch.tensor([1])).tolist()[0] == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize('k,block_size', [(2, 3), (7, 100)])
def test_equals_plain_formula(k, block_size):
    gram, norm = MATRIX.t() @ MATRIX, MATRIX.sum(dim=0).sqrt()
    similarity = gram / (norm[:, None] * norm + 5.0)
    similarity.fill_diagonal_(0)
    kept = torch.zeros_like(similarity)
    for j in range(8):
        best = sorted(range(8), key=lambda i: (-float(similarity[i, j]), i))[:k]
        kept[best, j] = similarity[best, j]
    model = ItemKNN(graph(), k=k, shrink=5.0, block_size=block_size)
    assert torch.allclose(model.score(torch.arange(15)).double(), MATRIX @ kept, atol=1e-5)


@pytest.mark.parametrize('arguments', [dict(k=0), dict(shrink=-1.0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        ItemKNN(graph(), **arguments)


def test_more_neighbors_than_items_cost_no_more(tiny_graph, monkeypatch):
    module, widths = sys.modules['genrec_pyg.nn.closed_form.filter'], []
    expected, original = ItemKNN(tiny_graph, k=7).score(torch.arange(6)), module.topk_excluding
    monkeypatch.setattr(
        module,
        'topk_excluding',
        lambda scores, k, *args: widths.append(k) or original(scores, k, *args),
    )
    assert torch.equal(ItemKNN(tiny_graph, k=10**9).score(torch.arange(6)), expected) and set(
        widths
    ) == {7}
