import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.closed_form import LinearFilter, graph_filter
from genrec_pyg.ops import Adjacency

MATRIX = (torch.rand(20, 9, generator=torch.Generator().manual_seed(0)) < 0.35).double()
MATRIX[:, 4] = 0
INTERACTIONS = Adjacency.from_edge_index(MATRIX.nonzero().t(), size=(20, 9))


def plain_filter(a, s):
    """The formula, as it is written."""
    scaled = (
        torch.diag(MATRIX.sum(dim=1).clamp(min=1) ** -a)
        @ MATRIX
        @ torch.diag(MATRIX.sum(dim=0).clamp(min=1) ** (a - 1))
    )
    return ((scaled.t() @ scaled) ** s).fill_diagonal_(0)


@pytest.mark.parametrize('a,s', [(0.8, 0.7), (0.5, 1.0), (0.8, 1.0), (1.0, 0.5)])
def test_equals_the_plain_formula(a, s):
    kernel = graph_filter(INTERACTIONS, a, s, k=9, block_size=4)
    assert isinstance(kernel, LinearFilter) == (s == 1)
    rows = Adjacency.from_edge_index(MATRIX[:6].nonzero().t(), size=(6, 9))
    first = kernel(rows)
    assert torch.allclose(first.double(), MATRIX[:6] @ plain_filter(a, s), atol=1e-5)
    assert torch.allclose(
        kernel.propagate(first).double(),
        MATRIX[:6] @ plain_filter(a, s) @ plain_filter(a, s),
        atol=1e-5,
    )


def test_largest_entries_of_every_item_are_kept():
    expected = plain_filter(0.8, 0.7)
    kept = torch.zeros_like(expected)
    for j in range(9):
        best = sorted(range(9), key=lambda i: (-float(expected[i, j]), i))[:3]
        kept[best, j] = expected[best, j]
    assert torch.allclose(
        graph_filter(INTERACTIONS, 0.8, 0.7, k=3).to_dense().double(), kept, atol=1e-6
    )


def test_filter_by_hand():
    # User 0 has items 0 and 1, user 1 item 0: a = 1 scales rows by their degree alone, so that Q_01
    # = (1/2)^2.
    interactions = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 0]]), size=(2, 2))
    assert graph_filter(interactions, 1.0, 0.5, k=2).to_dense().tolist() == [[0, 0.5], [0.5, 0]]


@pytest.mark.parametrize(
    'arguments', [dict(power=0.0), dict(power=float('nan')), dict(k=0), dict(block_size=0)]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        graph_filter(INTERACTIONS, **arguments)
