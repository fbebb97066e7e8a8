import copy
import math

import pytest
import torch
from helpers.toy_graphs import BATCH, PATH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import NCL, LightGCN

USERS = type(BATCH)(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))


def test_one_cluster_costs_nothing():
    model = NCL(toy_data(), hidden_channels=4, num_clusters=1, warmup=0)
    model.start_epoch(0)
    assert model.loss(BATCH)['contrast_prototypes'].item() == pytest.approx(0.0, abs=1e-8)


def test_equal_cosines_cost_the_logarithm_of_the_nodes():
    model = NCL(PATH, hidden_channels=2, contrast_weight=1.0, item_weight=0.0)
    row = torch.tensor([[0.3, -0.7]])
    set_tables(
        model, torch.tensor([[2.0**0.5], [1.0]]) * row, torch.tensor([[1.0], [2.0**0.5]]) * row
    )
    assert model.loss(USERS)['contrast_structure'].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize('temperature,expected', [(0.5, (0.3252, 0.4823)), (0.1, (0.0083, 0.0875))])
def test_structure_on_the_path_by_hand(temperature, expected):
    model = NCL(
        PATH, hidden_channels=2, contrast_weight=1.0, item_weight=0.0, temperature=temperature
    )
    set_tables(model, torch.eye(2), torch.ones(2, 2))
    for user, value in enumerate(expected):
        batch = type(BATCH)(torch.tensor([user]), torch.tensor([1]), torch.tensor([0]))
        assert model.loss(batch)['contrast_structure'].item() == pytest.approx(value, abs=1e-4)


def test_assigned_prototype_is_the_nearest_by_cosine():
    for spherical, expected in ((True, 4.6e-5), (False, 10.0)):
        model = NCL(
            PATH, hidden_channels=2, contrast_weight=0.0, prototype_weight=1.0, temperature=0.1
        )
        set_tables(model, torch.tensor([[0.1, 0.0], [0.0, 1.0]]), torch.ones(2, 2))
        model.user_centroids.copy_(torch.tensor([[0.0, 0.05], [2.0, 0.0]]))
        model.user_label.copy_(torch.tensor([int(spherical), 0]))
        model.item_centroids.copy_(torch.eye(2))
        model.item_label.zero_()
        model.uses_prototypes = True
        items = math.log(2)  # both centroids are equally near to the items
        assert model.loss(USERS)['contrast_prototypes'].item() - items == pytest.approx(
            expected, rel=0.02
        )


def test_weights_zero_are_light_gcn_bit_for_bit():
    torch.manual_seed(1)
    model = NCL(toy_data(), contrast_weight=0.0, prototype_weight=0.0, warmup=0)
    state = torch.get_rng_state()
    assert model.start_epoch(0) == {}
    terms = model.loss(BATCH)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    expected = LightGCN(toy_data()).loss(BATCH)
    assert terms.keys() == expected.keys() and all(
        torch.equal(terms[name], expected[name]) for name in terms
    )


def test_layer_mean_is_that_of_light_gcn_and_more_hops_are_propagated():
    torch.manual_seed(1)
    model = NCL(toy_data(), num_layers=1, hops=2).double()
    torch.manual_seed(1)
    expected = LightGCN(toy_data(), num_layers=1).double().loss(BATCH)
    found = model.loss(BATCH)
    assert torch.allclose(found['bpr'], expected['bpr'])
    assert set(found) == {'bpr', 'l2', 'contrast_structure'}


def test_clusters_follow_the_schedule_and_the_state():
    model = NCL(toy_data(), hidden_channels=4, num_clusters=3, m_step=2, warmup=1)
    assert model.user_centroids.shape == (2, 4)  # at most a twentieth of the nodes, but two
    assert model.start_epoch(0) == {} and 'contrast_prototypes' not in model.loss(BATCH)
    assert model.start_epoch(1) == {'user_clusters': 2.0, 'item_clusters': 2.0}
    before = model.user_centroids.clone()
    with torch.no_grad():
        model.embedding.user.normal_()
    model.start_epoch(2)
    assert torch.equal(before, model.user_centroids)
    other = NCL(toy_data(), hidden_channels=4, num_clusters=3, m_step=2, warmup=1)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    other.start_epoch(2)
    assert all(
        torch.equal(a, b) for a, b in zip(model.loss(BATCH).values(), other.loss(BATCH).values())
    )
    model.start_epoch(3)
    assert not torch.equal(before, model.user_centroids) and not model.user_centroids.requires_grad
    model.reset_parameters()
    assert not model.uses_prototypes and bool((model.user_label == -1).all())


@pytest.mark.parametrize(
    'arguments',
    [
        dict(hops=0),
        dict(temperature=0.0),
        dict(contrast_weight=-1.0),
        dict(m_step=0),
        dict(num_clusters=0),
        dict(warmup=-1),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        NCL(toy_data(), **arguments)
