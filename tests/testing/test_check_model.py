import pytest
import torch

from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.testing import check_model

#: Small settings.
SMALL: dict[str, dict] = {'NCL': dict(warmup=1, num_clusters=3), 'HCCF': dict(num_hyperedges=6)}


@pytest.mark.parametrize(
    'name',
    ['Popularity', 'ItemKNN', 'EASE', 'MFBPR', 'LightGCN', 'NCL', 'HCCF', 'VBPR', 'FREEDOM', 'BM3'],
)
def test_models_of_the_package_pass(name):
    check_model(get_model(name), MODELS[name].needs_modality, **SMALL.get(name, {}))


class Leaking(get_model('MFBPR')):
    def __init__(self, data, **arguments):
        super().__init__(data, **arguments)
        self.leak = float(data['user', 'item'].edge_index.double().var())

    def score(self, user):
        return super().score(user) + self.leak


class Random(get_model('MFBPR')):
    def score(self, user):
        return torch.rand(user.numel(), self.num_items)


class Infinite(get_model('MFBPR')):
    def score(self, user):
        return super().score(user) / 0


class Forgetful(get_model('MFBPR')):
    def state_dict(self, *args, **kwargs):
        return {
            key: torch.zeros_like(value) if torch.is_tensor(value) else value
            for key, value in super().state_dict(*args, **kwargs).items()
        }


@pytest.mark.parametrize(
    'model, arguments, message',
    [
        (Leaking, {}, 'held-out interactions change the scores'),
        (Random, {}, 'scores of a second call differ'),
        (Infinite, {}, 'scores with 0 modalities are not finite'),
        (Forgetful, {}, 'scores from the saved state differ'),
        (get_model('MFBPR'), {'needs_modality': True}, 'takes a graph without modalities'),
    ],
)
def test_each_fault_is_named(model, arguments, message):
    with pytest.raises(AssertionError, match=message):
        check_model(model, **arguments)
