import copy
import math

import pytest
import torch

from genrec_pyg.nn.diffusion import (
    ItemViews,
    PerceptronDenoiser,
    SingleTokenDecoderLayer,
    SparseRows,
    TiedDenoiser,
    TransformerDenoiser,
)
from genrec_pyg.nn.diffusion.denoiser import step_embedding
from genrec_pyg.nn.diffusion.states import FactoredRows, ItemKeys, dense_rows, row_product

ROWS = SparseRows.from_dense(torch.tensor([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]))


def views(num_items=5, num_modalities=2, channels=4, **kwargs):
    return ItemViews(
        torch.randn(num_items, num_modalities * channels, **kwargs),
        num_modalities,
        torch.rand(num_items, **kwargs),
    )


def test_step_embedding_is_cosines_then_sines():
    embedding = step_embedding(torch.tensor([3]), 10)[0]
    angles = [3 * 10000 ** (-j / 5) for j in range(5)]
    assert embedding.tolist() == pytest.approx(
        [math.cos(a) for a in angles] + [math.sin(a) for a in angles], abs=1e-6
    )
    assert step_embedding(torch.tensor([3]), 5).shape == (1, 5)


def test_row_product_of_sparse_and_dense_rows_agree():
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    sparse, dense = row_product(ROWS, weight), row_product(ROWS.dense(), weight)
    assert torch.allclose(sparse, dense)
    grad = torch.randn(3, 3, dtype=torch.float64)
    assert torch.allclose(*(torch.autograd.grad(out, weight, grad)[0] for out in (sparse, dense)))


@pytest.mark.parametrize('base', [ROWS, ROWS.dense()])
def test_row_product_of_factored_rows_is_that_of_the_sum(base):
    keys, weights = ItemKeys(torch.randn(5, 2)), [torch.randn(5, 3), torch.randn(5, 4)]
    state = FactoredRows(base, 0.7, torch.randn(3, 2), keys)
    x = 0.7 * ROWS.dense() + state.query @ keys.key.t()
    assert torch.allclose(dense_rows(state), x)
    for weight in weights * 2:
        assert torch.allclose(row_product(state, weight), x @ weight, atol=1e-6)
    assert keys.product(weights[0]) is keys.product(weights[0])


@pytest.mark.parametrize('channels,heads,feedforward', [(16, 4, 16), (512, 8, 512)])
def test_single_token_layer_equals_the_transformer_decoder_layer(channels, heads, feedforward):
    reference = torch.nn.TransformerDecoderLayer(
        channels, heads, feedforward, dropout=0.2, batch_first=True
    ).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    layer = (
        SingleTokenDecoderLayer(channels, heads, feedforward, dropout=0.2)
        .load_decoder_layer(reference)
        .eval()
    )
    h = torch.randn(7, channels)
    expected = reference(h.unsqueeze(1), torch.zeros(7, 1, channels)).squeeze(1)
    assert torch.allclose(layer(h), expected, atol=1e-5)
    double = copy.deepcopy(reference).double()
    expected = double(
        h.double().unsqueeze(1), torch.zeros(7, 1, channels, dtype=torch.float64)
    ).squeeze(1)
    assert (layer.double()(h.double()) - expected).abs().max() < 1e-12


def test_attention_dropout_drops_whole_heads():
    torch.manual_seed(0)
    layer = SingleTokenDecoderLayer(8, 4, 8, dropout=0.5).train()
    value = layer._drop_heads(torch.ones(2000, 8)).view(2000, 4, 2)
    assert torch.equal(value[..., 0], value[..., 1])
    assert set(value.unique().tolist()) == {0.0, 2.0}
    assert float(value.mean()) == pytest.approx(1.0, abs=0.05)


def test_initial_values_of_the_transformer():
    denoiser = TransformerDenoiser(50, channels=32, num_layers=2, num_heads=4, output_channels=8)
    for linear in (denoiser.step, denoiser.input, denoiser.output, denoiser.layers[0].linear1):
        assert bool((linear.bias == 0.01).all())
    assert float(denoiser.item_weight.abs().max()) <= math.sqrt(6 / (50 + 10 + 32))
    assert bool((denoiser.layers[0].self_value.bias == 0).all())


def small_denoiser(name, **arguments):
    """A denoiser of five items and two views of width 4."""
    if name == 'transformer':
        return TransformerDenoiser(
            5, num_layers=1, num_heads=2, **{'channels': 16, 'output_channels': 8, **arguments}
        )
    return (
        TiedDenoiser(2, 4, **arguments)
        if name == 'tied'
        else PerceptronDenoiser(5, **{'channels': 16, **arguments})
    )


