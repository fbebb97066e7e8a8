import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.modality.graph_encoder import MultimodalGraphEncoder
from genrec_pyg.ops import Adjacency, bipartite_adjacency

U, I, D = 5, 6, 4
EDGES = torch.tensor([[0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 3, 4]])  # user 4 and item 5 have no edge


def make_graph(*names):
    torch.manual_seed(0)
    return TrainingGraph(
        U,
        I,
        EDGES,
        {name: Modality(name, torch.randn(I, 3 + i), I) for i, name in enumerate(names)},
    )


def dense(adjacency):
    (row, col), value = adjacency.to_edge_index()
    return torch.zeros(adjacency.size, dtype=torch.float64).index_put((row, col), value.double())


def normalized_loops():
    matrix = torch.eye(U + I, dtype=torch.float64)
    matrix[EDGES[0], U + EDGES[1]] = 1
    matrix[U + EDGES[1], EDGES[0]] = 1
    scale = matrix.sum(dim=1).rsqrt()
    return scale[:, None] * matrix * scale


@pytest.mark.parametrize('num_layers', [0, 1, 3])
def test_collaborative_view_is_the_layer_mean(num_layers):
    encoder = MultimodalGraphEncoder(make_graph(), D, num_layers=num_layers).double()
    adjacency, x = normalized_loops(), torch.cat([encoder.user_embedding, encoder.item_embedding])
    expected, power = x, x
    for _ in range(num_layers):
        power = adjacency @ power
        expected = expected + power
    views = encoder()
    assert torch.allclose(views.content, expected / (num_layers + 1))
    assert not views.side.any() and torch.equal(views.embedding, views.content)


def test_all_views_equal_plain_formula():
    encoder = (
        MultimodalGraphEncoder(make_graph('image', 'text', 'audio'), D, num_neighbors=2)
        .double()
        .eval()
    )
    generated = bipartite_adjacency(torch.tensor([[0, 4], [3, 5]]), U, I, self_loops=True)
    adjacency, extra = normalized_loops(), dense(generated)
    x = torch.cat([encoder.user_embedding, encoder.item_embedding])
    a, b = encoder.view_logits.softmax(0)
    content = a * (x + adjacency @ x) / 2 + b * (x + extra @ x) / 2
    views = []
    for name, modality in encoder.graph.modalities.items():
        encoded = encoder.encoders[name](modality.x.double(), encoder.rho)
        q = dense(encoder.item_graphs[name]) @ (
            encoder.item_embedding * encoder.gates[name](encoded)
        )
        views.append(torch.cat([adjacency[:U, U:] @ q, q]))
    fused = encoder.attention(torch.stack(views))
    side = fused.common
    for gate, view in zip(encoder.gates.values(), views):
        side = side + gate(content) * (view - fused.common)
    out = encoder(generated)
    assert torch.allclose(out.content, content, atol=1e-7)
    assert torch.allclose(out.side, side / 4, atol=1e-7)
    assert torch.allclose(out.embedding, content + side / 4, atol=1e-7)


def test_encoder_of_mgcn_equals_plain_formula():
    encoder = MultimodalGraphEncoder(
        make_graph('image', 'text', 'audio'),
        D,
        num_layers=2,
        num_neighbors=2,
        side_scale=None,
        merge=None,
        batch_norm=False,
        residual=False,
        self_loops=False,
        shared_gates=False,
    ).double()
    matrix = torch.zeros(U + I, U + I, dtype=torch.float64)
    matrix[EDGES[0], U + EDGES[1]] = matrix[U + EDGES[1], EDGES[0]] = 1
    scale = torch.where(matrix.sum(dim=1) > 0, matrix.sum(dim=1).clamp(min=1).rsqrt(), 0)
    adjacency = scale[:, None] * matrix * scale
    x = torch.cat([encoder.user_embedding, encoder.item_embedding])
    content = (x + adjacency @ x + adjacency @ adjacency @ x) / 3
    views = []
    for name, modality in encoder.graph.modalities.items():
        projection, gate = encoder.encoders[name].linear, encoder.gates[name].linear
        q = dense(encoder.item_graphs[name]) @ (
            encoder.item_embedding * gate(projection(modality.x.double())).sigmoid()
        )
        views.append(torch.cat([adjacency[:U, U:] @ q, q]))
    keys = [
        torch.tanh(encoder.attention.key(view)) @ encoder.attention.query.weight[0]
        for view in views
    ]
    common = (torch.stack(keys).softmax(dim=0).unsqueeze(2) * torch.stack(views)).sum(dim=0)
    side = common
    for gate, view in zip(encoder.specific_gates.values(), views):
        side = side + gate.linear(content).sigmoid() * (view - common)
    out = encoder()
    assert torch.allclose(out.content, content, atol=1e-7)
    assert torch.allclose(out.side, side / 4, atol=1e-7)
    assert torch.allclose(out.embedding, content + side / 4, atol=1e-7)
    assert not list(encoder.buffers()) and encoder.rho is None and encoder.view_logits is None


