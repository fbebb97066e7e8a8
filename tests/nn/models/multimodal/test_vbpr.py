import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import MFBPR, VBPR

FEATURES = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
GRAPH = TrainingGraph(
    2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'image': Modality('image', FEATURES, 3)}
)
TRIPLE = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))


def by_hand(**arguments):
    model = VBPR(GRAPH, hidden_channels=1, **arguments)
    set_tables(model, [[2.0, 1.0], [0.0, 0.0]], [[1.0], [0.0], [-1.0]])
    with torch.no_grad():
        model.projection.linear.weight.copy_(torch.tensor([[0.5, -1.0]]))
        model.projection.linear.bias.fill_(0.25)
    return model


def randomized(partial=True, **arguments):
    model = VBPR(toy_data(3, partial=partial), hidden_channels=4, **arguments).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def test_rows_and_scores_by_hand():
    model = by_hand()
    assert model.item_rows().tolist() == [[1, 1.25], [0, -0.75], [-1, -0.25]]
    assert model.score(torch.tensor([0])).tolist() == [[3.25, -0.75, -2.25]]


@pytest.mark.parametrize(
    'penalty,expected', [('frobenius', 4.586849), ('l2', 4.0625), ('mean_square', 4.0625)]
)
def test_loss_by_hand(penalty, expected):
    terms = by_hand(penalty=penalty, l2=0.5).loss(TRIPLE)
    assert terms['bpr'].item() == pytest.approx(0.018150, abs=1e-6)
    assert terms['l2'].item() == pytest.approx(0.5 * expected, abs=1e-6)


def test_without_content_it_is_matrix_factorization():
    model = VBPR(toy_data(), hidden_channels=4, l2=0.0).double()
    with torch.no_grad():
        model.projection.linear.weight.zero_()
    other = set_tables(
        MFBPR(toy_data(), hidden_channels=4), model.embedding.user[:, :4], model.embedding.item
    )
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))
    gradient = torch.autograd.grad(model.loss(BATCH)['bpr'], model.embedding.user)[0]
    assert bool(gradient[:, :4].any()) and not gradient[:, 4:].any()


@pytest.mark.parametrize('item_bias', [False, True])
def test_projecting_the_batch_alone_changes_nothing(item_bias):
    model = randomized(item_bias=item_bias)
    users, items = model.embed()
    expected = bpr_loss(users[BATCH.user], items[BATCH.pos], items[BATCH.neg])
    found = model.loss(BATCH)['bpr']
    assert torch.allclose(found, expected, atol=1e-12)
    gradients = (torch.autograd.grad(loss, list(model.parameters())) for loss in (found, expected))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients))


def test_bias_of_the_projection_is_moved_by_the_penalty_alone():
    model = randomized(partial=False)
    terms = model.loss(BATCH)
    bias = model.projection.linear.bias
    assert torch.allclose(
        torch.autograd.grad(terms['bpr'], bias, retain_graph=True)[0],
        torch.zeros_like(bias),
        atol=1e-12,
    )
    assert bool(torch.autograd.grad(terms['l2'], bias)[0].any())


def test_biases_by_hand():
    model = by_hand(item_bias=True, l2=0.0)
    before = model.score(torch.tensor([0]))
    with torch.no_grad():
        model.item_bias.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
        model.content_bias.copy_(torch.tensor([[10.0], [100.0]]))
    assert (model.score(torch.tensor([0])) - before).tolist() == [[20, 101, 112]]
    penalty = by_hand(item_bias=True, l2=1.0).loss(TRIPLE)['l2']
    model.l2 = 1.0
    assert torch.equal(model.loss(TRIPLE)['l2'], penalty)
    model.reset_parameters()
    assert not model.item_bias.any() and not model.content_bias.any()


def test_order_of_modalities_is_that_of_the_weights():
    model = randomized()
    other = VBPR(toy_data(3, partial=True), ['audio', 'image', 'text'], hidden_channels=4).double()
    state = model.state_dict()
    image, text, audio = state['projection.linear.weight'].split(5, dim=1)
    other.load_state_dict(
        {**state, 'projection.linear.weight': torch.cat([audio, image, text], dim=1)}
    )
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))


def test_missing_modalities():
    data = toy_data(2)
    data['text'].x = data['text'].x[:6]
    data['item', 'has', 'text'].edge_index = torch.arange(6).expand(2, 6).contiguous()
    model = VBPR(data, hidden_channels=4).double()
    with torch.no_grad():
        model.projection.linear.bias.fill_(1.0)
    image = data['image'].x[6].double() @ model.projection.linear.weight[:, :5].t() + 1
    assert torch.allclose(model.item_rows()[6, 4:], image)
    assert not randomized().item_rows()[6, 4:].any()  # none at all: not even the bias


def test_features_are_raw_unless_asked():
    raw = torch.cat([toy_data()[name].x for name in ('image', 'text')], dim=1)
    assert torch.equal(VBPR(toy_data(), hidden_channels=4).features.x, raw)
    norms = (
        VBPR(toy_data(), hidden_channels=4, normalize_features=True)
        .features.x.view(7, 2, 5)
        .norm(dim=2)
    )
    assert torch.allclose(norms, torch.ones(7, 2))


@pytest.mark.parametrize(
    'arguments', [dict(penalty='batch'), dict(init='ones'), dict(modalities=[])]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        VBPR(toy_data(), **arguments)
