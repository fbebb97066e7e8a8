"""Starting from a run on data that have grown since."""
import torch

from genrec_pyg.datasets import from_table
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.nn.models import get_model
from genrec_pyg.runs.warm_start import take_over

OLD = {'user': ['b', 'b', 'd', 'd'], 'item': ['x', 'z', 'x', 'y']}
NEW = {'user': ['a', 'b', 'b', 'd', 'd', 'e'], 'item': ['w', 'x', 'z', 'x', 'y', 'y']}


def ids(data):
    return raw_ids(data, USER), raw_ids(data, ITEM)


def test_rows_follow_their_ids_and_new_ones_stay_as_drawn():
    old, new = from_table(OLD, split='none'), from_table(NEW, split='none')
    trained, model = (get_model('LightGCN')(data, hidden_channels=4) for data in (old, new))
    drawn = model.embedding.user.detach().clone()
    take_over(model, ids(new), trained, ids(old))
    assert torch.equal(model.embedding.user[[1, 2]], trained.embedding.user)
    assert torch.equal(model.embedding.item[1:], trained.embedding.item)  # w is new and comes first
    assert torch.equal(model.embedding.user[[0, 3]], drawn[[0, 3]])
    assert not model.is_untrained()  # so that a training goes on from there
