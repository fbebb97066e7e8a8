import copy

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.interest import GeneratedInterest, HeldOutLists, InterestConfig, choose_interest
from genrec_pyg.nn.interest.schedule import FlipSchedule
from genrec_pyg.nn.interest.search import _starts
from genrec_pyg.nn.interest.views import Views


@pytest.mark.parametrize('max_items', [8000, 10])
def test_the_mixture_is_at_least_as_good_as_every_view(demo_data, max_items):
    graph = training_graph(demo_data)
    held_out = HeldOutLists(demo_data)
    choice = choose_interest(graph, held_out, InterestConfig(rank=16, max_items=max_items))
    assert (
        choice.chosen
        and choice.curve
        and choice.recall['mixture']
        >= max(value for name, value in choice.recall.items() if name != 'mixture')
    )
    assert ('two_hop' in choice.weights) == (max_items > 80)
    # The ridge is found once more with what the leading eigenpairs leave out.
    assert any(
        entry['rank'] == 80 if max_items > 80 else 'entries' in entry for entry in choice.curve
    )
    assert choice.kernel.weight is None and choice.kernel.query.size(1) == 16
    interest = GeneratedInterest(graph)
    interest.set_kernel(choice.kernel)
    assert held_out.recall(interest.score) > 0.9 * choice.recall['mixture']


def test_without_enough_validation_the_fallback_is_taken_and_said(demo_data, caplog):
    choice = choose_interest(training_graph(demo_data), HeldOutLists(demo_data, max_users=3))
    assert (
        not choice.chosen
        and choice.schedule == FlipSchedule()
        and 'too few to choose on' in caplog.text
    )
    assert choose_interest(training_graph(demo_data)).weights == choice.weights


def test_the_weights_start_from_the_form_of_add_ease_where_dense_matrices_are_used(demo_data):
    starts = {}
    for max_items in (8000, 10):
        views = Views(training_graph(demo_data), rank=16, num_neighbors=20, max_items=max_items)
        views.add_others()
        starts[max_items] = _starts(views)
    names = sorted(views.graph.modalities)
    assert starts[10] == [] and starts[8000] == [
        {'kernel': 1.0, **{f'{name}{end}': 0.5 for name in names}}
        for end in ('_fine_ridge', '_ridge')
    ]


def test_constant_features_are_no_view(demo_data, caplog):
    data = copy.deepcopy(demo_data)
    data['image'].x = torch.ones_like(data['image'].x)
    choice = choose_interest(training_graph(data), HeldOutLists(data))
    assert 'image' not in choice.weights and "modality 'image'" in caplog.text


def test_a_graph_where_every_user_has_every_item_and_one_of_one_user():
    from torch_geometric.data import HeteroData

    for num_users in (1, 6):
        data = HeteroData()
        data['user'].num_nodes, data['item'].num_nodes = num_users, 5
        data['user', 'interacts', 'item'].edge_index = torch.cartesian_prod(
            torch.arange(num_users), torch.arange(5)
        ).t()
        data['user', 'interacts', 'item'].train_mask = torch.ones(5 * num_users, dtype=torch.bool)
        graph = training_graph(data)
        interest = GeneratedInterest(graph)
        interest.set_kernel(choose_interest(graph).kernel)
        assert bool(torch.isfinite(interest.score(torch.arange(num_users))).all())


def test_a_weight_of_a_view_that_is_not_there_is_refused(demo_data):
    with pytest.raises(
        ConfigError,
        match="view_weights: got 'video', accepted on this graph are low_rank, kernel, filter",
    ):
        choose_interest(
            training_graph(demo_data), None, InterestConfig(view_weights={'video': 1.0})
        )


@pytest.mark.parametrize('max_items', [8000, 10])
def test_no_neighbors_are_kept_where_none_are_wanted(demo_data, max_items):
    config = InterestConfig(rank=16, num_neighbors=0, max_items=max_items)
    assert (
        choose_interest(training_graph(demo_data), HeldOutLists(demo_data), config).kernel.neighbors
        is None
    )


def test_pinned_settings_are_not_reported_as_chosen(demo_data):
    config = InterestConfig('auto', 4.0, 0.0, 0.0, 0.0, {'kernel': 1.0})
    assert (
        config.is_pinned
        and not choose_interest(training_graph(demo_data), HeldOutLists(demo_data), config).chosen
    )