def test_merge_by_sum_propagates_over_the_sum_of_both_graphs():
    encoder = MultimodalGraphEncoder(make_graph(), D, merge='sum').double()
    generated = bipartite_adjacency(torch.tensor([[0, 4], [3, 5]]), U, I, self_loops=True)
    x = torch.cat([encoder.user_embedding, encoder.item_embedding])
    expected = (x + (normalized_loops() + dense(generated)) @ x) / 2
    assert torch.allclose(encoder(generated).content, expected, atol=1e-7)
    assert torch.equal(encoder(generated).content, encoder(generated).content)
    other = bipartite_adjacency(torch.tensor([[1], [2]]), U, I, self_loops=True)
    assert torch.allclose(
        encoder(other).content, (x + (normalized_loops() + dense(other)) @ x) / 2, atol=1e-7
    )
    encoder.float()
    assert encoder(generated.to(torch.float)).content.dtype == torch.float


def test_the_sum_of_both_graphs_is_made_once(monkeypatch):
    encoder = MultimodalGraphEncoder(make_graph(), D, merge='sum')
    generated = bipartite_adjacency(torch.tensor([[0, 4], [3, 5]]), U, I, self_loops=True)
    made = []
    monkeypatch.setattr(Adjacency, '__add__', lambda self, other: made.append(other) or self)
    for graph in (generated, generated, generated.with_value(generated.value)):
        encoder(graph)
    assert len(made) == 2


@pytest.mark.parametrize('names', [(), ('image',), ('image', 'text'), ('image', 'text', 'audio')])
def test_any_number_of_modalities_and_isolated_nodes_are_finite(names):
    encoder = MultimodalGraphEncoder(make_graph(*names), D)
    embedding = encoder().embedding
    assert embedding.shape == (U + I, D) and bool(torch.isfinite(embedding).all())
    embedding.sum().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in encoder.parameters())


def test_missing_and_several_modality_nodes():
    links = torch.tensor([[0, 0, 1, 2, 3], [0, 1, 2, 3, 4]])
    graph = TrainingGraph(U, I, EDGES, {'image': Modality('image', torch.randn(5, 3), I, links)})
    encoder = MultimodalGraphEncoder(graph, D).eval()
    nodes = encoder.encoders['image'](graph.modalities['image'].x, encoder.rho)
    encoded = encoder.encode_modalities()['image']
    assert torch.allclose(encoded[0], nodes[:2].mean(dim=0), atol=1e-6)
    assert not encoded[4:].any()
    assert bool(torch.isfinite(encoder().embedding).all())


def test_specific_selects_modalities_and_names_unknown_ones():
    graph = make_graph('image', 'audio')
    assert MultimodalGraphEncoder(graph, D, specific=['audio']).specific == [1]
    with pytest.raises(ConfigError, match="specific: the graph has no modality 'text'"):
        MultimodalGraphEncoder(graph, D, specific=['text'])
    with pytest.raises(ConfigError, match='merge: got'):
        MultimodalGraphEncoder(graph, D, merge='product')


def test_singular_value_thresholding_changes_only_what_enters_the_encoder():
    graph = make_graph('image')
    encoder = MultimodalGraphEncoder(graph, D, svt=0.5)
    singular = torch.linalg.svdvals(graph.modalities['image'].x)
    shrunk = torch.linalg.svdvals(encoder.features['image'])
    assert torch.allclose(shrunk, (singular - 0.5 * singular[0]).clamp(min=0), atol=1e-5)
    assert torch.equal(encoder.graph.modalities['image'].x, graph.modalities['image'].x)


def test_one_specific_modality_as_text_is_that_one():
    assert MultimodalGraphEncoder(make_graph('image', 'text'), D, specific='text').specific == [1]
