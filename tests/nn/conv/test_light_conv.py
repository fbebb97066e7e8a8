import copy

import pytest
import torch
from helpers.bipartite import EDGES, NUM_ITEMS, NUM_USERS, spelled_out
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import LGConv

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv import ItemGraphConv, LightConv, ModalityConv, SparseConv
from genrec_pyg.ops import bipartite_adjacency, bipartite_block


@pytest.mark.parametrize('conv', [SparseConv(), LightConv(3), ItemGraphConv(2)])
def test_kernel_and_messages_agree(conv, adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64, requires_grad=True)
    fused, plain = conv(x, adjacency), conv(x, *spelled_out(adjacency))
    assert torch.allclose(fused, plain, atol=1e-12)
    weight = torch.randn_like(fused)
    assert torch.allclose(
        *(torch.autograd.grad(out, x, weight)[0] for out in (fused, plain)), atol=1e-12
    )


def test_rectangular_graph_with_several_modalities():
    block = bipartite_block(EDGES, NUM_USERS, NUM_ITEMS, self_loops=True).to(torch.float64)
    x = torch.randn(3, NUM_ITEMS, 2, dtype=torch.float64)
    conv = ModalityConv()
    fused = conv(x, block)
    assert fused.shape == (3, NUM_USERS, 2)
    assert torch.allclose(fused, torch.stack([conv(view, block) for view in x]))
    assert torch.allclose(fused, conv(x, *spelled_out(block), num_targets=NUM_USERS))


def test_message_hooks_see_every_message_of_an_adjacency(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv, seen = LightConv(2), []
    expected = conv(x, adjacency)
    handle = conv.register_message_forward_hook(
        lambda module, inputs, out: seen.append(out.size(-2))
    )
    assert torch.allclose(conv(x, adjacency), expected)
    assert seen == [adjacency.nnz, adjacency.nnz]
    handle.remove()
    assert torch.equal(conv(x, adjacency), expected)


@pytest.mark.parametrize('conv', [LightConv, ItemGraphConv])
def test_negative_layers_are_refused(conv):
    with pytest.raises(ConfigError, match='num_layers: got -1'):
        conv(-1)


def test_zero_layers_are_the_identity(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    assert torch.equal(LightConv(0)(x, adjacency), x) and torch.equal(
        ItemGraphConv(0)(x, adjacency), x
    )


def test_layer_mean_of_pyg_light_convolutions():
    edges = EDGES + torch.tensor([[0], [NUM_USERS]])
    both = torch.cat([edges, edges.flip(0)], dim=1)
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3)
    layers, step = [x], LGConv()
    for _ in range(3):
        layers.append(step(layers[-1], both))
    adjacency = bipartite_adjacency(EDGES, NUM_USERS, NUM_ITEMS, self_loops=False)
    assert torch.allclose(LightConv(3)(x, adjacency), torch.stack(layers).mean(dim=0), atol=1e-6)


class Regression(torch.nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, edge_index, edge_weight):
        return self.conv(x, edge_index, edge_weight).sum(dim=-1, keepdim=True)


@pytest.mark.parametrize(
    'conv', [LightConv(2), ItemGraphConv(2), ModalityConv(), SparseConv()], ids=repr
)
def test_explainer_finds_the_neighborhood(conv):
    # SparseConv is the parent of all: what PyG generates for it must not reach the explanations of
    # the others.
    SparseConv()
    adjacency = bipartite_adjacency(EDGES, NUM_USERS, NUM_ITEMS, self_loops=True)
    edge_index, weight = spelled_out(adjacency)
    explainer = Explainer(
        Regression(conv),
        GNNExplainer(epochs=5),
        explanation_type='model',
        edge_mask_type='object',
        model_config={'mode': 'regression', 'task_level': 'node', 'return_type': 'raw'},
    )
    x = torch.rand(NUM_USERS + NUM_ITEMS, 3) + 0.1
    mask = explainer(x, edge_index, edge_weight=weight, index=2).edge_mask
    # User 2 has one item, which has no other user.
    inside = torch.isin(edge_index, torch.tensor([2, NUM_USERS + 2])).all(dim=0)
    reached = mask > 0
    assert bool(reached[inside & (edge_index[1] == 2)].all()) and not bool(reached[~inside].any())
    assert torch.allclose(conv(x, adjacency), conv(x, edge_index, weight), atol=1e-6)


@pytest.mark.parametrize('conv', [LightConv(2), ItemGraphConv(2), SparseConv()], ids=repr)
def test_weights_replace_the_entries_of_an_adjacency(conv, adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(adjacency.nnz, dtype=torch.float64, requires_grad=True)
    fused, plain = conv(x, adjacency, weight), conv(x, spelled_out(adjacency)[0], weight)
    assert torch.allclose(fused, plain)
    upstream = torch.randn_like(plain)
    for found, expected in zip(
        torch.autograd.grad(fused, (x, weight), upstream),
        torch.autograd.grad(plain, (x, weight), upstream),
        strict=True,
    ):
        assert torch.allclose(found, expected)


def test_copies_work_and_name_their_layers(adjacency):
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3, dtype=torch.float64)
    conv = LightConv(2)
    assert torch.equal(copy.deepcopy(conv)(x, adjacency), conv(x, adjacency))
    assert repr(conv) == 'LightConv(num_layers=2)' and repr(ModalityConv()) == 'ModalityConv()'
