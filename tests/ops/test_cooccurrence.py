import torch

from genrec_pyg.ops import Adjacency, cooccurrence


def test_equals_the_gram_matrix():
    matrix = (torch.rand(12, 7) < 0.4).float()
    matrix[:, 3] = 0
    interactions = Adjacency.from_edge_index(matrix.nonzero().t(), size=(12, 7))
    item = torch.tensor([5, 3, 0])
    assert torch.equal(cooccurrence(interactions, item), (matrix.t() @ matrix)[item])
