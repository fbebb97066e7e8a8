import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.user_graph import CoUserGraph

#: User 0 shares two items with user 1 and one with each of users 2 and 3; user 4 shares none.
GRAPH = TrainingGraph(5, 5, torch.tensor([[0, 0, 0, 1, 1, 2, 3, 4], [0, 1, 2, 0, 1, 2, 2, 4]]))


def row(graph, user):
    begin, end = graph.rowptr[user : user + 2].tolist()
    return dict(zip(graph.col[begin:end].tolist(), graph.value[begin:end].tolist()))


def test_weights_by_hand():
    weights = CoUserGraph(GRAPH, 40)()
    assert row(weights, 0) == pytest.approx({1: 0.576117, 2: 0.211942, 3: 0.211942}, abs=1e-6)
    assert row(weights, 1) == {0: 1.0} and row(weights, 4) == {}


def test_equal_counts_go_to_the_lower_user():
    weights = CoUserGraph(GRAPH, 2)()
    assert row(weights, 0) == pytest.approx({1: 0.731059, 2: 0.268941}, abs=1e-6)
    assert row(weights, 3) == {0: 0.5, 2: 0.5}


def test_padding_of_two_neighbors_is_uniform():
    """Users 2 and 3 of one item each: the share of either neighbor is one of 1/4, 2/4 and 3/4,
    equally often.
    """
    graph = CoUserGraph(GRAPH, 4, 'polya').train()
    seen = []
    for _ in range(3000):
        graph.draw()
        seen.append(row(graph(), 3)[0])
    values, counts = torch.tensor(seen).unique(return_counts=True)
    assert values.tolist() == pytest.approx([0.25, 0.5, 0.75])
    assert bool(((counts / 3000 - 1 / 3).abs() < 0.04).all())
    assert row(graph(), 1) == {0: 1.0} and row(graph(), 4) == {}


def test_padding_changes_by_epoch_and_evaluation_has_none():
    graph, plain = CoUserGraph(GRAPH, 40, 'polya'), CoUserGraph(GRAPH, 40)
    first = graph.train()()
    assert graph() is first
    graph.draw()
    assert not torch.equal(graph().value, first.value)
    sums = torch.zeros(5).index_add(0, graph().row(), graph().value)
    assert torch.allclose(sums, torch.tensor([1.0, 1, 1, 1, 0]))
    assert torch.equal(graph.eval()().value, plain().value)


def test_without_padding_nothing_is_drawn():
    graph = CoUserGraph(GRAPH, 40).train()
    state = torch.get_rng_state()
    graph.draw()
    assert torch.equal(state, torch.get_rng_state()) and graph() is graph.weights


@pytest.mark.parametrize(
    'arguments,name',
    [(dict(num_neighbors=0), 'num_neighbors'), (dict(padding='x'), 'neighbor_padding')],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ConfigError, match=f'{name}: got'):
        CoUserGraph(GRAPH, **arguments)
