import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import EASE, FeaturePriorEASE


def test_without_strength_it_is_ease():
    data, user = toy_data(), torch.arange(8)
    arguments = dict(l2=2.0, row_weight=0.25, ridge_power=0.3, popularity_discount=0.1)
    assert torch.allclose(
        FeaturePriorEASE(data, prior_strength=0.0, **arguments).score(user),
        EASE(data, **arguments).score(user),
        atol=1e-5,
    )


def test_refuses_what_it_cannot_hold():
    with pytest.raises(ConfigError, match='7 x 7 numbers twice .* accepted are up to max_items=6'):
        FeaturePriorEASE(toy_data(), max_items=6)
