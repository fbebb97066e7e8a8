import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv import ItemGraphConv, LightConv, ModalityConv, SparseConv
from genrec_pyg.ops import bipartite_adjacency, bipartite_block

U, I = 4, 5
EDGES = torch.tensor([[0, 0, 1, 2, 3], [0, 1, 1, 2, 4]])


@pytest.fixture
def adjacency():
    adjacency = bipartite_adjacency(EDGES, U, I, self_loops=True)
    return adjacency.to(torch.float64)


def spelled_out(adjacency):
    (row, col), value = adjacency.to_edge_index()
    return torch.stack([col, row]), value


@pytest.mark.parametrize('conv', [SparseConv(), LightConv(3), ItemGraphConv(2)])
def test_kernel_and_messages_agree(conv, adjacency):
    x = torch.randn(U + I, 3, dtype=torch.float64, requires_grad=True)
    fused, plain = conv(x, adjacency), conv(x, *spelled_out(adjacency))
    assert torch.allclose(fused, plain, atol=1e-12)
    weight = torch.randn_like(fused)
    assert torch.allclose(*(torch.autograd.grad(out, x, weight)[0] for out in (fused, plain)), atol=1e-12)


def test_rectangular_graph_with_several_modalities():
    block = bipartite_block(EDGES, U, I, self_loops=True).to(torch.float64)
    x = torch.randn(3, I, 2, dtype=torch.float64)
    conv = ModalityConv()
    fused = conv(x, block)
    assert fused.shape == (3, U, 2)
    assert torch.allclose(fused, torch.stack([conv(view, block) for view in x]))
    assert torch.allclose(fused, conv(x, *spelled_out(block), num_targets=U))


def test_message_hooks_see_every_message_of_an_adjacency(adjacency):
    x = torch.randn(U + I, 3, dtype=torch.float64)
    conv, seen = LightConv(2), []
    expected = conv(x, adjacency)
    handle = conv.register_message_forward_hook(lambda module, inputs, out: seen.append(out.size(-2)))
    assert torch.allclose(conv(x, adjacency), expected)
    assert seen == [adjacency.nnz, adjacency.nnz]
    handle.remove()
    assert torch.equal(conv(x, adjacency), expected)


@pytest.mark.parametrize('conv', [LightConv, ItemGraphConv])
def test_negative_layers_are_refused(conv):
    with pytest.raises(ConfigError, match='num_layers: got -1'):
        conv(-1)


def test_zero_layers_are_the_identity(adjacency):
    x = torch.randn(U + I, 3, dtype=torch.float64)
    assert torch.equal(LightConv(0)(x, adjacency), x) and torch.equal(ItemGraphConv(0)(x, adjacency), x)
