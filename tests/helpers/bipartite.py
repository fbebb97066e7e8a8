"""The graph that the tests of convolutions share."""

import torch

NUM_USERS, NUM_ITEMS = 4, 5
EDGES = torch.tensor([[0, 0, 1, 2, 3], [0, 1, 1, 2, 4]])


def spelled_out(adjacency):
    """Edges from source to target, as PyG has them, and their weights."""
    (row, col), value = adjacency.to_edge_index()
    return torch.stack([col, row]), value