@pytest.mark.parametrize('name', ['transformer', 'tied', 'perceptron'])
def test_logits_are_products_of_queries_and_keys(name):
    item_views = views()
    denoiser = small_denoiser(name).eval()
    t = torch.tensor([0, 2, 4])
    logits = denoiser(ROWS, t, item_views)
    assert logits.shape == (3, 5)
    assert torch.allclose(
        logits, denoiser.query(ROWS, t, item_views) @ denoiser.keys(item_views).t(), atol=1e-5
    )
    assert torch.allclose(logits, denoiser(ROWS.dense(), t, item_views), atol=1e-5)
    assert torch.equal(logits, denoiser(ROWS, t, item_views))


@pytest.mark.parametrize('normalize', [False, True])
def test_perceptron_equals_plain_formula(normalize):
    denoiser = PerceptronDenoiser(5, channels=8, normalize=normalize).double().eval()
    t = torch.tensor([0, 2, 4])
    x = ROWS.dense().double()
    if normalize:
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    step = denoiser.step(step_embedding(t, 10).double())
    first = torch.cat([denoiser.item_weight, denoiser.input.weight.t()])
    h = torch.tanh(torch.cat([x, step], dim=1) @ first + denoiser.input.bias)
    expected = h @ denoiser.output.weight.t() + denoiser.output.bias
    for state in (ROWS, ROWS.dense()):
        assert torch.allclose(denoiser(state, t, None), expected)


@pytest.mark.parametrize('sparse', [False, True])
def test_perceptron_drops_entries_of_the_input_in_training_only(sparse):
    denoiser = PerceptronDenoiser(40, channels=40, dropout=0.5)
    with torch.no_grad():
        denoiser.item_weight.copy_(torch.eye(40))
    rows = SparseRows.from_dense((torch.arange(40) % 2 == 0).long().expand(50, 40))
    state = rows if sparse else rows.dense()
    dropped = denoiser.train()._product(state)
    assert set(dropped.unique().tolist()) == {0.0, 2.0} and not dropped[:, 1::2].any()
    assert float(dropped[:, ::2].mean().detach()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(denoiser.eval()._product(state), rows.dense())


def test_initial_values_of_the_perceptron():
    torch.manual_seed(0)
    denoiser = PerceptronDenoiser(500, channels=200)
    for weight, size in (
        (denoiser.item_weight, 710),
        (denoiser.input.weight, 710),
        (denoiser.output.weight, 700),
    ):
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / size), rel=0.05)
    assert float(denoiser.output.bias.detach().std()) == pytest.approx(0.001, rel=0.1)


def test_no_transformer_layer_is_a_perceptron():
    denoiser = TransformerDenoiser(5, channels=16, num_layers=0, output_channels=8)
    assert denoiser(ROWS, torch.zeros(3, dtype=torch.long), views()).shape == (3, 5)


def test_tied_denoiser_has_no_parameter_that_depends_on_the_items_and_scores_new_items():
    denoiser = TiedDenoiser(2, 4).eval()
    item_views = views(num_items=9)
    rows = SparseRows(ROWS.rowptr, ROWS.col, 9)
    assert denoiser(rows, torch.zeros(3, dtype=torch.long), item_views).shape == (3, 9)
    assert all(9 not in p.shape and 5 not in p.shape for p in denoiser.parameters())


def test_tied_logits_average_the_modalities_and_add_a_popularity_bias():
    denoiser = TiedDenoiser(2, 4).double().eval()
    with torch.no_grad():
        denoiser.bias.copy_(torch.tensor([0.5, 2.0]))
    item_views = views(dtype=torch.float64)
    query = denoiser.query(ROWS, torch.tensor([0, 1, 2]), item_views)
    halves = [
        query[:, 4 * m : 4 * m + 4] * 2 @ item_views.embedding[:, 4 * m : 4 * m + 4].t()
        for m in range(2)
    ]
    expected = sum(halves) / 2 + 0.5 + 2.0 * item_views.log_degree
    assert torch.allclose(denoiser(ROWS, torch.tensor([0, 1, 2]), item_views), expected)


@pytest.mark.parametrize('name', ['transformer', 'tied', 'perceptron'])
def test_gradients_in_double_precision(name):
    item_views = views(dtype=torch.float64)
    arguments = {
        'transformer': dict(channels=8, output_channels=4),
        'tied': dict(num_blocks=1),
        'perceptron': {},
    }
    denoiser = small_denoiser(name, **arguments[name]).double().eval()
    parameters = dict(denoiser.named_parameters())
    names = ['output.weight', 'bias'] if name == 'tied' else ['item_weight', 'output.weight']

    def logits(*values):
        return torch.func.functional_call(
            denoiser, dict(zip(names, values)), (ROWS, torch.tensor([0, 1, 2]), item_views)
        )

    assert torch.autograd.gradcheck(
        logits, tuple(parameters[n].detach().clone().requires_grad_() for n in names)
    )
