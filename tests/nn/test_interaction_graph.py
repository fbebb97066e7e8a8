import pytest
import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.interaction_graph import InteractionGraph, PrunedGraph
from genrec_pyg.ops import bipartite_adjacency

PATH = TrainingGraph(2, 2, torch.tensor([[0, 0, 1], [0, 1, 1]]))


def random_graph(num_users=40, num_items=30, density=0.3):
    return TrainingGraph(
        num_users,
        num_items,
        (torch.rand(num_users, num_items) < density).nonzero().t().contiguous(),
    )


def dense(adjacency) -> Tensor:
    (row, col), value = adjacency.to_edge_index()
    return torch.zeros(adjacency.size, dtype=value.dtype).index_put((row, col), value)


def test_subgraphs_equal_graphs_made_from_their_edges():
    data = random_graph()
    graph = InteractionGraph(data)
    for mask in (
        graph.edge_drop(0.4),
        graph.node_drop(0.3),
        torch.ones(data.num_edges, dtype=torch.bool),
        torch.zeros(data.num_edges, dtype=torch.bool),
    ):
        expected = bipartite_adjacency(data.edge_index[:, mask], 40, 30, self_loops=False)
        found = graph.subgraph(mask)
        assert found.nnz == 2 * int(mask.sum()) and found.symmetric
        assert torch.allclose(dense(found), dense(expected)) and torch.equal(
            dense(found), dense(found).t()
        )


def test_path_without_one_edge_is_normalized_anew():
    graph = InteractionGraph(PATH)
    assert graph.subgraph(torch.tensor([True, False, True])).value.tolist() == [1, 1, 1, 1]
    assert graph.scaled_drop(
        0.0, torch.tensor([True, False, True])
    ).value.tolist() == pytest.approx([0.5**0.5] * 4)


def test_edge_drop_keeps_an_exact_number():
    graph = InteractionGraph(random_graph())
    for ratio in (0.0, 0.1, 0.5, 0.9):
        assert int(graph.edge_drop(ratio).sum()) == int((1 - ratio) * graph.num_edges + 1e-9)
    assert not torch.equal(graph.edge_drop(0.5), graph.edge_drop(0.5))


def test_degree_drop_keeps_an_exact_number_and_spares_rare_nodes():
    graph = InteractionGraph(random_graph())
    for ratio in (0.0, 0.1, 0.5, 0.9):
        assert int(graph.degree_drop(ratio).sum()) == int((1 - ratio) * graph.num_edges + 1e-9)
    # A star of nine users on item 0, one of them also on item 1: rates 1 / 3 (eight times), 1 /
    # sqrt(18), 1 / sqrt(2).
    star = InteractionGraph(
        TrainingGraph(9, 2, torch.tensor([[0, 0, *range(1, 9)], [0, 1, *[0] * 8]]))
    )
    rate = torch.tensor([18**-0.5, 2**-0.5, *[1 / 3] * 8])
    drawn = [star.degree_drop(0.9) for _ in range(4000)]
    assert torch.allclose(torch.stack(drawn).float().mean(dim=0), rate / rate.sum(), atol=0.025)
    # Of two, the second is drawn from what the first left.
    share = rate / rate.sum()
    both = sum(float(share[a] * rate[1 - a] / (rate.sum() - rate[a])) for a in (0, 1))
    found = (
        sum(bool(mask[:2].all()) for mask in (star.degree_drop(0.8) for _ in range(4000))) / 4000
    )
    assert found == pytest.approx(both, abs=0.02)


def test_pruned_graph_is_part_in_training_and_whole_in_evaluation():
    graph = PrunedGraph(random_graph(), 0.8)
    part = graph()
    assert part.nnz == 2 * int(0.2 * graph.num_edges + 1e-9) and graph() is part
    graph.prune(uniform=True)
    assert graph() is not part
    assert graph.eval()() is graph.adjacency
    assert graph.double().train()().value.dtype == torch.float64
    graph = PrunedGraph(random_graph(), 0.0)
    state = torch.get_rng_state()
    graph.prune()
    assert graph() is graph.adjacency and torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match='edge_dropout: got'):
        PrunedGraph(PATH, 1.0)


def test_node_drop_leaves_the_square_of_the_edges():
    data = random_graph(200, 100)
    graph = InteractionGraph(data)
    kept = data.edge_index[:, graph.node_drop(0.1)]
    assert kept.size(1) / data.num_edges == pytest.approx(0.81, abs=0.03)
    assert kept[0].unique().numel() <= 180 and kept[1].unique().numel() <= 90


def test_scaled_drop_is_unbiased_and_symmetric():
    graph = InteractionGraph(random_graph(20, 15))
    whole = dense(graph.adjacency)
    assert graph.scaled_drop(0.0) is graph.adjacency
    one = dense(graph.scaled_drop(0.5))
    assert torch.equal(one, one.t()) and torch.allclose(one[one > 0], 2 * whole[one > 0])
    mean = sum(dense(graph.scaled_drop(0.5)) for _ in range(600)) / 600
    assert float((mean - whole).abs().max()) < 0.2 * float(whole.max())


@pytest.mark.parametrize('share', [-0.1, 1.0])
def test_shares_are_checked(share):
    graph = InteractionGraph(PATH)
    for draw in (graph.edge_drop, graph.degree_drop, graph.scaled_drop):
        with pytest.raises(ConfigError, match='edge_dropout: got'):
            draw(share)
    with pytest.raises(ConfigError, match='node_dropout: got'):
        graph.node_drop(share)


def test_follows_precision_and_saves_nothing():
    graph = InteractionGraph(PATH).double()
    assert (
        graph.subgraph(graph.edge_drop(0.0)).value.dtype == torch.float64 and not graph.state_dict()
    )
