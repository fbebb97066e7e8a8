import pytest
import torch

from genrec_pyg.nn.conv import NGCFConv
from genrec_pyg.ops import Adjacency

#: Row 0 sums half of node 1 and twice node 2; row 1 takes node 0; row 2 has no neighbor.
EDGES = torch.tensor([[0, 0, 1], [1, 2, 0]])
WEIGHT = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
ADJACENCY = Adjacency.from_edge_index(EDGES, WEIGHT, (3, 3))


@pytest.mark.parametrize('add_self', [True, False])
@pytest.mark.parametrize('bias', [True, False])
def test_agrees_with_the_messages_of_the_paper(add_self, bias):
    conv = NGCFConv(2, 3, bias=bias, add_self=add_self).double()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    rows = []
    for node in range(3):
        row = x[node] @ conv.weight1 if add_self else torch.zeros(3, dtype=torch.float64)
        for (target, source), weight in zip(EDGES.t().tolist(), WEIGHT):
            if target == node:
                row = row + weight * (
                    x[source] @ conv.weight1 + (x[source] * x[node]) @ conv.weight2
                )
        row = row + conv.bias[0] if bias else row
        rows.append(torch.where(row > 0, row, 0.2 * row))
    plain, fused = torch.stack(rows), conv(x, ADJACENCY)
    torch.testing.assert_close(fused, plain)
    target, inputs = torch.randn_like(fused), (x, *conv.parameters())
    for found, expected in zip(
        *(torch.autograd.grad(out, inputs, target) for out in (fused, plain))
    ):
        torch.testing.assert_close(found, expected)


def test_by_hand():
    conv = NGCFConv(1, 1, negative_slope=0.5).double()
    with torch.no_grad():
        conv.weight1.fill_(1.0), conv.weight2.fill_(10.0), conv.bias.fill_(0.25)
    x = torch.tensor([[1.0], [-2.0], [3.0]], dtype=torch.float64)
    # Neighbors sum to 5, 1 and 0: (5 + 1) + 10 * 5, (1 - 2) - 10 * 2, 3, each with 0.25; the second
    # is halved.
    assert conv(x, ADJACENCY).tolist() == [[56.25], [-10.375], [3.25]]


def test_reset_draws_anew():
    conv = NGCFConv(4, 3)
    before = conv.weight1.clone()
    conv.reset_parameters()
    assert (
        not torch.equal(conv.weight1, before) and conv.weight1.abs().max().item() <= (6 / 7) ** 0.5
    )
    assert str(conv) == 'NGCFConv(4, 3)'
