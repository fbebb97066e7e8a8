import pytest
import torch
from helpers.bipartite import EDGES, NUM_ITEMS, NUM_USERS

from genrec_pyg.ops import bipartite_adjacency


@pytest.fixture
def adjacency():
    return bipartite_adjacency(EDGES, NUM_USERS, NUM_ITEMS, self_loops=True).to(torch.float64)
