import torch

from genrec_pyg.nn.closed_form import ItemKernel, neighbor_kernel
from genrec_pyg.ops import Adjacency

#: Histories {0, 2} and {} and {1}.
ROWS = Adjacency.from_edge_index(torch.tensor([[0, 0, 2], [0, 2, 1]]), size=(3, 3))


def test_parts_add_up_by_hand():
    weight = torch.tensor([[0.0, 1, 2], [3, 0, 4], [5, 6, 0]])
    query, key = torch.tensor([[1.0], [0], [2]]), torch.tensor([[1.0], [10], [100]])
    # History item 2 counts 7 for item 0: row 0 of the neighbors has 7 at column 2.
    neighbors = neighbor_kernel(
        torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([7.0, 0]), 3
    ).neighbors
    assert neighbors.nnz == 1
    assert ItemKernel(3, weight)(ROWS).tolist() == [[5, 7, 2], [0, 0, 0], [3, 0, 4]]
    assert ItemKernel(3, query=query, key=key)(ROWS).tolist() == [
        [3, 30, 300],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert ItemKernel(3, neighbors=neighbors)(ROWS).tolist() == [[7, 0, 0], [0, 0, 0], [0, 0, 0]]
    kernel = ItemKernel(3, weight, query, key, neighbors)
    assert kernel(ROWS).tolist() == [[15, 37, 302], [0, 0, 0], [3, 0, 4]]
    assert torch.equal(
        kernel.to_dense(),
        weight + query @ key.t() + torch.tensor([[0.0, 0, 0], [0, 0, 0], [7, 0, 0]]),
    )


def test_an_empty_kernel_scores_zero():
    assert ItemKernel(3)(ROWS).tolist() == [[0.0] * 3] * 3


def test_scores_leave_the_kernel_unchanged_and_follow_the_precision():
    neighbors = neighbor_kernel(torch.tensor([0]), torch.tensor([1]), torch.ones(1), 3).neighbors
    kernel = ItemKernel(3, torch.eye(3), neighbors=neighbors)
    first = kernel(ROWS)
    first.zero_()
    assert kernel(ROWS).abs().sum() == 4 and not kernel.state_dict()
    assert kernel.double()(ROWS).dtype == torch.float64
    assert repr(kernel) == 'ItemKernel(num_items=3, dense, entries=1)'
