import copy

import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.closed_form import ItemKernel
from genrec_pyg.nn.interest import GeneratedInterest
from genrec_pyg.ops import Adjacency


def fitted():
    torch.manual_seed(0)
    graph = training_graph(toy_data())
    index = torch.tensor([[0, 0, 2, 5, 6], [1, 4, 3, 0, 2]])  # scored item, history item
    neighbors = Adjacency.from_edge_index(index, torch.randn(5), (7, 7))
    kernel = ItemKernel(7, query=torch.randn(7, 3), key=torch.randn(7, 3), neighbors=neighbors)
    interest = GeneratedInterest(graph)
    interest.set_kernel(kernel)
    return graph, kernel, interest


def test_scores_are_the_kernel_divided_by_the_deviation():
    graph, kernel, interest = fitted()
    rows = torch.zeros(8, 7).index_put_(tuple(graph.edge_index), torch.ones(10))
    dense = kernel.query @ kernel.key.t()
    (item, history), value = kernel.neighbors.to_edge_index()
    sparse = torch.zeros(7, 7).index_put_((history, item), value)
    variance = (rows @ dense).var(dim=1, correction=0) + rows @ sparse.square().sum(dim=1) / 7
    expected = rows @ (dense + sparse) / variance.clamp(min=1e-12).sqrt().unsqueeze(1)
    expected[rows.sum(dim=1) == 0] = 0
    user = torch.tensor([3, 0, 7, 4])
    assert torch.allclose(interest.score(user), expected[user], atol=1e-5)
    query, key = interest.embeddings()
    assert torch.allclose(
        interest.add_sparse_scores(query[user] @ key.t(), user), expected[user], atol=1e-5
    )
    assert not interest.score(torch.tensor([7])).any()  # without a history


def test_histories_of_new_users_score_as_those_of_old_ones():
    _, _, interest = fitted()
    user = torch.tensor([4, 1])
    rowptr, item = interest.interactions.select_rows(user)
    rows = Adjacency(rowptr, item, None, (2, 7))
    found = interest.add_history_scores(
        interest.user_queries(rows) @ interest.key.t(), rowptr, item
    )
    assert torch.allclose(found, interest.score(user), atol=1e-6)


def test_state_round_trip_and_forgetting():
    graph, _, interest = fitted()
    other = GeneratedInterest(graph)
    assert not other.is_fitted
    other.load_state_dict(copy.deepcopy(interest.state_dict()))
    assert torch.equal(other.score(torch.arange(8)), interest.score(torch.arange(8)))
    other.set_kernel(None)
    assert not other.is_fitted and repr(other) == 'GeneratedInterest(not fitted)'
    assert 'rank=3, entries=5' in repr(interest)
