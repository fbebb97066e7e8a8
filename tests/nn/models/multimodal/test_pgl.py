import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.models import PGL
from genrec_pyg.nn.principal_graph import PrincipalGraph
from genrec_pyg.ops import bipartite_adjacency

#: Item 2 has no edge; singular values are 1 and 1/2, so that a rank of 8 takes one pair with weight
#: 1/2.
TOY = TrainingGraph(2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]))
X = torch.tensor([[1.0], [2], [3], [4], [5]])


def test_global_graph_by_hand():
    for threshold in (0.0, 0.001):
        graph = PrincipalGraph(TOY, 8, threshold)
        assert graph(X).view(-1).tolist() == pytest.approx(
            [2.040440, 1.442809, 0.569036, 0.804738, 0], abs=1e-5
        )
        found = graph.layer_mean(X, 2).view(-1).tolist()
        assert found == pytest.approx([1.147603, 1.242442, 1.430147, 1.941653, 1.666667], abs=1e-5)


def dense_principal(edges, sizes, rank):
    """The released definition: the leading triplets of the whole bipartite adjacency, each with one
    of the smallest kept.
    """
    matrix = bipartite_adjacency(edges, *sizes, self_loops=False)
    dense = (matrix @ torch.eye(sum(sizes))).double()
    left, sigma, right = torch.linalg.svd(dense)
    kept = rank // 4
    weight = sigma[:kept] * sigma[rank - kept : rank]
    return left[:, :kept] * weight @ right[:kept]


def test_global_graph_of_a_connected_graph_is_the_released_sum():
    generator = torch.Generator().manual_seed(0)
    path = torch.stack(
        [torch.arange(30).repeat_interleave(2)[1:], torch.arange(30).repeat_interleave(2)[:-1]]
    )
    extra = torch.randint(30, (2, 150), generator=generator)
    edges = torch.cat([path, extra], dim=1).unique(dim=1)
    graph = PrincipalGraph(TrainingGraph(30, 30, edges), 16)
    expected = dense_principal(edges, (30, 30), 16)
    assert torch.allclose(graph(torch.eye(60)).double(), expected, atol=1e-5)
    pruned = PrincipalGraph(TrainingGraph(30, 30, edges), 16, 0.02)
    assert torch.allclose(
        pruned(torch.eye(60)).double(), expected * (expected.abs() >= 0.02), atol=1e-5
    )


def test_other_components_keep_their_interactions():
    edges = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 3]])  # user 2 and item 3 know each other alone
    graph = PrincipalGraph(TrainingGraph(3, 4, edges), 8)
    found = graph(torch.eye(7))
    assert found[2].tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 1]) and found[
        6, 2
    ].item() == pytest.approx(1)
    assert torch.allclose(
        found[:2, 3:5], torch.tensor([[0.235702, 1 / 3], [1 / 6, 0.235702]]), atol=1e-5
    )


@pytest.mark.parametrize('arguments', [dict(edge_dropout=0.0), dict(mode='global')])
def test_evaluation_takes_all_interactions(arguments):
    model = PGL(toy_data(), hidden_channels=4, **arguments).double()
    evaluated, trained = model.eval().embed(), model.train().embed()
    assert all(torch.allclose(a, b) for a, b in zip(evaluated, trained)) == (
        'edge_dropout' in arguments
    )
    whole = PGL(toy_data(), hidden_channels=4, edge_dropout=0.0).double().eval()
    whole.load_state_dict(model.state_dict())
    assert all(torch.allclose(a, b) for a, b in zip(evaluated, whole.embed()))


def test_an_epoch_keeps_its_share_of_interactions():
    model = PGL(toy_data(), hidden_channels=4).train()
    model.start_epoch(0)
    assert model.interactions().nnz == 2 * 3


def test_global_mode_learns_every_parameter():
    model = PGL(toy_data(partial=True), hidden_channels=4, mode='global').train()
    sum(model.loss(BATCH).values()).backward()
    assert all(
        bool(torch.isfinite(p.grad).all()) and bool(p.grad.any()) for p in model.parameters()
    )


def test_without_dropout_both_sides_of_the_contrast_are_equal():
    model = PGL(toy_data(), hidden_channels=4, dropout=0.0, contrast_weight=2.0)
    rows = torch.eye(2, 8)
    model.embed = lambda: (rows, rows)
    batch = type(BATCH)(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert model.loss(batch)['contrast'].item() == pytest.approx(2 * 0.006715, abs=1e-5)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(mode='x'),
        dict(edge_dropout=1.0),
        dict(dropout=1.5),
        dict(contrast_weight=-1.0),
        dict(temperature=0.0),
        dict(rank=7),
        dict(threshold=-1.0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        PGL(
            training_graph(toy_data(), arguments.get('modalities')),
            **{
                'mode': 'global',
                **{name: value for name, value in arguments.items() if name != 'modalities'},
            },
        )
