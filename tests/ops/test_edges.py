import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, edge_softmax, sampled_product, spmm

#: Users 0 and 1, items 0 to 2; item 2 hangs on user 1, and user 2 has no edge.
GRAPH = Adjacency.from_edge_index(torch.tensor([[0, 0, 1, 1], [0, 1, 1, 2]]), size=(3, 3))


def test_softmax_by_hand():
    logits = GRAPH.with_value(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    assert edge_softmax(logits).value.tolist() == pytest.approx(
        [0.731059, 0.268941, 0.268941, 0.731059], abs=1e-6
    )
    within_items = edge_softmax(logits.t()).t().value.tolist()
    assert within_items == pytest.approx([1, 0.5, 0.5, 1])


def test_softmax_of_far_logits_is_finite():
    logits = GRAPH.with_value(torch.tensor([1e4, -1e4, 1e30, 1e30]))
    assert edge_softmax(logits).value.tolist() == [1, 0, 0.5, 0.5]


def test_gradients_of_attention():
    def attend(target, source):
        alpha = edge_softmax(GRAPH.with_value(sampled_product(GRAPH, target, source)))
        return spmm(alpha, source) + spmm(edge_softmax(alpha.t()), target)

    values = tuple(torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(attend, values)


def test_an_empty_graph_stays_empty():
    graph = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), size=(2, 3))
    x = torch.randn(2, 4, requires_grad=True)
    found = edge_softmax(graph.with_value(sampled_product(graph, x, torch.randn(3, 4))))
    assert found.nnz == 0
    assert not torch.autograd.grad(found.value.sum(), x)[0].any()


def test_positions_alone_have_no_softmax():
    with pytest.raises(ConfigError, match='edge_softmax: got an adjacency without values'):
        edge_softmax(GRAPH)
