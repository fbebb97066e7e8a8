import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.closed_form import ItemKernel, neighbor_kernel
from genrec_pyg.nn.interest.schedule import FlipSchedule
from genrec_pyg.nn.interest.views import Views, compressed, largest_entries, with_neighbors


def test_compressed_keeps_what_rank_and_neighbors_allow():
    torch.manual_seed(0)
    weight = (torch.randn(40, 2) @ torch.randn(2, 40)).fill_diagonal_(0)
    weight[3, 5] += 30.0
    kernel = compressed(weight.clone(), rank=2, num_neighbors=40)
    found = kernel.query @ kernel.key.t()
    item, history = kernel.neighbors.to_edge_index()[0]
    found[history, item] += kernel.neighbors.value
    off_diagonal = ~torch.eye(40, dtype=torch.bool)
    assert torch.allclose(found[off_diagonal], weight[off_diagonal], atol=1e-4)
    sparse = compressed(weight.clone(), rank=2, num_neighbors=1)
    assert int(sparse.neighbors.row_degree().max()) == 1 and sparse.query.shape == (40, 2)
    assert compressed(weight.clone(), rank=2, num_neighbors=0).neighbors is None
    whole = compressed(weight.clone(), rank=10, num_neighbors=5)
    assert (
        torch.equal(whole.query @ whole.key.t(), weight.fill_diagonal_(0))
        and whole.neighbors is None
    )


def test_compression_draws_nothing_from_the_global_generator():
    weight = torch.rand(20, 20)
    before = torch.get_rng_state()
    compressed(weight, 4, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_largest_entries_of_rows():
    index = torch.tensor([[0, 0, 0, 2, 2], [1, 2, 3, 0, 1]])
    found = largest_entries(index, torch.tensor([1.0, -3.0, 2.0, 5.0, -6.0]), 4, 2)
    assert found.to_edge_index()[0].tolist() == [[0, 0, 2, 2], [2, 3, 0, 1]]


def test_the_number_of_neighbors_is_cut_per_scored_item():
    kernel = neighbor_kernel(
        torch.tensor([0, 0, 2]), torch.tensor([1, 2, 0]), torch.tensor([1.0, -2.0, 3.0]), 3
    )
    assert with_neighbors(kernel, 1).neighbors.to_edge_index()[0].tolist() == [[0, 2], [2, 0]]
    assert with_neighbors(kernel, 0).neighbors is None
    dense = ItemKernel(3, weight=torch.eye(3))
    assert with_neighbors(dense, 1) is dense


@pytest.mark.parametrize('max_items', [100, 1])
def test_a_mixture_is_the_sum_of_its_views_each_divided_by_its_deviation(max_items):
    torch.manual_seed(0)
    views = Views(training_graph(toy_data()), rank=7, num_neighbors=7, max_items=max_items)
    views.add_others()
    user = torch.arange(8)
    views.measure_deviations(user)
    weights = {name: 0.5 + place for place, name in enumerate(views.kernels)}
    assert views.dense == ('two_hop' in views.kernels) and {
        'filter',
        'image',
        'image_ridge',
    } <= set(weights)
    assert views.dense == ('image_fine_ridge' in views.kernels)
    expected = sum(
        weight / views.deviation[name] * views.score(name)(user) for name, weight in weights.items()
    )
    rows = views.histories(user)
    found = views.mixture(weights)(rows)
    seen = torch.zeros(8, 7, dtype=torch.bool).index_put_(
        tuple(views.graph.edge_index), torch.tensor(True)
    )
    assert torch.allclose(found[~seen], expected[~seen], atol=1e-4)  # of items that may be listed


def test_the_discount_multiplies_the_columns_of_the_whole_kernel():
    views = Views(training_graph(toy_data()), rank=2, num_neighbors=7, max_items=100)
    schedule = FlipSchedule(ridge=2.0, discount=0.5)
    plain = views.whole_kernel(schedule).weight.clone()
    views.add_whole(views.whole_kernel(schedule), schedule)
    assert torch.allclose(views.kernels['kernel'].weight, plain / views.degree.sqrt())
