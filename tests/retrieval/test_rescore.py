import pytest
import torch

from genrec_pyg.nn import GenRec
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import Adjacency
from genrec_pyg.recommend import top_items
from genrec_pyg.retrieval import make_search
from genrec_pyg.retrieval.rescore import rescored


def test_nearly_equal_items_rank_by_their_exact_scores(demo_data):
    model = get_model('LightGCN')(demo_data).eval()
    users, items = torch.zeros(120, 2), torch.zeros(80, 2)
    users[:] = torch.tensor([1.0, 1.0])
    items[:, 0] = 1.0
    items[7, 1], items[5, 1] = 3e-8, 5e-8  # less than half a unit in the last place of 1 together
    items[9] = torch.tensor([1.0, 1.3e-7])
    model.embed = lambda: (users, items)
    nobody = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), size=(3, 80))
    with model.cached_embeddings():
        score, item = rescored(make_search(model), model)(torch.arange(3), 4, nobody)
    assert item.tolist() == [[9, 0, 1, 2]] * 3 and score[0, 1] == 1  # rounded, equal ones by number


@pytest.mark.parametrize('size', [1, 7, 120])
def test_lists_are_the_same_to_the_bit_whatever_the_size_of_blocks(demo_data, size):
    model = GenRec(demo_data, interest={'num_neighbors': 4, 'rank': 8}).eval()
    model.choose(demo_data)
    assert model.has_sparse_scores
    expected = top_items(model, demo_data, torch.arange(120), k=10)
    assert top_items(model, demo_data, torch.arange(120), k=10, batch_size=size) == expected


def test_short_lists_stay_padded(demo_data):
    model = get_model('LightGCN')(demo_data).eval()
    known = torch.stack([torch.zeros(77, dtype=torch.long), torch.arange(77)])
    rows = Adjacency.from_edge_index(known, size=(1, 80))
    with model.cached_embeddings():
        score, item = rescored(make_search(model), model)(torch.tensor([4]), 5, rows)
    assert sorted(item[0, :3].tolist()) == [77, 78, 79] and item[0, 3:].tolist() == [80, 80]
    assert bool(score[0, 3:].isneginf().all())
