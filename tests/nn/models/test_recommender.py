import contextlib

import pytest
import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import topk_excluding

GRAPH = TrainingGraph(2, 3, torch.tensor([[0, 1], [0, 2]]))


class Fixed(Recommender):
    def __init__(self, users, items):
        super().__init__(GRAPH)
        self.users, self.items, self.calls = users, items, 0

    def embed(self):
        self.calls += 1
        return self.users, self.items


def test_score_is_the_inner_product():
    model = Fixed(
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    )
    assert model.score(torch.tensor([1, 0])).tolist() == [[0, 1, 1], [1, 2, 3]]


def test_several_interests_take_the_best():
    users = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    model = Fixed(users, torch.tensor([[3.0, 1.0], [-1.0, 5.0], [-1.0, -2.0]]))
    assert model.score(torch.tensor([0, 1])).tolist() == [[3, 5, -1], [6, 0, 0]]


@pytest.mark.parametrize('interests', [1, 2])
@pytest.mark.parametrize('cached', [True, False])
def test_best_items_are_those_of_the_scores(interests, cached):
    users, items = torch.randn(2, interests, 4).squeeze(1), torch.randn(3, 4)
    model, user = Fixed(users, items), torch.tensor([1, 0])
    excluded = torch.tensor([0, 1, 1]), torch.tensor([2])
    expected = topk_excluding(model.score(user), 2, *excluded)
    with model.cached_embeddings() if cached else contextlib.nullcontext():
        found = model.top_k(user, 2, *excluded)
    assert torch.equal(found[1], expected[1]) and torch.allclose(found[0], expected[0])
    assert 2 not in found[1][0] and model.calls == 2


def test_best_items_of_scores_of_ones_own():
    class Reversed(Fixed):
        def score(self, user):
            return -super().score(user)

    model = Reversed(torch.eye(2), torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    with model.cached_embeddings():
        assert model.top_k(torch.tensor([0]), 1)[1].item() == 0


def test_cached_embeddings_compute_once_and_leave_the_mode_alone():
    model = Fixed(torch.eye(2), torch.ones(3, 2)).train()
    with model.cached_embeddings():
        assert not model.training
        model.score(torch.tensor([0]))
        model.score(torch.tensor([1]))
    assert model.calls == 1 and model.training
    model.score(torch.tensor([0]))
    assert model.calls == 2


def test_cache_is_dropped_after_an_error():
    model = Fixed(torch.eye(2), torch.ones(3, 2))
    with pytest.raises(KeyError), model.cached_embeddings():
        raise KeyError
    assert model._cached is None


def test_repr_names_sizes():
    assert repr(Fixed(torch.eye(2), torch.eye(3))) == 'Fixed(users=2, items=3, modalities=[none])'


def test_the_signature_of_a_model_is_that_of_its_constructor():
    import inspect

    from genrec_pyg.nn.models import LightGCN

    names = list(inspect.signature(LightGCN).parameters)
    assert names[:2] == ['data', 'modalities'] and 'num_layers' in names and 'self' not in names
