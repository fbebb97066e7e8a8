import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.nn.models import EASE, AddEASE


def test_is_ease_plus_weighted_content():
    data, user = toy_data(), torch.arange(8)
    model, ease = AddEASE(data, l2=2.0, content_weight=0.3), EASE(data, l2=2.0)
    rows = torch.zeros(8, 7)
    rows[tuple(model.graph.edge_index)] = 1
    expected = ease.score(user) + 0.3 * rows @ model.content.to_dense()
    assert torch.allclose(model.score(user), expected, atol=1e-5)
    model.content_weight = 0.0
    assert torch.equal(model.score(user), ease.score(user))


def test_content_is_fitted_anew_alone():
    data, user = toy_data(), torch.arange(8)
    model = AddEASE(data, content_l2=3.0)
    other = AddEASE(data, content_l2=1.0, modality_weights={'image': 1.0, 'text': 0.0})
    kernel = model.kernel
    model.fit_content(1.0, {'image': 1.0, 'text': 0.0})
    assert model.kernel is kernel and torch.equal(model.score(user), other.score(user))
