import pytest
import torch

from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.blend import Blend, standardized


def test_rows_are_standardized_and_equal_scores_become_zero():
    scores = torch.tensor([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1]])
    root = 1.5**0.5  # deviation of 1, 2, 3 is sqrt(2 / 3)
    assert torch.allclose(standardized(scores), torch.tensor([[-root, 0.0, root], [0.0, 0.0, 0.0]]))
    assert torch.allclose(standardized(scores * 1e6 + 3), standardized(scores), atol=1e-5)


def test_blend_adds_standardized_scores(demo_data):
    members = {name: get_model(name)(demo_data) for name in ('EASE', 'Popularity', 'LightGCN')}
    blend = Blend(demo_data, members, {'EASE': 0.5, 'Popularity': 0.0, 'LightGCN': 2.0})
    user = torch.tensor([3, 0, 7])
    parts = {name: model.score(user) for name, model in members.items()}
    z = {
        name: (s - s.mean(1, keepdim=True)) / s.std(1, keepdim=True, correction=0)
        for name, s in parts.items()
    }
    with blend.cached_embeddings():
        assert torch.allclose(blend.score(user), 0.5 * z['EASE'] + 2 * z['LightGCN'], atol=1e-4)
        assert members['LightGCN']._cached is not None
    assert (
        members['LightGCN']._cached is None and len(blend.members) == 2 and not blend.has_embeddings
    )


def test_blend_of_one_ranks_as_its_member(demo_data):
    model = get_model('EASE')(demo_data)
    blend = Blend(demo_data, {'a': model}, {'a': 0.3})
    expected, found = (evaluate(m, demo_data, 'test', (20,)) for m in (model, blend))
    assert found['recall@20'] == pytest.approx(expected['recall@20'], abs=1e-9)


@pytest.mark.parametrize(
    'weights',
    [
        {'a': 0.0, 'b': 0.0},
        {'a': -1.0, 'b': 1.0},
        {'a': float('nan'), 'b': 1.0},
        {'a': float('inf'), 'b': 1.0},
        {'a': '1', 'b': 1.0},
        {'a': 1.0},
    ],
)
def test_bad_weights(demo_data, weights):
    model = get_model('Popularity')(demo_data)
    with pytest.raises(ConfigError, match='weights: got'):
        Blend(demo_data, {'a': model, 'b': model}, weights)


def test_members_of_other_sizes(demo_data, tiny_graph):
    with pytest.raises(ConfigError, match='members: a has 6 users and 7 items'):
        Blend(demo_data, {'a': get_model('Popularity')(tiny_graph)}, {'a': 1.0})
