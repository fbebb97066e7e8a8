import pytest
import torch

from genrec_pyg.nn.history_embedding import HistoryEmbedding
from genrec_pyg.ops import Adjacency


def adjacency(rows, num_items):
    edges = [(row, item) for row, items in enumerate(rows) for item in items]
    return Adjacency.from_edge_index(torch.tensor(edges).t(), size=(len(rows), num_items))


def test_users_that_are_means_of_their_items_are_found_again():
    """The mean over the list is among the inputs, so the regression finds it but for its ridge."""
    torch.manual_seed(0)
    items = torch.randn(30, 4)
    rows = [torch.randperm(30)[: 3 + user % 5].tolist() for user in range(60)]
    users = torch.stack([items[row].mean(dim=0) for row in rows])
    embed = HistoryEmbedding(users, items, adjacency(rows, 30))
    new = [[0, 7], [3, 9, 21, 4]]
    expected = torch.stack([items[row].mean(dim=0) for row in new])
    assert torch.allclose(embed(adjacency(new, 30)), expected, atol=0.01)


def test_parts_of_a_list_add_up_to_its_embedding():
    torch.manual_seed(0)
    items, users = torch.randn(12, 3), torch.randn(8, 3)
    rows = [[user, (user + 3) % 12, (user + 5) % 12] for user in range(8)]
    embed = HistoryEmbedding(users, items, adjacency(rows, 12))
    parts = embed.parts(torch.tensor([1, 4, 10, 11]))
    assert parts.shape == (4, 3)
    assert torch.allclose(parts.sum(dim=0), embed(adjacency([[1, 4, 10, 11]], 12))[0], atol=1e-5)


def test_the_map_moves_to_items_of_a_grown_graph():
    torch.manual_seed(0)
    items, users = torch.randn(12, 3), torch.randn(8, 3)
    rows = adjacency([[user, (user + 3) % 12] for user in range(8)], 12)
    embed = HistoryEmbedding(users, items, rows)
    other = embed.on(2 * items, rows)  # the map is linear
    assert torch.allclose(other(rows), 2 * embed(rows), atol=1e-5)
    assert other.weight is embed.weight and embed.items is items
    assert float(embed(rows).abs().sum()) == pytest.approx(float(other(rows).abs().sum()) / 2)
