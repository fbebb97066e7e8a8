import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.modality.learned_graph import LearnedItemGraph

A = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]])
GRAPH = TrainingGraph(
    2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'a': Modality('a', A, 3), 'b': Modality('b', B, 3)}
)
HALF = torch.full((2,), 0.5, dtype=torch.float64)


def dense(graph):
    edge_index, value = graph.to_edge_index()
    return torch.zeros(graph.size, dtype=value.dtype).index_put(tuple(edge_index), value)


def make(original_weight=0.9, mix='joint', num_neighbors=2):
    return LearnedItemGraph(GRAPH, num_neighbors, original_weight, mix).double()


def features():
    return {'a': A.double().requires_grad_(), 'b': B.double().requires_grad_()}


def test_learned_part_by_hand():
    found = dense(make(original_weight=0.0)(features(), HALF))
    expected = [
        [0.561798, 0.164522, 0.262393],
        [0, 0.535332, 0.463183],
        [0.262393, 0.213448, 0.531915],
    ]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(
    'mix, expected',
    [
        (
            'joint',
            [
                [0.567022, 0.175551, 0.246647],
                [0, 0.535971, 0.462544],
                [0.246647, 0.221345, 0.532783],
            ],
        ),
        (
            'separate',
            [
                [0.567602, 0.176777, 0.244898],
                [0, 0.536042, 0.462473],
                [0.244898, 0.222222, 0.532880],
            ],
        ),
    ],
)
def test_mixed_graph_by_hand(mix, expected):
    found = dense(make(mix=mix)(features(), HALF))
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


def test_gradients_by_hand():
    content, logits = features(), torch.full((2,), 0.5, dtype=torch.float64, requires_grad=True)
    table = torch.tensor([[3.0, 0], [0, 4], [1, 1]], dtype=torch.float64)
    factor = torch.tensor([[1.0, 2], [3, -1], [0.5, 1]], dtype=torch.float64)
    value = (factor * (make()(content, logits.softmax(0)) @ table)).sum()
    value.backward()
    assert value.item() == pytest.approx(4.681146, abs=1e-6)
    assert logits.grad.tolist() == pytest.approx([0.646355, -0.646355], abs=1e-6)
    expected = torch.tensor(
        [[0, 0.109560], [0.032271, -0.024203], [0.069221, 0]], dtype=torch.float64
    )
    assert torch.allclose(content['a'].grad, expected, atol=1e-6)


@pytest.mark.parametrize('mix', ['joint', 'separate'])
def test_gradient_passes_the_entries_that_are_kept(mix):
    graph = make(0.5, mix)
    kept = graph.select(features())

    def product(a, b, weights):
        return graph({'a': a, 'b': b}, weights, kept) @ torch.eye(3, dtype=torch.float64)

    assert torch.autograd.gradcheck(product, (*features().values(), HALF.clone().requires_grad_()))


def test_all_weight_on_the_raw_features_leaves_nothing_to_learn():
    content = features()
    assert not make(1.0).select(content).learned
    graph = make(1.0)(content, HALF.clone().requires_grad_())
    assert torch.autograd.grad(graph.value.sum(), list(content.values()), allow_unused=True) == (
        None,
        None,
    )


def test_a_cosine_that_turns_negative_counts_as_nothing():
    graph = make(0.0)
    kept = graph.select(features())
    moved = {'a': torch.tensor([[1.0, 0], [-1, 0], [0, 1]]).double(), 'b': B.double()}
    value = dense(graph(moved, torch.tensor([1.0, 0.0]).double(), kept))
    assert torch.equal(value, torch.eye(3, dtype=torch.float64))


def test_kept_places_survive_features_that_change():
    graph, content = make(), features()
    kept = graph.select(content)
    same = graph(content, HALF, kept)
    assert torch.equal(same.value, graph(content, HALF).value) and torch.equal(
        same.col, kept.union.col
    )
    other = graph({'a': content['b'], 'b': content['a']}, HALF, kept)
    assert torch.equal(other.col, same.col)


@pytest.mark.parametrize('arguments', [dict(original_weight=1.5), dict(mix='sum')])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        make(**arguments)
